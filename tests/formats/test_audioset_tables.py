"""AudioSet as it is distributed: weak segments, strong events, class names, file names."""

import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.audioset import read_class_names, segment_of
from earmark.formats.labels import read_labels

WEAK = (
    "# Segments csv created Sun Mar  5 10:54:31 2017\n"
    "# num_ytids=3, num_segs=4, num_unique_labels=3, num_positive_labels=6\n"
    "# YTID, start_seconds, end_seconds, positive_labels\n"
    '--abcdefghi, 30.000, 40.000, "/m/09x0r,/t/dd00125"\n'
    'YYYYYYYYYYY, 0.000, 8.500, "/m/0k4j"\n'
    '_bcdefghij-, 420.000, 430.000, "/m/0k4j,/m/09x0r"\n'
    '_bcdefghij-, 10.000, 20.000, "/m/0k4j"\n'
)
CLASSES = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/0k4j,"Car"\n'
CLASSES += '2,/t/dd00125,"Inside, small room"\n'
STRONG = (
    "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
    "--abcdefghi_30000\t2.627\t7.237\t/m/09x0r\n"
    "YYYYYYYYYYY_0\t0.000\t10.000\t/m/0k4j\n"
    "--abcdefghi_30000\t0.5\t1.25\t/t/dd00125\n"
)


@pytest.fixture
def write(tmp_path):
    def write_text(text, name="segments.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return write_text


def tags(table):
    return {row.filename: set(row.labels) for row in table.rows}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_weak_segments(write, end):
    path = write("\ufeff" + WEAK.replace("\n", end) + end)
    table = read_labels(path)
    assert tags(table) == {
        "Y--abcdefghi_30.000_40.000.wav": {"/m/09x0r", "/t/dd00125"},
        "YYYYYYYYYYYY_0.000_8.500.wav": {"/m/0k4j"},
        "Y_bcdefghij-_420.000_430.000.wav": {"/m/0k4j", "/m/09x0r"},
        "Y_bcdefghij-_10.000_20.000.wav": {"/m/0k4j"},
    }
    assert (table.strong, table.video_clips) == (False, True)
    assert [row.line for row in table.rows] == [4, 5, 6, 7]
    assert {row.start_seconds for row in table.rows} == {None}
    assert [row.group for row in table.rows][2:] == ["_bcdefghij-"] * 2


def test_strong_events_lie_within_their_segment(write):
    table = read_labels(write(STRONG))
    assert (table.strong, table.video_clips) == (True, True)
    assert {row.filename: row.events for row in table.rows} == {
        "--abcdefghi_30000.wav": (Event(0.5, 1.25, "/t/dd00125"), Event(2.627, 7.237, "/m/09x0r")),
        "YYYYYYYYYYY_0.wav": (Event(0, 10, "/m/0k4j"),),
    }
    assert table.rows[0].group == "--abcdefghi"


def test_class_names_beside_the_table_or_given(write, tmp_path):
    path, strong = write(WEAK), write(STRONG, "strong.tsv")
    write(CLASSES, "class_labels_indices.csv")
    assert read_labels(path).class_names == ("Car", "Inside, small room", "Speech")
    assert read_labels(strong).class_names == ("Car", "Inside, small room", "Speech")
    # The strong labels have more classes than the weak ones, and a file of their own.
    names = "/m/09x0r\tTalk\r\n/m/0k4j\tCar\r\n/t/dd00125\tInside, small room\r\n"
    own = write(names, "mid_to_display_name.tsv")
    assert read_labels(strong).class_names == ("Car", "Inside, small room", "Talk")
    assert "Speech" in read_labels(path).class_names
    assert "Talk" in read_labels(path, class_names=own).class_names
    assert read_class_names(write("mid\tname\n" + names, "headed.tsv")) == read_class_names(own)


def test_a_mid_without_a_name_is_an_error_with_its_row(write):
    path, strong = write(WEAK), write(STRONG, "strong.tsv")
    few = write("index,mid,display_name\n0,/m/09x0r,Speech\n1,/m/0k4j,Car\n", "few.csv")
    with pytest.raises(UserError, match=r"segments.csv, line 4: .*few.csv, '/t/dd00125' has none"):
        read_labels(path, class_names=few)
    with pytest.raises(UserError, match=r"strong.tsv, line 4: .*'/t/dd00125' has none"):
        read_labels(strong, class_names=few)
    with pytest.raises(UserError, match="can't be read"):
        read_labels(path, class_names=few.with_name("none.csv"))
    table = write("filename,event_labels\na,x\n", "weak.csv")
    with pytest.raises(UserError, match=r"weak.csv: class names are for the MIDs"):
        read_labels(table, class_names=few)
    with pytest.raises(UserError, match="class names are for the MIDs"):
        read_labels(table.parent, class_names=few)


def test_two_classes_of_one_name_stay_two(write):
    path = write("/m/1\tBark\n/m/2\tBark\n/m/3\tCar\n", "names.tsv")
    assert read_class_names(path) == {"/m/1": "Bark (/m/1)", "/m/2": "Bark (/m/2)", "/m/3": "Car"}
    with pytest.raises(UserError, match="line 2: each row needs a MID of its own"):
        read_class_names(write("/m/1\tBark\n/m/1\tBark\n", "names.tsv"))
    with pytest.raises(UserError, match="needs a column 'mid'"):
        read_class_names(write("index,name\n0,Bark\n", "names.csv"))


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ('short, 30.000, 40.000, "/m/0k4j"', "must be YTID"),
        ('abcdefghijk, 30.000, "/m/0k4j"', "must be YTID"),
        ('abcdefghijk, 30.000, 40.000, "Car"', "must be YTID"),
        ('abcdefghijk, 30.000, 40.000, "/m/0k4j', "must be YTID"),
        ('abcdefghijk, 30.000, 40.000, ""', "must be YTID"),
        ('abcdefghijk, 30.000, 30.000, "/m/0k4j"', "end after its start, came as 30.000 to 30.000"),
        ('YYYYYYYYYYY, 0, 8.5, "/m/0k4j"', "has one in line 5 too"),
    ],
)
def test_a_row_of_another_form_is_named(write, row, complaint):
    with pytest.raises(UserError, match=rf"line 8: .*{complaint}"):
        read_labels(write(WEAK + row + "\n"))
    assert gc.isenabled()


