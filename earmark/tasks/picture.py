"""A model and a recording in, or a model alone; a picture of what was found, or learnt."""

import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from earmark.config import Precision
from earmark.errors import UserError
from earmark.events import Event, in_order
from earmark.folders import as_compared
from earmark.formats.labels import read_labels
from earmark.model.hub import BUNDLED, fetched
from earmark.tasks.progress import counted, progress
from earmark.tasks.recordings import one_recording

if TYPE_CHECKING:
    from earmark.config import FeatureSettings
    from earmark.outputs.plots import TrainingCurve


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a picture shows; ``reference`` is None where none was given."""

    events: list[Event]
    reference: list[Event] | None
    out: Path

    def text(self) -> str:
        """What was drawn, in a line."""
        beside = "" if self.reference is None else f" beside {len(self.reference)} of the reference"
        return f"{counted(len(self.events), 'event')}{beside}: {self.out}"


@dataclass(frozen=True, slots=True)
class DrawnTraining:
    """What a picture of a training shows: how many systems, and the most epochs of one."""

    systems: int
    epochs: int
    out: Path

    def text(self) -> str:
        """What was drawn, in a line."""
        of = f" of {self.systems} systems" if self.systems > 1 else ""
        return f"{counted(self.epochs, 'epoch')}{of}: {self.out}"


def plot(
    recording: Path,
    *,
    model: Path | None = None,
    out: Path,
    reference: Path | None = None,
    device: str = "auto",
    precision: Precision = "auto",
) -> Drawn | DrawnTraining:
    """Draws what was found in a recording, or how a model was trained.

    Of a recording: its spectrogram, the probabilities of the classes, and the events. Of a
    training: the loss and the validation score of every epoch, those of the model marked.

    Args:
        recording: an audio file; or, without ``model``, a model folder or the log of a training
            (training/log.jsonl in it), also of one that goes on.
        model: a model folder; without, the model in the box.
        out: the picture to write, a file ending in .png.
        reference: a strong table with the true events; of its files, the one whose name the
            recording's path ends with is drawn.
        device: auto, cpu, cuda or mps.
        precision: of the networks: float32 (the reference), bfloat16, or auto for the fastest here.

    Raises:
        UserError: something can't be read or written, the reference has no such file, or a model
            has kept no log.
    """
    trained = fetched(recording)
    if model is None and (trained.is_dir() or trained.suffix == ".jsonl"):
        if reference is not None:
            raise UserError("--reference is for a recording, and this is a model or its log")
        return _plot_training(trained, out)
    if recording.is_dir():
        raise UserError(
            "plot draws one recording, and this is a folder; name a file in it, or leave out "
            "--model to draw how a model was trained",
            where=recording,
        )
    from earmark.outputs.plots import Envelope, Spectrogram, draw, prepare

    if out.exists() and recording.exists() and out.samefile(recording):
        raise UserError("the picture may not replace the recording", where=out)
    prepare(out)
    true_events = None if reference is None else _events_of(reference, recording)

    # Torch takes a second to import: errors in what was typed should not wait for it.
    from earmark.audio import blocks
    from earmark.features import FeatureExtractor
    from earmark.inference.fusion import load_recogniser
    from earmark.training.devices import choose_device

    chosen = choose_device(device)
    recogniser = load_recogniser(BUNDLED if model is None else model, chosen, precision)
    shown = recogniser.features

    features = Envelope(shown.clock)
    decoder = recogniser.decoder()
    probabilities = Envelope(recogniser.clock)
    events: list[Event] = []
    with progress("drawing", 2) as step:
        with one_recording(recording, step) as reached:
            for frames in FeatureExtractor(shown, chosen).stream(blocks(recording, shown.rate_hz)):
                features.add(frames)
                reached(features.clock.start_seconds(len(features.values)))
        with one_recording(recording, step) as reached:
            for track in recogniser.blocks(recording):
                probabilities.add(track.probabilities)
                events += decoder.push(track)
                reached(track.stop_seconds)
    centres = None if shown.kind == "mfcc" else band_centres_hz(shown)
    draw(
        out,
        Spectrogram(features.values, features.clock, centres),
        replace(
            track,
            probabilities=probabilities.values,
            clock=probabilities.clock,
            start_frame=0,
            local_tags=None,
        ),
        in_order(events),
        true_events,
        recording.name,
    )
    return Drawn(in_order(events), true_events, out)


def _plot_training(trained: Path, out: Path) -> DrawnTraining:
    from earmark.outputs.plots import draw_curves, prepare

    prepare(out)
    if trained.is_dir():
        logs = _logs(trained)
        if not logs and not ((trained / "model.json").exists() or (trained / "training").is_dir()):
            raise UserError("is neither a recording nor a model folder", where=trained)
        if not logs:
            raise UserError(
                "has no log of its epochs (training/log.jsonl): training keeps one beside the "
                "model, and a copy of the model alone leaves it behind",
                where=trained,
            )
    else:
        logs = {"": trained}
    curves = [_curve(name, log) for name, log in logs.items()]
    model = trained.resolve() if trained.is_dir() else trained.resolve().parent.parent
    draw_curves(out, curves, f"Training of {model.name}")
    return DrawnTraining(len(curves), max(len(curve.numbers) for curve in curves), out)


def _logs(model: Path) -> dict[str, Path]:
    """The logs of a model, or of the members of a fused one by their names; perhaps none."""
    log = model / "training" / "log.jsonl"
    if log.is_file():
        return {"": log}
    return {
        f"{member.name}/{name}".rstrip("/"): path
        for member in sorted((model / "members").glob("[!.]*"))
        for name, path in _logs(member).items()
    }


def _curve(name: str, log: Path) -> "TrainingCurve":
    """A training's log: a line an epoch."""
    from earmark.outputs.plots import TrainingCurve

    numbers, losses, scores, kept = [], [], [], set()
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"can't be read: {error}", where=log) from error
    for place, line in enumerate(lines, 1):
        try:
            epoch = json.loads(line)
            score = epoch["validation_map"]
            numbers.append(int(epoch["number"]))
            losses.append(float(epoch["loss"]))
            scores.append(math.nan if score is None else float(score))
            if epoch.get("kept"):
                kept.add(numbers[-1])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                "a line must be an epoch of a training, with number, loss and validation_map; "
                "train makes such a log",
                where=log,
                line=place,
            ) from error
    if not numbers:
        raise UserError("no epoch of this training is done yet", where=log)
    return TrainingCurve(name, numbers, losses, scores, frozenset(kept))


