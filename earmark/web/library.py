"""Which recordings there are: those in the folders that are served, and those sent here."""

import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from earmark.audio import AUDIO_SUFFIXES, AudioInfo, find_recordings, probe
from earmark.clock_times import start_of
from earmark.errors import UserError, printable
from earmark.writing import writing

_SAMPLE_BYTES = 4096
_COPIED_BYTES = 1 << 20
_LONGEST_NAME = 200
_LISTING_SECONDS = 0.5


class TooMany(Exception):
    """No further upload is taken."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that is served.

    Attributes:
        id: by which it is known; says nothing about where it is.
        name: by which tables call it.
        path: the file; only the server sees it.
        root: the folder out of which no link may lead; None for a file that was named itself.
        kept: the folder of what is kept of it.
        uploaded: whether it was sent here, and goes when the server ends.
    """

    id: str
    name: str
    path: Path
    root: Path | None
    kept: Path
    uploaded: bool = False

    def file(self) -> Path:
        """The file, if it is there and still where it was found.

        Raises:
            UserError: it was removed, or is a link that leads elsewhere by now.
        """
        inside = self.root is None or self.path.resolve().is_relative_to(self.root)
        if not inside or not self.path.is_file():
            raise UserError("the recording is no longer there", where=self.name)
        return self.path

    def state(self) -> list[int]:
        """By which a file that was changed since is told."""
        status = self.file().stat()
        return [status.st_size, status.st_mtime_ns]

    def said(self, error: UserError) -> UserError:
        """An error about the file, without where it is."""
        return UserError(str(error).replace(printable(str(self.path)), printable(self.name)))


class Library:
    """The recordings, by id.

    Args:
        given: files, and folders that are searched; links out of a folder are not followed.
        work: the folder for all that is kept.
        most_uploads: how many are held at a time.
        longest_seconds: of an upload.

    Raises:
        UserError: a path isn't there, or two recordings have one name.
    """

    def __init__(
        self, given: Sequence[Path], work: Path, most_uploads: int, longest_seconds: float
    ) -> None:
        self._kept = work / "recordings"
        self._uploads = work / "uploads"
        self._most_uploads = most_uploads
        self._longest_seconds = longest_seconds
        self._lock = threading.Lock()
        self._info: dict[str, tuple[list[int], AudioInfo | UserError]] = {}
        self._starts: dict[str, datetime | None] = {}
        self._recordings: dict[str, Recording] = {}
        self._arriving = 0
        self.clear_uploads()  # of a server that was killed
        with writing(self._uploads):
            self._uploads.mkdir(mode=0o700, parents=True)
        for name, path, root in _found(given):
            found = _digest(path, name)
            self._recordings[found] = Recording(found, name, path, root, self._kept / found)

    def __len__(self) -> int:
        return len(self._recordings)

    def get(self, recording_id: str) -> Recording | None:
        """The recording of an id."""
        return self._recordings.get(recording_id)

    def all(self) -> list[Recording]:
        """All recordings by name."""
        with self._lock:
            return sorted(self._recordings.values(), key=lambda recording: recording.name)

    def listed(self) -> list[tuple[Recording, AudioInfo | UserError | None]]:
        """All recordings by name with what is known of them; more of it with each call."""
        until = time.monotonic() + _LISTING_SECONDS
        rows: list[tuple[Recording, AudioInfo | UserError | None]] = []
        for recording in self.all():
            info = self._known(recording)
            if info is None and time.monotonic() < until:
                info = self._probed(recording)
            rows.append((recording, info))
        return rows

    def info(self, recording: Recording) -> AudioInfo:
        """Rate and length, the last known of a file that went. Raises UserError if unreadable."""
        info = self._known(recording)
        if not isinstance(info, AudioInfo):  # what went wrong once may work now
            info = self._probed(recording)
        if isinstance(info, UserError):
            raise info
        return info

    def start(self, recording: Recording) -> datetime | None:
        """When it began by the clock, if its name or its header says so.

        Of an upload nobody knows, as its file is called otherwise here.
        """
        if recording.uploaded:
            return None
        if recording.id not in self._starts:
            try:
                self._starts[recording.id] = start_of(recording.file())
            except UserError:
                return None
        return self._starts[recording.id]

    def add(self, name: str, file: BinaryIO) -> Recording:
        """Takes in a recording that was sent; one that is there already is that one.

        Raises:
            UserError: it can't be read as audio, or is too long.
            TooMany: there are too many.
        """
        name = shown_name(name)
        with self._lock:
            if self._count_uploads() + self._arriving >= self._most_uploads:
                raise TooMany
            self._arriving += 1
        part = self._uploads / f".{secrets.token_hex(8)}"
        try:
            return self._take(name, file, part)
        finally:
            part.unlink(missing_ok=True)
            with self._lock:
                self._arriving -= 1

    def withdraw(self, recording: Recording) -> None:
        """Forgets an upload; what is kept of it stays."""
        with self._lock:
            self._recordings.pop(recording.id, None)
            self._info.pop(recording.id, None)

    def remove(self, recording: Recording) -> None:
        """Forgets an upload and all that is kept of it."""
        self.withdraw(recording)
        shutil.rmtree(recording.kept, ignore_errors=True)

    def clear_uploads(self) -> None:
        """Removes every upload."""
        shutil.rmtree(self._uploads, ignore_errors=True)

    def _take(self, name: str, file: BinaryIO, part: Path) -> Recording:
        content = hashlib.sha256()
        with writing(Path(name)), open(part, "xb") as out:
            while block := file.read(_COPIED_BYTES):
                content.update(block)
                out.write(block)
        found = content.hexdigest()[:32]
        with self._lock:
            if (there := self._recordings.get(found)) is not None:
                return there
        suffix = PurePosixPath(name).suffix.lower()
        kept = self._uploads / found
        path = kept / f"audio{suffix if suffix in AUDIO_SUFFIXES else ''}"
        recording = Recording(found, name, path, kept.resolve(), kept, uploaded=True)
        try:
            with writing(Path(name)):
                kept.mkdir(mode=0o700, exist_ok=True)
                os.replace(part, path)
            info = self.info(recording)
            if info.duration_seconds > self._longest_seconds:
                raise UserError(
                    f"a recording that is sent may last {self._longest_seconds / 3600:g} hours, "
                    f"this one lasts {info.duration_seconds / 3600:.1f}; put it into a folder and "
                    "serve that with --audio",
                    where=name,
                )
        except UserError:
            self.remove(recording)
            raise
        with self._lock:
            there = self._recordings.setdefault(found, self._with_own_name(recording))
        return there

    def _with_own_name(self, recording: Recording) -> Recording:
        names = {other.name for other in self._recordings.values()}
        name, count = recording.name, 1
        while name in names:
            count += 1
            path = PurePosixPath(recording.name)
            name = f"{path.stem} ({count}){path.suffix}"
        return Recording(
            recording.id, name, recording.path, recording.root, recording.kept, uploaded=True
        )

    def _count_uploads(self) -> int:
        return sum(recording.uploaded for recording in self._recordings.values())

    def _known(self, recording: Recording) -> AudioInfo | UserError | None:
        """What is known of the file as it is now."""
        state, info = self._info.get(recording.id, (None, None))
        with suppress(UserError):
            return info if recording.state() == state else None
        return info

    def _probed(self, recording: Recording) -> AudioInfo | UserError:
        try:
            state = recording.state()
        except UserError as error:
            return error
        try:
            info: AudioInfo | UserError = probe(recording.file())
        except UserError as error:
            info = recording.said(error)
        self._info[recording.id] = state, info
        return info


