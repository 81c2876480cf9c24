"""Events, or features, of recordings by the million, on every machine of a Ray cluster.

Events come as Parquet. The sorted recordings are cut into blocks, and each is a task of its own. A
task writes two files, whose names say which block it is: ``events/part-000007.parquet``, and then
what became of each recording, ``recordings/part-000007.parquet``. So a task that Ray repeats,
because its machine died or was thought to, replaces its own files, and no recording is in the
result twice. What is there already is kept: the next call works on what is missing, failed or
another file by now. Features come as the shards that one machine alone would make, a task each.

The events have the columns of every other table of events, so that whatever reads those reads the
folder, too, as one table.

Plain tasks do: nothing but names travels to them, and nothing back, but of a block that died.
Datasets of Ray would carry the rows, too, and name their files anew each time a block is repeated.
"""

import hashlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import numpy as np
from numpy.typing import NDArray

from earmark.audio import AudioError
from earmark.config import FeatureSettings
from earmark.data.labels import Clip
from earmark.data.places import Folder, Place
from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.recorded import FIELDS
from earmark.scale.journal import refuse_other_run, state_of
from earmark.writing import replacing, writing

LARGEST_BLOCK = 200  # recordings: of a million, 5,000 tasks
BLOCKS = 1000  # of fewer recordings than that makes, unless a block would hold less than one
RETRIES = 5  # of a task whose machine or process died
ANSWER_SECONDS = 10.0  # of a cluster's address
DONE, FAILED = "done", "failed"

Work = Callable[[str, Path], list[Event]]
Recording = tuple[str, str]
Found = tuple["Outcome", list[Event]]


class Outcome(NamedTuple):
    """What became of a recording: a row of the tables in ``recordings``.

    Attributes:
        filename: what tables call the recording.
        status: done, or failed.
        reason: why it failed; empty if it didn't.
        events: how many there are.
        bytes: of the file.
        modified_ns: when the file was last changed.
    """

    filename: str
    status: str
    reason: str
    events: int
    bytes: int
    modified_ns: int


COLUMNS = {
    "events": dict(zip(FIELDS, (str, *get_type_hints(Event).values()), strict=True)),
    "recordings": get_type_hints(Outcome),
}
"""Of the two kinds of tables, and what they are of; the second says that the first is done."""


class Partitions(Mapping[str, list[Event]]):
    """The events of all recordings that are done, in a folder of Parquet files.

    Attributes:
        folder: of ``events`` and ``recordings``.
        failures: a line for each recording that could not be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failures: list[str] = []
        self._block_of: dict[str, int] = {}
        for block in blocks_done(folder):
            for outcome in _outcomes(folder, block):
                if outcome.status == DONE:
                    self._block_of[outcome.filename] = block
                else:
                    self.failures.append(outcome.reason)
        # Neighbours are asked for one after another.
        self._events = lru_cache(maxsize=2)(lambda block: _events(folder, block))

    def __getitem__(self, name: str) -> list[Event]:
        return list(self._events(self._block_of[name]).get(name, ()))

    def __iter__(self) -> Iterator[str]:
        return iter(self._block_of)

    def __len__(self) -> int:
        return len(self._block_of)


def blocks_of(recordings: Mapping[str, Path]) -> list[list[Recording]]:
    """Names and absolute paths, sorted and cut; the same recordings are always cut alike."""
    ordered = [(name, os.path.abspath(recordings[name])) for name in sorted(recordings)]
    size = min(LARGEST_BLOCK, max(1, len(ordered) // BLOCKS))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def blocks_done(folder: Path) -> list[int]:
    """The numbers of the blocks that have a result.

    Raises:
        UserError: there is a part that is none of ours.
    """
    return sorted(_parts(folder, "recordings").keys() & _parts(folder, "events").keys())


def begin(
    folder: Path, run: Mapping[str, Any], blocks: Sequence[Sequence[Recording]], *, restart: bool
) -> None:
    """Makes the folders, or checks that what is in them is of this run; a restart empties them.

    Raises:
        UserError: it is of another run, or can't be read or written.
    """
    note = folder / "run.json"
    of_all = hashlib.sha256(json.dumps(blocks).encode()).hexdigest()
    run = {**run, "list of recordings": of_all}
    with writing(folder):
        there = [path for what in COLUMNS for path in _parts(folder, what).values()]
        if there and not note.exists():
            raise _not_ours(there[0])
        for path in there if restart else ():
            path.unlink()
        for what in COLUMNS:
            (folder / what).mkdir(parents=True, exist_ok=True)
    if note.exists() and not restart:
        try:
            was = dict(json.loads(note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError("is damaged; give --restart, or another --out", where=note) from error
        refuse_other_run(note, was, run)
        return
    with replacing(note, lasting=True) as part:
        part.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected: as it is, or to a cluster, or else to a new one of this machine alone.

    Raises:
        UserError: Ray is not installed, or there is no cluster at that address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import pyarrow.parquet  # noqa: F401
        import ray
    except ImportError as error:
        raise UserError("--engine ray needs Ray: pip install 'earmark[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    if address is not None:
        _refuse_if_silent(address)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"there is no Ray cluster at {address}: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _refuse_if_silent(address: str) -> None:
    """Ray itself looks for minutes for a cluster that isn't there."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if not port.isdecimal():  # "auto", say
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster answers at {address}: {error}") from error


