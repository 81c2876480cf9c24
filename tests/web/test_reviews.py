"""What people said: kept whole at any time, and what labels follow from it."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import earmark
from earmark.errors import UserError
from earmark.web.library import Recording
from earmark.web.messages import Reviewed, ReviewEvent
from earmark.web.reviews import (
    Kept,
    OtherVersion,
    Reviews,
    begun,
    write_strong_labels,
    write_weak_labels,
)

CLASSES = ("fox", "owl")


def event(onset: float, offset: float, label: str, state: str, name: str = "") -> dict[str, Any]:
    return {
        "id": name or f"{label}{onset}{state}",
        "onset": onset,
        "offset": offset,
        "label": label,
        "state": state,
        "score": 0.5 if state == "detected" else None,
    }


DETECTED = ReviewEvent.model_validate(event(1, 2, "owl", "detected"))


def kept(seconds: float = 20.0, window: float = 5.0, model: str = "m", **said: Any) -> Kept:
    reviewed = Reviewed.model_validate(said)
    return Kept("a.wav", seconds, model, 1, CLASSES, window, reviewed)


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def weak(tmp_path: Path, *reviews: Kept) -> list[list[str]]:
    write_weak_labels(tmp_path / "weak.tsv", reviews)
    return rows(tmp_path / "weak.tsv")


def strong(tmp_path: Path, *reviews: Kept, whole: bool = False) -> list[list[str]]:
    write_strong_labels(tmp_path / "strong.tsv", reviews, whole=whole)
    return rows(tmp_path / "strong.tsv")


def recording(tmp_path: Path) -> Recording:
    return Recording("0" * 32, "a.wav", tmp_path / "a.wav", None, tmp_path / "kept")


def put(reviews: Reviews, one: Recording, said: Reviewed, version: int) -> int:
    return reviews.put(one, 20.0, "m", CLASSES, 5.0, said, version)


def test_versions(tmp_path: Path) -> None:
    reviews, one = Reviews(tmp_path / "reviews"), recording(tmp_path)
    said = Reviewed.model_validate({"events": [event(0, 1, "owl", "added")]})
    assert reviews.get(one.id) is None
    assert put(reviews, one, said, 0) == 1
    with pytest.raises(OtherVersion) as told:
        put(reviews, one, Reviewed(), 0)
    assert told.value.version == 1
    again = Reviews(tmp_path / "reviews")
    found = again.get(one.id)
    assert found is not None
    assert (found.said, found.version, found.name, found.class_names) == (
        said, 1, "a.wav", CLASSES,
    )  # fmt: skip
    assert put(again, one, Reviewed(), 1) == 2
    again.remove(one.id)
    assert again.version(one.id) == 0


def test_a_review_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    reviews, one = Reviews(tmp_path), recording(tmp_path)
    put(reviews, one, Reviewed(), 0)
    next(tmp_path.glob("*.json")).unlink()
    assert reviews.version(one.id) == 0
    assert put(reviews, one, Reviewed(), 0) == 1


def test_of_many_at_once_one_wins(tmp_path: Path) -> None:
    reviews, one = Reviews(tmp_path), recording(tmp_path)
    won: list[int] = []

    def attempt(number: int) -> None:
        said = Reviewed.model_validate({"events": [event(0, 1, f"owl{number}", "added")]})
        try:
            put(reviews, one, said, 0)
            won.append(number)
        except OtherVersion:
            pass

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = reviews.get(one.id)
    assert found is not None
    assert [e.label for e in found.said.events] == [f"owl{number}" for number in won]


def test_a_damaged_review_is_not_begun_anew(tmp_path: Path) -> None:
    reviews, one = Reviews(tmp_path), recording(tmp_path)
    put(reviews, one, Reviewed(), 0)
    (file,) = tmp_path.glob("*.json")
    file.write_text(file.read_text()[:-9])
    with pytest.raises(UserError, match="can't be read"):
        put(Reviews(tmp_path), one, Reviewed(), 0)


KILLED = """
import sys
from pathlib import Path
from test_reviews import event, put, recording
from earmark.web.messages import Reviewed
from earmark.web.reviews import Reviews

