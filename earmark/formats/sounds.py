"""Isolated sounds to mix scenes from: a file, its class and where in it the sound is."""

from dataclasses import dataclass
from pathlib import Path

from earmark.formats.tables import CATEGORY_COLUMNS, NAME_COLUMNS, Row, Table, read_table


@dataclass(frozen=True, slots=True)
class SoundRow:
    """One isolated sound; its source is active in [active_start, active_end), None is the whole."""

    filename: str
    label: str
    group: str | None
    fold: str | None
    active_start_seconds: float | None
    active_end_seconds: float | None
    line: int


def read_sounds(path: Path) -> list[SoundRow]:
    """Rows of ``filename|file``, ``event_label|class|category`` and, optionally, ``group``,
    ``fold``, ``active_start_s`` and ``active_end_s``; other columns are left alone.

    Raises:
        UserError: a label is missing, or an active part doesn't end after it starts.
    """
    table = read_table(path)
    name, label = table.need(*NAME_COLUMNS), table.need("event_label", *CATEGORY_COLUMNS)
    group, fold = table.find("group"), table.find("fold")
    start, end = table.find("active_start_s"), table.find("active_end_s")
    sounds = []
    for row in table.rows:
        sound = SoundRow(
            table.filename(row, name),
            row.cells[label],
            _text(row, group),
            _text(row, fold),
            _seconds(table, row, start),
            _seconds(table, row, end),
            row.line,
        )
        if not sound.label:
            raise table.error(f"a sound needs a {table.header[label]}; fill it in", row)
        if sound.active_end_seconds is not None and (
            sound.active_end_seconds <= (sound.active_start_seconds or 0.0)
        ):
            raise table.error(
                f"a sound must end after it starts, came as {sound.active_start_seconds or 0:g} "
                f"to {sound.active_end_seconds:g} s",
                row,
            )
        sounds.append(sound)
    return sounds


def _text(row: Row, index: int | None) -> str | None:
    return None if index is None else row.cells[index] or None


def _seconds(table: Table, row: Row, index: int | None) -> float | None:
    return None if index is None or not row.cells[index] else table.seconds(row, index)
