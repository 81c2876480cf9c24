"""Detected events, our CSV: ``filename,onset,offset,event_label,score``."""

from collections.abc import Iterable
from pathlib import Path

from earmark.events import Event
from earmark.formats.strong import event_cells, read_strong
from earmark.formats.tables import COMMA, read_table, write_table


def write_events(path: Path, rows: Iterable[tuple[str, Event]]) -> None:
    """Events by file, onset and label; without any, the header alone."""
    ordered = sorted(
        rows,
        key=lambda row: (row[0], row[1].onset_seconds, row[1].label, row[1].offset_seconds),
    )
    table = [["filename", "onset", "offset", "event_label", "score"]]
    for filename, event in ordered:
        score = "" if event.score is None else f"{event.score:.4f}"
        table.append([filename, *event_cells(event), score])
    write_table(path, table, COMMA)


def read_events(path: Path) -> dict[str, list[Event]]:
    """The events of each file by onset, from any strong table with a header.

    A row with only a filename is a file with an empty list. Events of 0 s are left out.
    """
    return {row.filename: list(row.events or ()) for row in read_strong(read_table(path)).rows}
