"""What was detected is read alike from one table and from a folder of tables."""

from pathlib import Path

import pytest

from earmark.errors import UserError
from earmark.formats.detected import read_detected

HEADER = "filename\tonset\toffset\tevent_label\n"
DOG, CAT = "a.wav\t1.0\t2.0\tdog\n", "b.wav\t0.5\t0.75\tcat\n"


def folder(place: Path, **tables: str) -> Path:
    """A folder of tables; ``__`` in a name is a dot, and ``_of_`` a folder."""
    for name, rows in tables.items():
        path = place / name.replace("_of_", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER + rows)
    return place


def test_a_folder_says_what_one_table_says(tmp_path: Path) -> None:
    whole = tmp_path / "whole.tsv"
    whole.write_text(HEADER + DOG + CAT)
    apart = folder(tmp_path / "apart", a__tsv=DOG, deep_of_b__tsv=CAT)
    one, many = read_detected(whole), read_detected(apart)
    assert [(r.filename, r.events) for r in many.rows] == [(r.filename, r.events) for r in one.rows]
    assert many.class_names == one.class_names == ("cat", "dog")
    assert many.strong
    assert many.path == apart


def test_of_several_formats_of_the_same_one_is_read(tmp_path: Path) -> None:
    found = read_detected(folder(tmp_path, a__tsv=DOG, a__csv=DOG, b__tsv=CAT))
    assert [row.filename for row in found.rows] == ["a.wav"]


def test_a_recording_in_two_tables_is_refused(tmp_path: Path) -> None:
    given = folder(tmp_path, a__tsv=DOG, again__tsv=DOG + CAT)
    with pytest.raises(UserError, match=r"again.tsv: .*'a.wav' is in a.tsv, too; keep one"):
        read_detected(given)


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(UserError, match="holds no tables of what was detected"):
        read_detected(tmp_path)
