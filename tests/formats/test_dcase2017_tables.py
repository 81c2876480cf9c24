"""The official tables of DCASE 2017 Task 4, what breaks naive readers of them, and submissions."""

import os
import warnings
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.errors import UserError
from earmark.events import Event, in_order
from earmark.formats.dcase2017 import write_dcase2017_events, write_dcase2017_tags
from earmark.formats.labels import read_labels

CLIP, OTHER = "Y-abcdefghij_30.000_40.000.wav", "YYYYYYYYYYYY_0.000_8.500.wav"


@pytest.fixture(scope="module")
def official():
    if "EARMARK_DATA" not in os.environ:
        pytest.skip("set EARMARK_DATA to a folder with dcase2017_task4")
    return Path(os.environ["EARMARK_DATA"]) / "dcase2017_task4"


@pytest.fixture(scope="module")
def training(official):
    return read_labels(official / "training_set.csv")


def strong(official, part):
    return read_labels(official / f"groundtruth_strong_label_{part}_set.csv")


def weak(official, part):
    return read_labels(official / f"groundtruth_weak_label_{part}_set.csv")


def test_the_classes_are_those_of_the_list(official, training):
    lines = (official / "sound_event_list_17_classes.txt").read_text().splitlines()[1:]
    names = sorted(line.split("\t")[-1] for line in lines if line)
    assert list(training.class_names) == names
    assert sum("," in name for name in names) == 2
    for part in ("testing", "evaluation"):
        assert list(weak(official, part).class_names) == names
        assert list(strong(official, part).class_names) == names


def test_clips_are_named_as_the_audio_is(training):
    durations = Counter()
    for row in training.rows:
        start, end = map(float, row.filename[13:].removesuffix(".wav").split("_"))
        durations[round(end - start, 3)] += 1
        assert row.filename == f"Y{row.filename[1:12]}_{start:.3f}_{end:.3f}.wav"
    assert sum(row.filename.startswith("Y-") for row in training.rows) == 1671
    assert min(durations) == 1
    assert sum(n for seconds, n in durations.items() if seconds < 10) == 1070


def test_carriage_returns_are_no_part_of_anything(official, training):
    assert b"\r\n" in (official / "training_set.csv").read_bytes()
    assert b"\r\n" in (official / "groundtruth_strong_label_evaluation_set.csv").read_bytes()
    for table in (training, strong(official, "evaluation"), weak(official, "evaluation")):
        names = [*table.class_names, *(row.filename for row in table.rows)]
        assert not any("\r" in name or name != name.strip() for name in names)


def test_zero_rows_are_no_events_and_their_clips_stay(official):
    for part, rows, empty in (("testing", 36, 11), ("evaluation", 150, 94)):
        path = official / f"groundtruth_strong_label_{part}_set.csv"
        lines = [line.split("\t") for line in path.read_text().splitlines()]
        zeros = {(f"Y{name}", label) for name, onset, end, label in lines if float(end) == 0}
        table = read_labels(path)
        assert table.zero_length_events == rows == sum(float(line[2]) == 0 for line in lines)
        of_file = {row.filename: row for row in table.rows}
        # One clip has a class both as not heard and as heard throughout.
        both = {"Y-oCvKmNbhl0_30.000_40.000.wav"} if part == "testing" else set()
        assert {name for name, label in zeros if label in of_file[name].labels} == both
        assert sum(not row.events for row in table.rows) == empty


def test_overlapping_annotations_come_as_they_are(official):
    """Of one class in one clip: one such pair in test; four in evaluation, one of them the same
    event twice, one with an event within another."""
    found = {}
    for part in ("testing", "evaluation"):
        overlapping = defaultdict(list)
        for row in strong(official, part).rows:
            for a, b in combinations(row.events, 2):
                if a.label == b.label and b.onset_seconds < a.offset_seconds:
                    overlapping[row.filename, a.label].append((a, b))
        found[part] = overlapping
    assert [len(found[part]) for part in ("testing", "evaluation")] == [1, 4]
    pairs = found["evaluation"].values()
    same = [any(a == b for a, b in of_class) for of_class in pairs]
    within = [
        any(a != b and b.offset_seconds <= a.offset_seconds for a, b in of_class)
        for of_class in pairs
    ]
    assert (sum(same), sum(within)) == (1, 1)


