"""The tables of AudioSet, weak and strong, and the names that copies of its clips go by.

Weak segments are ``YTID, start_seconds, end_seconds, "mid,mid"`` below comment lines; strong ones
``segment_id start_time_seconds end_time_seconds label`` between tabs, where a segment_id is the
video and the clip's start in it in milliseconds, and the times are those in the clip. Classes are
MIDs in both; their names stand in files of their own.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.label_table import LabelRow, LabelTable, refuse_repeated_files, weak_table
from earmark.formats.strong import strong_table
from earmark.formats.tables import TAB, Table, no_collection, read_table

STRONG_COLUMNS = ("segment_id", "start_time_seconds", "end_time_seconds", "label")
WEAK_NAMES, STRONG_NAMES = "class_labels_indices.csv", "mid_to_display_name.tsv"

_SECONDS = r"[0-9]+(?:\.[0-9]+)?"
_MID = r"/[a-z]/[\w-]+"
_ROW = re.compile(
    rf'([\w-]{{11}})\s*,\s*({_SECONDS})\s*,\s*({_SECONDS})\s*,\s*("?)({_MID}(?:\s*,\s*{_MID})*)\4\s*',
    re.ASCII,
)
_SEGMENT_ID = re.compile(r"([\w-]{11})_[0-9]+", re.ASCII)
# A video's id has 11 characters, so that a Y before it can be told from one in it.
_CLIP_STEM = re.compile(rf"Y?([\w-]{{11}})(?:_({_SECONDS})_{_SECONDS}|_([0-9]+))?", re.ASCII)
_LINES_TO_TELL = 50


def segment_of(filename: str) -> tuple[str, int | None] | None:
    """The video and the start in it, in milliseconds, that the name of a clip says.

    Copies are called ``<id>``, ``<id>_<start>_<end>`` in seconds or ``<id>_<start>`` in
    milliseconds, with or without a Y before the id, and with any suffix. The start is None where
    the name has none; None is returned for a name of another form.

    >>> segment_of("eval/Y-0RWZT-miFs_420.000_430.000.flac")
    ('-0RWZT-miFs', 420000)
    >>> segment_of("-0RWZT-miFs_420000.wav"), segment_of("Y-0RWZT-miFs.m4a")
    (('-0RWZT-miFs', 420000), ('-0RWZT-miFs', None))
    """
    match = _CLIP_STEM.fullmatch(filename.rpartition("/")[2].rpartition(".")[0])
    if match is None:
        return None
    video, seconds, milliseconds = match.groups()
    if seconds is not None:
        return video, round(float(seconds) * 1000)
    return video, None if milliseconds is None else int(milliseconds)


def looks_like_audioset(path: Path) -> bool:
    """Whether the first lines are those of a table of weak segments."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line in islice(file, _LINES_TO_TELL):
                if line.startswith("#"):
                    if "YTID" in line:
                        return True
                elif line.strip():
                    return _ROW.fullmatch(line) is not None
    except (OSError, UnicodeDecodeError):
        pass  # Said by whatever reads the file whole.
    return False


@no_collection()
def read_audioset(path: Path, class_names: Path | None = None) -> LabelTable:
    """Tags of the weak segments, each a clip ``Y<id>_<start>_<end>.wav``.

    Clips of one video are one group. Two million rows take some ten seconds, and 1 GB.

    Args:
        path: the table.
        class_names: see ``read_class_names``; without it, a file of the name that AudioSet gives
            it is taken from beside the table, else labels stay MIDs.

    Raises:
        UserError: a row is of another form, two are of one clip, or a MID has no name.
    """
    names = _class_names(path, class_names, (WEAK_NAMES, STRONG_NAMES))
    # Few texts for many rows: each is looked into once.
    labels_of: dict[str, frozenset[str]] = {}
    place_of: dict[tuple[str, str], str] = {}
    rows = []
    for line, text in _lines(path):
        match = _ROW.fullmatch(text)
        if match is None:
            raise UserError(
                'a row of AudioSet must be YTID, start_seconds, end_seconds, "mid,mid", came '
                f"as '{text.strip()[:80]}'",
                where=path,
                line=line,
            )
        video, start, end, _, mids = match.groups()
        if mids not in labels_of:
            labels_of[mids] = frozenset(
                _named(mid.strip(), names, path, line) for mid in mids.split(",")
            )
        if (start, end) not in place_of:
            place_of[start, end] = _place(start, end, path, line)
        filename = f"Y{video}{place_of[start, end]}"
        rows.append(LabelRow(filename, labels_of[mids], group=video, line=line))
    refuse_repeated_files(path, rows)
    return weak_table(path, rows, video_clips=True)


