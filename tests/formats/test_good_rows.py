"""Of a table with bad rows the good ones are read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.errors import UserError
from earmark.formats.labels import read_labels


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("rows") / "table.tsv"


def read(path, text):
    path.write_text(text)
    defects = []
    return read_labels(path, defects=defects), [str(defect) for defect in defects]


def test_each_bad_row_is_told_with_its_line(path):
    table, defects = read(
        path,
        "filename\tonset\toffset\tevent_label\n"
        "a.wav\t0\t1\tx\n"
        "a.wav\t2\t1\tx\n"
        "a.wav\tnow\t1\tx\n"
        "b.wav\t0\t1\n"
        "\t0\t1\tx\n"
        "c.wav\t3\t4\ty\n",
    )
    assert [row.filename for row in table.rows] == ["a.wav", "c.wav"]
    assert len(table.rows[0].events) == 1
    assert table.strong
    lines = sorted(int(defect.partition("line ")[2].partition(":")[0]) for defect in defects)
    assert lines == [3, 4, 5, 6]


def test_repeated_files_keep_all_rows(path):
    table, defects = read(path, "filename,event_labels\na.wav,x\nb.wav,y\na.wav,z\na.wav,x\n")
    assert defects == []
    rows = [(row.filename, *row.labels, row.line) for row in table.rows]
    assert rows == [("a.wav", "x", 2), ("b.wav", "y", 3), ("a.wav", "z", 4), ("a.wav", "x", 5)]
    assert table.class_names == ("x", "y", "z")
    with pytest.raises(UserError, match="line 2"):
        read_labels(path)


def test_a_wrong_header_is_an_error(path):
    with pytest.raises(UserError, match="gruop"):
        read(path, "filename,event_labels,gruop\na.wav,x,1\n")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["0", "1", "2", ""]), max_size=20))
def test_rows_are_as_they_would_be_by_themselves(path, cells):
    lines = [f"{number}.wav,{cell}" for number, cell in enumerate(cells)]
    table, defects = read(path, "\n".join(["filename,x", *lines]))
    good = [f"{number}.wav" for number, cell in enumerate(cells) if cell in ("0", "1")]
    assert [row.filename for row in table.rows] == good
    assert len(defects) == len(cells) - len(good)
