"""The delimited reader and writer below every table, against the csv module and by hand."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.errors import UserError
from earmark.formats.tables import COMMA, TAB, read_table, seconds_text, write_table

CELLS = st.text(st.sampled_from("ab ;\"',\t\n\r\\ü\u2028猫"), max_size=5)
GRIDS = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=5).map(
        lambda rows: [["h"] * width, *rows]
    )
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("delimited") / "table.csv"


def cells(path):
    return [row.cells for row in read_table(path).records]


@settings(deadline=None, max_examples=150)
@given(grid=GRIDS, delimiter=st.sampled_from([TAB, COMMA]))
def test_what_is_written_is_read_back(path, grid, delimiter):
    write_table(path, grid, delimiter)
    assert cells(path) == grid


@settings(deadline=None, max_examples=150)
@given(grid=GRIDS, delimiter=st.sampled_from([TAB, COMMA]), end=st.sampled_from(["\n", "\r\n"]))
def test_reads_what_the_csv_module_writes(path, grid, delimiter, end):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(grid)
    path.write_bytes(text.getvalue().encode())
    assert cells(path) == grid


@settings(deadline=None, max_examples=150)
@given(grid=GRIDS, delimiter=st.sampled_from([TAB, COMMA]))
def test_the_csv_module_reads_what_is_written(path, grid, delimiter):
    write_table(path, grid, delimiter)
    with open(path, encoding="utf-8", newline="") as file:
        assert list(csv.reader(file, delimiter=delimiter)) == grid


def test_lines_are_those_where_records_start(path):
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n\r\n"1\r\n2",3\r\n  \r\n 4 , "5"\r\n"6" ,7 8')
    table = read_table(path)
    assert [(row.line, row.cells) for row in table.records] == [
        (1, ["a", "b"]),
        (3, ["1\r\n2", "3"]),
        (6, ["4", '"5"']),
        (7, ["6", "7 8"]),
    ]
    assert table.rows[0].raw == ['"1\r\n2"', "3"]


def test_delimiter_is_the_headers(path):
    path.write_text("a\tb,c\n1,2\t3\n")
    assert cells(path)[1] == ["1,2", "3"]
    path.write_text('a,"b\tc"\n1,2\t3\n')
    assert cells(path)[1] == ["1", "2\t3"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf\r\n \n", "empty"),
        (b"a,b\nx,\xff\n", "line 2: a table must be UTF-8"),
        ("a,b\n".encode("utf-16"), "line 1: a table must be UTF-8"),
        (b"a,b\n\n1,2\n3\n", "line 4: a row needs 2 columns like the first, came with 1"),
        (b'a,b\n"1\n1",2\n3,4,5\n', "line 4: a row needs 2 columns like the first, came with 3"),
        (b'a,b\n1,"2\n3,4\n', "line 2: a quote is not closed"),
        (b'a,b\n1,"2""3\n', "line 2: a quote is not closed"),
    ],
)
def test_complaints_name_file_and_line(path, content, complaint):
    path.write_bytes(content)
    with pytest.raises(UserError, match=complaint) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_user_errors(tmp_path):
    for wrong in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UserError, match="can't be read"):
            read_table(wrong)


@pytest.mark.parametrize("header", ["a,,c", "a,b,a"])
def test_columns_need_names_of_their_own(path, header):
    path.write_text(f"{header}\n1,2,3\n")
    with pytest.raises(UserError, match=r"line 1: (two columns|column 2 has no name)"):
        read_table(path).find("a")


@pytest.mark.parametrize("text", ["", "nan", "inf", "-Infinity", "1e999", "1_0", "0x1", "٣", "a"])
def test_only_finite_numbers_are_numbers(path, text):
    write_table(path, [["a", "b"], ["0", text]], COMMA)
    table = read_table(path)
    with pytest.raises(UserError, match=r"line 2: column 'b' must be a finite number"):
        table.number(table.rows[0], 1)


@pytest.mark.parametrize("text", ["1", "-0.5", "+.5", "3.", "1e-3", " 2 "])
def test_numbers(path, text):
    path.write_text(f"a,b\n{text},0\n")
    table = read_table(path)
    assert table.number(table.rows[0], 0) == float(text)


def test_intervals(path):
    path.write_text("a\tb\n1\t1\n2\t1\n-1\t1\n0,5\t1\n")
    table = read_table(path)
    assert table.interval(table.rows[0], 0, 1) == (1, 1)
    for row, complaint in zip(
        table.rows[1:],
        ["line 3: an offset may not", "line 4: .*at least 0", "decimal point"],
        strict=True,
    ):
        with pytest.raises(UserError, match=complaint):
            table.interval(row, 0, 1)


def test_a_write_that_breaks_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    write_table(path, [["old"]], COMMA)

    def rows():
        yield ["new"]
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_table(path, rows(), COMMA)
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_complains_in_one_line(tmp_path):
    with pytest.raises(UserError, match="can't be written"):
        write_table(tmp_path / "none" / "table.csv", [["a"]], COMMA)
    with pytest.raises(UserError, match=r"valid Unicode.*a\\udcff"):
        write_table(tmp_path / "table.csv", [["a\udcff"]], COMMA)
    assert not list(tmp_path.iterdir())


@settings(deadline=None, max_examples=100)
@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_times_keep_order_and_microseconds(first, second):
    one, other = float(seconds_text(first)), float(seconds_text(second))
    assert abs(one - first) <= 0.5001e-6
    assert (one <= other) if first <= second else (one >= other)
    assert 3 <= len(seconds_text(first).partition(".")[2]) <= 6
