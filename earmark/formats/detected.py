"""What was detected, in one table or in a folder of tables, one a recording."""

from pathlib import Path

from earmark.errors import UserError
from earmark.folders import files_below
from earmark.formats.labels import LabelTable, read_labels, track_format
from earmark.formats.tables import RECORD_SUFFIXES, parquet_parts

TABLE_SUFFIXES = (".csv", ".tsv", *RECORD_SUFFIXES, ".txt")
"""Of a folder's tables those with the first of these suffixes are read: the others say the same."""


def read_detected(path: Path) -> LabelTable:
    """The events of a table, or of all tables in a folder as one.

    Raises:
        UserError: as ``read_labels``, a folder holds no tables, or a recording is in two.
    """
    if not path.is_dir() or track_format(path) or parquet_parts(path):
        return read_labels(path)
    names = sorted(files_below(path))
    of_suffix = {
        suffix: [name for name in names if name.lower().endswith(suffix)]
        for suffix in TABLE_SUFFIXES
    }
    chosen = next((found for found in of_suffix.values() if found), None)
    if chosen is None:
        raise UserError(
            f"the folder holds no tables of what was detected ({' '.join(TABLE_SUFFIXES)}); "
            "give the folder that `earmark detect` wrote",
            where=path,
        )
    tables = [read_labels(path / name) for name in chosen]
    table_of: dict[str, Path] = {}
    for table in tables:
        for row in table.rows:
            if (first := table_of.setdefault(row.filename, table.path)) != table.path:
                raise UserError(
                    f"a recording may be in one table, but '{row.filename}' is in {first.name}, "
                    "too; keep one of them",
                    where=table.path,
                )
    return LabelTable(
        path,
        tuple(row for table in tables for row in table.rows),
        tuple(sorted({name for table in tables for name in table.class_names})),
        strong=all(table.strong for table in tables),
        zero_length_events=sum(table.zero_length_events for table in tables),
        stems=any(table.stems for table in tables),
    )
