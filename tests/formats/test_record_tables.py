"""JSON, JSON Lines and Parquet in: any table's columns as fields; what is wrong, and where."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.durations import read_durations
from earmark.formats.events import read_events
from earmark.formats.labels import read_labels
from earmark.formats.tags import read_tags
from earmark.formats.weak import write_weak

RECORDS = [
    {"filename": "a.wav", "event_labels": ["Car", "Air horn, truck horn"], "group": 7},
    {"filename": "b.wav", "event_labels": [], "group": None},
    {"filename": "c.wav", "event_labels": "Car,Bus"},
]


def write(path, records):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(records, indent=1), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(r) + "\r\n" for r in records), encoding="utf-8")
    return path


@pytest.fixture(params=[".json", ".jsonl", ".parquet"])
def path(request, tmp_path):
    return tmp_path / f"table{request.param}"


def test_weak_labels_as_records(path):
    # A column of Parquet has one type.
    records = RECORDS[:2] if path.suffix == ".parquet" else RECORDS
    labels = read_labels(write(path, records))
    assert {row.filename: (set(row.labels), row.group) for row in labels.rows} == dict(
        list(
            {
                "a.wav": ({"Car", "Air horn, truck horn"}, "7"),
                "b.wav": (set(), None),
                "c.wav": ({"Car", "Bus"}, None),
            }.items()
        )[: len(records)]
    )


def test_other_tables_as_records(path):
    assert read_durations(write(path, [{"filename": "a", "duration": 1.5}])) == {"a": 1.5}
    tags = read_tags(write(path, [{"filename": "a", "x": 0.25, "y": 1}]))
    assert (tags[0], tags[1], tags[2].tolist()) == (["a"], ("x", "y"), [[0.25, 1]])
    wide = read_labels(write(path, [{"file": "a", "dog": True, "cat": False}]))
    assert (wide.rows[0].labels, wide.class_names) == ({"dog"}, ("cat", "dog"))


def test_a_format_overrides_the_suffix(path):
    event = {"filename": "a", "onset": 1, "offset": 2, "event_label": "x", "score": float("nan")}
    other = write(path, [event]).rename(path.with_suffix(".dat"))
    with pytest.raises(UserError):
        read_events(other)
    assert read_events(other, path.suffix[1:]) == {"a": [Event(1, 2, "x")]}


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.text(min_size=1, max_size=5),
            st.frozensets(st.text(min_size=1, max_size=5), max_size=3),
        ),
        max_size=4,
        unique_by=lambda row: row[0],
    )
)  # fmt: skip
def test_lists_of_labels_are_those_of_a_weak_table(tmp_path_factory, rows):
    """Whatever characters they hold."""
    folder = tmp_path_factory.getbasetemp()
    write_weak(folder / "twin.tsv", [(name, labels, None) for name, labels in rows])
    records = [{"filename": name, "event_labels": sorted(labels)} for name, labels in rows]
    twin = {row.filename: row.labels for row in read_labels(folder / "twin.tsv").rows}
    for suffix in (".json", ".jsonl") if rows else ():
        labels = read_labels(write(folder / f"lists{suffix}", records))
        assert {row.filename: row.labels for row in labels.rows} == twin == dict(rows)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"filename": "a"}', "line 1: a table in JSON must be a list of objects"),
        ('[\n{"filename": "a"},\n{"filename"}\n]', "line 3: is no valid JSON: Expecting ':'"),
        ('[\n{"filename":\n"a"\n', "line 4: is no valid JSON"),
        ('[\n\n{"filename": "a"}\n', r"line 4: .*commas between its objects and a \] at the end"),
        ('[{"filename": "a"}] x', "line 1: .*commas between"),
        ('[{"filename": "a"} {"filename": "b"}]', "line 1: .*commas between"),
        ('[{"filename": "a"},]', "line 1: is no valid JSON"),
        ('[\n{"filename": "a"},\n["b"]]', r"line 3: each record must be an object .*\['b'\]"),
        ('["a"]', "each record must be an object"),
        ('[{"filename": {"a": 1}}]', "line 1: field 'filename' must be text, a number or"),
        ('[{"filename": "a", "event_labels": ["x", 1]}]', "field 'event_labels' must be text"),
        (r'[{"filename": "a", "event_labels": "\ud800"}]', "field 'event_labels' must be text"),
        ("[" * 100_000, "is no valid JSON|each record"),
        ("", "line 1: a table in JSON must be a list"),
        ('[\n{"filename": "a", "onset": "x", "offset": 1, "event_label": "y"}\n]',
         "line 2: column 'onset' must be a finite number, came as 'x'"),
        ('[{"filename": "a", "onset": Infinity, "offset": 1, "event_label": "y"}]', "finite"),
        ('[{"filename": "a", "onset": 1, "offset": 0, "event_label": "y"}]', "before its onset"),
        ('[{"filename": "a", "dog": 2}]', "column 'dog' must be 0 or 1"),
        ('[{"name": "a"}]', "must be those of a format, came as name; .*raven"),
    ],
)  # fmt: skip
def test_wrong_json(tmp_path, text, complaint):
    path = tmp_path / "table.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=complaint):
        read_labels(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"filename": "a"}\n\n{"filename": \n', "line 3: is no valid JSON"),
        ('{"filename": "a"} {"filename": "b"}\n', "line 1: a line must hold one object"),
        ('{"filename": "a"},\n', "line 1: a line must hold one object"),
        ("[]\n", "line 1: each record must be an object"),
    ],
)
def test_wrong_json_lines(tmp_path, text, complaint):
    path = tmp_path / "table.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=complaint):
        read_labels(path)


def test_lines_of_records_are_told(tmp_path):
    path = tmp_path / "table.json"
    path.write_text('[{"filename": "a",\n"dog": 1}, {"filename":\n"b", "dog": 1}\n,\n'
                    '{"filename": "c", "dog": 3}]')  # fmt: skip
    with pytest.raises(UserError, match="line 5: column 'dog'"):
        read_labels(path)


def test_wrong_parquet(tmp_path):
    path = tmp_path / "table.parquet"
    for content in (b"", b"PAR1", b"filename,onset\n" * 9):
        path.write_bytes(content)
        with pytest.raises(UserError, match="can't be read as Parquet"):
            read_labels(path)
    write(path, [{"filename": "a", "onset": 2.0, "offset": 1.0, "event_label": "x"}] * 2)
    with pytest.raises(UserError, match="line 1: an offset may not lie before"):
        read_labels(path)
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, names=["filename"] * 2), path)
    with pytest.raises(UserError, match=r"name of its own|can't be read"):
        read_labels(path)
    whole = write(path, [{"filename": "a", "dog": 1}] * 100).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="can't be read as Parquet"):
        read_labels(path)


def folder_of_parts(folder):
    folder.mkdir(parents=True)
    event = {"onset": 0.0, "offset": 1.0, "event_label": "x"}
    write(folder / "part-1.parquet", [{"filename": "b", **event}])
    write(folder / "part-0.parquet", [{"filename": "a", **event}, {"filename": "b", **event}])
    for note in ("_SUCCESS", ".crc"):
        (folder / note).write_bytes(b"a cluster's")


@pytest.mark.parametrize("labels_format", ["auto", "parquet"])
@pytest.mark.parametrize("within", ["", "events"])
def test_a_folder_of_parquet_is_a_table(tmp_path, within, labels_format):
    place = tmp_path / "place"
    folder_of_parts(place / within)
    found = read_labels(place, labels_format)
    assert {row.filename: row.events for row in found.rows} == {
        "a": (Event(0, 1, "x"),),
        "b": (Event(0, 1, "x"),) * 2,
    }
    write(place / within / "part-2.parquet", [{"filename": "b", "dog": 1}])
    with pytest.raises(UserError, match="place: can't be read as Parquet: Schema"):
        read_labels(place)
    (place / within / "part-2.parquet").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"part-2\.parquet: can't be read as Parquet"):
        read_labels(place)


def test_parquet_beside_recordings_is_no_table(tmp_path):
    (tmp_path / "data" / "Car").mkdir(parents=True)
    write(tmp_path / "data" / "metadata.parquet", [{"filename": "b", "dog": 1}])
    (tmp_path / "data" / "Car" / "a.wav").touch()
    assert read_labels(tmp_path / "data").class_names == ("Car",)


def test_parquet_says_what_it_needs(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'earmark\[parquet\]'"):
        read_labels(tmp_path / "table.parquet")