def band_centres_hz(settings: "FeatureSettings") -> NDArray[np.float64]:
    """(F,) where each mel band's triangle peaks, to about 1 Hz."""
    from earmark.features import mel_filters

    bins_of_one_hz = settings.model_copy(update={"window_samples": settings.rate_hz})
    centres: NDArray[np.float64] = mel_filters(bins_of_one_hz).argmax(axis=1).astype(np.float64)
    return centres


def _events_of(table_path: Path, recording: Path) -> list[Event]:
    """The events of the file that a recording is, by the longest name that its path ends with."""
    table = read_labels(table_path)
    if not table.strong:
        raise UserError(
            "a reference needs events with onset and offset, came with tags alone; give a strong "
            "table",
            where=table_path,
        )
    # Not resolved: a table names a link as it is called, not what it points to.
    path = PurePosixPath(as_compared(os.path.abspath(recording))).parts
    bare = (*path[:-1], PurePosixPath(path[-1]).stem)
    matches: dict[int, list[Event]] = {}
    for row in table.rows:
        parts = PurePosixPath(as_compared(row.filename)).parts
        if parts == path[-len(parts) :] or (table.stems and parts == bare[-len(parts) :]):
            matches.setdefault(len(parts), []).extend(row.events or ())
    if not matches:
        examples = " and ".join(f"'{row.filename}'" for row in table.rows[:2]) or "no file"
        raise UserError(
            f"no file of the reference is {recording}: the table has {examples}; a filename must "
            "be the end of the recording's path, suffix included",
            where=table_path,
        )
    return in_order(matches[max(matches)])