def test_the_sets_share_no_clip(official, training):
    names = [{row.filename[1:12] for row in training.rows}]
    names += [{row.filename[1:12] for row in weak(official, p).rows} for p in ("testing",)]
    names += [{row.filename[1:12] for row in weak(official, "evaluation").rows}]
    assert len(set().union(*names)) == sum(map(len, names)) == 51_172 + 488 + 1_103


def test_ground_truths_written_as_submissions_come_back(official, tmp_path):
    for part in ("testing", "evaluation"):
        truth = weak(official, part)
        names = [row.filename for row in truth.rows]
        write_dcase2017_tags(tmp_path / "tags.txt", names, [row.labels for row in truth.rows])
        found = read_labels(tmp_path / "tags.txt")
        assert not found.strong
        assert tags(found) == tags(truth)
        official_lines = official / f"groundtruth_weak_label_{part}_set.csv"
        lines = official_lines.read_text().splitlines()
        assert sorted(set(lines)) == sorted((tmp_path / "tags.txt").read_text().splitlines())
        events = [
            (row.filename, event) for row in strong(official, part).rows for event in row.events
        ]
        write_dcase2017_events(tmp_path / "events.txt", events)
        found = read_labels(tmp_path / "events.txt")
        assert found.strong
        assert {row.filename: row.events for row in found.rows} == {
            row.filename: row.events for row in strong(official, part).rows if row.events
        }


def tags(table):
    return {row.filename: set(row.labels) for row in table.rows}


VIDEOS = st.text(st.sampled_from("Yab_-09"), min_size=11, max_size=11)
CLIPS = st.builds(
    lambda video, start, length: f"Y{video}_{start:.3f}_{start + length:.3f}.wav",
    VIDEOS, st.integers(0, 600), st.integers(1, 10),
)  # fmt: skip
LABELS = st.text(st.sampled_from("ab ,;\"'()"), min_size=1, max_size=6)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(CLIPS, st.frozensets(LABELS, max_size=3), min_size=1, max_size=4))
def test_tags_come_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("tags") / "tags.txt"
    write_dcase2017_tags(path, list(rows), list(rows.values()))
    table = read_labels(path)
    assert not table.strong
    assert tags(table) == rows
    if not any('"' in label or label != label.strip() for label in table.class_names):
        assert as_the_scorer_reads(path.read_text()) == {
            name[1:].removesuffix(".wav"): sorted(labels) for name, labels in rows.items()
        }


def as_the_scorer_reads(text):
    """Labels by clip: the task's own scorer splits lines at tabs, and knows no quotes."""
    labels = {}
    for line in text.splitlines():
        name, _, end, label = line.split("\t")
        assert float(end) != 0
        of_clip = labels.setdefault(name.removesuffix(".wav"), [])
        of_clip += [label.strip()] if label.strip() else []
    return labels


EVENTS = st.builds(
    lambda onset, length, label: Event(onset / 1e6, (onset + length) / 1e6, label),
    st.integers(0, 8_000_000), st.integers(1, 1_900_000), LABELS,
)  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(CLIPS | st.sampled_from(["a.wav", "b/c d.flac", 'e"\t.wav']), EVENTS),
        min_size=1,
        max_size=5,
    )
)
def test_events_come_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("events") / "events.txt"
    write_dcase2017_events(path, rows)
    table = read_labels(path)
    expected = defaultdict(list)
    for filename, event in rows:
        expected[filename].append(event)
    place = [name[13:-4].split("_") for name, _ in rows if len(name) > 20]
    times = [[f"{e.onset_seconds:.3f}", f"{e.offset_seconds:.3f}"] for _, e in rows]
    if place == times:  # Only the places of clips in videos: these are tags.
        return
    assert table.strong
    assert {row.filename: list(row.events) for row in table.rows} == {
        filename: in_order(events) for filename, events in expected.items()
    }


