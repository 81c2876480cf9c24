"""What lies in a folder, however deep, whatever links lead where; and when two names are one."""

import os
import unicodedata
from collections import Counter
from pathlib import Path

from earmark.errors import UserError

# Links between n folders make n! ways through them.
_MOST_WAYS = 100


def files_below(folder: Path) -> list[str]:
    """The files in a folder and those below it, by their names relative to it, with ``/``.

    Links are followed, except back to a folder above. Hidden entries are passed over.

    Raises:
        UserError: a folder can't be searched, or links lead to it in more than a hundred ways.
    """
    files = []
    ways: Counter[tuple[int, int]] = Counter()
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        prefix, above = waiting.pop()
        path = folder / prefix
        try:
            status = os.stat(path)
            here = (status.st_dev, status.st_ino)
            if here in above:
                continue
            ways[here] += 1
            if ways[here] > _MOST_WAYS:
                raise UserError(
                    f"links lead here in more than {_MOST_WAYS} ways; remove some", where=path
                )
            below = above | {here}
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if _is_folder(entry):
                        waiting.append((f"{prefix}{entry.name}/", below))
                    else:
                        files.append(prefix + entry.name)
        except OSError as error:
            reason = f"the folder can't be searched: {error.strerror}"
            raise UserError(reason, where=path) from error
    return files


def as_compared(name: str) -> str:
    r"""A file's name as names are compared: with ``/``, and with composed characters.

    Tables from Windows have backslashes, and names from macOS accents that stand by themselves.

    >>> as_compared("north\\a.wav"), as_compared("cafe\u0301.wav") == "caf\xe9.wav"
    ('north/a.wav', True)
    """
    return unicodedata.normalize("NFC", name).replace("\\", "/")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself; whoever reads it will say so
        return False
