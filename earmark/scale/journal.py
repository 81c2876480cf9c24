"""What is done of a run, kept beside its output: stopped at any moment, it goes on from there."""

import json
import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from earmark.errors import UserError
from earmark.writing import append, replacing, writing

SYNC_SECONDS = 5.0
"""How often what is written is brought to the disk itself."""

State = list[str | int]


class Journal(Mapping[str, Any]):
    """Results by recording, each in a file as soon as it is there; in the recordings' order.

    The file is of lines of JSON. The first says which run it is of, each of the others the name of
    a recording, which file that was (path, bytes, time of change) and its result. Whatever is torn
    or damaged counts as not done, and so does a recording that is another file by now.

    A process that is killed loses what it was working on. A power cut may also cost what the last
    ``SYNC_SECONDS`` brought. In memory are the names and where in the file they are.

    Args:
        path: of the file, which is there once there is a first result.
        run: what must be equal for a run to be the same one, in JSON.
        recordings: files by name; results of others are passed over.
        restart: forgets what is there.

    Raises:
        UserError: the file is another run's or none of ours, or can't be read or written; also
            from ``add``.
    """

    def __init__(
        self,
        path: Path,
        run: Mapping[str, Any],
        recordings: Mapping[str, Path],
        *,
        restart: bool = False,
    ) -> None:
        self._path = path
        self._run = dict(run)
        self._recordings = recordings
        self._places: dict[str, int] = {}
        self._end = 0
        self._lock = threading.Lock()
        self._out: IO[bytes] | None = None
        self._in: IO[bytes] | None = None
        self._synced_seconds = time.monotonic()
        if restart:
            with writing(path):
                path.unlink(missing_ok=True)
        elif path.exists():
            self._go_on()

    def __getitem__(self, name: str) -> Any:
        place = self._places[name]
        with self._lock:
            reader = self._reader()
            reader.seek(place)
            return json.loads(reader.readline())["result"]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._recordings if name in self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def add(self, name: str, state: State | None, result: Any) -> None:
        """Keeps a result, in JSON, of the file whose ``state_of`` was ``state``; in any thread."""
        entry = {"name": name, "file": state, "result": result}
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        with self._lock, writing(self._path):
            out = self._out or self._begin()
            append(out, line)
            self._places[name] = self._end
            self._end += len(line)
            if time.monotonic() - self._synced_seconds > SYNC_SECONDS:
                self._sync(out)

    def forget(self, names: Iterable[str]) -> None:
        """Has these be as if they were not done."""
        for name in names:
            del self._places[name]

    def close(self) -> None:
        """Brings all to the disk; results can still be read."""
        with self._lock, writing(self._path):
            if self._out is not None:
                self._sync(self._out)
                self._out.close()
                self._out = None

    def finish(self) -> None:
        """Removes the file, as the output is whole; results can still be read."""
        self.close()
        if self._places:
            self._reader()
        with writing(self._path):
            self._path.unlink(missing_ok=True)

    def _go_on(self) -> None:
        try:
            with open(self._path, "rb") as file:
                self._check(file.readline())
                self._end = file.tell()
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._take(line)
                    self._end += len(line)
        except OSError as error:
            reason = f"can't be read: {error.strerror or error}"
            raise UserError(reason, where=self._path) from error
        with writing(self._path):
            os.truncate(self._path, self._end)

    def _check(self, line: bytes) -> None:
        head = _read(line)
        was = head.get("run")
        if not isinstance(was, dict):
            raise UserError(
                "is no journal of an unfinished run; remove it with --restart, or give another "
                "--out",
                where=self._path,
            )
        refuse_other_run(self._path, was, self._run)

    def _take(self, line: bytes) -> None:
        entry = _read(line)
        name = entry.get("name")
        if not isinstance(name, str) or "result" not in entry or name not in self._recordings:
            return
        state = state_of(self._recordings[name])
        if state is not None and entry.get("file") == state:
            self._places[name] = self._end

    def _begin(self) -> IO[bytes]:
        """Opens the file; it is made with its first line, or not at all."""
        if not self._path.exists():
            head = json.dumps({"run": self._run}).encode() + b"\n"
            with replacing(self._path, lasting=True) as part:
                part.write_bytes(head)
            self._end = len(head)
        self._out = open(self._path, "ab", buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._out.close)
        return self._out

    def _reader(self) -> IO[bytes]:
        if self._in is None:
            self._in = open(self._path, "rb")  # noqa: SIM115
            weakref.finalize(self, self._in.close)
        return self._in

    def _sync(self, out: IO[bytes]) -> None:
        os.fsync(out.fileno())
        self._synced_seconds = time.monotonic()


def refuse_other_run(path: Path, was: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Refuses to mix runs that differ in anything; ``path`` is where the first one stands."""
    if other := [name for name in {**run, **was} if was.get(name) != run.get(name)]:
        raise UserError(
            f"is of a run with another {other[0]}; go on with that one, give --restart to begin "
            "anew, or give another --out",
            where=path,
        )


def state_of(path: Path) -> State | None:
    """By which a file is known again: path, bytes and time of change; None if it isn't there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [os.path.abspath(path), status.st_size, status.st_mtime_ns]


def beside(out: Path, what: str) -> Path:
    """A hidden file in the folder ``out``, or next to the file."""
    return out / f".{what}" if out.is_dir() else out.with_name(f".{out.name}.{what}")


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Lets no other process write ``out`` meanwhile. Raises UserError if one does already."""
    path = beside(out, "lock")
    lock = FileLock(path, timeout=0)
    with writing(out):
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                "another process is writing it; wait for its end, or give another --out", where=out
            ) from None
    try:
        yield
    finally:
        # Whoever opened it before sees that it is gone, and makes a new one.
        path.unlink(missing_ok=True)
        lock.release()


def _read(line: bytes) -> dict[str, Any]:
    """A line's JSON; nothing if it is damaged."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
