"""Tables of labels, told apart by their columns."""

from collections.abc import Callable
from pathlib import Path

from earmark.errors import UserError
from earmark.formats.audacity import looks_like_audacity, read_audacity
from earmark.formats.audioset import (
    STRONG_COLUMNS,
    looks_like_audioset,
    read_audioset,
    read_audioset_strong,
)
from earmark.formats.dcase2017 import looks_like_dcase2017, read_dcase2017
from earmark.formats.esc50 import read_esc50
from earmark.formats.folders import read_folders
from earmark.formats.good_rows import read_good_rows
from earmark.formats.label_table import LabelRow, LabelTable
from earmark.formats.raven import BEGIN, END, looks_like_raven, read_raven
from earmark.formats.records import read_records
from earmark.formats.strong import read_strong
from earmark.formats.tables import (
    CATEGORY_COLUMNS,
    NAME_COLUMNS,
    RECORD_SUFFIXES,
    RESERVED_COLUMNS,
    TELLING_COLUMNS,
    Table,
    meant_column,
    no_collection,
    parquet_parts,
    read_table,
)
from earmark.formats.tags import read_wide
from earmark.formats.tracks import first_line, read_tracks, recording_of, tracks_below
from earmark.formats.weak import read_segments, read_weak

__all__ = ["LABEL_FORMATS", "LabelRow", "LabelTable", "read_labels", "track_format"]

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

_TRACKS = {
    "audacity": "no header; start, end, label",
    "raven": f"{BEGIN}, {END} and a column of classes",
}

_RECORDS = tuple(dict.fromkeys(RECORD_SUFFIXES.values()))

LABEL_FORMATS = (*_READERS, *_AUDIOSET, *_TRACKS, *_RECORDS, "folders")
"""The formats that ``read_labels`` knows: tables of tags for files (weak) or parts of files
(segments), of events (strong), with a column a class (wide) or one class a file (esc50), the
tables of DCASE 2017 Task 4 (dcase2017), those of AudioSet (audioset, audioset_strong), label
tracks of Audacity (audacity) and selection tables of Raven (raven), records whose fields are the
columns of one of these (json, jsonl, parquet), and one folder a class (folders)."""


@no_collection()
def read_labels(
    path: Path,
    labels_format: str = "auto",
    class_names: Path | None = None,
    *,
    defects: list[UserError] | None = None,
) -> LabelTable:
    """The labels in a table, in a folder of tracks, or in one of class folders.

    Args:
        path: a table, which a folder of Parquet files is, too; a folder of tables, one a recording,
            of Audacity or Raven; or a folder with one folder a class.
        labels_format: one of ``LABEL_FORMATS``, or "auto" to go by the columns. "raven:COLUMN"
            says which column of a selection table holds the classes.
        class_names: for AudioSet, the file with the names of its MIDs; without it, one beside
            the table with the name that AudioSet gives it, else labels stay MIDs.
        defects: where given, rows that can't be read are left out and told there, and a file may
            have several rows; not in tables of AudioSet, nor in tracks.

    Raises:
        UserError: the table is of no format known, something in it is wrong, or it has no use
            for class names.
    """
    labels_format, _, column = labels_format.partition(":")
    if labels_format not in ("auto", *LABEL_FORMATS) or (column and labels_format != "raven"):
        raise UserError(
            f"a labels format is auto, {', '.join(LABEL_FORMATS)} or, with the column of the "
            f"classes, raven:COLUMN; came as '{labels_format}{':' * bool(column)}{column}'"
        )
    table = None
    if labels_format in _RECORDS:
        table = read_records(path, labels_format)
        labels_format = _format_of(table)
    elif labels_format == "auto":
        if track := track_format(path):
            labels_format = track
        elif path.is_dir() and not parquet_parts(path):
            labels_format = "folders"
        elif looks_like_audioset(path):
            labels_format = "audioset"
        else:
            table = read_table(path, defects)
            labels_format = _format_of(table)
    if class_names is not None and labels_format not in _AUDIOSET:
        raise UserError("class names are for the MIDs of AudioSet; leave them out", where=path)
    if labels_format == "folders":
        return read_folders(path)
    if labels_format == "audioset":
        return read_audioset(path, class_names)
    if labels_format in _TRACKS:

        def of_one(file: Path, filename: str) -> LabelTable:
            if labels_format == "audacity":
                return read_audacity(file, filename)
            return read_raven(table or read_table(file), filename, column or None)

        if path.is_dir():
            return read_tracks(path, of_one, lambda line: _track(line) in (labels_format, None))
        return of_one(path, recording_of(path.name))
    table = table or read_table(path, defects)
    if labels_format == "audioset_strong":
        return read_audioset_strong(table, class_names)
    reader = _READERS[labels_format][1]
    return reader(table) if defects is None else read_good_rows(table, reader, defects)


def track_format(path: Path) -> str | None:
    """audacity or raven, if a file looks like one, or those of a folder that look like any.

    Raises:
        UserError: a folder has tables of both.
    """
    if not path.is_dir():
        told_by_suffix = path.suffix.lower() in RECORD_SUFFIXES
        return None if told_by_suffix else _track(first_line(path) or "")
    found = {_track(line) for _, line in tracks_below(path)} - {None}
    if len(found) > 1:
        raise UserError(
            "the folder holds tables of Audacity and of Raven; say which with --labels-format, or "
            "give a folder with one of them",
            where=path,
        )
    return found.pop() if found else None


def _track(line: str) -> str | None:
    if looks_like_audacity(line):
        return "audacity"
    return "raven" if looks_like_raven(line) else None


def _format_of(table: Table) -> str:
    if looks_like_dcase2017(table):
        return "dcase2017"
    names = set(table.header)
    if BEGIN in names:  # in records; a text table with it has been told by its first line
        return "raven"
    kinds = {
        ("event_labels",): "weak",
        ("event_labels", "offset", "onset"): "segments",
        ("event_label", "offset", "onset"): "strong",
    }
    telling = tuple(sorted(names.intersection(TELLING_COLUMNS)))
    if names & set(NAME_COLUMNS):
        if telling in kinds:
            return kinds[telling]
        if not telling and names & set(CATEGORY_COLUMNS):
            return "esc50"
        if not telling and names - set(RESERVED_COLUMNS):
            return "wide"
    elif STRONG_COLUMNS[0] in names:
        return "audioset_strong"
    if len(table.header) == 1 and ";" in table.header[0]:
        raise table.error(
            "the columns stand between semicolons; save the table with commas or tabs"
        )
    for name in table.header:
        if meant := meant_column(name):
            raise table.error(f"a column '{name}' isn't known here; did you mean '{meant}'?")
    columns_of = {name: columns for name, (columns, _) in _READERS.items()}
    columns_of |= _AUDIOSET | _TRACKS
    known = "; ".join(f"{name} ({columns})" for name, columns in columns_of.items())
    raise table.error(
        "the columns, which the first line names, must be those of a format, came as "
        f"{', '.join(table.header)[:200]}; the formats are {known}"
    )
