"""Raven selection tables: between tabs, with a header, a row a selection.

In a table over several files Begin and End Time run on over the files, as Raven plays them one
after another, and ``File Offset (s)`` is the time inside the file.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from earmark.events import Event
from earmark.formats.label_table import LabelTable
from earmark.formats.recorded import START_TIME, Recorded, refuse_unless_plain, score_text
from earmark.formats.strong import strong_table
from earmark.formats.tables import NAME_COLUMNS, TAB, Row, Table, seconds_text, write_table

BEGIN, END = "Begin Time (s)", "End Time (s)"
_PATH, _FILE, _IN_FILE = "Begin Path", "Begin File", "File Offset (s)"

ANNOTATION_COLUMNS = (
    *("annotation", "annotations", "species", "label", "labels", "class", "category", "tag"),
    *("event_label", "common name"),
)
"""Columns that hold classes by their names, in small letters."""

_SCORES = ("score", "confidence")
# What Raven itself writes; and what people write beside a class, which is none.
_OTHERS = re.compile(
    r".*\(.*\)|selection|view|channel|(begin|end) (path|file|date|time|clock time|date time|hour)"
    r"|occupancy|notes?|comments?|remarks?|species code|start_time",
    re.IGNORECASE,
)


def looks_like_raven(line: str) -> bool:
    """Whether a table's first line is the header of a selection table."""
    return BEGIN in (cell.strip() for cell in line.split(TAB))


def read_raven(table: Table, filename: str, column: str | None = None) -> LabelTable:
    """One event a selection, in how many views or channels it may be drawn.

    Files are those of ``filename``, ``Begin Path`` or ``Begin File``, the first there is; absolute
    paths lose the folders that all of them have in common. Scores are those of ``Score`` or
    ``Confidence``, if all in it are numbers.

    Args:
        table: of whatever columns.
        filename: of the recording, perhaps without its suffix, where no column says it.
        column: the one with the classes; without, the one whose name says so, else the only one
            that Raven doesn't know.

    Raises:
        UserError: it can't be told which column has the classes or what the times are of, or a
            selection has no class.
    """
    begin, end, in_file = table.need(BEGIN), table.need(END), table.find(_IN_FILE)
    label, score = _annotation(table, column), _score(table)
    index = table.find(*NAME_COLUMNS, _PATH, _FILE)
    if index is None:
        names = [filename] * len(table.rows)
    else:
        names = [table.filename(row, index) for row in table.rows]
        if table.header[index] == _PATH:
            names = _relative(names)
    if in_file is None and len(set(names)) > 1:
        raise table.error(
            f"a table over several files needs a column '{_IN_FILE}', as '{BEGIN}' runs on over "
            "them; add it in Raven"
        )
    found: list[tuple[str, Event | None, str | None, int]] = []
    if index is None:
        found.append((filename, None, None, 1))
    for name, row in _selections(table, names, begin, end, label):
        onset, offset = table.interval(row, begin, end)
        if in_file is not None:
            length = offset - onset
            onset = table.seconds(row, in_file)
            offset = round(onset + length, 9)  # the digits that the difference has cost
        rating = None if score is None or not row.cells[score] else table.number(row, score)
        found.append((name, Event(onset, offset, row.cells[label], rating), None, row.line))
    return strong_table(table.path, found, stems=index is None)


def write_raven(path: Path, recordings: Iterable[Recorded], clock_times: bool) -> None:
    """One table over recordings, which Raven has to open in this order.

    They need their path, duration and rate. Boxes are as high as the recording's spectrogram.

    Raises:
        UserError: a name can't be written without quotes, or the file can't be written.
    """
    header = [
        *("Selection", "View", "Channel", BEGIN, END, "Low Freq (Hz)", "High Freq (Hz)"),
        *(_PATH, _IN_FILE, "Annotation", "Score", NAME_COLUMNS[0]),
    ]
    if clock_times:
        header.append(START_TIME)
    write_table(path, chain([header], _rows(recordings, clock_times)), TAB)