def test_submissions_as_text(tmp_path):
    path = tmp_path / "out.txt"
    rows = [
        (CLIP, Event(0.5, 2, "Car")),
        (CLIP, Event(0, 1 / 3, "Bus", 0.9)),
        ("a.wav", Event(10, 12, "Car")),
        ("a.wav", Event(2, 3, "Car")),
    ]
    write_dcase2017_events(path, rows)
    assert path.read_bytes() == (
        b"-abcdefghij_30.000_40.000.wav\t0.000\t0.333333\tBus\n"
        b"-abcdefghij_30.000_40.000.wav\t0.500\t2.000\tCar\n"
        b"a.wav\t2.000\t3.000\tCar\n"
        b"a.wav\t10.000\t12.000\tCar\n"
    )
    write_dcase2017_events(path, [])
    assert path.read_bytes() == b""
    write_dcase2017_tags(
        path,
        [OTHER, f"evaluation/{CLIP}", "Zabcdefghij_0.000_1.000.flac"],
        [[], ["Car", "Air horn, truck horn"], ["Bus"]],
    )
    assert path.read_bytes() == (
        b"-abcdefghij_30.000_40.000.wav\t30.000\t40.000\tAir horn, truck horn\n"
        b"-abcdefghij_30.000_40.000.wav\t30.000\t40.000\tCar\n"
        b"YYYYYYYYYYY_0.000_8.500.wav\t0.000\t8.500\t\n"
        b"Zabcdefghij_0.000_1.000.wav\t0.000\t1.000\tBus\n"
    )
    assert tags(read_labels(path))[OTHER] == set()


def test_what_a_submission_cannot_say_is_refused(tmp_path):
    path = tmp_path / "out.txt"
    with pytest.raises(UserError, match=r"^tags in the format dcase2017 .* came as 'a.wav'"):
        write_dcase2017_tags(path, [CLIP, "a.wav"], [["Car"], ["Car"]])
    for write in (
        lambda names: write_dcase2017_tags(path, names, [["x"]] * len(names)),
        lambda names: write_dcase2017_events(path, [(name, Event(0, 1, "x")) for name in names]),
    ):
        with pytest.raises(UserError, match=r"would be called '-abc.*': 'a/Y-abc.*' and 'b/Y-abc"):
            write([f"a/{CLIP}", f"b/{CLIP}"])
    with pytest.raises(ValueError, match="label may not be empty"):
        write_dcase2017_tags(path, [CLIP], [["", "x"]])
    assert not path.exists()


def test_other_tools_read_the_events_so(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sed_eval
    rows = [(CLIP, Event(0.5, 2.25, "Air horn, truck horn")), (OTHER, Event(1, 2, "Car"))]
    write_dcase2017_events(tmp_path / "out.txt", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = sed_eval.io.load_event_list(str(tmp_path / "out.txt"))
    assert [(e.filename, e.onset, e.offset, e.event_label) for e in loaded] == [
        ("-abcdefghij_30.000_40.000.wav", 0.5, 2.25, "Air horn, truck horn"),
        ("YYYYYYYYYYY_0.000_8.500.wav", 1, 2, "Car"),
    ]


def test_an_empty_label_of_an_event_is_refused(tmp_path):
    path = tmp_path / "strong.csv"
    path.write_text(f"{CLIP[1:]}\t0\t1\tCar\n{CLIP[1:]}\t1\t2\t\n")
    with pytest.raises(UserError, match="line 2: a row needs a label in column 4"):
        read_labels(path)
