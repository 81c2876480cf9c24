"""The rows of a table of labels that can be read, where others can't."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from earmark.errors import UserError
from earmark.formats.label_table import LabelTable
from earmark.formats.tables import NAME_COLUMNS, Row, Table


def read_good_rows(
    table: Table, reader: Callable[[Table], LabelTable], defects: list[UserError]
) -> LabelTable:
    """What ``reader`` gives without the rows that it refuses, in the order of the table.

    A file that has several rows where the format has one keeps all of them.

    Args:
        table: with a header, or its first record in its place.
        reader: of a format.
        defects: takes why each of the other rows can't be read.

    Raises:
        UserError: the header is wrong.
    """
    head, rows = table.records[:1], table.records[1:]

    def read(records: Sequence[Row]) -> LabelTable:
        return reader(Table(table.path, table.delimiter, [*head, *records]))

    def good(records: list[Row]) -> list[Row]:
        """By halves: few rows are wrong, and most are read a few times at once."""
        try:
            read(records)
        except UserError as error:
            if len(records) == 1:
                defects.append(error)
                return []
            half = len(records) // 2
            return good(records[:half]) + good(records[half:])
        return records

    read([])
    rows = good(rows)
    try:
        return read(rows)
    except UserError:
        name = table.find(*NAME_COLUMNS)
        if name is None:
            raise
    # Each row by itself is right: files are repeated. Each file's first rows, its second, ...
    rounds: defaultdict[int, list[Row]] = defaultdict(list)
    seen: Counter[str] = Counter()
    for row in rows:
        rounds[seen[row.cells[name]]].append(row)
        seen[row.cells[name]] += 1
    tables = [read(records) for records in rounds.values()]
    every = sorted((row for found in tables for row in found.rows), key=lambda row: row.line)
    names = sorted({class_name for found in tables for class_name in found.class_names})
    return replace(tables[0], rows=tuple(every), class_names=tuple(names))
