"""Every format of detected events: what is written comes back, here and in the tools it is for."""

import json
import math
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.errors import UserError
from earmark.events import Event, in_order
from earmark.formats.audacity import write_audacity
from earmark.formats.event_formats import EVENT_FORMATS, event_formats
from earmark.formats.events import read_events, write_events
from earmark.formats.labels import read_labels
from earmark.formats.recorded import Recorded

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import crowsetta
    import pandas

ANY = st.text(min_size=1, max_size=6) | st.text(
    st.sampled_from("ab =+@;\"',\t\n\r\\"), min_size=1, max_size=6
)
# Audacity and Raven quote nothing: what white space can part from a cell is refused, see below.
PLAIN = ANY.map(lambda text: " ".join(text.split())).filter(
    lambda text: text and text == text.strip()
)
QUOTED = ["csv", "tsv", "json", "jsonl", "parquet"]
SCORED = [*QUOTED, "raven"]


def events(labels):
    return st.builds(
        lambda onset, length, label, score: Event(
            onset / 1e6, (onset + length) / 1e6, label, None if score is None else score / 1e4
        ),
        st.integers(0, 10**11),
        st.integers(1, 10**8),
        labels,
        st.none() | st.integers(0, 10**4),
    )


def recordings(names, labels):
    """Up to three, in order, as detection gives them."""

    def of(found):
        return [
            Recorded(name, in_order(of_one), None, Path("/data") / name, seconds, 8000)
            for name, (of_one, seconds) in sorted(found.items())
        ]

    some = st.lists(events(labels), max_size=4)
    return st.dictionaries(names, st.tuples(some, st.floats(0, 1e5)), max_size=3).map(of)


