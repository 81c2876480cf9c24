"""One folder a class: ``class/clip.wav``."""

import os
from collections.abc import Iterator
from pathlib import Path

from earmark.errors import UserError
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
    for filename in sorted(_files(path, "", ())):
        label, slash, _ = filename.partition("/")
        if not slash:
            raise UserError(
                f"every recording must lie in the folder of its class, '{label}' lies in none; "
                "move it",
                where=path,
            )
        rows.append(LabelRow(filename, frozenset((label,))))
    if not rows:
        raise UserError("there must be recordings in class folders; there are none", where=path)
    return weak_table(path, rows)


def _files(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link back up
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files(Path(entry.path), f"{prefix}{entry.name}/", (*above, here))
            elif os.path.splitext(entry.name)[1].lower() not in _NOT_AUDIO_SUFFIXES:
                yield prefix + entry.name
