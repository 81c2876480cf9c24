"""Detected events, our CSV: ``filename,onset,offset,event_label,score``, and the same between tabs.

With clock times a column ``start_time`` follows.
"""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.labels import read_labels
from earmark.formats.recorded import FIELDS, START_TIME, Recorded, score_text
from earmark.formats.strong import event_cells
from earmark.formats.tables import COMMA, write_table


def write_events(path: Path, rows: Iterable[tuple[str, Event]], *, ordered: bool = False) -> None:
    """Events by file, onset and label; without any, the header alone.

    Rows that come in this order may say so, and are never all in memory.
    """
    if not ordered:
        rows = sorted(
            rows,
            key=lambda row: (row[0], row[1].onset_seconds, row[1].label, row[1].offset_seconds),
        )
    write_table(path, chain([FIELDS], (_cells(*row) for row in rows)), COMMA)


def write_event_table(
    path: Path, recordings: Iterable[Recorded], clock_times: bool, delimiter: str
) -> None:
    """The events of recordings in order; of one recording at a time they are in memory."""
    header = [*FIELDS, START_TIME] if clock_times else FIELDS
    rows = (
        _cells(recorded.filename, event) + [recorded.clock_time(event)] * clock_times
        for recorded in recordings
        for event in recorded.events
    )
    write_table(path, chain([header], rows), delimiter)


def read_events(path: Path, labels_format: str = "auto") -> dict[str, list[Event]]:
    """The events of each file by onset, from whatever ``read_labels`` reads events from.

    A row with only a filename is a file with an empty list. Events of 0 s are left out.

    Raises:
        UserError: as ``read_labels``, or there are tags alone.
    """
    table = read_labels(path, labels_format)
    if not table.strong:
        raise UserError(
            "events need an onset and an offset, came with tags alone; give a table of filename, "
            "onset, offset and event_label, an Audacity or a Raven one",
            where=path,
        )
    return {row.filename: list(row.events or ()) for row in table.rows}


def _cells(filename: str, event: Event) -> list[str]:
    return [filename, *event_cells(event), score_text(event)]