def shown_name(name: str) -> str:
    """The last part of a file's name as it was sent, fit to be shown and written to tables."""
    name = name.replace("\\", "/").rpartition("/")[2]
    name = "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "_" for c in name)
    path = PurePosixPath(name.strip() or "recording")
    return f"{path.stem[:_LONGEST_NAME]}{path.suffix[:20]}" or "recording"


def _found(given: Sequence[Path]) -> list[tuple[str, Path, Path | None]]:
    """Names, files and the folders that they may not lead out of; what is given twice is one.

    Unlike ``find_recordings`` it follows no links to folders: what lies there isn't searched, even.
    """
    roots: dict[Path, Path] = {}

    def listed(top: Path) -> list[tuple[str, Path]]:
        root = top.resolve()
        files = _files(top, root)
        for path in files:
            roots.setdefault(path, root)
        return [(path.relative_to(top).as_posix(), path) for path in files]

    return [(name, path, roots.get(path)) for name, path in find_recordings(given, listed)]


def _files(top: Path, root: Path) -> list[Path]:
    """The audio files below a folder, by name; hidden entries and links that lead out are not."""

    def refuse(error: OSError) -> None:
        raise UserError(f"the folder can't be searched: {error.strerror}", where=error.filename)

    files = []
    for folder, folders, names in os.walk(top, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if name.startswith(".") or path.suffix.lower() not in AUDIO_SUFFIXES:
                continue
            try:
                name.encode()
                inside = path.resolve().is_relative_to(root)
            except (OSError, RuntimeError, UnicodeEncodeError):
                continue
            if inside and path.is_file():
                files.append(path)
    return sorted(files)


def _digest(path: Path, name: str) -> str:
    """Of a file's name, size and a little of its content, so that it is known again elsewhere."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape") + b"\0")
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            digest.update(str(size).encode())
            for place in (0, size // 2, max(0, size - _SAMPLE_BYTES)):
                file.seek(place)
                digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        raise UserError(f"can't be read: {error.strerror}", where=path) from error
    return digest.hexdigest()[:32]