folder = Path(sys.argv[1])
reviews, one = Reviews(folder), recording(folder)
version = reviews.version(one.id)
print("begun", flush=True)
while True:
    events = [event(k, k + 1, f"{version + 1}", "added") for k in range(300)]
    version = put(reviews, one, Reviewed.model_validate({"events": events}), version)
    print(version, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_what_was_kept_outlasts_being_killed(tmp_path: Path) -> None:
    paths = [str(Path(earmark.__file__).parents[1]), str(Path(__file__).parent)]
    last = 0
    for count in (1, 3, 7):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        for _ in range(count):
            last = int(process.stdout.readline())
        process.kill()
        process.communicate()
        found = Reviews(tmp_path).get("0" * 32)
        assert found is not None
        assert found.version >= last
        assert {e.label for e in found.said.events} == {str(found.version)}
        assert len(found.said.events) == 300


def test_another_model_begins_with_what_was_decided() -> None:
    decided = [
        event(1, 2, "owl", "confirmed"),
        event(5, 6, "fox", "deleted"),
        event(8, 9, "owl", "detected"),
    ]
    absent = [{"label": "fox", "start": 16, "end": 17}]
    ten = [{"start": 10, "end": 12}]
    before = kept(events=decided, reviewed=ten, absent=absent, rules={"owl": {}})
    fresh = [
        ReviewEvent.model_validate(event(*times, label, "detected"))
        for *times, label in (
            (1.5, 2.5, "owl"),  # touches one that was confirmed
            (1.5, 2.5, "fox"),
            (5.5, 5.7, "fox"),  # denied
            (10.5, 11, "owl"),  # in what was reviewed
            (11.5, 13, "owl"),
            (15, 18, "fox"),  # not from 16 to 17
        )
    ]
    assert begun("m", before, fresh) == before.said
    assert begun("m", None, fresh).events == fresh
    other = begun("n", before, fresh)
    assert [(e.onset, e.offset, e.label, e.state) for e in other.events] == [
        (1, 2, "owl", "confirmed"),
        (1.5, 2.5, "fox", "detected"),
        (5, 6, "fox", "deleted"),
        (11.5, 13, "owl", "detected"),
        (15, 16, "fox", "detected"),
        (17, 18, "fox", "detected"),
    ]
    assert len({e.id for e in other.events}) == 6
    assert (other.reviewed, other.rules) == (before.said.reviewed, {})


def test_nobody_looked_for_the_classes_of_a_later_model(tmp_path: Path) -> None:
    """Neither is a class absent that only it knows, nor are its own events of it hidden."""
    reviews, one = Reviews(tmp_path / "reviews"), recording(tmp_path)

    def keep(version: int, class_names: tuple[str, ...], **said: Any) -> Kept:
        told = Reviewed.model_validate(said)
        reviews.put(one, 20.0, "/".join(class_names), class_names, 5.0, told, version)
        found = reviews.get(one.id)
        assert found is not None
        return found

    ten = [{"start": 0, "end": 10}]
    first = keep(0, ("dog",), reviewed=ten)
    fresh = [ReviewEvent.model_validate(event(2, 4, label, "detected")) for label in ("cat", "dog")]
    assert [e.label for e in begun("cat/dog", first, fresh).events] == ["cat"]
    both = ("cat", "dog")
    added = [event(12, 13, "cat", "added"), event(3, 4, "cat", "deleted")]
    second = keep(1, both, reviewed=ten, events=added)
    assert weak(tmp_path, second) == [
        ["a.wav", "0.000", "5.000", "", "dog"],
        ["a.wav", "3.000", "4.000", "", "cat"],
        ["a.wav", "5.000", "10.000", "", "dog"],
        ["a.wav", "12.000", "13.000", "cat", ""],
    ]
    third = keep(2, both, reviewed=[{"start": 0, "end": 20}])
    assert third.class_names == ("dog",)
    assert keep(3, both).class_names == ("dog",)
    assert keep(4, both, reviewed=ten).class_names == both
    # What was looked for in all that is reviewed stays known under a model that knows less.
    assert keep(5, ("dog",), reviewed=[{"start": 1, "end": 9}]).class_names == both
    assert keep(6, ("dog",), reviewed=ten).class_names == ("dog",)
    # ... unless what was decided of it goes, as nobody saw that.
    assert keep(7, both, reviewed=[]).class_names == ("dog",)
    assert keep(8, both, reviewed=ten, events=added).class_names == both
    assert keep(9, ("dog",), reviewed=ten, events=added).class_names == both
    assert keep(10, ("dog",), reviewed=ten, events=added[:1]).class_names == ("dog",)


def test_an_undecided_event_that_reaches_in_denies_nothing(tmp_path: Path) -> None:
    review = kept(
        events=[event(9.5, 20, "owl", "detected"), event(3, 4, "fox", "detected")],
        reviewed=[{"start": 0, "end": 10}],
    )
    assert weak(tmp_path, review) == [
        ["a.wav", "0.000", "5.000", "", "owl"],
        ["a.wav", "5.000", "10.000", "", "fox"],
    ]


def test_labels_of_stretches_that_were_reviewed(tmp_path: Path) -> None:
    review = kept(
        events=[
            event(1, 2, "owl", "confirmed"),
            event(9.95, 12, "fox", "corrected"),
        ],
        reviewed=[{"start": 0, "end": 6}, {"start": 6, "end": 10}],
    )
    assert weak(tmp_path, review) == [
        ["a.wav", "0.000", "5.000", "owl", "fox"],
        ["a.wav", "5.000", "10.000", "", "owl"],  # 0.05 s of a fox: who knows
        ["a.wav", "9.950", "12.000", "fox", ""],
    ]
    assert strong(tmp_path, review) == [
        ["a.wav", "1.000", "2.000", "owl"],
        ["a.wav", "9.950", "12.000", "fox"],
    ]
    assert strong(tmp_path, review, whole=True) == []


def test_labels_of_single_events(tmp_path: Path) -> None:
    review = kept(
        events=[
            event(1, 2, "owl", "added"),
            event(3, 4, "owl", "deleted"),
            event(5, 6, "owl", "detected"),
            event(12.5, 13.5, "elk", "confirmed"),
        ],
        absent=[
            {"label": "elk", "start": 11, "end": 14},
            {"label": "fox", "start": 1, "end": 2},
            {"label": "owl", "start": 2.5, "end": 3.5},  # with what was denied one part
        ],
    )
    assert weak(tmp_path, review) == [
        ["a.wav", "1.000", "2.000", "owl", "fox"],
        ["a.wav", "2.500", "4.000", "", "owl"],
        ["a.wav", "11.000", "12.500", "", "elk"],
        ["a.wav", "12.500", "13.500", "elk", ""],
        ["a.wav", "13.500", "14.000", "", "elk"],
    ]


def test_a_recording_in_which_nothing_sounds(tmp_path: Path) -> None:
    silent = kept(seconds=5, reviewed=[{"start": 0, "end": 5}])
    assert strong(tmp_path, silent, whole=True) == [["a.wav", "", "", ""]]
    assert weak(tmp_path, silent) == [["a.wav", "0.000", "5.000", "", "fox,owl"]]
    assert strong(tmp_path, kept()) == weak(tmp_path, kept()) == []
    # Nothing is whole in which somebody has to decide yet.
    undecided = replace(silent, said=silent.said.model_copy(update={"events": [DETECTED]}))
    assert strong(tmp_path, undecided, whole=True) == strong(tmp_path, undecided) == []


def test_whole_is_what_was_looked_through_for_all_classes(tmp_path: Path) -> None:
    all_of_it = [{"start": 0, "end": 20}]
    one = replace(kept(reviewed=all_of_it), name="one.wav", class_names=("fox",))
    both = kept(reviewed=all_of_it, events=[event(1, 2, "owl", "added")])
    part = replace(kept(reviewed=[{"start": 0, "end": 1}]), class_names=("elk",))
    assert strong(tmp_path, one, part, whole=True) == [["one.wav", "", "", ""]]
    owl = ["a.wav", "1.000", "2.000", "owl"]
    assert strong(tmp_path, one, both, whole=True) == [owl]
    assert strong(tmp_path, one, both) == [["one.wav", "", "", ""], owl]


times = st.integers(0, 40).map(lambda step: step / 2)
stretches = st.tuples(times, times).map(sorted).filter(lambda both: both[0] < both[1])
states = st.sampled_from(["detected", "confirmed", "corrected", "added", "deleted"])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(stretches, st.sampled_from(CLASSES), states), max_size=5),
    st.lists(st.tuples(stretches, st.sampled_from(CLASSES)), max_size=3),
    st.lists(stretches, max_size=3),
)
def test_weak_labels_say_nothing_that_was_not_said(
    tmp_path_factory: pytest.TempPathFactory, events: Any, absent: Any, reviewed: Any
) -> None:
    review = kept(
        events=[
            event(*span, label, state, str(n)) for n, (span, label, state) in enumerate(events)
        ],
        absent=[{"label": label, "start": a, "end": b} for (a, b), label in absent],
        reviewed=[{"start": a, "end": b} for a, b in reviewed],
    )
    true = [(span, label) for span, label, state in events if state not in ("deleted", "detected")]
    for _, start, end, present, missing in weak(tmp_path_factory.mktemp("weak"), review):
        first, last = float(start), float(end)
        for label in filter(None, present.split(",")):
            assert any(name == label and min(b, last) - max(a, first) > 0 for (a, b), name in true)
        # Looked at every quarter of a second, which no time falls on.
        inside = [t for t in (n / 2 + 0.25 for n in range(40)) if first < t < last]
        for label in filter(None, missing.split(",")):
            for t in inside:
                assert not any(name == label and a < t < b for (a, b), name in true)
                denied = [s for s, name, state in events if name == label and state == "deleted"]
                denied += [span for span, name in absent if name == label]
                undecided = [s for s, name, state in events if (name, state) == (label, "detected")]
                # What nobody decided on is denied by no review.
                looked = [] if any(a < t < b for a, b in undecided) else reviewed
                assert any(a < t < b for a, b in [*denied, *looked])


def test_what_is_kept_is_plain_json(tmp_path: Path) -> None:
    put(Reviews(tmp_path), recording(tmp_path), Reviewed(), 0)
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text())["said"] == {
        "events": [], "absent": [], "reviewed": [], "rules": {}
    }  # fmt: skip
