"""A model and recordings in; events, score tracks and tags out."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from earmark.config import Precision
from earmark.errors import UserError
from earmark.events import Event, in_order
from earmark.folders import files_below
from earmark.formats.dcase2017 import write_dcase2017_events, write_dcase2017_tags
from earmark.formats.events import write_events
from earmark.formats.scores import write_scores
from earmark.formats.tables import digest
from earmark.formats.tags import write_tags
from earmark.formats.weak import write_tag_labels
from earmark.scale.journal import Journal, alone, beside, state_of
from earmark.scores import ScoreTrack
from earmark.tasks.progress import counted, progress, say
from earmark.tasks.recordings import (
    each_recording,
    failure_lines,
    found_recordings,
    in_made_folder,
    made_folder,
    refuse_if_all_failed,
    refuse_name,
)
from earmark.writing import writing

if TYPE_CHECKING:
    from earmark.inference.recogniser import Recogniser


EVENT_FORMATS: dict[str, tuple[str, Callable[[Path, Iterable[tuple[str, Event]]], None]]] = {
    "csv": (".csv", partial(write_events, ordered=True)),
    "dcase2017": (".txt", write_dcase2017_events),
}
"""How events are written: the suffix of a file, and what writes it."""


@dataclass(frozen=True, slots=True)
class Detected:
    """Events by recording, and a line for each recording that could not be read.

    The events are read when they are asked for, and need no memory before.
    """

    events: Mapping[str, list[Event]]
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
    """Clip probabilities by recording, and a line for each that could not be read.

    The probabilities are read when they are asked for, and need no memory before.
    """

    probabilities: Mapping[str, dict[str, float]]
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
    restart: bool = False,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
) -> Detected:
    """Finds which classes sound in recordings, and from when to when.

    Stopped at any moment, it goes on with what is not done when it is called again: till the end,
    a journal of what is done lies beside the output. Ray works on as many machines as it has, all
    of which need the package and see the recordings, the model and ``out`` under the same paths;
    it writes Parquet, ``events`` and, with what could not be read and why, ``recordings``.

    Args:
        recordings: audio files, and folders that are searched recursively.
        model: a model folder.
        out: a file for one table of all, or a folder for a table a recording.
        format: how events are written: csv, or dcase2017 for the challenge's submission (.txt).
        scores: a folder for the frame probabilities, one TSV a recording.
        device: auto, cpu, cuda or mps.
        precision: of the networks: float32 (the reference), bfloat16, or auto for the fastest here.
        restart: does all anew, whatever an unfinished run left.
        engine: local, or ray, with which ``out`` is a folder of Parquet files.
        address: of the Ray cluster; without, that of RAY_ADDRESS, or else a new one here.

    Raises:
        UserError: nothing could be read, or written, or an unfinished run was another one.
    """
    suffix, write = EVENT_FORMATS[format]
    whole = bool(out.suffix) and not out.is_dir()
    if engine == "ray":
        if whole or out.is_file() or format != "csv":
            raise UserError("with --engine ray, --out is a folder, of Parquet files", where=out)
        work = _Detecting(model, device, precision, scores)
        return _detect_with_ray(recordings, work, out, address, restart)
    if address is not None:
        raise UserError("--address goes with --engine ray; leave it out, or give that, too")
    if (whole and out.suffix != suffix) or (not whole and out.is_file()):
        raise UserError(f"events go to a file ending in {suffix} or to a folder", where=out)
    in_made_folder(out) if whole else made_folder(out)
    work = _Detecting(model, _device(device), precision, scores)

    def table(name: str) -> Path:
        return in_made_folder(out / f"{name}{suffix}")

    def done(name: str, path: Path) -> list[tuple[float, float, str, float | None]]:
        events = work(name, path)
        if not whole:
            write(table(name), ((name, event) for event in events))
        return [(e.onset_seconds, e.offset_seconds, e.label, e.score) for e in events]

    def lacks_scores(name: str) -> bool:
        return scores is not None and not _has_content(scores / f"{name}.tsv")

    work.recogniser  # noqa: B018 - what is wrong with the model is said first
    found = found_recordings(recordings)
    run = {**work.run(), "task": "detect", "format": format}
    with _journalled(found, "detecting", done, out, run, restart, lacks_scores) as (kept, failures):
        events = _Results(kept, lambda rows: [Event(*row) for row in rows])
        if whole:
            # In the order of a table, and never all in memory.
            write(out, ((name, event) for name in sorted(events) for event in events[name]))
        else:
            # Those whose table was lost since, or is empty after a power cut.
            for name in events:
                if not _has_content(table(name)):
                    write(table(name), ((name, event) for event in events[name]))
    return Detected(events, failures, out)


def tag(
    *recordings: Path,
    model: Path,
    out: Path,
    labels: bool = False,
    format: Literal["csv", "dcase2017"] = "csv",
    device: str = "auto",
    precision: Precision = "auto",
    restart: bool = False,
) -> Tagged:
    """Finds which classes sound anywhere in recordings.

    Stopped at any moment, it goes on with what is not done when it is called again.

    Args:
        recordings: audio files, and folders that are searched recursively.
        model: a model folder.
        out: the table to write: a probability for every class.
        labels: write the tags that were decided instead.
        format: csv, or dcase2017 for the challenge's submission (.txt) of decided tags.
        device: auto, cpu, cuda or mps.
        precision: of the networks: float32 (the reference), bfloat16, or auto for the fastest here.
        restart: does all anew, whatever an unfinished run left.

    Raises:
        UserError: nothing could be read, or written, or an unfinished run was another one.
    """
    suffix = EVENT_FORMATS[format][0]
    if out.suffix != suffix or out.is_dir():
        raise UserError(f"tags go to a file ending in {suffix}", where=out)
    in_made_folder(out)
    work = _Detecting(model, _device(device), precision)
    recogniser = work.recogniser

    def done(name: str, path: Path) -> list[float]:
        refuse_name(name)
        return list(recogniser.tag(path).values())

    found = found_recordings(recordings)
    run = {**work.run(), "task": "tag"}
    with _journalled(found, "tagging", done, out, run, restart) as (kept, failures):
        names = list(kept)
        if labels or format == "dcase2017":
            rules = zip(recogniser.class_names, recogniser.rules, strict=True)
            thresholds = [(name, rule.tag_threshold) for name, rule in rules]
            decided = [
                [
                    label
                    for (label, threshold), value in zip(thresholds, kept[name], strict=True)
                    if value > threshold
                ]
                for name in names
            ]
            write_labels = write_dcase2017_tags if format == "dcase2017" else write_tag_labels
            write_labels(out, names, decided)
        else:
            table = np.empty((len(names), len(recogniser.class_names)), np.float32)
            for row, name in enumerate(names):
                table[row] = kept[name]
            write_tags(out, names, recogniser.class_names, table)
    tags = _Results(kept, lambda row: dict(zip(recogniser.class_names, row, strict=True)))
    return Tagged(tags, failures, out)


@dataclass(frozen=True)
class _Detecting:
    """Finds the events of one recording, here or, sent there, in another process.

    ``digest`` tells it from one with a model that was there before.
    """

    model: Path
    device: str
    precision: str
    scores: Path | None = None
    digest: str = ""

    def __call__(self, name: str, path: Path) -> list[Event]:
        refuse_name(name)
        decoder = self.recogniser.decoder()
        events: list[Event] = []

        def watched() -> Iterator[ScoreTrack]:
            for block in self.recogniser.blocks(path):
                events.extend(decoder.push(block))
                yield block

        if self.scores is None:
            for _ in watched():
                pass
        else:
            write_scores(in_made_folder(self.scores / f"{name}.tsv"), watched())
        return in_order(events)

    @cached_property
    def recogniser(self) -> "Recogniser":
        # Torch takes a second to import: help and errors in what was typed should not wait for it.
        from earmark.inference.fusion import load_recogniser

        return load_recogniser(self.model, _device(self.device), self.precision)

    @property
    def _has_bfloat16(self) -> bool:
        """Whether the precision ``auto`` is bfloat16 on this machine."""
        import torch

        from earmark.model.precision import native_bfloat16

        return native_bfloat16(torch.device(self.device))

    def run(self) -> dict[str, str | None]:
        """What the result depends on, beside the recordings."""
        return {
            "version of earmark": version("earmark"),
            "model": _digest_of_model(self.model),
            "device": self.device,
            "precision": self.precision,
            "bfloat16": "native" if self._has_bfloat16 else None,
            "scores folder": None if self.scores is None else str(self.scores.absolute()),
        }


class _Results(Mapping[str, Any]):
    """What a journal keeps, as it was before."""

    def __init__(self, journal: Journal, from_json: Callable[[Any], Any]) -> None:
        self._journal = journal
        self._from_json = from_json

    def __getitem__(self, name: str) -> Any:
        return self._from_json(self._journal[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._journal)

    def __len__(self) -> int:
        return len(self._journal)


@contextmanager
def _journalled(
    found: Mapping[str, Path],
    what: str,
    work: Callable[[str, Path], Any],
    out: Path,
    run: Mapping[str, Any],
    restart: bool,
    lacks: Callable[[str], bool] = lambda name: False,
) -> Iterator[tuple[Journal, list[str]]]:
    """What ``work`` gave for all recordings, now or before; the block writes the output of it.

    What failed before is tried again; whose result ``lacks`` something by now is done anew.
    """
    with alone(out):
        journal = Journal(beside(out, "journal"), run, found, restart=restart)
        try:
            journal.forget([name for name in journal if lacks(name)])
            left = {name: path for name, path in found.items() if name not in journal}
            if journal:
                _going_on(len(journal), len(found), "recordings")

            def keep(name: str, path: Path) -> None:
                state = state_of(path)  # before: what changes meanwhile is to be done anew
                journal.add(name, state, work(name, path))

            failures = each_recording(left, what, keep, _at_once())
            refuse_if_all_failed(failures, len(journal))
            yield journal, failures
            _to_disk(out)
            journal.finish()
        finally:
            journal.close()


def _detect_with_ray(
    recordings: Sequence[Path], work: _Detecting, out: Path, address: str | None, restart: bool
) -> Detected:
    from earmark.model.bundle import read_description
    from earmark.scale.ray_engine import (
        Partitions,
        begin,
        blocks_done,
        blocks_of,
        connected,
        work_on,
    )

    read_description(work.model)
    found = found_recordings(recordings)
    blocks = blocks_of(found)
    made_folder(out)
    with connected(address) as ray, alone(out):
        has_gpu = ray.cluster_resources().get("GPU", 0) >= 1
        if work.device == "cuda" and not has_gpu:
            raise UserError("--device cuda needs a GPU, and the cluster has none; leave it out")
        gpu = has_gpu and work.device in ("auto", "cuda")
        work = replace(
            work,
            model=work.model.absolute(),
            device="cuda" if gpu else "cpu" if work.device == "auto" else work.device,
            scores=None if work.scores is None else work.scores.absolute(),
            digest=_digest_of_model(work.model),
        )
        begin(out, {**work.run(), "task": "detect"}, blocks, restart=restart)
        if done := len(blocks_done(out)):
            _going_on(done, len(blocks), "blocks")
        with progress("detecting", len(blocks)) as step:
            for _ in work_on(ray, blocks, work, out, gpu=gpu):
                step()
    events = Partitions(out)
    refuse_if_all_failed(events.failures, len(events))
    return Detected(events, events.failures, out)


def _going_on(done: int, total: int, what: str) -> None:
    """Says how much of an unfinished run is done."""
    say(f"going on: {done:,} of {total:,} {what} are done")


def _digest_of_model(folder: Path) -> str:
    """By which a model folder is known again: of its descriptions and weights, and the members'."""
    parts = ("model.json", "model.safetensors")
    names = sorted(name for name in files_below(folder) if name.rpartition("/")[2] in parts)
    of_files = {name: digest(folder / name) for name in names}
    return hashlib.sha256(json.dumps(of_files).encode()).hexdigest()


def _device(name: str) -> str:
    from earmark.training.devices import choose_device

    return choose_device(name).type


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _to_disk(out: Path) -> None:
    """Has a table survive a power cut, after which its journal would be gone."""
    if out.is_file():
        with writing(out), open(out, "rb") as file:
            os.fsync(file.fileno())


def _at_once() -> int:
    """How many recordings keep all of the workers busy while one is being written."""
    from earmark.inference.system import WORKERS

    return WORKERS.count + 1