def names(text):
    return text.map(lambda name: f"{name}.wav".replace("/", "|"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("formats")


def comes_back(path, kind, written, *, scores):
    EVENT_FORMATS[kind].write(path, written, False)
    expected = {recorded.filename: list(recorded.events) for recorded in written if recorded.events}
    if not scores:
        expected = {
            name: [Event(e.onset_seconds, e.offset_seconds, e.label) for e in of_one]
            for name, of_one in expected.items()
        }
    found = read_events(path)
    assert list(found) == list(expected)
    for name, of_one in found.items():
        assert sorted(map(repr, of_one)) == sorted(map(repr, expected[name]))
        assert in_order(of_one) == of_one


@pytest.mark.parametrize("kind", QUOTED)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_events_come_back(folder, kind, data):
    written = data.draw(recordings(names(ANY), ANY))
    comes_back(folder / f"any{EVENT_FORMATS[kind].suffix}", kind, written, scores=True)


@pytest.mark.parametrize("kind", ["raven", "dcase"])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_plain_events_come_back(folder, kind, data):
    written = data.draw(recordings(names(PLAIN), PLAIN))
    path = folder / f"plain{EVENT_FORMATS[kind].suffix}"
    comes_back(path, kind, written, scores=kind == "raven")


@settings(deadline=None, max_examples=60)
@given(st.lists(events(PLAIN), max_size=5))
def test_audacity_tracks_come_back(folder, of_one):
    path = folder / "night.wav.txt"
    EVENT_FORMATS["audacity"].write(path, [Recorded("north/night.wav", in_order(of_one))], False)
    bare = [Event(e.onset_seconds, e.offset_seconds, e.label) for e in in_order(of_one)]
    assert read_labels(path, "audacity").rows[0].filename == "night.wav"
    assert sorted(map(repr, read_events(path, "audacity")["night.wav"])) == sorted(map(repr, bare))
    if of_one:  # of an empty file, nothing says what it is
        assert read_events(path) == read_events(path, "audacity")


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_every_format_says_the_same(folder, data):
    written = data.draw(recordings(names(PLAIN), PLAIN))
    found = {}
    for kind in SCORED:
        path = folder / f"same{EVENT_FORMATS[kind].suffix}"
        EVENT_FORMATS[kind].write(path, written, False)
        found[kind] = read_events(path)
    assert all(of_kind == found["csv"] for of_kind in found.values())


def test_the_csv_is_that_of_write_events(folder):
    written = [Recorded("a", [Event(0.0415, 1 / 3, "=1,2", 0.87654)]), Recorded("b", [])]
    EVENT_FORMATS["csv"].write(folder / "one.csv", written, False)
    write_events(folder / "two.csv", [("a", written[0].events[0])])
    assert (folder / "one.csv").read_bytes() == (folder / "two.csv").read_bytes()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("csv", "filename,onset,offset,event_label,score,start_time\n"
                "a.wav,0.500,1.0625,Käuz,0.8765,2025-01-31T05:42:00.500+00:00\n"
                'b.wav,2.000,3.000,"x, y",,\n'),
        ("tsv", "filename\tonset\toffset\tevent_label\tscore\tstart_time\n"
                "a.wav\t0.500\t1.0625\tKäuz\t0.8765\t2025-01-31T05:42:00.500+00:00\n"
                "b.wav\t2.000\t3.000\tx, y\t\t\n"),
        ("dcase", "filename\tonset\toffset\tevent_label\n"
                  "a.wav\t0.500\t1.0625\tKäuz\nb.wav\t2.000\t3.000\tx, y\n"),
        ("dcase2017", "a.wav\t0.500\t1.0625\tKäuz\nb.wav\t2.000\t3.000\tx, y\n"),
        ("json", '[\n{"filename": "a.wav", "onset": 0.5, "offset": 1.0625, "event_label": "Käuz", '
                 '"score": 0.8765, "start_time": "2025-01-31T05:42:00.500+00:00"},\n'
                 '{"filename": "b.wav", "onset": 2.0, "offset": 3.0, "event_label": "x, y", '
                 '"score": null, "start_time": null}\n]\n'),
        ("jsonl", '{"filename": "a.wav", "onset": 0.5, "offset": 1.0625, "event_label": "Käuz", '
                  '"score": 0.8765, "start_time": "2025-01-31T05:42:00.500+00:00"}\n'
                  '{"filename": "b.wav", "onset": 2.0, "offset": 3.0, "event_label": "x, y", '
                  '"score": null, "start_time": null}\n'),
        ("raven", "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\t"
                  "High Freq (Hz)\tBegin Path\tFile Offset (s)\tAnnotation\tScore\tfilename\t"
                  "start_time\n"
                  "1\tSpectrogram 1\t1\t0.500\t1.0625\t0.0\t4000.0\t/data/a.wav\t0.500\tKäuz\t"
                  "0.8765\ta.wav\t2025-01-31T05:42:00.500+00:00\n"
                  "2\tSpectrogram 1\t1\t12.333333\t13.333333\t0.0\t8000.0\t/data/b.wav\t2.000\t"
                  "x, y\t\tb.wav\t\n"),
    ],
)  # fmt: skip
def test_events_as_text(folder, kind, text):
    began = datetime(2025, 1, 31, 5, 42, tzinfo=UTC)
    written = [
        Recorded("a.wav", [Event(0.5, 1.0625, "Käuz", 0.87654)], began, Path("/data/a.wav"),
                 10 + 1 / 3, 8000),
        Recorded("b.wav", [Event(2, 3, "x, y")], None, Path("/data/b.wav"), 5, 16_000),
    ]  # fmt: skip
    path = folder / "text"
    EVENT_FORMATS[kind].write(path, iter(written), True)
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("scores", [False, True])
def test_audacity_as_text(folder, scores):
    path = folder / "track.txt"
    track = Recorded("a.wav", [Event(0.5, 1.0625, "Käuz", 0.876), Event(2, 3, "x y")])
    write_audacity(path, [track], scores=scores)
    rated = "Käuz 0.88" if scores else "Käuz"
    assert path.read_text(encoding="utf-8") == f"0.500\t1.0625\t{rated}\n2.000\t3.000\tx y\n"
    with pytest.raises(ValueError, match="too many"):
        write_audacity(path, [track, track])


@pytest.mark.parametrize("kind", [kind for kind in EVENT_FORMATS if kind not in ("dcase2017",)])
def test_nothing_found(folder, kind):
    path = folder / f"empty{EVENT_FORMATS[kind].suffix}"
    EVENT_FORMATS[kind].write(path, [Recorded("a.wav", [])], True)
    if kind.startswith("audacity"):
        assert path.read_bytes() == b""
        return
    assert read_events(path) == {}


@pytest.mark.parametrize("kind", ["audacity", "raven"])
@pytest.mark.parametrize("label", ["a\tb", "a\nb", "a\rb", " a", "a "])
def test_what_can_not_be_quoted_is_refused(folder, kind, label):
    path = folder / "refused.txt"
    with pytest.raises(UserError, match=f"a label in the format '{kind}' can hold no tab"):
        EVENT_FORMATS[kind].write(path, [Recorded("a.wav", [Event(0, 1, label)])], False)
    assert not path.exists()


