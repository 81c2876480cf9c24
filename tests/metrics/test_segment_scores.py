"""Segment scores against a loop over segments, sed_eval's asserted numbers, and properties."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.events import Event
from earmark.metrics.counts import Counts
from earmark.metrics.segments import SegmentEvidence, segment_scores

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sed_eval

NAMES = ("bell", "car", "dog")


@st.composite
def events(draw):
    """An event on a grid of a tenth of a second, at times without length."""
    onset, length = draw(st.integers(0, 60)), draw(st.integers(0, 40))
    return Event(onset / 10, (onset + length) / 10, draw(st.sampled_from(NAMES)))


clips = st.dictionaries(st.sampled_from("abcd"), st.lists(events(), max_size=5), max_size=4)


@st.composite
def pairs(draw):
    """Events of a reference, and of an estimate that may leave clips out."""
    reference = draw(clips)
    return reference, {c: found for c, found in draw(clips).items() if c in reference}


def by_loops(reference, estimate, tenths):
    """TP, FP, FN per class and S, D, I; times are whole tenths, so nothing is rounded."""
    tp, fp, fn = ([0] * len(NAMES) for _ in range(3))
    s = d = i = 0
    for clip in reference:
        for start in range(0, 120, tenths):
            wrong = missed = 0
            for k, name in enumerate(NAMES):
                wanted, found = (
                    any(
                        e.label == name
                        and round(e.onset_seconds * 10) < round(e.offset_seconds * 10)
                        and round(e.onset_seconds * 10) < start + tenths
                        and round(e.offset_seconds * 10) > start
                        for e in side.get(clip, ())
                    )
                    for side in (reference, estimate)
                )
                tp[k] += wanted and found
                fp[k] += found and not wanted
                fn[k] += wanted and not found
                wrong += found and not wanted
                missed += wanted and not found
            s += min(wrong, missed)
            d += missed - min(wrong, missed)
            i += wrong - min(wrong, missed)
    return (tp, fp, fn), (s, d, i)


def numbers(scores):
    counts = scores.counts
    return (
        (counts.tp.tolist(), counts.fp.tolist(), counts.fn.tolist()),
        (scores.substitutions, scores.deletions, scores.insertions),
    )


@settings(deadline=None, max_examples=100)
@given(pairs(), st.sampled_from([1, 3, 10, 17]))
def test_scores_equal_their_slow_twin(pair, tenths):
    scores = segment_scores(*pair, NAMES, tenths / 10)
    assert numbers(scores) == by_loops(*pair, tenths)
    assert scores.error_rate >= 0
    assert np.all(scores.class_error_rate >= 0)
    assert int(scores.overall.fn) == scores.substitutions + scores.deletions
    assert int(scores.overall.fp) == scores.substitutions + scores.insertions


@settings(deadline=None, max_examples=60)
@given(pairs(), st.sampled_from([1, 10, 17]), st.data())
def test_weights_are_clips_that_occur_so_often(pair, tenths, data):
    reference, estimate = pair
    times = [data.draw(st.integers(0, 3)) for _ in reference]
    repeated = [
        {
            f"{clip} {copy}": side[clip]
            for clip, count in zip(reference, times, strict=True)
            for copy in range(count)
            if clip in side
        }
        for side in pair
    ]
    evidence = SegmentEvidence(reference, estimate, NAMES, tenths / 10)
    drawn = evidence.scores(np.array(times, np.int64))
    assert numbers(drawn) == numbers(segment_scores(*repeated, NAMES, tenths / 10))
    assert evidence.clips == len(reference)


def by_sed_eval(reference, estimate, resolution_seconds):
    """sed_eval's segment-based metrics; events without length are set aside before."""
    peer = sed_eval.sound_event.SegmentBasedMetrics(list(NAMES), resolution_seconds)
    for clip in reference:
        rows = [
            [
                {
                    "filename": clip,
                    "onset": event.onset_seconds,
                    "offset": event.offset_seconds,
                    "event_label": event.label,
                }
                for event in side.get(clip, ())
                if event.duration_seconds > 0
            ]
            for side in (reference, estimate)
        ]
        peer.evaluate(*rows)
    return peer


