"""Intersection-based scores against sets of time units, psds_eval's numbers, and properties."""

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.events import Event
from earmark.metrics.intersections import IntersectionEvidence, intersection_scores

NAMES = ("bell", "car", "dog")
UNIT = 0.05
GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden/psds_eval_scores.json").read_text(encoding="utf-8")
)


@st.composite
def unit_events(draw):
    """Onset and offset in units, and label; at times without length."""
    onset, length = draw(st.integers(0, 60)), draw(st.integers(0, 40))
    return onset, onset + length, draw(st.sampled_from(NAMES))


clips = st.dictionaries(st.sampled_from("abcd"), st.lists(unit_events(), max_size=6), max_size=4)
parts = st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0])


@st.composite
def pairs(draw):
    """A reference, and an estimate that may leave clips out."""
    reference = draw(clips)
    return reference, {c: found for c, found in draw(clips).items() if c in reference}


def in_seconds(side):
    return {
        clip: [Event(on * UNIT, off * UNIT, label) for on, off, label in events]
        for clip, events in side.items()
    }


def spans_of(events, name):
    """The events of a class as sets of units, those that overlap or touch as one."""
    spans = []
    for unit in sorted({t for on, off, label in events if label == name for t in range(on, off)}):
        if spans and unit - 1 in spans[-1]:
            spans[-1].add(unit)
        else:
            spans.append({unit})
    return spans


def judged(wanted, found, dtc, gtc):
    """How many of the wanted sets are hit, and the found ones that are wrong."""
    dtc, gtc = Fraction(str(dtc)), Fraction(str(gtc))
    right = [f for f in found if len(f & set().union(*wanted)) >= dtc * len(f)]
    hit = [w for w in wanted if len(w & set().union(*right)) >= gtc * len(w)]
    return len(hit), [f for f in found if f not in right]


def by_sets(reference, estimate, dtc, gtc):
    """TP, FP, FN per class."""
    counts = np.zeros((3, len(NAMES)), int)
    for clip, events in reference.items():
        for k, name in enumerate(NAMES):
            wanted = spans_of(events, name)
            hits, wrong = judged(wanted, spans_of(estimate.get(clip, ()), name), dtc, gtc)
            counts[:, k] += hits, len(wrong), len(wanted) - hits
    return counts.tolist()


def numbers(scores):
    return [count.tolist() for count in (scores.counts.tp, scores.counts.fp, scores.counts.fn)]


@settings(deadline=None, max_examples=150)
@given(pairs(), parts, parts)
def test_scores_equal_their_slow_twin(pair, dtc, gtc):
    scores = intersection_scores(*map(in_seconds, pair), NAMES, dtc, gtc)
    assert numbers(scores) == by_sets(*pair, dtc, gtc)


@settings(deadline=None, max_examples=40)
@given(pairs(), st.data())
def test_weights_are_repeated_clips(pair, data):
    sides = [in_seconds(side) for side in pair]
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(pair[0]), max_size=len(pair[0])))
    evidence = IntersectionEvidence(*sides, NAMES, 0.5, 0.5)
    assert evidence.clips == len(pair[0])
    times = dict(zip(pair[0], weights, strict=True))
    repeated = [
        {f"{c}{i}": events for c, events in side.items() for i in range(times[c])} for side in sides
    ]
    drawn = evidence.scores(np.array(weights, np.int64))
    assert numbers(drawn) == numbers(intersection_scores(*repeated, NAMES))


@settings(deadline=None, max_examples=30)
@given(pairs(), st.permutations(range(len(NAMES))))
def test_order_of_clips_events_and_classes_does_not_matter(pair, order):
    one = intersection_scores(*map(in_seconds, pair), NAMES)
    shuffled = [{c: side[c][::-1] for c in sorted(side, reverse=True)} for side in pair]
    other = intersection_scores(*map(in_seconds, shuffled), [NAMES[k] for k in order])
    assert other.counts.tp.tolist() == one.counts.tp[order].tolist()
    assert other.counts.fp.tolist() == one.counts.fp[order].tolist()


@settings(deadline=None, max_examples=30)
@given(clips)
def test_events_against_themselves_are_perfect(reference):
    truth = in_seconds(reference)
    scores = intersection_scores(truth, truth, NAMES, 1.0, 1.0)
    assert scores.overall.f1 == (1 if scores.overall.n_reference else 0)


