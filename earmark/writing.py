"""Files that appear whole or not at all, and in words why one can't be written."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
        beside: where the new file is until then, if only one process at a time writes it: what a
            killed one leaves is then overwritten by the next.
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
                with open(part, "rb") as file:
                    os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


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