def same(ours, theirs):
    assert float(ours) == pytest.approx(theirs, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(pairs(), st.integers(1, 20))
def test_sed_eval_finds_the_same(pair, resolution_eighths):
    # Eighths of a second, in which a quotient is exact where a boundary lies on a segment's edge:
    # what sed_eval does beside one is shown below.
    resolution = resolution_eighths / 8
    reference, estimate = (
        {
            clip: [
                Event(round(e.onset_seconds * 10) / 8, round(e.offset_seconds * 10) / 8, e.label)
                for e in events
            ]
            for clip, events in side.items()
        }
        for side in pair
    )
    ours = segment_scores(reference, estimate, NAMES, resolution)
    peer = by_sed_eval(reference, estimate, resolution)
    assert (ours.substitutions, ours.deletions, ours.insertions) == tuple(
        peer.overall[letter] for letter in "SDI"
    )
    theirs = peer.results_overall_metrics()
    compare_counts(ours.overall, theirs["f_measure"])
    if ours.n_reference:
        same(ours.error_rate, theirs["error_rate"]["error_rate"])
    by_class = peer.results_class_wise_metrics()
    for k, name in enumerate(NAMES):
        counts = ours.counts
        of_class = Counts(counts.tp[k], counts.fp[k], counts.fn[k])
        compare_counts(of_class, by_class[name]["f_measure"])
        if counts.n_reference[k]:
            same(ours.class_error_rate[k], by_class[name]["error_rate"]["error_rate"])
    # A class without reference or without estimate is left out of sed_eval's mean; ours has its 0.
    known = (ours.counts.n_reference > 0) & (ours.counts.tp + ours.counts.fp > 0)
    if known.any():
        theirs = peer.results_class_wise_average_metrics()["f_measure"]["f_measure"]
        same(ours.counts.f1[known].mean(), theirs)
        same(ours.macro_f1, theirs * known.sum() / len(NAMES))


def compare_counts(counts, theirs):
    """sed_eval has no F1 without a reference or without an estimate; ours is 0, as is theirs when
    both are there and nothing is hit."""
    if counts.n_reference:
        same(counts.recall, theirs["recall"])
    if counts.tp + counts.fp:
        same(counts.precision, theirs["precision"])
    if counts.n_reference and counts.tp + counts.fp:
        same(counts.f1, theirs["f_measure"])
    else:
        assert math.isnan(theirs["f_measure"])
        assert counts.f1 == 0


def test_where_sed_eval_differs():
    # A class that is missed throughout costs nothing in its mean over the classes.
    truth = {"clip": [Event(0, 1, "car"), Event(0, 1, "dog")]}
    peer = by_sed_eval(truth, car((0, 1)), 1.0)
    assert peer.results_class_wise_average_metrics()["f_measure"]["f_measure"] == 1
    assert segment_scores(truth, car((0, 1)), NAMES).macro_f1 == pytest.approx(1 / 3)
    # Without a reference its error rate is finite.
    peer = by_sed_eval({"clip": []}, car((0, 1)), 1.0)
    assert 1e15 < peer.results_overall_metrics()["error_rate"]["error_rate"] < math.inf
    assert segment_scores({"clip": []}, car((0, 1)), NAMES).error_rate == math.inf
    # Floating point decides at a segment's edge.
    assert by_sed_eval(car((0.3, 0.6)), {}, 0.1).overall["Nref"] == 4
    assert segment_scores(car((0.3, 0.6)), {}, NAMES, 0.1).n_reference == 3
    # An event without length is active, unless it lies on an edge.
    peer = sed_eval.sound_event.SegmentBasedMetrics(list(NAMES), 1.0)
    peer.evaluate([{"onset": t, "offset": t, "event_label": "car"} for t in (1.5, 3.0)], [])
    assert peer.overall["Nref"] == 1
    assert segment_scores(car((1.5, 1.5), (3, 3)), {}, NAMES).n_reference == 0


@settings(deadline=None, max_examples=30)
@given(pairs(), st.permutations(range(len(NAMES))))
def test_order_of_clips_events_and_classes_does_not_matter(pair, order):
    one = segment_scores(*pair, NAMES)
    shuffled = [{clip: side[clip][::-1] for clip in sorted(side, reverse=True)} for side in pair]
    other = segment_scores(*shuffled, [NAMES[k] for k in order])
    assert other.counts.tp.tolist() == one.counts.tp[order].tolist()
    assert other.class_error_rate.tolist() == one.class_error_rate[order].tolist()
    assert other.error_rate == one.error_rate


@settings(deadline=None, max_examples=30)
@given(clips)
def test_events_against_themselves_are_perfect(reference):
    scores = segment_scores(reference, reference, NAMES)
    assert scores.error_rate == 0
    assert scores.overall.f1 == (1 if scores.n_reference else 0)


def car(*times):
    return {"clip": [Event(onset, offset, "car") for onset, offset in times]}


def test_the_numbers_that_sed_eval_asserts():
    scores = segment_scores(car((0, 2.5), (2.8, 4.5), (6, 10)), car((1, 3.5), (7, 8)), ["car"], 1.0)
    assert scores.error_rate == pytest.approx(0.5556, abs=5e-5)
    assert scores.n_reference == 9
    right = 10 - int(scores.overall.fp) - int(scores.overall.fn)
    assert right / 10 == 0.5  # accuracy over the ten segments


def test_a_class_taken_for_another_is_one_error_overall_and_two_by_class():
    truth, found = car((0, 1)), {"clip": [Event(0, 1, "dog")]}
    scores = segment_scores(truth, found, NAMES)
    assert (scores.substitutions, scores.deletions, scores.insertions) == (1, 0, 0)
    assert scores.error_rate == 1
    assert scores.class_error_rate.tolist() == [0, 1, math.inf]


def test_substitutions_are_counted_in_each_segment_by_itself():
    truth, found = car((0, 1)), {"clip": [Event(1, 2, "dog")]}
    scores = segment_scores(truth, found, NAMES)
    assert (scores.substitutions, scores.deletions, scores.insertions) == (0, 1, 1)
    # Nor do the segments of two clips meet.
    scores = segment_scores(car((0, 1)) | {"b": []}, {"b": [Event(0, 1, "dog")]}, NAMES)
    assert (scores.substitutions, scores.deletions, scores.insertions) == (0, 1, 1)


def test_floating_point_does_not_decide():
    # An onset at 0.3 of 0.1 seems to lie before segment 3, an offset at 2.1 of 0.3 after the 7th.
    assert 0.3 / 0.1 < 3
    assert 2.1 / 0.3 > 7
    assert segment_scores(car((0.3, 0.6)), {}, ["car"], 0.1).n_reference == 3
    assert segment_scores(car((0, 2.1)), {}, ["car"], 0.3).n_reference == 7
    assert segment_scores(car((2 + 1e-12, 3 + 1e-12)), {}, ["car"]).n_reference == 1
    assert segment_scores(car((1.999, 3.001)), {}, ["car"]).n_reference == 3


def test_a_clip_that_the_estimate_leaves_out_counts_with_its_misses():
    truth = car((0, 2)) | {"left out": [Event(0, 3, "car")]}
    scores = segment_scores(truth, car((0, 2)), ["car"])
    assert scores.deletions == 3
    assert scores.error_rate == pytest.approx(3 / 5)


def test_without_a_reference_the_error_rate_is_zero_or_infinite():
    assert segment_scores({}, {}, NAMES).error_rate == 0
    assert segment_scores({"a": []}, {"a": []}, []).overall.f1 == 0
    nothing = segment_scores({"clip": []}, car((0, 2)), NAMES)
    assert nothing.error_rate == math.inf
    assert nothing.insertions == 2
    assert nothing.overall.precision == 0


def test_events_without_length_are_set_aside():
    scores = segment_scores(car((1.5, 1.5), (0, 0)), car((2.5, 2.5)), ["car"])
    assert (scores.n_reference, int(scores.overall.fp)) == (0, 0)


def test_overlapping_events_are_one_and_scores_play_no_part():
    twice = {"clip": [Event(0, 4, "car", 0.9), Event(1, 2, "car", 0.1), Event(0, 4, "car")]}
    assert segment_scores(twice, car((0, 4)), ["car"]).overall.tp == 4


def test_a_day_in_milliseconds_costs_no_memory():
    day = segment_scores(car((0, 86_400)), car((0, 43_200)), ["car"], 1e-3)
    assert (day.overall.tp, day.deletions) == (43_200_000, 43_200_000)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"label": "cat"}, "isn't a class"),
        ({"onset_seconds": -1.0}, "at 0 or later"),
        ({"onset_seconds": math.nan}, "at 0 or later"),
        ({"onset_seconds": 2.0}, "before they start"),
        ({"offset_seconds": math.inf}, "and end before"),
        ({"offset_seconds": 1e300}, "and end before"),
        ({"offset_seconds": math.nan}, "end before"),
    ],
)
def test_events_that_cannot_be_scored_are_refused(change, complaint):
    odd = {"clip": [replace(Event(0.0, 1.0, "car"), **change)]}
    for sides in ((odd, {}), (car((0, 1)), odd)):
        with pytest.raises(ValueError, match=complaint):
            segment_scores(*sides, NAMES)


def test_a_clip_outside_the_list_and_a_resolution_of_zero_are_refused():
    with pytest.raises(ValueError, match="isn't in the reference"):
        segment_scores({}, car((0, 1)), NAMES)
    for resolution in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="above 0"):
            segment_scores({}, {}, NAMES, resolution)


def test_weights_that_are_no_draw_are_refused():
    with pytest.raises(ValueError, match="1 whole numbers"):
        SegmentEvidence({"clip": []}, {}, NAMES).scores(np.array([1, 1]))


def test_clips_without_events_keep_their_place():
    # Neither takes any room on the axis on which the clips are laid out.
    truth = {"a": [], "b": [Event(2, 4, "car")], "c": [], "d": [Event(0, 1, "dog")], "e": []}
    evidence = SegmentEvidence(truth, {"d": [Event(0, 1, "bell")]}, NAMES)
    for clip, expected in enumerate([(0, 0, 0), (0, 2, 0), (0, 0, 0), (1, 0, 0), (0, 0, 0)]):
        scores = evidence.scores(np.eye(5, dtype=np.int64)[clip])
        assert (scores.substitutions, scores.deletions, scores.insertions) == expected
