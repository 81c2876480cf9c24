"""One class a file, as in ESC-50: ``filename,fold,target,category,...``."""

from earmark.formats.label_table import (
    LabelRow,
    LabelTable,
    refuse_repeated_files,
    weak_table,
)
from earmark.formats.tables import CATEGORY_COLUMNS, NAME_COLUMNS, Table


def read_esc50(table: Table) -> LabelTable:
    """Columns beyond the file, its category and its group or fold are left alone."""
    name, category = table.need(*NAME_COLUMNS), table.need(*CATEGORY_COLUMNS)
    rows = []
    for row in table.rows:
        label = row.cells[category]
        if not label:
            raise table.error(f"a row needs a {table.header[category]}; fill it in", row)
        rows.append(
            LabelRow(
                table.filename(row, name),
                frozenset((label,)),
                group=table.group(row),
                line=row.line,
            )
        )
    refuse_repeated_files(table.path, rows)
    return weak_table(table.path, rows)
