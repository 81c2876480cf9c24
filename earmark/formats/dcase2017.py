"""The tables of DCASE 2017 Task 4, which have no header.

``training_set.csv`` and ``testing_set.csv`` are ``id,start,end,"names","mids"``; the ground
truths are ``file onset offset label`` between tabs. The tables leave out the ``Y`` with which the
names of the audio files start; the filenames given here have it.
"""

import re
from collections.abc import Iterable

from earmark.events import Event
from earmark.formats.label_table import (
    LabelRow,
    LabelTable,
    refuse_repeated_files,
    weak_table,
)
from earmark.formats.strong import strong_table
from earmark.formats.tables import COMMA, Row, Table

# A YouTube id has 11 characters, so that a Y before it can be told from one in it.
_CLIP = re.compile(r"(Y?)([\w-]{11})_(\d+\.\d+)_(\d+\.\d+)\.wav", re.ASCII)
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)


def looks_like_dcase2017(table: Table) -> bool:
    """Whether the first line is a row of one of these tables, not a header."""
    cells = table.records[0].cells
    width = 5 if table.delimiter == COMMA else 4
    return len(cells) == width and all(_NUMBER.fullmatch(cell) for cell in cells[1:3])


def read_dcase2017(table: Table) -> LabelTable:
    """Tags of a training or testing set, or a ground truth.

    A ground truth is weak where the times of every row are those in its filename: there they are
    the clip's place in the video. A strong row of 0 to 0 is a clip in which the class was not
    heard; see ``strong_table``.
    """
    if not looks_like_dcase2017(table):
        raise table.error(
            "labels of the format 'dcase2017' have no header and are id,start,end,names,mids "
            "or, between tabs, file, onset, offset, label"
        )
    if table.delimiter == COMMA:
        return _read_set(table)
    times = [table.interval(row, 1, 2) for row in table.records]
    for row in table.records:
        if not row.cells[3]:
            raise table.error("a row needs a label in column 4; fill it in", row)
    if all(_place(row) == time for row, time in zip(table.records, times, strict=True)):
        return _read_weak(table)
    return strong_table(
        table.path,
        (
            (_filename(table, row), Event(onset, offset, row.cells[3]), None, row.line)
            for row, (onset, offset) in zip(table.records, times, strict=True)
        ),
    )


def _read_weak(table: Table) -> LabelTable:
    labels: dict[str, set[str]] = {}
    line_of: dict[str, int] = {}
    for row in table.records:
        filename = _filename(table, row)
        labels.setdefault(filename, set()).add(row.cells[3])
        line_of.setdefault(filename, row.line)
    rows = [
        LabelRow(filename, frozenset(of_file), line=line_of[filename])
        for filename, of_file in labels.items()
    ]
    return weak_table(table.path, rows)


def _read_set(table: Table) -> LabelTable:
    name_of = _names_of_mids(table)
    labels = {row.cells[4]: frozenset(name_of[mid] for mid in _mids(row)) for row in table.records}
    rows = []
    for row in table.records:
        start, stop = table.interval(row, 1, 2)
        clip = f"Y{table.filename(row, 0)}_{start:.3f}_{stop:.3f}.wav"
        rows.append(LabelRow(clip, labels[row.cells[4]], line=row.line))
    refuse_repeated_files(table.path, rows)
    return weak_table(table.path, rows)


def _names_of_mids(table: Table) -> dict[str, str]:
    """The class that each MID stands for.

    Class names hold commas, MIDs don't: a name is known from a row with one MID, else from a row
    in which all others are known, else from rows whose commas without a space separate names.
    """
    first_row: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in table.records:
        first_row.setdefault(_mids(row), {}).setdefault(row.cells[3], row)
    open_rows = [(mids, row) for mids, rows in first_row.items() for row in rows.values()]
    open_rows.sort(key=lambda item: (len(item[0]), item[1].line))
    name_of: dict[str, str] = {}
    while open_rows:
        unsolved = []
        for mids, row in open_rows:
            missing = {mid for mid in mids if mid not in name_of}
            if len(missing) > 1:
                unsolved.append((mids, row))
                continue
            _learn(table, row, mids, name_of)
        if len(unsolved) == len(open_rows):
            mids, row = next(
                (item for item in unsolved if len(_apart(item[1])) == len(item[0])), unsolved[0]
            )
            if len(_apart(row)) != len(mids):
                raise table.error(f"can't tell which names belong to {', '.join(mids)}", row)
            name_of.update(zip(mids, _apart(row), strict=True))
        open_rows = unsolved
    return name_of


def _learn(table: Table, row: Row, mids: Iterable[str], name_of: dict[str, str]) -> None:
    """Adds the one name of a row that is missing, or checks that the row's names agree."""
    missing = ""
    pattern = []
    for mid in mids:
        if mid in name_of:
            pattern.append(re.escape(name_of[mid]))
        else:
            pattern.append("(?P=name)" if missing else "(?P<name>.+)")
            missing = mid
    match = re.fullmatch(r",\s*".join(pattern), row.cells[3])
    if match is None:
        raise table.error(
            f"the names '{row.cells[3][:80]}' don't agree with the MIDs {', '.join(mids)} "
            "as other rows name them",
            row,
        )
    if missing:
        name_of[missing] = match["name"].strip()


def _apart(row: Row) -> list[str]:
    return re.split(r",(?! )", row.cells[3])


def _mids(row: Row) -> tuple[str, ...]:
    return tuple(mid.strip() for mid in row.cells[4].split(",") if mid.strip())


def _place(row: Row) -> tuple[float, float] | None:
    match = _CLIP.fullmatch(row.cells[0])
    return (float(match[3]), float(match[4])) if match else None


def _filename(table: Table, row: Row) -> str:
    filename = table.filename(row, 0)
    match = _CLIP.fullmatch(filename)
    return f"Y{filename}" if match and not match[1] else filename
