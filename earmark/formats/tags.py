"""Wide tables, a column a class: ``filename,class1,class2,...``, of 0/1 labels or probabilities."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.errors import UserError
from earmark.formats.label_table import (
    LabelRow,
    LabelTable,
    refuse_repeated_files,
    weak_table,
)
from earmark.formats.tables import (
    COMMA,
    NAME_COLUMNS,
    RESERVED_COLUMNS,
    Row,
    Table,
    meant_column,
    read_table,
    write_table,
)


def read_wide(table: Table) -> LabelTable:
    """Tags from cells of 0 and 1; reserved columns are never classes."""
    name = table.need(*NAME_COLUMNS)
    classes = [
        (index, column)
        for index, column in enumerate(table.header)
        if column not in RESERVED_COLUMNS
    ]
    if not classes:
        raise table.error("a wide table needs a column a class; it has none")
    rows = []
    for row in table.rows:
        labels = []
        for index, column in classes:
            cell = row.cells[index]
            if cell == "1":
                labels.append(column)
            elif cell != "0":
                raise _neither(table, row, index)
        rows.append(
            LabelRow(
                table.filename(row, name),
                frozenset(labels),
                group=table.group(row),
                line=row.line,
            )
        )
    refuse_repeated_files(table.path, rows)
    return weak_table(table.path, rows, [column for _, column in classes])


def _neither(table: Table, row: Row, index: int) -> UserError:
    """The complaint about a cell that is neither 0 nor 1, with what the table may be instead."""
    column, cell = table.header[index], row.cells[index]
    hint = ""
    if meant := meant_column(column):
        hint = f"; did you mean the column '{meant}'?"
    elif table.is_number(row, index) and 0 < float(cell) < 1:
        hint = (
            "; these are probabilities of tags: `earmark tag --labels` decides them, and "
            "`earmark detect` finds events"
        )
    return table.error(f"column '{column}' must be 0 or 1, came as '{cell[:40]}'{hint}", row)


def write_tags(
    path: Path,
    filenames: Sequence[str],
    class_names: Sequence[str],
    probabilities: NDArray[np.floating[Any]],
) -> None:
    """Clip probabilities (N, K) of N files, by file, with the digits that bring float32 back."""
    if probabilities.shape != (len(filenames), len(class_names)):
        raise ValueError(
            f"probabilities must be ({len(filenames)}, {len(class_names)}), "
            f"came as {probabilities.shape}"
        )
    ordered = sorted(range(len(filenames)), key=filenames.__getitem__)
    cells = (
        [filenames[row], *(f"{value:.9g}" for value in probabilities[row].tolist())]
        for row in ordered
    )
    write_table(path, chain([["filename", *class_names]], cells), COMMA)


def read_tags(path: Path) -> tuple[list[str], tuple[str, ...], NDArray[np.float64]]:
    """Filenames (N), class names (K) and probabilities (N, K) of a table like ours.

    Every column after ``filename`` is a class, whatever it is called.

    Raises:
        UserError: a value is no number in [0, 1], or a file has two rows.
    """
    table = read_table(path)
    first, *class_names = table.records[0].cells
    if first != "filename":
        raise table.error(f"the first column of a tag table must be 'filename', came as '{first}'")
    if len(set(class_names)) < len(class_names) or not all(class_names):
        raise table.error("each class column needs a name of its own")
    probabilities = np.zeros((len(table.rows), len(class_names)))
    filenames = []
    for index, row in enumerate(table.rows):
        filenames.append(table.filename(row, 0))
        for column, name in enumerate(class_names, start=1):
            value = table.number(row, column)
            if not 0 <= value <= 1:
                raise table.error(f"column '{name}' must be in [0, 1], came as {value:g}", row)
            probabilities[index, column - 1] = value
    refuse_repeated_files(
        path, (LabelRow(row.cells[0], frozenset(), line=row.line) for row in table.rows)
    )
    return filenames, tuple(class_names), probabilities