def test_what_is_no_text_is_said(write, tmp_path):
    path = tmp_path / "segments.csv"
    path.write_bytes(WEAK.encode() + b"\xff\n")
    with pytest.raises(UserError, match="UTF-8"):
        read_labels(path)
    with pytest.raises(UserError, match=r"nowhere.csv: can't be read"):
        read_labels(tmp_path / "nowhere.csv", "audioset")


def test_a_table_without_comments_is_told_by_its_first_row(write):
    rows = "".join(line for line in WEAK.splitlines(True) if line[0] != "#")
    assert tags(read_labels(write(rows))) == tags(read_labels(write(WEAK)))
    assert read_labels(write(WEAK[: WEAK.index("--")])).rows == ()
    # A fifth column, or a name in place of a MID, is another format's.
    assert not read_labels(write("abcdefghijk,0.0,1.0,x,/m/x\n")).rows[0].group


def test_strong_labels_are_not_mistaken(write):
    framed = STRONG.replace("label", "label\tpresent").replace("j\n", "j\tPRESENT\n")
    framed = framed.replace("r\n", "r\tNOT_PRESENT\n").replace("5\n", "5\tPRESENT\n")
    with pytest.raises(UserError, match=r"line 1: strong labels .* came with .*present"):
        read_labels(write(framed))
    for row in ("abcdefghijk\t0\t1\t/m/1", "abcdefghijk_1\t0\t1\t", "abcdefghijk_1\t2\t1\t/m/1"):
        with pytest.raises(UserError, match="line 5"):
            read_labels(write(STRONG + row + "\n"))


IDS = st.text(st.sampled_from("Yab_-09"), min_size=11, max_size=11)


@settings(deadline=None, max_examples=300)
@given(IDS, st.integers(0, 10**7), st.booleans(), st.sampled_from(["wav", "flac", "m4a"]))
def test_the_names_of_copies_say_one_segment(video, start_ms, with_y, suffix):
    start, end = start_ms / 1000, start_ms / 1000 + 10
    names = {f"{start:.3f}_{end:.3f}": start_ms, f"{start_ms}": start_ms}
    if start_ms % 1000 == 0:
        names[f"{start:.0f}_{end:.0f}"] = start_ms
    y = "Y" * with_y
    for name, expected in names.items():
        assert segment_of(f"deep/down/{y}{video}_{name}.{suffix}") == (video, expected)
    assert segment_of(f"{y}{video}.{suffix}") == (video, None)


@pytest.mark.parametrize(
    "name",
    [
        "lecture.wav",
        "Xabcdefghijk.wav",
        "abcdefghijk_1_2_3.wav",
        "abcdefghijk_a.wav",
        "abcdefghijk",
    ],
)
def test_other_names_say_no_segment(name):
    assert segment_of(name) is None
