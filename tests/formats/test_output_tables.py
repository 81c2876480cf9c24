"""Events, tags, scores, durations and sounds: what is written is read back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.errors import UserError
from earmark.events import Event, in_order
from earmark.formats.durations import read_durations, write_durations
from earmark.formats.events import read_events, write_events
from earmark.formats.labels import read_labels
from earmark.formats.scores import read_scores, write_scores
from earmark.formats.sounds import read_sounds
from earmark.formats.tags import read_tags, write_tags
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock

NAMES = st.text(min_size=1, max_size=6) | st.text(
    st.sampled_from("ab =+@;\"',\t\n\r\\"), min_size=1, max_size=6
)
EVENTS = st.builds(
    lambda onset, length, label, score: Event(
        onset / 1e6, (onset + length) / 1e6, label, None if score is None else score / 1e4
    ),
    st.integers(0, 10**11),
    st.integers(1, 10**8),
    NAMES,
    st.none() | st.integers(0, 10**4),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs") / "table.csv"


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(NAMES, EVENTS), max_size=6))
def test_events_come_back(path, rows):
    write_events(path, rows)
    events = read_events(path)
    assert list(events) == sorted({filename for filename, _ in rows})
    for filename, found in events.items():
        expected = in_order(event for name, event in rows if name == filename)
        key = repr
        assert sorted(found, key=key) == sorted(expected, key=key)
        assert in_order(found) == found


def test_events_as_text(path):
    write_events(
        path,
        [
            ("b", Event(1, 2, "x", 0.87654)),
            ("a", Event(0.0415, 1 / 3, "=1,2")),
            ("b", Event(0, 1, "y")),
        ],
    )
    assert path.read_bytes() == (
        b"filename,onset,offset,event_label,score\n"
        b'a,0.0415,0.333333,"=1,2",\nb,0.000,1.000,y,\nb,1.000,2.000,x,0.8765\n'
    )
    write_events(path, [])
    assert path.read_bytes() == b"filename,onset,offset,event_label,score\n"
    assert read_events(path) == {}


def test_events_of_a_strong_tsv(path):
    path.write_text("filename\tonset\toffset\tevent_label\na\t\t\t\nb\t0\t0\tx\nb\t1\t2\tx\n")
    assert read_events(path) == {"a": [], "b": [Event(1, 2, "x")]}


def test_neighbouring_frames_stay_apart_and_touch(path):
    clock = FrameClock(400_000, 2, 1)
    edges = clock.edges_seconds(3, first=10**9)
    write_events(path, [("a", Event(edges[t], edges[t + 1], "x")) for t in range(3)])
    first, second, third = read_events(path)["a"]
    assert first.offset_seconds == second.onset_seconds < second.offset_seconds
    assert second.offset_seconds == third.onset_seconds


@settings(deadline=None, max_examples=100)
@given(
    st.lists(NAMES, unique=True, max_size=4), st.lists(NAMES, unique=True, max_size=4), st.data()
)
def test_tags_come_back(path, filenames, class_names, data):
    cells = st.integers(0, 10**6)
    shape = (len(filenames), len(class_names))
    values = data.draw(st.lists(cells, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    probabilities = np.array(values, dtype=float).reshape(shape) / 1e6
    write_tags(path, filenames, class_names, probabilities)
    names, classes, found = read_tags(path)
    assert names == sorted(filenames)
    assert classes == tuple(class_names)
    order = sorted(range(len(filenames)), key=lambda index: filenames[index])
    assert np.array_equal(found, probabilities[order])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("filename,x\na,1.5\n", r"line 2: column 'x' must be in \[0, 1\]"),
        ("filename,x\na,\n", "line 2: column 'x' must be a finite number"),
        ("filename,x\na,1\na,0\n", "line 3: a file may have one row"),
        ("file,x\na,1\n", "must be 'filename'"),
        ("filename,x,x\na,1,1\n", "name of its own"),
    ],
)
def test_wrong_tags(path, text, complaint):
    path.write_text(text)
    with pytest.raises(UserError, match=complaint):
        read_tags(path)


def test_tags_need_the_shape_of_their_names(path):
    with pytest.raises(ValueError, match=r"must be \(1, 2\)"):
        write_tags(path, ["a"], ["x", "y"], np.zeros((2, 2)))


def track(frames, class_names, seed=0, **where):
    values = np.random.default_rng(seed).random((frames, len(class_names)), dtype=np.float32)
    return ScoreTrack(values, class_names, FrameClock(16_000, 1024, 664), **where)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.lists(NAMES, unique=True, max_size=3))
def test_scores_come_back(path, frames, class_names):
    scores = track(frames, tuple(class_names), end_seconds=frames * 0.05)
    write_scores(path, scores)
    edges, classes, probabilities = read_scores(path)
    assert classes == scores.class_names
    assert np.array_equal(probabilities.astype(np.float32), scores.probabilities)
    assert np.allclose(edges, scores.edges_seconds, rtol=0, atol=1e-6)


def test_blocks_of_scores_are_the_whole(path, tmp_path):
    whole = track(7, ("x", "y"), end_seconds=0.3)
    blocks = (
        ScoreTrack(
            whole.probabilities[start : start + 3],
            whole.class_names,
            whole.clock,
            start,
            0.3 if start == 6 else None,
        )
        for start in (0, 3, 6)
    )
    write_scores(path, blocks)
    write_scores(tmp_path / "whole.tsv", whole)
    assert path.read_bytes() == (tmp_path / "whole.tsv").read_bytes()
    assert path.read_text().startswith("onset\toffset\tx\ty\n0.000000\t0.052750\t0.")
    with pytest.raises(ValueError, match="at least one block"):
        write_scores(path, [])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("onset\toffset\tx\n0\t1\t0\n1.1\t2\t0\n", "line 3: a frame must start"),
        ("onset\toffset\tx\n0\t1\tnan\n", "line 2: column 'x'"),
        ("onset\tx\n0\t1\n", "must start with the columns onset and offset"),
        ("onset\n0\n", "must start with the columns onset and offset"),
    ],
)
def test_wrong_scores(path, text, complaint):
    path.write_text(text)
    with pytest.raises(UserError, match=complaint):
        read_scores(path)


def test_scores_without_frames(path):
    write_scores(path, track(0, ("x",)))
    edges, classes, probabilities = read_scores(path)
    assert edges.tolist() == [0]
    assert classes == ("x",)
    assert probabilities.shape == (0, 1)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(NAMES, st.integers(0, 10**12).map(lambda n: n / 1e6), max_size=4))
def test_durations_come_back(path, durations):
    write_durations(path, durations)
    assert read_durations(path) == durations


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [("a,1\na,1\n", "line 3: .*'a' has two"), ("a,-1\n", "at least 0"), ("a,x\n", "finite")],
)
def test_wrong_durations(path, rows, complaint):
    path.write_text(f"filename,duration\n{rows}")
    with pytest.raises(UserError, match=complaint):
        read_durations(path)


def test_sounds(path):
    path.write_text(
        "file,class,fold,active_start_s,active_end_s,other\r\nd/1.ogg,dog,2,0.5,1,x\r\n2.ogg,cat,,,,\r\n"
    )
    first, second = read_sounds(path)
    assert (first.filename, first.label, first.group, first.fold) == ("d/1.ogg", "dog", None, "2")
    assert (first.active_start_seconds, first.active_end_seconds, first.line) == (0.5, 1.0, 2)
    assert (second.fold, second.active_start_seconds, second.active_end_seconds) == (None,) * 3
    path.write_text("filename\tevent_label\tgroup\na\tdog\tg\n")
    assert read_sounds(path)[0].group == "g"


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("a,,0,1", "line 2: a sound needs a category"),
        ("a,x,1,1", "line 2: a sound must end after"),
        ("a,x,,0", "line 2: a sound must end after"),
        (",x,0,1", "line 2: a row needs a file name"),
    ],
)
def test_wrong_sounds(path, row, complaint):
    path.write_text(f"filename,category,active_start_s,active_end_s\n{row}\n")
    with pytest.raises(UserError, match=complaint):
        read_sounds(path)


def test_an_events_table_is_a_strong_table_of_labels(path):
    write_events(path, [("a", Event(1, 2, "x", 0.5))])
    assert read_labels(path).rows[0].events == (Event(1, 2, "x", 0.5),)
