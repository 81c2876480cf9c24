"""Audacity label tracks: ``start end label`` between tabs, without a header, a file a recording.

Nothing is ever quoted, and further columns are left alone. A line that starts with a backslash
holds the frequencies of the label above it.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from earmark.events import Event
from earmark.formats.label_table import LabelTable
from earmark.formats.recorded import Recorded, refuse_unless_plain
from earmark.formats.strong import event_cells, strong_table
from earmark.formats.tables import TAB, Row, Table, read_text, text_file

_COLUMNS = ["start", "end", "text"]
_LINE_END = re.compile(r"\r\n|\n|\r")
_START = re.compile(r"\s*[0-9+.,-][0-9+.,eE-]*\t\s*[0-9+.,-][0-9+.,eE-]*\s*(?:\t|\Z)")


def looks_like_audacity(line: str) -> bool:
    """Whether a table's first line has two numbers in front of the first two tabs.

    Also with decimal commas, so that it can be said what is wrong with them.
    """
    return _START.match(line) is not None


def read_audacity(path: Path, filename: str) -> LabelTable:
    """The events of a recording; points in time, as events of 0 s, are set aside and counted.

    Raises:
        UserError: a line has no times, or no label.
    """
    rows = []
    for line, text in enumerate(_LINE_END.split(read_text(path)), start=1):
        if text.strip() and not text.startswith("\\"):
            cells = [cell.strip() for cell in text.split(TAB)]
            rows.append(Row(line, cells, cells))
    table = Table(path, TAB, [Row(1, _COLUMNS, _COLUMNS), *rows])
    found: list[tuple[str, Event | None, str | None, int]] = [(filename, None, None, 1)]
    for row in rows:
        if len(row.cells) < 2:
            raise table.error("a label of Audacity needs a start, an end and a text", row)
        start, stop = table.interval(row, 0, 1)
        if len(row.cells) < 3 or not row.cells[2]:
            raise table.error(
                f"a label needs a text, the one from {start:g} to {stop:g} s has none; name it",
                row,
            )
        found.append((filename, Event(start, stop, row.cells[2]), None, row.line))
    return strong_table(path, found, stems=True)


def write_audacity(path: Path, recordings: Iterable[Recorded], *, scores: bool = False) -> None:
    """The events of one recording; with ``scores``, as ``siren 0.87``, where there is one.

    Raises:
        UserError: a label can't be written without quotes, or the file can't be written.
        ValueError: there are several recordings.
    """
    (recorded,) = recordings
    with text_file(path) as file:
        for event in recorded.events:
            refuse_unless_plain([event.label], "a label", "audacity")
            cells = event_cells(event)
            if scores and event.score is not None:
                cells[2] += f" {event.score:.2f}"
            file.write(TAB.join(cells) + "\n")
