"""Weak labels, whole files or parts of them: ``filename [onset offset] event_labels``.

A column ``absent_labels`` makes them partial: of classes in neither column nothing is known.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from earmark.formats.label_table import (
    LabelRow,
    LabelTable,
    refuse_repeated_files,
    weak_table,
)
from earmark.formats.tables import (
    COMMA,
    NAME_COLUMNS,
    RESERVED_COLUMNS,
    TAB,
    Row,
    Table,
    write_table,
)

ABSENT = "absent_labels"

_NEEDS_QUOTES = re.compile(r'[\t\r\n"]')
_QUOTED_PART = r'\s*+"((?:[^"]++|"")*+)"\s*+'
_PART = {
    separators: re.compile(
        rf"(?:{_QUOTED_PART}(?=[{separators}]|\Z)|([^{separators}]*+))([{separators}]|\Z)"
    )
    for separators in (",", ";", ",;")
}


def read_weak(table: Table) -> LabelTable:
    """One row a file; an empty cell is a file without tags."""
    rows = _rows(table, parts=False)
    refuse_repeated_files(table.path, rows)
    return weak_table(table.path, rows)


def read_segments(table: Table) -> LabelTable:
    """Rows for parts of files; a row with both times empty is the whole file."""
    return weak_table(table.path, _rows(table, parts=True))


def split_labels(text: str, separator: str) -> frozenset[str]:
    """The labels in a cell; quoted parts stay whole, empty parts are none.

    >>> sorted(split_labels('Car, "Air horn, truck horn"', ","))
    ['Air horn, truck horn', 'Car']
    """
    if '"' not in text:
        return frozenset(part.strip() for part in text.split(separator)) - {""}
    return frozenset(label for label, _ in _parts(text, separator)) - {""}


def join_labels(labels: Iterable[str]) -> str:
    """The cell that ``split_labels`` reads back at commas, whatever the labels hold."""
    parts = []
    for label in sorted(labels):
        if not label:
            raise ValueError("a label may not be empty")
        quote = any(mark in label for mark in ',;"') or label != label.strip()
        parts.append('"' + label.replace('"', '""') + '"' if quote else label)
    return ",".join(parts)


def write_weak(path: Path, rows: Iterable[tuple[str, Iterable[str], str | None]]) -> None:
    """A weak TSV of (filename, labels, group), by file; no group column if none has a group."""
    ordered = sorted(
        (filename, join_labels(labels), group or "") for filename, labels, group in rows
    )
    columns = 3 if any(group for _, _, group in ordered) else 2
    table = [("filename", "event_labels", "group"), *ordered]
    write_table(path, (row[:columns] for row in table), TAB)


def write_tag_labels(path: Path, filenames: Sequence[str], labels: Sequence[Iterable[str]]) -> None:
    """A weak CSV of the tags that were given to each file, by file."""
    rows = zip(filenames, map(join_labels, labels), strict=True)
    write_table(path, [("filename", "event_labels"), *sorted(rows)], COMMA)


def _rows(table: Table, *, parts: bool) -> list[LabelRow]:
    name, cell = table.need(*NAME_COLUMNS), table.need("event_labels")
    onset, offset = (table.need("onset"), table.need("offset")) if parts else (-1, -1)
    own = {"event_labels", ABSENT} | ({"onset", "offset"} if parts else set())
    for column in table.header:
        # A misspelt group column must not go unnoticed: it would let sources leak in a split.
        if column not in own and column not in RESERVED_COLUMNS:
            raise table.error(
                f"a table of event_labels may further have {', '.join(RESERVED_COLUMNS)} and "
                f"{ABSENT}, came with '{column}'; rename or remove it"
            )
    cells = [_label_cell(table, row, cell) for row in table.rows]
    lacking = table.find(ABSENT)
    absent: Sequence[str | None] = [None] * len(cells)
    if lacking is not None:
        absent = [_label_cell(table, row, lacking) for row in table.rows]
    distinct = {text for text in (*cells, *absent) if text is not None}
    separator = ";" if any(";" in text and _has_semicolon(text) for text in distinct) else ","
    labels = {text: split_labels(text, separator) for text in distinct}
    rows = []
    for row, text, without in zip(table.rows, cells, absent, strict=True):
        start, stop = _part(table, row, onset, offset) if parts else (None, None)
        rows.append(
            LabelRow(
                table.filename(row, name),
                labels[text],
                start,
                stop,
                group=table.group(row),
                line=row.line,
                absent=None if without is None else labels[without],
            )
        )
        if both := rows[-1].labels & (rows[-1].absent or set()):
            raise table.error(
                f"a class is there or is not, but '{min(both)}' is in event_labels and in "
                f"{ABSENT}; remove it from one",
                row,
            )
    return rows


def _part(table: Table, row: Row, onset: int, offset: int) -> tuple[float | None, float | None]:
    if not row.cells[onset] and not row.cells[offset]:
        return None, None
    start, stop = table.interval(row, onset, offset)
    if start == stop:
        raise table.error(f"a part of a file must last longer than 0 s, came as {start:g} s", row)
    return start, stop


def _label_cell(table: Table, row: Row, index: int) -> str:
    """A cell of labels with the quotes that belong to the labels.

    Between tabs a comma needs no quotes, so that quotes about a whole cell are a label's own;
    unless the cell holds what a table's cell is quoted for, or the header is quoted too.
    """
    text, raw = row.cells[index], row.raw[index]
    if text == raw or table.delimiter == COMMA or _NEEDS_QUOTES.search(text):
        return text
    return text if table.records[0].raw[index][:1] == '"' else raw


def _has_semicolon(text: str) -> bool:
    return '"' not in text or any(end == ";" for _, end in _parts(text, ",;"))


def _parts(text: str, separators: str) -> Iterable[tuple[str, str]]:
    for match in _PART[separators].finditer(text):
        quoted, plain, end = match.groups()
        yield quoted.replace('""', '"') if quoted is not None else plain.strip(), end
        if not end:
            return
