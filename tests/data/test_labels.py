"""Labels find their audio, and clips are split without sharing a source."""

from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from earmark.data.labels import Clip, find_clips, split
from earmark.errors import UserError
from earmark.formats.label_table import LabelRow, LabelTable

TABLE = Path("labels.tsv")


@pytest.fixture
def audio(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def table(*rows):
    rows = [row if isinstance(row, LabelRow) else LabelRow(row, frozenset("x")) for row in rows]
    rows = [replace(row, line=line) for line, row in enumerate(rows, start=2)]
    return LabelTable(TABLE, tuple(rows), ("x",))


def test_a_filename_matches_the_end_of_a_path(audio):
    folder = audio("a/b/c.wav", "a/bb/d.wav", "a/xb/e.flac", "f.wav")
    clips, missing = find_clips(
        table("b/c.wav", "d.wav", "./f.wav", "b/d.wav", "b/e.flac", "e.wav", "c.wav/f.wav"), folder
    )
    assert [(clip.filename, clip.path) for clip in clips] == [
        ("b/c.wav", folder / "a/b/c.wav"),
        ("d.wav", folder / "a/bb/d.wav"),
        ("./f.wav", folder / "f.wav"),
    ]
    assert missing == ["b/d.wav", "b/e.flac", "e.wav", "c.wav/f.wav"]


def test_a_clip_keeps_what_its_row_says(audio):
    folder = audio("a.wav")
    rows = [
        LabelRow("a.wav", frozenset("x"), 0.0, 1.0, None, "g"),
        LabelRow("a.wav", frozenset("y"), 1.0, 2.0, (), "g"),
    ]
    clips, missing = find_clips(table(*rows), folder)
    assert not missing
    assert clips == [
        Clip(folder / "a.wav", "a.wav", 0.0, 1.0, frozenset("x"), None, "g"),
        Clip(folder / "a.wav", "a.wav", 1.0, 2.0, frozenset("y"), (), "g"),
    ]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from("ab"), min_size=1, max_size=4),
    st.lists(st.sampled_from(["a", "b", ".", "..", ""]), min_size=1, max_size=4),
)
def test_matching_is_that_of_path_ends(tmp_path_factory, stored, named):
    folder = tmp_path_factory.mktemp("audio")
    path = folder.joinpath(*stored[:-1], stored[-1] + ".wav")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    (folder / "other.wav").touch()
    filename = "/".join(named) + ".wav"
    parts = PurePosixPath(filename).parts
    expected = path.relative_to(folder).parts[-len(parts) :] == parts and ".." not in parts
    clips, missing = find_clips(table(filename, "other.wav"), folder)
    assert ([clip.path for clip in clips] == [path, folder / "other.wav"]) == expected
    assert (missing == [filename]) == (not expected)


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        ("x/a.wav", "x\\a.wav"),
        ("a\\b.wav", "a\\b.wav"),
        ("cafe\u0301/a.wav", "caf\xe9/a.wav"),
        ("caf\xe9.wav", "cafe\u0301.wav"),
        ("y/caf\xe9.wav", "y\\cafe\u0301.wav"),
    ],
)
def test_names_from_windows_and_macos_find_their_files(audio, stored, named):
    folder = audio(stored, "other.wav")
    clips, missing = find_clips(table(named), folder)
    assert [(clip.filename, clip.path) for clip in clips] == [(named, folder / stored)]
    assert not missing


def test_filenames_stay_in_the_folder(audio):
    folder = audio("outside.wav", "in/a.wav")
    clips, missing = find_clips(
        table(
            *("a.wav", "../outside.wav", str(folder / "in/a.wav"), "/a.wav", "in/../a.wav", ".."),
            *("..\\outside.wav", "\\a.wav", "C:\\a.wav"),
        ),
        folder / "in",
    )
    assert [clip.filename for clip in clips] == ["a.wav"]
    assert len(missing) == 8


def test_two_matches_are_named(audio):
    folder = audio("x/a.wav", "y/a.wav")
    with pytest.raises(UserError, match=r"labels.tsv, line 2: .*x/a.wav and .*y/a.wav"):
        find_clips(table("a.wav"), folder)
    assert len(find_clips(table("x/a.wav", "y/a.wav"), folder)[0]) == 2


def test_two_names_of_one_recording_are_refused(audio):
    with pytest.raises(UserError, match=r"line 3: .*'a.wav' and 'x/a.wav' both match"):
        find_clips(table("a.wav", "x/a.wav"), audio("x/a.wav"))


def test_no_match_shows_both_sides(audio):
    folder = audio("a.flac", "b.flac", "c.flac")
    with pytest.raises(UserError, match=r"'a.wav' and 'b.wav', .* 'a.flac' and 'b.flac'"):
        find_clips(table("a.wav", "b.wav", "c.wav"), folder)
    with pytest.raises(UserError, match="the table has no rows"):
        find_clips(table(), folder)


def clip(name, labels="", group=None, start=None):
    stop = None if start is None else start + 1.0
    return Clip(Path("audio") / name, name, start, stop, frozenset(labels), None, group)


CLIPS = st.lists(
    st.tuples(st.integers(0, 12), st.sets(st.sampled_from("abcd")), st.sampled_from([None, "g"])),
    min_size=2,
    max_size=40,
).map(
    lambda rows: [
        clip(f"{name}.wav", labels, group and group + str(name % 4), float(start))
        for start, (name, labels, group) in enumerate(rows)
    ]
)


