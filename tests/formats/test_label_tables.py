"""Every format of labels: read by hand-made tables, and round trips of those we write."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.errors import UserError
from earmark.events import Event, in_order
from earmark.formats.labels import LABEL_FORMATS, read_labels
from earmark.formats.strong import write_strong
from earmark.formats.weak import join_labels, split_labels, write_tag_labels, write_weak

NAMES = st.text(min_size=1, max_size=6) | st.text(
    st.sampled_from("ab ;\"',\t\n\r\\"), min_size=1, max_size=6
)
LABEL_SETS = st.frozensets(NAMES, max_size=4)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("labels") / "table.tsv"


@pytest.fixture
def read(path):
    def read_text(text, labels_format="auto"):
        path.write_bytes(text.encode())
        return read_labels(path, labels_format)

    return read_text


def tags(table):
    return {row.filename: set(row.labels) for row in table.rows}


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(NAMES, st.tuples(LABEL_SETS, st.none() | NAMES), max_size=4))
def test_weak_tables_come_back(path, rows):
    write_weak(path, [(name, labels, group) for name, (labels, group) in rows.items()])
    table = read_labels(path)
    assert {row.filename: (row.labels, row.group) for row in table.rows} == rows
    assert [row.filename for row in table.rows] == sorted(rows)
    assert not table.strong
    assert table.class_names == tuple(sorted(set().union(*(labels for labels, _ in rows.values()))))


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(NAMES, LABEL_SETS, max_size=4))
def test_tag_labels_come_back(path, rows):
    write_tag_labels(path, list(rows), list(rows.values()))
    assert tags(read_labels(path)) == rows


@settings(deadline=None, max_examples=200)
@given(LABEL_SETS)
def test_cells_of_labels_come_back(labels):
    assert split_labels(join_labels(labels), ",") == labels


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(
        NAMES,
        st.lists(
            st.builds(
                lambda onset, length, label: Event(onset / 1e6, (onset + length) / 1e6, label),
                st.integers(0, 10**10),
                st.integers(1, 10**8),
                NAMES,
            ),
            max_size=3,
        ),
        max_size=4,
    )
)
def test_strong_tables_come_back(path, items):
    write_strong(path, items.items())
    table = read_labels(path)
    assert table.strong
    assert {row.filename: list(row.events) for row in table.rows} == {
        name: in_order(events) for name, events in items.items()
    }


def test_an_empty_label_is_not_written(path):
    with pytest.raises(ValueError, match="label may not be empty"):
        write_weak(path, [("a.wav", [""], None)])
    with pytest.raises(ValueError, match="label may not be empty"):
        write_strong(path, [("a.wav", [Event(0, 1, "")])])


def test_weak(read):
    table = read("\ufefffilename\tevent_labels\r\na.wav\tdog, cat\r\nb.wav\t\r\n")
    assert tags(table) == {"a.wav": {"cat", "dog"}, "b.wav": set()}
    assert table.class_names == ("cat", "dog")
    assert [row.line for row in table.rows] == [2, 3]
    assert table.rows[0].events is table.rows[0].start_seconds is table.rows[0].group is None


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("a,b", {"a", "b"}),
        ('"a, b",c', {"a, b", "c"}),
        ('c,"a, b"', {"a, b", "c"}),
        ('"a, b"', {"a, b"}),
        ('"a, b", "c;d" ', {"a, b", "c;d"}),
        ('"""a, b"",c"', {"a, b", "c"}),
        ('5" gun, x', {'5" gun', "x"}),
        ("a,,b,", {"a", "b"}),
    ],
)
def test_quoted_labels_between_tabs(read, cell, labels):
    assert tags(read(f"filename\tevent_labels\nx.wav\t{cell}\n")) == {"x.wav": labels}


def test_quotes_of_a_quoted_table_are_not_the_labels(read):
    assert tags(read('"filename"\t"event_labels"\n"x.wav"\t"a,b"\n')) == {"x.wav": {"a", "b"}}
    assert tags(read('filename,event_labels\nx.wav,"a,b"\n')) == {"x.wav": {"a", "b"}}
    assert tags(read('filename,event_labels\nx.wav,"""a,b"",c"\n')) == {"x.wav": {"a,b", "c"}}


def test_one_semicolon_makes_commas_part_of_labels(read):
    table = read("filename\tevent_labels\nx\tAir horn, truck horn\ny\tCar;Bus\n")
    assert tags(table) == {"x": {"Air horn, truck horn"}, "y": {"Car", "Bus"}}
    table = read('filename\tevent_labels\nx\ta,b\ny\t"Car;Bus",c\n')
    assert tags(table) == {"x": {"a", "b"}, "y": {"Car;Bus", "c"}}


def test_groups(read):
    table = read("file,event_labels,fold,group,licence\na,x,1,g,CC0\nb,x,2,,CC0\n")
    assert [row.group for row in table.rows] == ["g", None]
    table = read("filename,event_labels,fold\na,x,1\n")
    assert table.rows[0].group == "1"


