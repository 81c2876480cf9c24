"""Detected events, our CSV: ``filename,onset,offset,event_label,score``."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from earmark.events import Event
from earmark.formats.strong import event_cells, read_strong
from earmark.formats.tables import COMMA, read_table, write_table

_HEADER = ["filename", "onset", "offset", "event_label", "score"]


def write_events(path: Path, rows: Iterable[tuple[str, Event]], *, ordered: bool = False) -> None:
    """Events by file, onset and label; without any, the header alone.

    Rows that come in this order may say so, and are never all in memory.
    """
    if not ordered:
        rows = sorted(
            rows,
            key=lambda row: (row[0], row[1].onset_seconds, row[1].label, row[1].offset_seconds),
        )
    write_table(path, chain([_HEADER], map(_cells, rows)), COMMA)


def read_events(path: Path) -> dict[str, list[Event]]:
    """The events of each file by onset, from any strong table with a header.

    A row with only a filename is a file with an empty list. Events of 0 s are left out.
    """
    return {row.filename: list(row.events or ()) for row in read_strong(read_table(path)).rows}


def _cells(row: tuple[str, Event]) -> list[str]:
    filename, event = row
    score = "" if event.score is None else f"{event.score:.4f}"
    return [filename, *event_cells(event), score]
