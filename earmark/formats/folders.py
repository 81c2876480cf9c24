"""One folder a class: ``class/clip.wav``."""

import os
from pathlib import Path

from earmark.errors import UserError
from earmark.folders import files_below
from earmark.formats.label_table import LabelRow, LabelTable, weak_table

# What often lies beside recordings. Other suffixes are kept, so that a recording in a form that
# can't be read is reported and not passed over.
_NOT_AUDIO = (
    ".csv .doc .docx .gz .html .ini .jpeg .jpg .json .jsonl .log .md .npy .npz .parquet .pdf "
    ".png .py .rst .tar .toml .tsv .txt .xls .xlsx .xml .yaml .yml .zip"
)
_NOT_AUDIO_SUFFIXES = frozenset(_NOT_AUDIO.split())


def read_folders(path: Path) -> LabelTable:
    """Each file, however deep in a class folder, tagged with the folder's name.

    Hidden files and files of text, tables and pictures are passed over.

    Raises:
        UserError: there is no file in a class folder, or one in none.
    """
    if not path.is_dir():
        raise UserError("one folder a class must be a folder of folders", where=path)
    rows = []
    for filename in sorted(files_below(path)):
        if os.path.splitext(filename)[1].lower() in _NOT_AUDIO_SUFFIXES:
            continue
        label, slash, _ = filename.partition("/")
        if not slash:
            raise UserError(
                f"every recording must lie in the folder of its class, '{label}' lies in none; "
                "move it, or give a table of labels instead of the folder",
                where=path,
            )
        rows.append(LabelRow(filename, frozenset((label,))))
    if not rows:
        raise UserError("there must be recordings in class folders; there are none", where=path)
    return weak_table(path, rows)
