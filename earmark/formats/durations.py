"""How long files are: ``filename duration``, in seconds."""

from collections.abc import Mapping
from pathlib import Path

from earmark.formats.tables import NAME_COLUMNS, TAB, read_table, seconds_text, write_table


def read_durations(path: Path) -> dict[str, float]:
    """Seconds by filename, in the order of the table; other columns are left alone.

    Raises:
        UserError: a file has two rows, or a duration is no number of at least 0.
    """
    table = read_table(path)
    name, duration = table.need(*NAME_COLUMNS), table.need("duration")
    durations: dict[str, float] = {}
    for row in table.rows:
        filename = table.filename(row, name)
        if filename in durations:
            raise table.error(f"a file may have one row, '{filename}' has two; remove one", row)
        durations[filename] = table.seconds(row, duration)
    return durations


def write_durations(path: Path, durations: Mapping[str, float]) -> None:
    """A TSV by file."""
    rows = [(filename, seconds_text(seconds)) for filename, seconds in durations.items()]
    write_table(path, [("filename", "duration"), *sorted(rows)], TAB)