def read_audioset_strong(table: Table, class_names: Path | None = None) -> LabelTable:
    """Events of the strong segments, each a clip ``<segment_id>.wav``; else as ``read_audioset``.

    Raises:
        UserError: the columns are others, a segment_id is of another form, or a MID has no name.
    """
    if table.header != STRONG_COLUMNS:
        # The framed table has a column that says which of its rows are not heard.
        raise table.error(
            f"strong labels of AudioSet have the columns {', '.join(STRONG_COLUMNS)}, came with "
            f"{', '.join(table.header)[:200]}"
        )
    names = _class_names(table.path, class_names, (STRONG_NAMES, WEAK_NAMES))
    return strong_table(table.path, _strong_events(table, names), video_clips=True)


def _strong_events(
    table: Table, names: tuple[Path, Mapping[str, str]] | None
) -> Iterator[tuple[str, Event, str, int]]:
    for row in table.rows:
        segment, mid = row.cells[0], row.cells[3]
        match = _SEGMENT_ID.fullmatch(segment)
        if match is None:
            raise table.error(
                f"a segment_id must be <video>_<start in milliseconds>, came as '{segment[:40]}'",
                row,
            )
        if not mid:
            raise table.error("an event needs a label; fill it in", row)
        start, stop = table.interval(row, 1, 2)
        event = Event(start, stop, _named(mid, names, table.path, row.line))
        yield f"{segment}.wav", event, match[1], row.line


def read_class_names(path: Path) -> dict[str, str]:
    """The name of each MID, from ``index,mid,display_name`` or, between tabs, ``mid name``.

    Where two MIDs share a name, both get the MID behind it, so that no two classes become one.

    Raises:
        UserError: the table is of neither form, a cell is empty, or a MID comes twice.
    """
    table = read_table(path)
    rows = table.rows
    if table.delimiter == TAB and len(table.records[0].cells) == 2:
        mid_column, name_column = 0, 1
        if table.records[0].cells[0].startswith("/"):
            rows = table.records
    else:
        mid_column, name_column = table.need("mid"), table.need("display_name")
    names: dict[str, str] = {}
    for row in rows:
        mid, name = row.cells[mid_column], row.cells[name_column]
        if not mid or not name or mid in names:
            raise table.error(
                f"each row needs a MID of its own and a name, came as '{mid}' and '{name}'", row
            )
        names[mid] = name
    count = Counter(names.values())
    return {mid: name if count[name] == 1 else f"{name} ({mid})" for mid, name in names.items()}


def _class_names(
    path: Path, given: Path | None, usual: tuple[str, ...]
) -> tuple[Path, Mapping[str, str]] | None:
    """The file of class names that is given, else the first of the usual ones beside the table."""
    beside = (path.with_name(name) for name in usual)
    chosen = given or next((file for file in beside if file.is_file()), None)
    return None if chosen is None else (chosen, read_class_names(chosen))


def _named(mid: str, names: tuple[Path, Mapping[str, str]] | None, path: Path, line: int) -> str:
    if names is None:
        return mid
    file, name_of = names
    if mid not in name_of:
        raise UserError(
            f"a MID needs a name in {file}, '{mid}' has none; add it, or give another file",
            where=path,
            line=line,
        )
    return name_of[mid]


def _place(start: str, end: str, path: Path, line: int) -> str:
    """What follows the video in the name of a clip."""
    if not float(start) < float(end):
        raise UserError(
            f"a segment must end after its start, came as {start} to {end}", where=path, line=line
        )
    return f"_{float(start):.3f}_{float(end):.3f}.wav"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are neither comments nor empty, with their numbers, one by one."""
    line = 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line, text in enumerate(file, start=1):
                if text[:1] != "#" and not text.isspace():
                    yield line, text
    except OSError as error:
        raise UserError(f"can't be read: {error.strerror or error}", where=path) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"a table must be UTF-8 text, and after line {line} it is not; save it as UTF-8",
            where=path,
        ) from error