@pytest.mark.parametrize("case", GOLDEN["cases"])
@pytest.mark.parametrize("scenario", GOLDEN["scenarios"])
def test_class_values_equal_psds_eval(case, scenario):
    asked, wanted = GOLDEN["scenarios"][scenario], case["results"][scenario]
    reference = {
        clip: [Event(*e) for e in case["reference"].get(clip, ())] for clip in case["durations"]
    }
    for point, f1, mean in zip(
        case["operating_points"], wanted["class_f1"], wanted["macro_f1"], strict=True
    ):
        estimate = {clip: [Event(*e) for e in events] for clip, events in point.items()}
        scores = intersection_scores(
            reference, estimate, GOLDEN["class_names"], asked["dtc"], asked["gtc"]
        )
        assert scores.counts.f1 == pytest.approx(f1, abs=1e-9)
        assert scores.macro_f1 == pytest.approx(mean, abs=1e-9)


def car(*times):
    return {"clip": [Event(onset, offset, "car") for onset, offset in times]}


def test_parts_add_up_on_both_sides():
    # Two reference events cover 0.7 of one estimate; two estimates cover 0.7 of one reference.
    scores = intersection_scores(car((0, 3), (4, 8)), car((0, 10)), ["car"], 0.7, 1.0)
    assert (scores.counts.tp, scores.counts.fp) == (2, 0)
    scores = intersection_scores(car((0, 10)), car((0, 3), (4, 8)), ["car"], 1.0, 0.7)
    assert (scores.counts.tp, scores.counts.fp) == (1, 0)
    # An estimate that isn't right adds nothing.
    scores = intersection_scores(car((0, 10)), car((0, 6), (9, 20)), ["car"], 0.5, 0.7)
    assert (scores.counts.tp, scores.counts.fp, scores.counts.fn) == (0, 1, 1)


def test_floating_point_does_not_decide():
    # 0.3 - 0.1 is less than 0.2, so that psds_eval would see less than half of 0.4 covered.
    assert 0.3 - 0.1 < 0.2
    assert intersection_scores(car((0.1, 0.3)), car((0.1, 0.5)), ["car"]).counts.tp == 1
    missing = intersection_scores(car((0.1, 0.3)), car((0.1, 0.5 + 1e-7)), ["car"])
    assert (missing.counts.tp, missing.counts.fp) == (0, 1)


def test_touching_and_overlapping_events_are_one_and_zero_length_ones_none():
    truth = car((0, 2), (2, 4), (3, 5), (7, 7), (0, 0))
    assert intersection_scores(truth, {}, ["car"]).counts.n_reference == 1
    assert intersection_scores(truth, car((0, 5), (6, 6)), ["car"], 1, 1).overall.f1 == 1
    # Events of different clips never are, though one ends where the next clip begins.
    clips = {"a": [Event(0, 5, "car")], "b": [Event(0, 5, "car")]}
    assert intersection_scores(clips, clips, ["car"], 1, 1).counts.tp == 2


def test_edges_of_an_empty_side():
    assert intersection_scores({}, {}, NAMES).overall.f1 == 0
    assert intersection_scores({"a": []}, {}, []).overall.f1 == 0
    nothing = intersection_scores({"clip": []}, car((0, 2)), NAMES)
    assert nothing.counts.fp.tolist() == [0, 1, 0]
    assert nothing.macro_f1 == 0
    # A class with nothing on either side counts 0 in the mean, where psds_eval leaves it out.
    assert intersection_scores(car((0, 2)), car((0, 2)), NAMES).macro_f1 == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"label": "cat"}, "isn't a class"),
        ({"onset_seconds": -1.0}, "at 0 or later"),
        ({"onset_seconds": math.nan}, "at 0 or later"),
        ({"onset_seconds": 2.0}, "before they start"),
        ({"offset_seconds": math.inf}, "end before"),
        ({"offset_seconds": 1e300}, "end before"),
        ({"offset_seconds": 2e8}, "all clips together"),
    ],
)
def test_events_that_cannot_be_scored_are_refused(change, complaint):
    odd = {"clip": [replace(Event(0.0, 1.0, "car"), **change)], "b": [Event(0, 2e8, "car")]}
    for sides in ((odd, {}), (car((0, 1)) | {"b": []}, odd)):
        with pytest.raises(ValueError, match=complaint):
            intersection_scores(*sides, NAMES)


def test_a_strange_clip_a_criterion_out_of_range_and_odd_weights_are_refused():
    with pytest.raises(ValueError, match="isn't in the reference"):
        intersection_scores({}, car((0, 1)), NAMES)
    for part in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="dtc must be above 0"):
            intersection_scores({}, {}, NAMES, dtc=part)
        with pytest.raises(ValueError, match="gtc must be above 0"):
            intersection_scores({}, {}, NAMES, gtc=part)
    for weights in ([1, 1], [-1], [0.5]):
        with pytest.raises(ValueError, match="weights must be 1 whole"):
            IntersectionEvidence(car((0, 1)), {}, NAMES, 0.5, 0.5).scores(np.array(weights))