def work_on(
    ray: Any,
    blocks: Sequence[Sequence[Recording]],
    work: Work,
    folder: Path,
    *,
    gpu: bool = False,
) -> Iterator[int]:
    """Has every block's result written by the cluster; gives each number when it is done.

    A task takes one CPU, and a GPU if asked for. Where a block's task dies time and again, one of
    its recordings may be what ends the process: each is then a task of its own, and those whose
    tasks die are in the result as failed.

    Raises:
        UserError: the first that a task raises, which ends the others.
    """
    folder = folder.absolute()
    asked = {"num_cpus": 1, "num_gpus": int(gpu), "max_retries": RETRIES}
    task = ray.remote(work_on_block).options(**asked)
    of_one = ray.remote(work_on_recording).options(**asked)

    def begin(block: int) -> Any:
        return task.remote(block, blocks[block], work, folder)

    for block, answer in _ended(ray, len(blocks), begin):
        try:
            _answer(ray, answer)
        except _DiedError as death:
            _one_by_one(ray, of_one, block, blocks[block], work, folder, death)
        yield block


def make_shards(
    ray: Any,
    where: Place,
    cut: Sequence[NDArray[np.int64]],
    clips: Sequence[Clip],
    settings: FeatureSettings,
    max_clip_seconds: float,
) -> Iterator[bool]:
    """Has each shard made by the cluster; tells of each, when it is there, if it was made now.

    A task takes one CPU, or more of a machine's where there are fewer shards than CPUs.

    Args:
        ray: connected.
        where: the shards, a folder that all machines see, or an address.
        cut: the numbers of each shard's clips.
        clips: all of them.
        settings: of the features.
        max_clip_seconds: how long a clip may be.

    Raises:
        UserError: the first that a task raises, or that its process died time and again; it ends
            the others.
    """
    from earmark.data.shards import make_shard  # loads torch

    if isinstance(where, Folder):
        where = Folder(where.path.absolute())
    machines = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    threads = max(1, int(min(filter(None, machines), default=1)))
    threads = min(threads, max(1, int(sum(machines)) // max(1, len(cut))))
    task = ray.remote(make_shard).options(num_cpus=threads, max_retries=RETRIES)

    def begin(shard: int) -> Any:
        numbers = cut[shard].tolist()
        of_shard = [replace(clips[n], path=clips[n].path.absolute()) for n in numbers]
        return task.remote(where, shard, numbers, of_shard, settings, max_clip_seconds, threads)

    for shard, answer in _ended(ray, len(cut), begin, threads):
        try:
            yield _answer(ray, answer)
        except _DiedError as death:
            raise UserError(
                f"the process that made it died {RETRIES + 1} times ({death}); the shards that are "
                "done stay, and the same command goes on",
                where=where.at(f"{shard:06}"),
            ) from death


def _ended(
    ray: Any, count: int, begin: Callable[[int], Any], cpus: int = 1
) -> Iterator[tuple[int, Any]]:
    """Begins ``count`` tasks, of so many CPUs each; gives each that has ended, and its number.

    Whoever stops early ends those at work.
    """
    waiting: dict[Any, int] = {}
    to_do = iter(range(count))
    try:
        while True:
            # The cluster may grow and shrink.
            ahead = 2 * int(ray.cluster_resources().get("CPU", 1)) // cpus + 2
            for number in islice(to_do, max(0, ahead - len(waiting))):
                waiting[begin(number)] = number
            if not waiting:
                return
            ready, _ = ray.wait(list(waiting))
            yield waiting.pop(ready[0]), ready[0]
    finally:
        for left in waiting:
            ray.cancel(left)


def work_on_block(block: int, recordings: Sequence[Recording], work: Work, folder: Path) -> None:
    """Writes a block's result, keeping what is there of recordings that are done and the same."""
    kept = _kept(folder, block, recordings)
    if len(kept) < len(recordings):
        _write(folder, block, [kept.get(r) or work_on_recording(r, work) for r in recordings])


def work_on_recording(recording: Recording, work: Work) -> Found:
    """What becomes of a recording, and its events."""
    name, path = recording
    state = _size_and_time(path)  # before: what changes meanwhile is to be done anew
    try:
        events = _loaded(work)(name, Path(path))
    except AudioError as error:
        return _failed(name, str(error), state)
    return Outcome(name, DONE, "", len(events), *state), events


class _DiedError(Exception):
    """A task's process or machine died, as often as Ray tried."""


def _answer(ray: Any, task: Any) -> Any:
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, UserError) else error from None
    except ray.exceptions.RayError as error:
        raise _DiedError(type(error).__name__) from error


def _one_by_one(
    ray: Any,
    task: Any,
    block: int,
    recordings: Sequence[Recording],
    work: Work,
    folder: Path,
    death: _DiedError,
) -> None:
    """Writes the result of a block whose task died, by a task for each recording not done yet.

    A single one is not tried again: it is what the task died of.
    """
    found = _kept(folder, block, recordings)
    left = [recording for recording in recordings if recording not in found]
    waiting = {r: task.remote(r, work) for r in left} if len(left) > 1 else {}
    try:
        for name, path in left:
            try:
                if len(left) == 1:
                    raise death
                found[name, path] = _answer(ray, waiting[name, path])
            except _DiedError as error:
                line = UserError(f"the process that works on it dies ({error})", where=path)
                found[name, path] = _failed(name, str(line), _size_and_time(path))
    finally:
        for one in waiting.values():
            ray.cancel(one)  # of those that have ended, nothing
    _write(folder, block, [found[recording] for recording in recordings])


def _failed(name: str, reason: str, state: Sequence[Any]) -> Found:
    """A table holds Unicode alone, which a name may not be: no such recording is ever done."""
    plain = name.encode("utf-8", "backslashreplace").decode()
    return Outcome(plain, FAILED, reason, 0, *state), []


def _loaded(work: Work) -> Work:
    """The first of equal works that this process was sent, which has its model in memory."""
    if work != _first.get("work"):
        _first["work"] = work
    return _first["work"]


_first: dict[str, Work] = {}


def _kept(folder: Path, block: int, recordings: Sequence[Recording]) -> dict[Recording, Found]:
    """What is there of a block's recordings that are done and still the same files."""
    if not all(_part(folder, what, block).exists() for what in COLUMNS):
        return {}
    events = _events(folder, block)
    done = {o.filename: o for o in _outcomes(folder, block) if o.status == DONE}
    return {
        (name, path): (done[name], events.get(name, []))
        for name, path in recordings
        if name in done and list(done[name][-2:]) == _size_and_time(path)
    }


def _write(folder: Path, block: int, found: Sequence[Found]) -> None:
    """Both files of a block, each whole or not at all; the one that says that it is done last."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), float | None: pa.float64()}
    rows: dict[str, Sequence[Sequence[Any]]] = {
        "events": [(o.filename, *astuple(event)) for o, events in found for event in events],
        "recordings": [outcome for outcome, _ in found],
    }
    for what, fields in COLUMNS.items():
        schema = pa.schema({name: types[kind] for name, kind in fields.items()})
        records = [dict(zip(fields, row, strict=True)) for row in rows[what]]
        with replacing(_part(folder, what, block), lasting=True) as part:
            pq.write_table(pa.Table.from_pylist(records, schema), part)


def _outcomes(folder: Path, block: int) -> list[Outcome]:
    return [Outcome(*row) for row in _read(folder, "recordings", block)]


def _events(folder: Path, block: int) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for name, *event in _read(folder, "events", block):
        found.setdefault(name, []).append(Event(*event))
    return found


def _read(folder: Path, what: str, block: int) -> Iterator[tuple[Any, ...]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = _part(folder, what, block)
    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"can't be read: {error}; remove it, and call again", where=path) from error
    if table.column_names != list(COLUMNS[what]):
        raise _not_ours(path)
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _part(folder: Path, what: str, block: int) -> Path:
    return folder / what / f"part-{block:06}.parquet"


def _parts(folder: Path, what: str) -> dict[int, Path]:
    """The files of blocks that are there, by number."""
    found: dict[int, Path] = {}
    for path in (folder / what).glob("part-*.parquet"):
        number = path.stem.removeprefix("part-")
        if not number.isdecimal() or _part(folder, what, int(number)) != path:
            raise _not_ours(path)
        found[int(number)] = path
    return found


def _not_ours(path: Path) -> UserError:
    return UserError("is of no run of earmark; give another --out", where=path)


def _size_and_time(path: str) -> list[Any]:
    """By which a file is known again; -1 and -1 if it isn't there."""
    return (state_of(Path(path)) or [path, -1, -1])[1:]