def test_a_repeated_file_names_both_lines(read):
    for text in (
        "filename\tevent_labels\na\tx\nb\tx\na\ty\n",
        "filename,x\na,1\nb,0\na,0\n",
        "filename,category\na,x\nb,y\na,x\n",
        "a,0.0,1.0,x,/m/x\nb,0.0,1.0,x,/m/x\na,0.0,1.0,x,/m/x\n",
    ):
        with pytest.raises(UserError, match=r"line [34]: a file may have one row.*line [12] too"):
            read(text)


def test_segments(read):
    table = read("filename,onset,offset,event_labels\na,0,1,x\na,1,2.5,\na,,,x\n")
    assert [(row.start_seconds, row.stop_seconds, set(row.labels)) for row in table.rows] == [
        (0, 1, {"x"}),
        (1, 2.5, set()),
        (None, None, {"x"}),
    ]
    for wrong in ("1,1", "2,1", ",1", "1,", "nan,1"):
        with pytest.raises(UserError, match="line 2"):
            read(f"filename,onset,offset,event_labels\na,{wrong},x\n")


def test_strong(read):
    table = read(
        "filename\tonset\toffset\tevent_label\n"
        "b\t2\t3\tdog\nb\t1\t4\tdog\na\t\t\t\nb\t1\t4\tdog\nc\t5\t5\tcat\nc\t0\t1\tdog\n"
    )
    assert table.strong
    assert [row.filename for row in table.rows] == ["b", "a", "c"]
    assert table.rows[0].events == (Event(1, 4, "dog"), Event(1, 4, "dog"), Event(2, 3, "dog"))
    assert table.rows[1].events == ()
    assert table.rows[2].labels == {"dog"}
    assert table.zero_length_events == 1
    assert table.class_names == ("cat", "dog")
    for wrong in ("1,,x", ",,x", "1,2,", "2,1,x", "a,1,x"):
        with pytest.raises(UserError, match="line 2"):
            read(f"filename,onset,offset,event_label\na,{wrong}\n")


def test_wide(read):
    table = read("filename,fold,dog,cat,bird\na,1,1,0,0\nb,2,1,1,0\nc,2,0,0,0\n")
    assert tags(table) == {"a": {"dog"}, "b": {"dog", "cat"}, "c": set()}
    assert table.class_names == ("bird", "cat", "dog")
    assert [row.group for row in table.rows] == ["1", "2", "2"]
    for wrong in ("", "2", "0.5", "yes"):
        with pytest.raises(UserError, match="line 3: column 'cat' must be 0 or 1"):
            read(f"filename,dog,cat\na,1,0\nb,1,{wrong}\n")


@pytest.mark.parametrize(
    ("column", "cell", "hint"),
    [
        ("event_lables", "dog", r"came as 'dog'; did you mean the column 'event_labels'\?$"),
        ("Category", "dog", r"did you mean the column 'category'\?$"),
        ("dog", "0.1667", "these are probabilities of tags: `earmark tag --labels` decides them"),
        ("dog", "2", "came as '2'$"),
        ("dog", "nan", "came as 'nan'$"),
    ],
)
def test_what_is_no_wide_table_is_told(read, column, cell, hint):
    with pytest.raises(UserError, match=hint):
        read(f"filename,{column}\na,{cell}\n")


def test_esc50(read):
    for columns in ("filename,fold,target,category", "file,fold,id,class"):
        table = read(f"{columns}\n1.wav,5,0,dog\nd/2.wav,1,1,a cat\n")
        assert tags(table) == {"1.wav": {"dog"}, "d/2.wav": {"a cat"}}
        assert [row.group for row in table.rows] == ["5", "1"]
    with pytest.raises(UserError, match="line 2: a row needs a category"):
        read("filename,category\na,\n")


