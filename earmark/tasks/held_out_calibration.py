"""How probabilities are calibrated on what was held out."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from earmark.calibration import calibrated, fitted
from earmark.config import ClassCalibration, TuningSettings
from earmark.events import Event
from earmark.metrics.curves import Reliability
from earmark.model.bundle import UNCALIBRATED, Calibration
from earmark.scores import ScoreTrack
from earmark.tasks.training_data import HeldOut
from earmark.tuning.rules import AS_IT_IS


def calibrated_on_tags(
    before: Sequence[ClassCalibration],
    tags: NDArray[np.bool_],
    posteriors: NDArray[np.float32],
    known: NDArray[np.bool_] | None,
    held: HeldOut,
    tuning: TuningSettings,
) -> Calibration:
    """Each class's clips calibrated on those of which is known (N, K) whether they have it.

    A class that all or none of them have stays as it was before.
    """
    if not tuning.calibrate:
        return calibration_of(before, "as before")
    told = np.ones(tags.shape, np.bool_) if known is None else known
    classes = list(before)
    for k, of_class in enumerate(before):
        here = told[:, k]
        if tags[here, k].any() and not tags[here, k].all():
            line = fitted(posteriors[here, k], tags[here, k])
            classes[k] = of_class.model_copy(update={"clips": line})
    given = calibrated([of_class.clips for of_class in classes], posteriors)
    errors = {"clips": _errors(tags[told], posteriors[told], given[told])}
    return calibration_of(classes, f"clips on {held.described}", errors)


def calibrated_on_events(
    before: Calibration,
    class_names: Sequence[str],
    told: Sequence[int],
    tracks: Mapping[str, ScoreTrack],
    references: Mapping[str, Sequence[Event]],
    held: HeldOut,
    tuning: TuningSettings,
) -> Calibration:
    """Each class's frames calibrated on tracks of the classes ``told``, which are as they came.

    Recordings weigh alike, and all together as many observations as they have segments: frames
    that are near each other say the same.
    """
    truth = np.concatenate([sounding(track, references[name]) for name, track in tracks.items()])
    lengths = np.array([len(track.probabilities) for track in tracks.values()])
    seconds = sum(track.stop_seconds for track in tracks.values())
    of_each = seconds / tuning.resolution_seconds / len(tracks)
    weights = np.repeat(of_each / lengths, lengths)
    classes = list(before.classes) or [AS_IT_IS] * len(class_names)
    given = np.concatenate([track.probabilities for track in tracks.values()])
    for place, k in enumerate(told):
        if truth[:, place].any() and not truth[:, place].all():
            line = fitted(given[:, place], truth[:, place], weights)
            classes[k] = classes[k].model_copy(update={"frames": line})
    after = calibrated([classes[k].frames for k in told], given)
    errors = {"frames": _errors(truth, given, after)}
    same = held.timed_described == held.described and before.note
    on = "the same" if same else held.timed_described
    note = f"{before.note}; frames on {on}".removeprefix("; ")
    return calibration_of(classes, note, before.errors | errors)


def calibration_of(
    classes: Sequence[ClassCalibration],
    note: str,
    errors: dict[str, tuple[float, float]] | None = None,
) -> Calibration:
    """The classes' lines, with how they came; of lines that change nothing, none."""
    if all(of_class == AS_IT_IS for of_class in classes):
        return UNCALIBRATED
    return Calibration(classes=tuple(classes), note=note, errors=errors or {})


def _errors(
    truth: NDArray[np.bool_], before: NDArray[np.float32], after: NDArray[np.float32]
) -> tuple[float, float]:
    """Expected calibration errors of all pairs together, before and after."""
    pairs = truth.reshape(-1, 1)
    first, second = (Reliability.of(pairs, of.reshape(-1, 1)) for of in (before, after))
    return first.calibration_error, second.calibration_error


def sounding(track: ScoreTrack, events: Sequence[Event]) -> NDArray[np.bool_]:
    """(T, K) whether an event of the class sounds in the middle of a frame."""
    edges = track.edges_seconds
    middles = (edges[:-1] + edges[1:]) / 2
    sounding = np.zeros(track.probabilities.shape, np.bool_)
    for event in events:
        if event.label in track.class_names:
            first, beyond = np.searchsorted(middles, [event.onset_seconds, event.offset_seconds])
            sounding[first:beyond, track.class_names.index(event.label)] = True
    return sounding