def _rows(recordings: Iterable[Recorded], clock_times: bool) -> Iterator[list[str]]:
    selection, before_nanoseconds = 0, 0  # whole, so that nothing is lost over many files
    for recorded in recordings:
        before = round(before_nanoseconds, -3) / 1e9
        refuse_unless_plain([recorded.filename], "a filename", "raven")
        file = os.path.abspath(recorded.path or recorded.filename)
        for event in recorded.events:
            refuse_unless_plain([event.label], "a label", "raven")
            if not event.label:
                raise ValueError("a label may not be empty")
            selection += 1
            onset, offset = round(event.onset_seconds, 6), round(event.offset_seconds, 6)
            cells = [
                *(str(selection), "Spectrogram 1", "1"),
                *(seconds_text(before + onset), seconds_text(before + offset)),
                *("0.0", f"{recorded.rate_hz / 2:.1f}"),
                file.encode("utf-8", "backslashreplace").decode(),
                *(seconds_text(onset), event.label, score_text(event), recorded.filename),
            ]
            yield cells + [recorded.clock_time(event)] * clock_times
        before_nanoseconds += round(recorded.duration_seconds * 1e9)


def _selections(
    table: Table, names: Sequence[str], begin: int, end: int, label: int
) -> Iterator[tuple[str, Row]]:
    """The first of the rows that one selection has in several views, with its class."""
    number = table.find("Selection")
    labelled: dict[tuple[str, ...], set[str]] = {}
    unlabelled: dict[tuple[str, ...], Row] = {}
    for name, row in zip(names, table.rows, strict=True):
        selection = str(row.line) if number is None else row.cells[number]
        key = (name, selection, row.cells[begin], row.cells[end])
        text = row.cells[label]
        if not text:
            unlabelled.setdefault(key, row)
        elif text not in labelled.setdefault(key, set()):
            labelled[key].add(text)
            yield name, row
    for of_row, row in unlabelled.items():
        if of_row not in labelled:
            raise table.error(
                f"a selection needs a class in column '{table.header[label]}'; fill it in", row
            )


def _annotation(table: Table, column: str | None) -> int:
    columns = list(enumerate(table.header))
    way_out = "say which with --labels-format raven:COLUMN, or rename or remove the others"
    if column is not None:
        chosen = [index for index, name in columns if name.casefold() == column.casefold()]
        if not chosen:
            raise table.error(
                f"has no column '{column}' of classes; it has {', '.join(table.header)}"
            )
        return chosen[0]
    named = [(i, name) for i, name in columns if name.casefold() in ANNOTATION_COLUMNS]
    others = [
        (i, name)
        for i, name in columns
        if not named and not _OTHERS.fullmatch(name) and name not in NAME_COLUMNS
        if name.casefold() not in _SCORES
    ]
    found = named or others
    # An annotation that nobody filled in is no choice.
    filled = [(i, name) for i, name in found if any(row.cells[i] for row in table.rows)]
    if len(filled or found) == 1:
        return (filled or found)[0][0]
    if found:
        listed = ", ".join(f"'{name}'" for _, name in filled or found)
        raise table.error(f"one column must hold the classes, and {listed} may; {way_out}")
    raise table.error(
        f"needs a column of classes, called Annotation, say; it has {', '.join(table.header)[:300]}"
    )


def _score(table: Table) -> int | None:
    for index, name in enumerate(table.header):
        if name.casefold() in _SCORES and all(
            not row.cells[index] or table.is_number(row, index) for row in table.rows
        ):
            return index
    return None


def _relative(names: Sequence[str]) -> list[str]:
    """Names with ``/``; absolute ones without what all of them start with."""
    names = [name.replace("\\", "/") for name in names]
    if not all(re.match(r"/|[A-Za-z]:/", name) for name in names):
        return names
    folders = [name.split("/")[:-1] for name in names]
    shared = 0
    while all(len(of_one) > shared for of_one in folders) and (
        len({of_one[shared] for of_one in folders}) == 1
    ):
        shared += 1
    return ["/".join(name.split("/")[shared:]) for name in names]
