"""A model and recordings in; events, score tracks and tags out."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from earmark.config import Precision
from earmark.errors import UserError
from earmark.events import Event, in_order
from earmark.formats.dcase2017 import write_dcase2017_events, write_dcase2017_tags
from earmark.formats.events import write_events
from earmark.formats.scores import write_scores
from earmark.formats.tags import write_tags
from earmark.formats.weak import write_tag_labels
from earmark.scores import ScoreTrack
from earmark.tasks.progress import counted
from earmark.tasks.recordings import each_recording, failure_lines, in_made_folder, made_folder

if TYPE_CHECKING:
    from earmark.inference.recogniser import Recogniser


EVENT_FORMATS = {"csv": (".csv", write_events), "dcase2017": (".txt", write_dcase2017_events)}
"""How events are written: the suffix of a file, and what writes it."""


@dataclass(frozen=True, slots=True)
class Detected:
    """Events by recording, and a line for each recording that could not be read."""

    events: dict[str, list[Event]]
    failures: list[str]
    out: Path

    def text(self) -> str:
        """What was found, in a few lines."""
        counts = Counter(event.label for events in self.events.values() for event in events)
        total = sum(counts.values())
        lines = [
            f"{counted(total, 'event')} in {counted(len(self.events), 'recording')}: {self.out}"
        ]
        lines += [f"  {label}: {count}" for label, count in sorted(counts.items())]
        return "\n".join(lines + failure_lines(self.failures))


@dataclass(frozen=True, slots=True)
class Tagged:
    """Clip probabilities by recording, and a line for each that could not be read."""

    probabilities: dict[str, dict[str, float]]
    failures: list[str]
    out: Path

    def text(self) -> str:
        """What was done, in a line or two."""
        lines = [f"tags of {counted(len(self.probabilities), 'recording')}: {self.out}"]
        return "\n".join(lines + failure_lines(self.failures))


def detect(
    *recordings: Path,
    model: Path,
    out: Path,
    format: Literal["csv", "dcase2017"] = "csv",
    scores: Path | None = None,
    device: str = "auto",
    precision: Precision = "auto",
) -> Detected:
    """Finds which classes sound in recordings, and from when to when.

    Args:
        recordings: audio files, and folders that are searched recursively.
        model: a model folder.
        out: a file for one table of all, or a folder for a table a recording.
        format: how events are written: csv, or dcase2017 for the challenge's submission (.txt).
        scores: a folder for the frame probabilities, one TSV a recording.
        device: auto, cpu, cuda or mps.
        precision: of the networks: float32 (the reference), bfloat16, or auto for the fastest here.

    Raises:
        UserError: nothing could be read, or written.
    """
    suffix, write = EVENT_FORMATS[format]
    whole = bool(out.suffix) and not out.is_dir()
    if (whole and out.suffix != suffix) or (not whole and out.is_file()):
        raise UserError(f"events go to a file ending in {suffix} or to a folder", where=out)
    in_made_folder(out) if whole else made_folder(out)
    recogniser = _recogniser(model, device, precision)

    def work(name: str, path: Path) -> list[Event]:
        decoder = recogniser.decoder()
        events: list[Event] = []

        def watched() -> Iterator[ScoreTrack]:
            for block in recogniser.blocks(path):
                events.extend(decoder.push(block))
                yield block

        if scores is None:
            for _ in watched():
                pass
        else:
            write_scores(in_made_folder(scores / f"{name}.tsv"), watched())
        if not whole:
            write(in_made_folder(out / f"{name}{suffix}"), ((name, event) for event in events))
        return in_order(events)

    events, failures = each_recording(recordings, "detecting", work, _at_once())
    if whole:
        rows = ((name, event) for name, found in events.items() for event in found)
        write(in_made_folder(out), rows)
    return Detected(events, failures, out)


def tag(
    *recordings: Path,
    model: Path,
    out: Path,
    labels: bool = False,
    format: Literal["csv", "dcase2017"] = "csv",
    device: str = "auto",
    precision: Precision = "auto",
) -> Tagged:
    """Finds which classes sound anywhere in recordings.

    Args:
        recordings: audio files, and folders that are searched recursively.
        model: a model folder.
        out: the table to write: a probability for every class.
        labels: write the tags that were decided instead.
        format: csv, or dcase2017 for the challenge's submission (.txt) of decided tags.
        device: auto, cpu, cuda or mps.
        precision: of the networks: float32 (the reference), bfloat16, or auto for the fastest here.

    Raises:
        UserError: nothing could be read, or written.
    """
    suffix = EVENT_FORMATS[format][0]
    if out.suffix != suffix or out.is_dir():
        raise UserError(f"tags go to a file ending in {suffix}", where=out)
    in_made_folder(out)
    recogniser = _recogniser(model, device, precision)
    tags, failures = each_recording(
        recordings, "tagging", lambda _, path: recogniser.tag(path), _at_once()
    )
    names = list(tags)
    if labels or format == "dcase2017":
        rules = zip(recogniser.class_names, recogniser.rules, strict=True)
        thresholds = {name: rule.tag_threshold for name, rule in rules}
        decided = [
            [name for name, value in tags[recording].items() if value > thresholds[name]]
            for recording in names
        ]
        write_labels = write_dcase2017_tags if format == "dcase2017" else write_tag_labels
        write_labels(in_made_folder(out), names, decided)
    else:
        table = np.array([list(tags[name].values()) for name in names])
        write_tags(in_made_folder(out), names, recogniser.class_names, table)
    return Tagged(tags, failures, out)


def _recogniser(model: Path, device: str, precision: str) -> "Recogniser":
    # Torch takes a second to import: help and errors in what was typed should not wait for it.
    from earmark.inference.fusion import load_recogniser
    from earmark.training.devices import choose_device

    return load_recogniser(model, choose_device(device), precision)


def _at_once() -> int:
    """How many recordings keep all of the workers busy while one is being written."""
    from earmark.inference.system import WORKERS

    return WORKERS.count + 1