def test_a_filename_that_raven_can_not_hold(folder):
    with pytest.raises(UserError, match="a filename in the format 'raven'"):
        EVENT_FORMATS["raven"].write(
            folder / "refused.txt", [Recorded("a\tb.wav", [Event(0, 1, "x")])], False
        )


@pytest.mark.parametrize("kind", [*QUOTED, "raven", "dcase"])
def test_what_is_no_label_or_no_unicode_is_refused(folder, kind):
    path = folder / f"refused{EVENT_FORMATS[kind].suffix}"
    with pytest.raises(ValueError, match="may not be empty"):
        EVENT_FORMATS[kind].write(path, [Recorded("a.wav", [Event(0, 1, "")])], False)
    with pytest.raises(UserError, match="must be valid Unicode"):
        EVENT_FORMATS[kind].write(path, [Recorded("a.wav", [Event(0, 1, "\ud800")])], False)
    assert not path.exists()


def test_formats_by_name():
    assert list(event_formats("raven, csv")) == ["raven", "csv"]
    with pytest.raises(UserError, match="came as 'ravn'; did you mean 'raven'"):
        event_formats("csv,ravn")
    with pytest.raises(UserError, match="came as ''"):
        event_formats("csv,")
    with pytest.raises(UserError, match="'csv' came twice"):
        event_formats("csv,csv")


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e3)), min_size=1, max_size=6),
    st.integers(0, 10**9),
)
def test_raven_times_run_on_over_files(folder, files, microseconds):
    """Against a sum in exact fractions; the time in the file is that of the event."""
    onset = microseconds / 1e6
    written = [
        Recorded(f"{n}.wav", [Event(onset, onset + length, "x")], None, Path(f"/{n}.wav"), s, 8000)
        for n, (s, length) in enumerate(files)
    ]
    path = folder / "running.txt"
    EVENT_FORMATS["raven"].write(path, written, False)
    table = pandas.read_csv(path, sep="\t")
    before = [math.fsum(s for s, _ in files[:n]) for n in range(len(files))]
    assert table["File Offset (s)"].tolist() == pytest.approx([onset] * len(files), abs=1e-6)
    assert table["Begin Time (s)"].tolist() == pytest.approx(
        [start + onset for start in before], abs=2e-6
    )
    lengths = table["End Time (s)"] - table["Begin Time (s)"]
    assert lengths.tolist() == pytest.approx([length for _, length in files], abs=3e-6)


def test_recordings_without_events_count_in_raven_times(folder):
    path = folder / "gap.txt"
    silent = Recorded("b.wav", [], None, Path("b.wav"), 100.0, 8000)
    last = Recorded("c.wav", [Event(1, 2, "x")], None, Path("c.wav"), 5.0, 8000)
    EVENT_FORMATS["raven"].write(path, [silent, last], False)
    assert pandas.read_csv(path, sep="\t")["Begin Time (s)"].tolist() == [101.0]


FOUND = [
    Recorded("a.wav", [Event(0.5, 1.25, "Käuz", 0.9), Event(2, 3, 'x, "y"', 0.25)], None,
             Path("/data/a.wav"), 10.0, 16_000),
    Recorded("b.wav", [Event(1, 2.5, "=1+1", 1.0)], None, Path("/data/b.wav"), 5.0, 16_000),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("csv", pandas.read_csv),
        ("tsv", lambda path: pandas.read_csv(path, sep="\t")),
        ("json", pandas.read_json),
        ("jsonl", lambda path: pandas.read_json(path, lines=True)),
        ("parquet", pandas.read_parquet),
    ],
)
def test_pandas_reads_what_was_written(folder, kind, read):
    path = folder / f"pandas{EVENT_FORMATS[kind].suffix}"
    EVENT_FORMATS[kind].write(path, FOUND, False)
    table = read(path)
    assert list(table) == ["filename", "onset", "offset", "event_label", "score"]
    rows = [
        [r.filename, e.onset_seconds, e.offset_seconds, e.label, e.score]
        for r in FOUND
        for e in r.events
    ]
    assert table.to_numpy().tolist() == rows