def unit(of):
    return of.group or of.path


@settings(deadline=None, max_examples=150)
@given(CLIPS, st.floats(0.01, 0.9), st.integers(0, 5))
def test_a_split_parts_no_source_and_leaves_each_class_in_training(clips, fraction, seed):
    try:
        training, validation = split(clips, fraction, seed)
    except UserError:
        # Nothing may be taken: without any one unit a class would be gone.
        units = {unit(of) for of in clips}
        assert len(units) < 2 or all(losses(clips, {name}) for name in units)
        return
    assert Counter(training + validation) == Counter(clips)
    assert validation
    assert not {unit(of) for of in training} & {unit(of) for of in validation}
    assert not losses(clips, {unit(of) for of in validation})
    assert training == [of for of in clips if of in training]
    reordered = split(clips[::-1], fraction, seed)
    assert [set(part) for part in reordered] == [set(training), set(validation)]
    moved = [replace(of, path=Path("elsewhere") / of.filename) for of in clips]
    assert [of.filename for of in split(moved, fraction, seed)[1]] == [
        of.filename for of in validation
    ]


def losses(clips, taken):
    kept = [of for of in clips if unit(of) not in taken]
    return {label for of in clips for label in of.labels or " "} - {
        label for of in kept for label in of.labels or " "
    }


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sets(st.sampled_from("abcdef")), min_size=40, max_size=120),
    st.floats(0.1, 0.5),
    st.integers(0, 5),
)
def test_single_clips_are_split_to_the_size_and_by_class(label_sets, fraction, seed):
    clips = [clip(f"{index}.wav", labels) for index, labels in enumerate(label_sets)]
    counts = Counter(label for of in clips for label in of.labels or " ")
    assume(min(counts.values()) >= 3)
    validation = split(clips, fraction, seed)[1]
    assert abs(len(validation) - fraction * len(clips)) <= 0.5 + 1e-6
    found = Counter(label for of in validation for label in of.labels or " ")
    # Never further off, over all classes, than clips drawn at random are on average.
    off = sum((found[label] - fraction * count) ** 2 for label, count in counts.items())
    assert off <= sum(count * fraction * (1 - fraction) for count in counts.values())


def test_many_rare_classes_still_give_the_fraction():
    clips = [clip(f"{index}.wav", [f"class {index // 2}"]) for index in range(100)]
    training, validation = split(clips, 0.2, 0)
    assert len(validation) == 20
    assert len({label for of in training for label in of.labels}) == 50


@pytest.fixture
def placed(monkeypatch):
    """How many clips of each class are for validation before sizes are repaired."""
    monkeypatch.setattr("earmark.data.labels._Division.repair", lambda self: None)

    def count(label_sets, fraction):
        clips = [clip(f"{index}.wav", labels) for index, labels in enumerate(label_sets)]
        return Counter(label for of in split(clips, fraction, 0)[1] for label in of.labels)

    return count


def test_placing_alone_spreads_classes_by_their_share(placed):
    found = placed(["aaaabbbccd"[index % 10] for index in range(190)], 0.3)
    for label, count in {"a": 76, "b": 57, "c": 38, "d": 19}.items():
        assert abs(found[label] - 0.3 * count) <= 1


def test_rounding_does_not_add_up_over_rare_classes(placed):
    found = placed([[f"rare {index // 2}"] for index in range(100)], 0.2)
    assert abs(found.total() - 20) <= 1
    assert max(found.values()) == 1


def test_free_clips_make_up_for_those_bound_to_training(placed):
    bound = [["b", f"only {index}"] for index in range(30)]
    assert placed([*bound, *(["b"] for _ in range(30))], 0.5) == {"b": 30}


def test_groups_of_unequal_size_come_as_near_as_one_move_can():
    sizes = {"g1": 40, "g2": 30, "g3": 20, "g4": 10}
    clips = [
        clip(f"{group}-{index}.wav", "x", group)
        for group, size in sizes.items()
        for index in range(size)
    ]
    for seed in range(8):
        assert len(split(clips, 0.2, seed)[1]) == 20


def test_seeds_differ_and_repeat():
    clips = [clip(f"{index}.wav", "xy"[index % 2]) for index in range(40)]
    assert split(clips, 0.25, 1) == split(clips, 0.25, 1)
    assert split(clips, 0.25, 1) != split(clips, 0.25, 2)


def test_no_fraction_no_validation():
    clips = [clip("a.wav", "x")]
    assert split(clips, 0, 0) == (clips, [])


@pytest.mark.parametrize(
    ("clips", "complaint"),
    [
        ([clip("a.wav", "x", "g"), clip("b.wav", "x", "g")], "all are of 'g'"),
        ([clip("a.wav", "x", start=0.0), clip("a.wav", "x", start=1.0)], "all are of 'a.wav'"),
        ([clip("a.wav", "x"), clip("b.wav", "y")], "without taking a class's last one"),
        ([], "there are none"),
    ],
)
def test_a_split_that_cant_be_says_what_to_do(clips, complaint):
    with pytest.raises(UserError, match=rf"{complaint}.*set the fraction to 0"):
        split(clips, 0.2, 0)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_is_below_one(fraction):
    with pytest.raises(UserError, match="must be in"):
        split([clip("a.wav"), clip("b.wav")], fraction, 0)