def test_folders(tmp_path):
    for name in ("dog/1.wav", "dog/deep/2.flac", "a cat/1.wav", ".git/x", "dog/.x", "dog/n.TXT"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dog" / "loop").symlink_to(tmp_path)
    (tmp_path / "README.md").touch()
    table = read_labels(tmp_path)
    assert tags(table) == {
        "a cat/1.wav": {"a cat"},
        "dog/1.wav": {"dog"},
        "dog/deep/2.flac": {"dog"},
    }
    (tmp_path / "stray.wav").touch()
    with pytest.raises(UserError, match=r"'stray.wav' lies in none"):
        read_labels(tmp_path)


def test_folders_need_recordings_in_folders(tmp_path):
    with pytest.raises(UserError, match="there are none"):
        read_labels(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="must be a folder"):
        read_labels(tmp_path / "file", "folders")


DCASE_SET = (
    '-abcdefghij,30.000,40.000,"Horn, truck horn,Car","/m/1,/m/2"\r\n'
    "YYYYYYYYYYY,0,9.5,Car,/m/2\r\n"
    'aaaaaaaaaaa,0.000,10.000,"Bus,Horn, truck horn","/m/3,/m/1"\r\n'
)


def test_dcase_names_are_solved_by_mids(read):
    assert tags(read(DCASE_SET)) == {
        "Y-abcdefghij_30.000_40.000.wav": {"Horn, truck horn", "Car"},
        "YYYYYYYYYYYY_0.000_9.500.wav": {"Car"},
        "Yaaaaaaaaaaa_0.000_10.000.wav": {"Bus", "Horn, truck horn"},
    }


def test_dcase_names_without_a_single_one(read):
    table = read('x,0,1,"Horn, truck,Car","/m/1,/m/2"\ny,0,1,"Car,Bus, big","/m/2,/m/3"\n')
    assert table.class_names == ("Bus, big", "Car", "Horn, truck")
    with pytest.raises(UserError, match="line 1: can't tell which names"):
        read('x,0,1,"Horn,truck,Car","/m/1,/m/2"\n')


def test_dcase_names_must_agree(read):
    with pytest.raises(UserError, match="line 2: the names 'Bus' don't agree"):
        read("x,0,1,Car,/m/1\ny,0,1,Bus,/m/1\n")
    with pytest.raises(UserError, match="line 2: the names 'Car' don't agree"):
        read('x,0,1,Car,/m/1\ny,0,1,Car,"/m/1,/m/2"\n')


def test_dcase_ground_truths(read):
    clip, other = "-abcdefghij_30.000_40.000.wav", "Yabcdefghij_0.000_10.000.wav"
    weak = f"{clip}\t30.000\t40.000\tHorn, truck\r\n{clip}\t30\t40\tCar\r\n{other}\t0\t10\tCar\r\n"
    table = read(weak)
    assert not table.strong
    assert tags(table) == {f"Y{clip}": {"Horn, truck", "Car"}, f"Y{other}": {"Car"}}
    assert {row.start_seconds for row in table.rows} == {None}
    table = read(weak + f"{clip}\t0\t0\tBus\r\n{other}\t1\t2.5\tBus\r\n")
    assert table.strong
    assert table.zero_length_events == 1
    assert table.rows[0].labels == {"Horn, truck", "Car"}
    assert table.rows[1].events[1] == Event(1, 2.5, "Bus")
    assert [row.filename for row in read("a.wav\t0\t1\tx\n").rows] == ["a.wav"]


@pytest.mark.parametrize(
    "header",
    [
        "filename",
        "filename,fold",
        "event_labels",
        "filename,event_label",
        "filename,onset,event_labels",
        "filename,onset,offset",
        "filename,onset,offset,event_label,event_labels",
        "name,dog,cat",
    ],
)
def test_other_columns_are_refused_with_the_formats(read, header):
    with pytest.raises(UserError, match=r"line 1: the columns, .*weak.*segments.*esc50"):
        read(header + "\n")


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        (
            "filename;event_labels",
            "line 1: the columns stand between semicolons; save the table with commas or tabs$",
        ),
        ("Filename,Event_Labels", "line 1: .*'Filename' isn't known here; did you mean 'filename'"),
        (
            "filename,onsett,offset,event_label",
            "line 1: .*'onsett' isn't known here; did you mean 'onset'",
        ),
        ("name,dog,cat", "came as name, dog, cat; the formats are"),
    ],
)
def test_what_spreadsheets_make_of_a_header_is_told(read, header, hint):
    with pytest.raises(UserError, match=hint):
        read(header + "\n")


def test_a_misspelt_group_is_refused(read):
    with pytest.raises(UserError, match="came with 'gruop'"):
        read("filename,event_labels,gruop\na,x,1\n")


def test_a_format_can_be_said(read, path):
    assert tags(read("filename,category,dog\na,1,0\n", "wide")) == {"a": {"category"}}
    with pytest.raises(UserError, match=r"line 1: needs a column 'event_labels'"):
        read("filename,category\na,x\n", "weak")
    with pytest.raises(UserError, match="have no header"):
        read("filename,category\na,x\n", "dcase2017")
    with pytest.raises(UserError, match=r"weak, segments.*raven:COLUMN; came as 'textgrid'"):
        read_labels(path, "textgrid")
    with pytest.raises(UserError, match=r"came as 'weak:Species'"):
        read_labels(path, "weak:Species")
    assert set(LABEL_FORMATS) == {
        "weak", "segments", "strong", "wide", "esc50", "dcase2017", "audioset", "audioset_strong",
        "audacity", "raven", "json", "jsonl", "parquet", "folders",
    }  # fmt: skip


def test_a_header_alone_is_an_empty_table(read):
    for header in ("filename,event_labels", "filename,onset,offset,event_label", "filename,dog"):
        assert read(header + "\n").rows == ()


def test_a_row_needs_a_filename(read):
    for text in ("filename,event_labels\n,x\n", "filename,onset,offset,event_label\n,1,2,x\n"):
        with pytest.raises(UserError, match="line 2: a row needs a file name"):
            read(text)
