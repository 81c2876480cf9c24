"""A model and recordings in; events, score tracks and tags out."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from earmark.audio import probe
from earmark.clock_times import LOOKED_FOR, start_of
from earmark.config import Precision
from earmark.errors import UserError
from earmark.events import Event, in_order
from earmark.folders import files_below
from earmark.formats.dcase2017 import submitted_clips, write_dcase2017_tags
from earmark.formats.event_formats import EVENT_FORMATS, event_formats
from earmark.formats.recorded import Recorded
from earmark.formats.scores import write_scores
from earmark.formats.tables import digest
from earmark.formats.tags import write_tags
from earmark.formats.weak import write_tag_labels
from earmark.model.hub import BUNDLED, fetched
from earmark.scale.journal import Journal, alone, beside, state_of
from earmark.scores import ScoreTrack
from earmark.tasks.event_outputs import event_outputs
from earmark.tasks.progress import counted, in_short, progress, say
from earmark.tasks.recordings import (
    Reached,
    each_recording,
    failure_lines,
    found_recordings,
    in_made_folder,
    made_folder,
    refuse_if_all_failed,
    refuse_model,
    refuse_name,
)
from earmark.writing import to_disk

if TYPE_CHECKING:
    from earmark.inference.recogniser import Recogniser


@dataclass(frozen=True, slots=True)
class Detected:
    """Events by recording, and a line for each recording that could not be read.

    The events are read when they are asked for, and need no memory before. ``places`` are the
    tables that were written, and folders of them. Without ``out``, ``table`` is what one would
    hold.
    """

    events: Mapping[str, list[Event]]
    failures: list[str]
    out: Path | None
    places: tuple[Path, ...] = ()
    table: str = ""

    def text(self) -> str:
        """What was found, in a few lines; without ``out`` the table itself."""
        if self.out is None:
            return self.table
        counts = Counter(event.label for events in self.events.values() for event in events)
        total = sum(counts.values())
        where = ", ".join(map(str, self.places or [self.out]))
        lines = [f"{counted(total, 'event')} in {counted(len(self.events), 'recording')}: {where}"]
        lines += [f"  {label}: {count}" for label, count in sorted(counts.items())]
        return "\n".join(lines + failure_lines(self.failures))


@dataclass(frozen=True, slots=True)
class Tagged:
    """Clip probabilities by recording, and a line for each that could not be read.

    The probabilities are read when they are asked for, and need no memory before. Without ``out``,
    ``table`` is what one would hold.
    """

    probabilities: Mapping[str, dict[str, float]]
    failures: list[str]
    out: Path | None
    table: str = ""

    def text(self) -> str:
        """What was done, in a line or two; without ``out`` the table itself."""
        if self.out is None:
            return self.table
        lines = [f"tags of {counted(len(self.probabilities), 'recording')}: {self.out}"]
        return "\n".join(lines + failure_lines(self.failures))


def detect(
    *recordings: Path,
    model: Path = BUNDLED,
    out: Path | None = None,
    format: str = "csv",
    clock_times: bool = False,
    scores: Path | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    restart: bool = False,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
) -> Detected:
    """Finds which classes sound in recordings, and from when to when.

    Stopped at any moment, it goes on with what is not done when it is called again: till the end,
    a journal of what is done lies beside the output, if that is a file or a folder. Ray works on as
    many machines as it has, all of which need the package and see the recordings, the model and
    ``out`` under the same paths; it writes Parquet, ``events`` and, with what could not be read and
    why, ``recordings``, a folder that is read as a table.

    Args:
        recordings: audio files, and folders that are searched recursively.
        model: a model folder; without, the model in the box.
        out: a file for one table of all, or a folder for a table a recording; without, one table of
            all on standard output, when all is done.
        format: how events are written: csv, tsv, dcase (.tsv without scores), dcase2017 (that
            challenge's submission, .txt), audacity (a label track a recording), audacity-scores
            (with the score behind the label), raven, json, jsonl or parquet; or several, such as
            csv,audacity,raven, which then lie beside the file or in the folder.
        clock_times: adds a column start_time, when each event starts by the clock, as far as a
            recording's name or header says when it began.
        scores: a folder for the frame probabilities, one TSV a recording.
        device: auto, cpu, cuda or mps.
        precision: of the networks: float32 (the reference), bfloat16, or auto for the fastest here.
        restart: does all anew, whatever an unfinished run left.
        engine: local, or ray, with which ``out`` is a folder of Parquet files.
        address: of the Ray cluster; without, that of RAY_ADDRESS, or else a new one here.

    Raises:
        UserError: nothing could be read, or written, or an unfinished run was another one.
    """
    if scores is not None:
        refuse_model(scores)
    if engine == "ray":
        if out is None:
            raise UserError("--engine ray writes a folder of Parquet files; name it with --out")
        if (out.suffix and not out.is_dir()) or out.is_file() or format != "csv" or clock_times:
            raise UserError(
                "with --engine ray, --out is a folder, of Parquet files, and there is no --format "
                "or --clock-times",
                where=out,
            )
        refuse_model(out)
        work = _Detecting(model, device, precision, scores)
        return _detect_with_ray(recordings, work, out, address, restart)
    if address is not None:
        raise UserError("--address goes with --engine ray; leave it out, or give that, too")
    if out is None:
        with _piped(format, restart) as table:
            detected = detect(
                *recordings,
                model=model,
                out=table,
                format=format,
                clock_times=clock_times,
                scores=scores,
                device=device,
                precision=precision,
            )
            text = _text_of(table, detected.failures)
            return replace(detected, out=None, places=(), table=text)
    outputs = event_outputs(out, format, clock_times)
    if scores is not None and outputs.takes(scores, ".tsv"):
        raise UserError("scores and events would be the same files; give two folders", where=scores)
    work = _Detecting(model, _device(device), precision, scores)
    class_names = work.recogniser.class_names  # what is wrong with the model is said first
    found = found_recordings(recordings)
    outputs.prepare(len(found), class_names)

    def done(name: str, path: Path, reached: Reached) -> dict[str, Any]:
        outputs.refuse_name(name)
        events = work(name, path, reached)
        kept = {
            "events": [(e.onset_seconds, e.offset_seconds, e.label, e.score) for e in events],
            "about": _about(path, clock_times, outputs.sounds),
        }
        outputs.write_of(recorded(name, kept))
        return kept

    def recorded(name: str, kept: Mapping[str, Any]) -> Recorded:
        start, seconds, rate_hz = kept["about"]
        return Recorded(
            name,
            _events(kept),
            None if start is None else datetime.fromisoformat(start),
            found[name],
            seconds,
            rate_hz,
        )

    def lacks_scores(name: str) -> bool:
        return scores is not None and not _has_content(scores / f"{name}.tsv")

    run = {
        **work.run(),
        "task": "detect",
        "format": ",".join(outputs.formats),
        "clock times": clock_times,
    }
    with _journalled(found, "detecting", done, out, run, restart, lacks_scores) as (kept, failures):
        # In the order of a table, and never all in memory.
        outputs.write_tables(lambda: (recorded(name, kept[name]) for name in sorted(kept)))
        for name in kept if outputs.folders else ():
            outputs.write_of(recorded(name, kept[name]), missing=True)
        if clock_times:
            _tell_without_clock(kept)
    return Detected(_Results(kept, _events), failures, out, outputs.places)


def tag(
    *recordings: Path,
    model: Path = BUNDLED,
    out: Path | None = None,
    labels: bool = False,
    format: Literal["csv", "dcase2017"] = "csv",
    device: str = "auto",
    precision: Precision = "auto",
    restart: bool = False,
) -> Tagged:
    """Finds which classes sound anywhere in recordings.

    Stopped at any moment, it goes on with what is not done when it is called again, if there is a
    file to go on with.

    Args:
        recordings: audio files, and folders that are searched recursively.
        model: a model folder; without, the model in the box.
        out: the table to write: a probability for every class; without, it goes to standard output,
            when all is done.
        labels: write the tags that were decided instead.
        format: csv, or dcase2017 for the challenge's submission (.txt) of decided tags.
        device: auto, cpu, cuda or mps.
        precision: of the networks: float32 (the reference), bfloat16, or auto for the fastest here.
        restart: does all anew, whatever an unfinished run left.

    Raises:
        UserError: nothing could be read, or written, or an unfinished run was another one.
    """
    if out is None:
        with _piped(format, restart) as table:
            tagged = tag(
                *recordings,
                model=model,
                out=table,
                labels=labels,
                format=format,
                device=device,
                precision=precision,
            )
            return replace(tagged, out=None, table=_text_of(table, tagged.failures))
    suffix = EVENT_FORMATS[format].suffix
    if out.suffix != suffix or out.is_dir():
        raise UserError(f"tags go to a file ending in {suffix}", where=out)
    found = found_recordings(recordings)
    if format == "dcase2017":
        submitted_clips(found)
    in_made_folder(out)
    work = _Detecting(model, _device(device), precision)
    recogniser = work.recogniser

    def done(name: str, path: Path, reached: Reached) -> list[float]:
        refuse_name(name)
        for block in recogniser.blocks(path):
            reached(block.stop_seconds)
        assert block.tags is not None
        tags: list[float] = block.tags.tolist()
        return tags

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
            rows = np.empty((len(names), len(recogniser.class_names)), np.float32)
            for row, name in enumerate(names):
                rows[row] = kept[name]
            write_tags(out, names, recogniser.class_names, rows)
        to_disk([out])
    tags = _Results(kept, lambda row: dict(zip(recogniser.class_names, row, strict=True)))
    return Tagged(tags, failures, out)


@contextmanager
def _piped(format: str, restart: bool) -> Iterator[Path]:
    """A file that is there for the block, for a table that standard output can take."""
    formats = event_formats(format)
    if len(formats) > 1 or any(kind.one_recording or not kind.text for kind in formats.values()):
        several = "one table" if len(formats) > 1 else "a table of all recordings, as text"
        raise UserError(f"standard output takes {several}; for the format {format} give --out")
    if restart:
        raise UserError("--restart is for a run with --out; leave it out, or give that, too")
    (kind,) = formats.values()
    with TemporaryDirectory(prefix="earmark-") as folder:
        yield Path(folder) / f"table{kind.suffix}"


def _text_of(table: Path, failures: Sequence[str]) -> str:
    """What a table holds; failures are said beside it."""
    for line in failure_lines(failures):
        say(line)
    return table.read_bytes().decode().removesuffix("\n")


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

    def __call__(
        self, name: str, path: Path, reached: Reached = lambda seconds: None
    ) -> list[Event]:
        refuse_name(name)
        decoder = self.recogniser.decoder()
        events: list[Event] = []

        def watched() -> Iterator[ScoreTrack]:
            for block in self.recogniser.blocks(path):
                events.extend(decoder.push(block))
                reached(block.stop_seconds)
                yield block

        if self.scores is None:
            for _ in watched():
                pass
        else:
            table = in_made_folder(self.scores / f"{name}.tsv")
            write_scores(table, watched())
            to_disk([table])
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
    work: Callable[[str, Path, Reached], Any],
    out: Path,
    run: Mapping[str, Any],
    restart: bool,
    lacks: Callable[[str], bool] = lambda name: False,
) -> Iterator[tuple[Journal, list[str]]]:
    """What ``work`` gave for all recordings, now or before; the block writes the output of it.

    What failed before is tried again; whose result ``lacks`` something by now is done anew. What
    ``work`` and the block write has to be on the disk at their ends, as it counts as done then.
    """
    with alone(out):
        journal = Journal(beside(out, "journal"), run, found, restart=restart)
        try:
            journal.forget([name for name in journal if lacks(name)])
            left = {name: path for name, path in found.items() if name not in journal}
            if journal:
                _going_on(len(journal), len(found), "recordings")

            def keep(name: str, path: Path, reached: Reached) -> None:
                state = state_of(path)  # before: what changes meanwhile is to be done anew
                journal.add(name, state, work(name, path, reached))

            failures = each_recording(left, what, keep, _at_once())
            refuse_if_all_failed(failures, len(journal))
            yield journal, failures
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
            model=fetched(work.model).absolute(),
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


def _events(kept: Mapping[str, Any]) -> list[Event]:
    """The events of a recording, as a journal keeps them."""
    return [Event(*row) for row in kept["events"]]


def _about(path: Path, clock_times: bool, sounds: bool) -> tuple[str | None, float, float]:
    """When a recording began, its duration and its rate, as far as they are asked for."""
    start = start_of(path) if clock_times else None
    info = probe(path) if sounds else None
    return (
        None if start is None else start.isoformat(),
        0.0 if info is None else info.duration_seconds,
        0.0 if info is None else info.rate_hz,
    )


def _tell_without_clock(kept: Mapping[str, Any]) -> None:
    """Says how many recordings' rows have no clock time, and what was looked for."""
    if without := [name for name in kept if kept[name]["about"][0] is None]:
        say(
            f"start_time is empty for {len(without)} of {counted(len(kept), 'recording')} "
            f"({in_short(without, 1)}): {LOOKED_FOR}"
        )


def _going_on(done: int, total: int, what: str) -> None:
    """Says how much of an unfinished run is done."""
    say(f"going on: {done:,} of {total:,} {what} are done")


def _digest_of_model(folder: Path) -> str:
    """By which a model folder is known again: of its descriptions and weights, and the members'."""
    folder = fetched(folder)
    parts = ("model.json", "model.safetensors")
    names = sorted(name for name in files_below(folder) if name.rpartition("/")[2] in parts)
    of_files = {name: digest(folder / name) for name in names}
    return hashlib.sha256(json.dumps(of_files).encode()).hexdigest()


def _device(name: str) -> str:
    from earmark.training.devices import choose_device

    return choose_device(name).type


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _at_once() -> int:
    """How many recordings keep all of the workers busy while one is being written."""
    from earmark.inference.system import WORKERS

    return WORKERS.count + 1
