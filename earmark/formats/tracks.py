"""Tables of one recording each, which is known by the table's own name.

``night.txt`` and Raven's ``night.Table.1.selections.txt`` are of the recording ``night``, whatever
its suffix; ``night.wav.txt`` is of ``night.wav``. A folder of such tables is one set of labels.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from earmark.errors import UserError
from earmark.folders import files_below
from earmark.formats.label_table import LabelTable

_ENDING = re.compile(
    r"(?:\.Table\.[0-9]+|\.BirdNET)?(?:\.selections?(?:\.table)?)?\.txt\Z", re.IGNORECASE
)


def recording_of(name: str) -> str:
    """The recording that a table is called after, perhaps without its suffix.

    >>> recording_of("north/a.txt"), recording_of("a.wav.txt"), recording_of("a.selections.txt")
    ('north/a', 'a.wav', 'a')
    >>> recording_of("a.Table.1.selections.txt"), recording_of("a.tsv"), recording_of(".txt")
    ('a', 'a', '.txt')
    """
    bare = _ENDING.sub("", name)
    if bare == name:
        bare = name[: -len(Path(name).suffix) or None]
    return bare if bare.rpartition("/")[2] else name


def first_line(path: Path) -> str | None:
    """The first line that isn't empty; "" if there is none, None if it is no UTF-8 text."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return next((line for line in file if not line.isspace()), "")
    except (OSError, UnicodeDecodeError):
        return None  # Said by whatever reads the file whole.


def tracks_below(folder: Path) -> Iterator[tuple[str, str]]:
    """The tables among a folder's .txt files, and the first line of each.

    A text without a tab in its first line is a note or a recorder's settings, and passed over; an
    empty one is of a recording without events.
    """
    for name in sorted(files_below(folder)):
        if name.lower().endswith(".txt"):
            line = first_line(folder / name)
            if line is None or not line or "\t" in line:
                yield name, line or ""


def read_tracks(
    folder: Path, read: Callable[[Path, str], LabelTable], meant: Callable[[str], bool]
) -> LabelTable:
    """The tables of a folder as one.

    Args:
        folder: searched to the bottom.
        read: takes each table, and what its recording may be called.
        meant: whether a table is one of these, by its first line.

    Raises:
        UserError: there is none, or two are of one recording.
    """
    tables = [
        read(folder / name, recording_of(name))
        for name, line in tracks_below(folder)
        if meant(line)
    ]
    if not tables:
        raise UserError("the folder holds no tables of events ending in .txt", where=folder)
    table_of: dict[str, Path] = {}
    for table in tables:
        for row in table.rows:
            other = table_of.setdefault(row.filename, table.path)
            if other != table.path:
                raise UserError(
                    f"a recording may have one table, but '{row.filename}' has {other.name} and "
                    f"{table.path.name}; join them or remove one",
                    where=folder,
                )
    return LabelTable(
        folder,
        # The line of a table that isn't named would say nothing.
        tuple(replace(row, line=0) for row in chain.from_iterable(t.rows for t in tables)),
        tuple(sorted(set().union(*(table.class_names for table in tables)))),
        strong=True,
        zero_length_events=sum(table.zero_length_events for table in tables),
        stems=any(table.stems for table in tables),
    )
