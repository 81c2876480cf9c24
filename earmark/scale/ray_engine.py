"""Events of recordings by the million, on every machine of a Ray cluster, as Parquet.

The sorted recordings are cut into blocks, and each is a task of its own. A task writes two files,
whose names say which block it is: ``events/part-000007.parquet``, and then what became of each
recording, ``recordings/part-000007.parquet``. So a task that Ray repeats, because its machine died
or was thought to, replaces its own files, and no recording is in the result twice. What is there
already is kept: the next call works on what is missing, failed or another file by now.

Plain tasks do: nothing but names travels to them, and nothing back. Datasets of Ray would carry the
rows, too, and name their files anew each time a block is repeated.
"""

import hashlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from earmark.audio import AudioError
from earmark.errors import UserError
from earmark.events import Event
from earmark.scale.journal import refuse_other_run, state_of
from earmark.writing import replacing, writing

LARGEST_BLOCK = 200  # recordings: of a million, 5,000 tasks
BLOCKS = 1000  # of fewer recordings than that makes, unless a block would hold less than one
RETRIES = 5  # of a task whose machine or process died
ANSWER_SECONDS = 10.0  # of a cluster's address
DONE, FAILED = "done", "failed"

Work = Callable[[str, Path], list[Event]]
Recording = tuple[str, str]


class Outcome(NamedTuple):
    """What became of a recording: a row of the tables in ``recordings``.

    Attributes:
        recording: its name.
        status: done, or failed.
        reason: why it failed; empty if it didn't.
        events: how many there are.
        bytes: of the file.
        modified_ns: when the file was last changed.
    """

    recording: str
    status: str
    reason: str
    events: int
    bytes: int
    modified_ns: int


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
                    self._block_of[outcome.recording] = block
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
    """The numbers of the blocks that have a result."""
    there = (folder / "recordings").glob("part-*.parquet")
    return sorted(int(path.stem.removeprefix("part-")) for path in there)


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
        folders = [folder / "recordings", folder / "events"]
        there = [path for of_kind in folders for path in of_kind.glob("part-*.parquet")]
        if there and not note.exists():
            raise UserError("is of no run of earmark; give another --out", where=there[0])
        for path in there if restart else ():
            path.unlink()
        for of_kind in folders:
            of_kind.mkdir(parents=True, exist_ok=True)
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

    A task takes one CPU, and a GPU if asked for. A block whose task dies time and again is in the
    result as failed: one of its recordings may be what ends the process.

    Raises:
        UserError: the first that a task raises, which ends the others.
    """
    folder = folder.absolute()
    task = ray.remote(work_on_block).options(num_cpus=1, num_gpus=int(gpu), max_retries=RETRIES)
    waiting: dict[Any, int] = {}
    to_do = iter(range(len(blocks)))
    try:
        while True:
            # The cluster may grow and shrink.
            ahead = 2 * int(ray.cluster_resources().get("CPU", 1)) + 2
            for block in islice(to_do, max(0, ahead - len(waiting))):
                waiting[task.remote(block, blocks[block], work, folder)] = block
            if not waiting:
                return
            ready, _ = ray.wait(list(waiting))
            block = waiting.pop(ready[0])
            try:
                ray.get(ready[0])
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, UserError) else error from None
            except ray.exceptions.RayError as error:
                _give_up(block, blocks[block], folder, error)
            yield block
    finally:
        for left in waiting:
            ray.cancel(left)


def work_on_block(block: int, recordings: Sequence[Recording], work: Work, folder: Path) -> None:
    """Writes a block's result, keeping what is there of recordings that are done and the same."""
    work = _loaded(work)
    kept = _kept(folder, block)
    outcomes: list[Outcome] = []
    events: dict[str, list[Event]] = {}
    for name, path in recordings:
        size, modified_ns = _size_and_time(path)
        if name in kept and kept[name][0][-2:] == (size, modified_ns):
            outcome, events[name] = kept[name]
        else:
            try:
                events[name] = work(name, Path(path))
                outcome = Outcome(name, DONE, "", len(events[name]), size, modified_ns)
            except AudioError as error:
                outcome = Outcome(_unicode(name), FAILED, str(error), 0, size, modified_ns)
        outcomes.append(outcome)
    if outcomes != [outcome for outcome, _ in kept.values()]:
        _write(folder, block, outcomes, events)


def _give_up(
    block: int, recordings: Sequence[Recording], folder: Path, error: BaseException
) -> None:
    paths = dict(recordings)
    kept = {
        name: found
        for name, found in _kept(folder, block).items()
        if name in paths and found[0][-2:] == _size_and_time(paths[name])
    }
    why = f"the process died {RETRIES + 1} times in this block ({type(error).__name__})"
    outcomes = [
        kept[name][0]
        if name in kept
        else Outcome(_unicode(name), FAILED, _unicode(f"{path}: {why}"), 0, *_size_and_time(path))
        for name, path in recordings
    ]
    _write(folder, block, outcomes, {name: events for name, (_, events) in kept.items()})


def _loaded(work: Work) -> Work:
    """The first of equal works that this process was sent, which has its model in memory."""
    if work != _first.get("work"):
        _first["work"] = work
    return _first["work"]


_first: dict[str, Work] = {}


def _kept(folder: Path, block: int) -> dict[str, tuple[Outcome, list[Event]]]:
    if not _part(folder, "recordings", block).exists():
        return {}
    events = _events(folder, block)
    return {
        outcome.recording: (outcome, events.get(outcome.recording, []))
        for outcome in _outcomes(folder, block)
        if outcome.status == DONE
    }


def _write(
    folder: Path, block: int, outcomes: Sequence[Outcome], events: Mapping[str, Sequence[Event]]
) -> None:
    """Both files of a block, each whole or not at all; the one that says that it is done last."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    of_events = pa.schema(
        {
            "recording": pa.string(),
            "onset_seconds": pa.float64(),
            "offset_seconds": pa.float64(),
            "label": pa.string(),
            "score": pa.float64(),
        }
    )
    of_recordings = pa.schema(
        {
            "recording": pa.string(),
            "status": pa.string(),
            "reason": pa.string(),
            "events": pa.int64(),
            "bytes": pa.int64(),
            "modified_ns": pa.int64(),
        }
    )
    rows = [
        (o.recording, event.onset_seconds, event.offset_seconds, event.label, event.score)
        for o in outcomes
        for event in events.get(o.recording, ())
    ]
    for what, schema, table in (
        ("events", of_events, rows),
        ("recordings", of_recordings, outcomes),
    ):
        records = [dict(zip(schema.names, row, strict=True)) for row in table]
        with replacing(_part(folder, what, block), lasting=True) as part:
            pq.write_table(pa.Table.from_pylist(records, schema), part)


def _outcomes(folder: Path, block: int) -> list[Outcome]:
    return [Outcome(**row) for row in _read(_part(folder, "recordings", block))]


def _events(folder: Path, block: int) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for row in _read(_part(folder, "events", block)):
        found.setdefault(row.pop("recording"), []).append(Event(**row))
    return found


def _read(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"can't be read: {error}; remove it, and call again", where=path) from error
    return rows


def _part(folder: Path, what: str, block: int) -> Path:
    return folder / what / f"part-{block:06}.parquet"


def _size_and_time(path: str) -> tuple[int, int]:
    state = state_of(Path(path))
    return (-1, -1) if state is None else (int(state[1]), int(state[2]))


def _unicode(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
