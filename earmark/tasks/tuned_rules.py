"""Which thresholds a trained model gets, and what it scores with them on what was held out."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from earmark.audio import AudioError, duration_seconds, read
from earmark.config import ClassDecoding, DecodingSettings, TuningSettings
from earmark.data.labels import Clip
from earmark.data.windows import windows
from earmark.errors import UserError
from earmark.inference.decoding import decode
from earmark.inference.recogniser import Recogniser
from earmark.metrics.segments import segment_scores
from earmark.metrics.tagging import tagging_scores
from earmark.tasks.progress import progress, say
from earmark.tasks.training_data import HeldOut
from earmark.tuning import rule_for, tuned_on_events, tuned_on_tags, untuned


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rules, one a class.

    Attributes:
        rules: how probabilities become tags and events.
        note: how they were chosen, for the model card.
        scores: what they give on the validation clips, by name.
    """

    rules: list[ClassDecoding]
    note: str = ""
    scores: dict[str, float] = field(default_factory=dict)


def choose(
    recogniser: Recogniser, held: HeldOut, decoding: DecodingSettings, tuning: TuningSettings
) -> Chosen:
    """The best rules for what was held out, as a model sees it that is there already."""
    names = recogniser.class_names
    units = list(_units(held, recogniser.window_seconds))
    tags = np.zeros((len(units), len(names)), np.bool_)
    posteriors = np.zeros(tags.shape, np.float32)
    with progress("tags of the validation clips", len(units)) as step:
        for row, clip in enumerate(units):
            tags[row] = [name in clip.labels for name in names]
            posteriors[row] = list(_tags_of(recogniser, clip).values())
            step()
    chosen = choose_on_tags(held, names, decoding, tuning, tags, posteriors)
    if not held.timed:
        return chosen
    return choose_on_events(held, decoding, tuning, chosen, recogniser)


def _units(held: HeldOut, window_seconds: float) -> Iterator[Clip]:
    """Validation clips no longer than training clips."""
    for clip in held.clips:
        if clip.start_seconds is None and held.strong:
            try:
                seconds = duration_seconds(clip.path)
            except AudioError as error:
                say(f"unreadable: {error}")
                continue
            if seconds > 1.05 * window_seconds:
                yield from windows(clip, seconds, window_seconds)
                continue
        yield clip


def _tags_of(recogniser: Recogniser, clip: Clip) -> dict[str, float]:
    if clip.start_seconds is None:
        return recogniser.tag(clip.path)
    rate = recogniser.features.rate_hz
    samples = read(clip.path, rate, clip.start_seconds, clip.stop_seconds)
    return recogniser.tag(samples, rate_hz=rate)


def choose_untuned(classes: int, decoding: DecodingSettings) -> Chosen:
    """The settings' rules, where nothing was held out."""
    note = f"{decoding.threshold} for every class, since nothing was held out to tune them on"
    return Chosen(untuned(classes, decoding), note)


def choose_on_tags(
    held: HeldOut,
    class_names: Sequence[str],
    decoding: DecodingSettings,
    tuning: TuningSettings,
    tags: NDArray[np.bool_],
    posteriors: NDArray[np.float32],
) -> Chosen:
    """Rules whose tag thresholds are the best for validation clips (N, K)."""
    rules = tuned_on_tags(tags, posteriors, decoding, tuning)
    absent = [name for k, name in enumerate(class_names) if not tags[:, k].any()]
    for k, name in enumerate(class_names):
        if name in absent:
            rules[k] = rule_for(decoding.threshold, decoding)
    thresholds = np.array([rule.tag_threshold for rule in rules])
    tagging = tagging_scores(tags, posteriors, thresholds, class_names)
    scores = {
        "tagging micro F1": float(tagging.micro.f1),
        "tagging macro F1": tagging.macro_f1,
        "tagging mAP": tagging.mean_average_precision,
    }
    note = (
        f"tag thresholds maximise {tuning.average} F1 on {held.described}; frame thresholds are "
        "the same, gaps and shortest events are the settings', since there were no times to tune "
        "them on"
    )
    if absent:
        # The best threshold for a class that nothing held out has is to never give it.
        note += f"; nothing held out has {', '.join(absent)}: {decoding.threshold}"
        say(f"no clip is held out of {', '.join(absent)}: the threshold is not tuned")
    return Chosen(rules, note, {k: v for k, v in scores.items() if math.isfinite(v)})


def choose_on_events(
    held: HeldOut,
    decoding: DecodingSettings,
    tuning: TuningSettings,
    before: Chosen,
    recogniser: Recogniser,
) -> Chosen:
    """Rules that are the best for the events of the timed recordings, too.

    Args:
        held: what to tune on; recordings that can't be read are left out.
        decoding: the tag gate.
        tuning: what "best" means.
        before: the rules so far, of which the tag thresholds stay.
        recogniser: the trained model.
    """
    tracks, references = {}, {}
    with progress("tuning", len(held.timed)) as step:
        for clip in held.timed:
            try:
                tracks[clip.filename] = recogniser.scores(clip.path)
                references[clip.filename] = list(clip.events or ())
            except AudioError as error:
                say(f"unreadable: {error}")
            step()
    if not tracks:
        raise UserError(f"no recording can be read of {held.timed_described}")
    rules = tuned_on_events(
        before.rules, list(tracks.values()), list(references.values()), decoding, tuning
    )
    found = {
        name: decode(track, rules, tag_gate=decoding.tag_gate) for name, track in tracks.items()
    }
    segments = segment_scores(references, found, recogniser.class_names, tuning.resolution_seconds)
    scores = {
        **before.scores,
        "segment F1": float(segments.overall.f1),
        "segment error rate": segments.error_rate,
    }
    scores = {name: value for name, value in scores.items() if math.isfinite(value)}
    what = f"{tuning.average} F1 (events: in segments of {tuning.resolution_seconds:g} s)"
    if held.timed_described == held.described:
        note = (
            "tag thresholds, frame thresholds, gaps and shortest events maximise "
            f"{what} on {held.described}"
        )
    else:
        of_tags = before.note.partition("; frame thresholds")[0]
        note = (
            f"{of_tags}; frame thresholds, gaps and shortest events maximise {what} on "
            f"{held.timed_described}"
        )
    return Chosen(rules, note, scores)