@pytest.mark.parametrize(
    "write",
    [
        lambda table, path: table.to_csv(path.with_suffix(".csv"), index=False),
        lambda table, path: table.to_csv(path.with_suffix(".tsv"), index=False, sep="\t"),
        lambda table, path: table.to_json(path.with_suffix(".json"), orient="records"),
        lambda table, path: table.to_json(path.with_suffix(".json"), orient="records", indent=2),
        lambda table, path: table.to_json(
            path.with_suffix(".ndjson"), orient="records", lines=True
        ),
        lambda table, path: table.to_parquet(path.with_suffix(".PARQUET")),
    ],
)  # fmt: skip
def test_what_pandas_wrote_is_read(tmp_path, write):
    rows = [
        {"filename": r.filename, "onset": e.onset_seconds, "offset": e.offset_seconds,
         "event_label": e.label, "score": e.score}
        for r in FOUND
        for e in r.events
    ]  # fmt: skip
    rows.append({"filename": "c.wav", "onset": None, "offset": None, "event_label": None})
    write(pandas.DataFrame(rows), tmp_path / "table")
    (path,) = tmp_path.iterdir()
    assert read_events(path) == {**{r.filename: r.events for r in FOUND}, "c.wav": []}


def test_crowsetta_reads_our_audacity_tracks(folder):
    path = folder / "crowsetta.txt"
    EVENT_FORMATS["audacity"].write(path, FOUND[:1], False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        track = crowsetta.formats.seq.AudSeq.from_file(path)
        simple = crowsetta.formats.seq.SimpleSeq.from_file(
            path,
            read_csv_kwargs={"sep": "\t", "names": ["onset_s", "offset_s", "label"]},
        )
        annotation = track.to_annot()
    for found in (track.to_seq(), simple.to_seq()):
        assert list(found.labels) == ["Käuz", 'x, "y"']
        assert found.onsets_s.tolist() == [0.5, 2]
        assert found.offsets_s.tolist() == [1.25, 3]
    assert [segment.label for segment in annotation.seq.segments] == ["Käuz", 'x, "y"']


def test_crowsetta_reads_our_raven_tables(folder, tmp_path):
    path = folder / "crowsetta.selections.txt"
    EVENT_FORMATS["raven"].write(path, FOUND, False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        boxes = crowsetta.formats.bbox.Raven.from_file(path, annot_col="Annotation").to_bbox()
        again = tmp_path / "again.txt"
        crowsetta.formats.bbox.Raven.from_file(path).to_file(again)
    assert [(b.label, b.onset, b.offset, b.low_freq, b.high_freq) for b in boxes] == [
        ("Käuz", 0.5, 1.25, 0, 8000),
        ('x, "y"', 2, 3, 0, 8000),
        ("=1+1", 11, 12.5, 0, 8000),
    ]
    assert read_events(again) == read_events(path) == {r.filename: r.events for r in FOUND}


def test_what_audacity_and_raven_wrote_is_read_as_by_crowsetta():
    """The examples that come with crowsetta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(crowsetta.__file__).parent / "examples"
        boxes = crowsetta.formats.bbox.Raven.from_file(
            folder / "Recording_1_Segment_02.Table.1.selections.txt", annot_col="Species"
        ).to_bbox()
        track = crowsetta.formats.seq.AudSeq.from_file(
            folder / "405_marron1_June_14_2016_69640887.audacity.txt"
        )
    read = read_events(folder / "Recording_1_Segment_02.Table.1.selections.txt")
    assert list(read) == ["Recording_1_Segment_02"]
    assert [(e.onset_seconds, e.offset_seconds, e.label) for e in read["Recording_1_Segment_02"]] \
        == sorted((box.onset, box.offset, box.label) for box in boxes)  # fmt: skip
    (events,) = read_events(folder / "405_marron1_June_14_2016_69640887.audacity.txt").values()
    assert [(e.onset_seconds, e.offset_seconds, e.label) for e in events] == list(
        zip(track.start_times, track.end_times, track.labels, strict=True)
    )


def test_clock_times_add_up_over_midnight():
    last = Recorded("a.wav", [], datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert last.clock_time(Event(86_401.2345, 90_000, "x")) == "2025-01-02T00:00:00.234+00:00"
    assert last.start + timedelta(seconds=86_401) == datetime(2025, 1, 2, tzinfo=UTC)


def test_many_events_stream_into_parquet(folder, monkeypatch):
    import pyarrow.parquet

    from earmark.formats import records

    monkeypatch.setattr(records, "_ROWS_AT_ONCE", 3)
    path = folder / "many.parquet"
    EVENT_FORMATS["parquet"].write(
        path, (Recorded(f"{n:02}", [Event(n, n + 1, "x")]) for n in range(10)), False
    )
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 4
    assert len(read_events(path)) == 10


def test_a_list_of_json_is_strict_json(folder):
    path = folder / "strict.json"
    EVENT_FORMATS["json"].write(path, FOUND, False)
    assert [record["filename"] for record in json.loads(path.read_text("utf-8"))] == [
        "a.wav", "a.wav", "b.wav",
    ]  # fmt: skip
