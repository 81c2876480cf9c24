"""Files that appear whole or not at all, and in words why one can't be written."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from earmark.errors import UserError

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says of an error of the system in the block that ``path`` can't be written.

    Raises:
        UserError: the disk is full, say, or nothing may be written there.
    """
    try:
        yield
    except OSError as error:
        remedy = "free some space" if error.errno in _FULL else "mend that"
        raise UserError(
            f"can't be written: {error.strerror or error}; {remedy}, or write elsewhere", where=path
        ) from error


@contextmanager
def replacing(path: Path, *, beside: Path | None = None, lasting: bool = False) -> Iterator[Path]:
    """Gives the path of a new file, which takes the place of ``path`` at the end of the block.

    Until then, and if the block fails, what is there stays as it is. A device such as
    ``/dev/stdout`` is written to, never replaced.

    Args:
        path: the file to appear.
        beside: where the new file is until then, if only one process at a time writes it, as
            ``unfinished`` says.
        lasting: whether it has to survive that the machine loses power.

    Raises:
        UserError: it can't be written.
    """
    with writing(path):
        path = path.resolve()  # a link stays, and what it points to is replaced
        if path.exists() and not path.is_file():
            yield path
            return
        part = beside or path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex[:8]}.part")
        try:
            yield part
            if lasting:
                with open(part, "r+b") as file:  # Windows syncs only what it may write
                    os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def append(file: IO[bytes], content: bytes) -> None:
    """Adds to the end of an unbuffered file, all of it or nothing. Raises OSError."""
    end = os.fstat(file.fileno()).st_size
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with suppress(OSError):  # the first error says more
            os.ftruncate(file.fileno(), end)
        raise


def unfinished(path: Path) -> Path:
    """Where a file that one process at a time writes is till it is whole.

    What a killed one leaves there is overwritten by the next.
    """
    return path.with_name(f".{path.name}.partial")


def to_disk(files: Iterable[Path]) -> None:
    """Has files survive that the machine loses power; what is no file is passed over.

    Raises:
        UserError: one can't be written.
    """
    folders = set()
    for path in files:
        if path.is_file():
            with writing(path), open(path, "r+b") as file:  # Windows syncs only what it may write
                os.fsync(file.fileno())
            folders.add(path.resolve().parent)
    for folder in folders if os.name == "posix" else ():  # Windows opens no folders
        with writing(folder):
            names = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(names)
            finally:
                os.close(names)


@contextmanager
def filling(folder: Path) -> Iterator[None]:
    """Leaves a folder that is new or empty as it was if the block, which fills it, fails.

    Raises:
        UserError: it holds something, which stays.
    """
    new = not folder.exists()
    if not new and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError("must be new or empty; remove it, or name another", where=folder)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # the first error says more than that of tidying up
            for path in folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            if new:
                folder.rmdir()
        raise
