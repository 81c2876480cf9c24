"""Tables of labels, told apart by their columns."""

from collections.abc import Callable
from pathlib import Path

from earmark.errors import UserError
from earmark.formats.dcase2017 import looks_like_dcase2017, read_dcase2017
from earmark.formats.esc50 import CATEGORY_COLUMNS, read_esc50
from earmark.formats.folders import read_folders
from earmark.formats.label_table import LabelRow, LabelTable
from earmark.formats.strong import read_strong
from earmark.formats.tables import NAME_COLUMNS, RESERVED_COLUMNS, Table, read_table
from earmark.formats.tags import read_wide
from earmark.formats.weak import read_segments, read_weak

__all__ = ["LABEL_FORMATS", "LabelRow", "LabelTable", "read_labels"]

_READERS: dict[str, tuple[str, Callable[[Table], LabelTable]]] = {
    "weak": ("filename, event_labels", read_weak),
    "segments": ("filename, onset, offset, event_labels", read_segments),
    "strong": ("filename, onset, offset, event_label", read_strong),
    "wide": ("filename and a 0/1 column a class", read_wide),
    "esc50": ("filename, category", read_esc50),
    "dcase2017": ("no header; the task's own tables", read_dcase2017),
}

LABEL_FORMATS = (*_READERS, "folders")
"""The formats that ``read_labels`` knows: tables of tags for files (weak) or parts of files
(segments), of events (strong), with a column a class (wide) or one class a file (esc50), the
tables of DCASE 2017 Task 4 (dcase2017), and one folder a class (folders)."""


def read_labels(path: Path, labels_format: str = "auto") -> LabelTable:
    """The labels in a table, or in a folder of class folders.

    Args:
        path: a table, or a folder with one folder a class.
        labels_format: one of ``LABEL_FORMATS``, or "auto" to go by the columns.

    Raises:
        UserError: the table is of no format known, or something in it is wrong.
    """
    if labels_format not in ("auto", *LABEL_FORMATS):
        raise UserError(
            f"a labels format is auto, {', '.join(LABEL_FORMATS)}; came as '{labels_format}'"
        )
    if labels_format == "folders" or (labels_format == "auto" and path.is_dir()):
        return read_folders(path)
    table = read_table(path)
    if labels_format == "auto":
        labels_format = _format_of(table)
    return _READERS[labels_format][1](table)


def _format_of(table: Table) -> str:
    if looks_like_dcase2017(table):
        return "dcase2017"
    names = set(table.header)
    kinds = {
        ("event_labels",): "weak",
        ("event_labels", "offset", "onset"): "segments",
        ("event_label", "offset", "onset"): "strong",
    }
    telling = tuple(sorted(names & {"event_label", "event_labels", "onset", "offset"}))
    if names & set(NAME_COLUMNS):
        if telling in kinds:
            return kinds[telling]
        if not telling and names & set(CATEGORY_COLUMNS):
            return "esc50"
        if not telling and names - set(RESERVED_COLUMNS):
            return "wide"
    known = "; ".join(f"{name} ({columns})" for name, (columns, _) in _READERS.items())
    raise table.error(
        f"labels must be in one of the formats {known}; came with the columns "
        f"{', '.join(table.header)[:200]}"
    )
