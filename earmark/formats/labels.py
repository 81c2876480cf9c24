"""Tables of labels, told apart by their columns."""

from collections.abc import Callable
from pathlib import Path

from earmark.errors import UserError
from earmark.formats.audioset import (
    STRONG_COLUMNS,
    looks_like_audioset,
    read_audioset,
    read_audioset_strong,
)
from earmark.formats.dcase2017 import looks_like_dcase2017, read_dcase2017
from earmark.formats.esc50 import CATEGORY_COLUMNS, read_esc50
from earmark.formats.folders import read_folders
from earmark.formats.label_table import LabelRow, LabelTable
from earmark.formats.strong import read_strong
from earmark.formats.tables import NAME_COLUMNS, RESERVED_COLUMNS, Table, no_collection, read_table
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

_AUDIOSET = {
    "audioset": 'YTID, start_seconds, end_seconds, "mid,mid"',
    "audioset_strong": ", ".join(STRONG_COLUMNS),
}

LABEL_FORMATS = (*_READERS, *_AUDIOSET, "folders")
"""The formats that ``read_labels`` knows: tables of tags for files (weak) or parts of files
(segments), of events (strong), with a column a class (wide) or one class a file (esc50), the
tables of DCASE 2017 Task 4 (dcase2017), those of AudioSet (audioset, audioset_strong), and one
folder a class (folders)."""


@no_collection()
def read_labels(
    path: Path, labels_format: str = "auto", class_names: Path | None = None
) -> LabelTable:
    """The labels in a table, or in a folder of class folders.

    Args:
        path: a table, or a folder with one folder a class.
        labels_format: one of ``LABEL_FORMATS``, or "auto" to go by the columns.
        class_names: for AudioSet, the file with the names of its MIDs; without it, one beside
            the table with the name that AudioSet gives it, else labels stay MIDs.

    Raises:
        UserError: the table is of no format known, something in it is wrong, or it has no use
            for class names.
    """
    if labels_format not in ("auto", *LABEL_FORMATS):
        raise UserError(
            f"a labels format is auto, {', '.join(LABEL_FORMATS)}; came as '{labels_format}'"
        )
    table = None
    if labels_format == "auto":
        if path.is_dir():
            labels_format = "folders"
        elif looks_like_audioset(path):
            labels_format = "audioset"
        else:
            table = read_table(path)
            labels_format = _format_of(table)
    if class_names is not None and labels_format not in _AUDIOSET:
        raise UserError("class names are for the MIDs of AudioSet; leave them out", where=path)
    if labels_format == "folders":
        return read_folders(path)
    if labels_format == "audioset":
        return read_audioset(path, class_names)
    table = table or read_table(path)
    if labels_format == "audioset_strong":
        return read_audioset_strong(table, class_names)
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
    elif STRONG_COLUMNS[0] in names:
        return "audioset_strong"
    columns_of = {name: columns for name, (columns, _) in _READERS.items()} | _AUDIOSET
    known = "; ".join(f"{name} ({columns})" for name, columns in columns_of.items())
    raise table.error(
        f"labels must be in one of the formats {known}; came with the columns "
        f"{', '.join(table.header)[:200]}"
    )
