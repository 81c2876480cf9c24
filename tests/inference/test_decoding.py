"""Frame probabilities to events: a slow twin, and blocks that change nothing."""

import pickle
from fractions import Fraction
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.config import ClassDecoding
from earmark.events import Event, in_order
from earmark.inference.decoding import Decoder, decided_scores, decode, runs
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock

CLOCK = FrameClock(100, 20, 10)  # frames of 0.1 s; the first is half a hop longer
NAMES = ("a", "b")


def rule(threshold=0.5, low=None, gap=0.0, shortest=0.0, tag=0.5, **more):
    return ClassDecoding(
        tag_threshold=tag,
        threshold=threshold,
        low_threshold=threshold if low is None else low,
        max_gap_seconds=gap,
        min_event_seconds=shortest,
        **more,
    )


def track(columns, local_tags=None, start=0, end=True):
    table = np.array(columns, np.float32).reshape(len(columns), -1)
    names = NAMES[: table.shape[1]]
    seconds = (start + len(table)) * 0.1 + 0.08 if end else None
    return ScoreTrack(table, names, CLOCK, start, seconds, local_tags)


def found(values, *, local_tags=None, tag_gate=False, **changes):
    """(onset frame, offset frame) of the events of a single class."""
    whole = track(values, local_tags)
    edges = whole.edges_seconds.tolist()
    events = decode(whole, [rule(**changes)], tag_gate=tag_gate)
    return [(edges.index(e.onset_seconds), edges.index(e.offset_seconds)) for e in events]


def slow_median(column, seconds):
    """The odd number of frames of 0.1 s that is nearest, the column mirrored at its ends."""
    half = next(n for n in range(99) if abs(seconds * 10 - 2 * n - 1) <= 1 + 1e-6)
    while seconds * 10 - 2 * half - 1 >= 1 - 1e-6:
        half += 1

    def mirrored(t):
        t %= 2 * len(column)
        return column[min(t, 2 * len(column) - 1 - t)]

    return [median(mirrored(t + d) for d in range(-half, half + 1)) for t in range(len(column))]


def slow_boxes(column, r):
    """(start, stop, score) of the boxes, with exact numbers."""
    half = max(1, round(r.step_seconds * 5))
    ticks = [Fraction(round(p * 2**32), 2**32) for p in column]

    def total(start, stop):
        return sum(ticks[max(start, 0) : max(stop, 0)])

    def mean(start, stop):
        return total(start, stop) / (stop - start)

    points, best = [], 0
    for t in range(len(column) + 1):
        step = total(t, t + half) - total(t - half, t)
        if step * best < 0 or (step and not best):
            points.append(t)
            best = step
        elif abs(step) > abs(best):
            points[-1], best = t, step
    boxes = []
    for start, stop in zip(points[::2], points[1::2], strict=True):
        if boxes:
            gap, lower = mean(boxes[-1][1], start), min(mean(*boxes[-1]), mean(start, stop))
            if float(gap) >= r.merge_ratio * float(lower) or float(gap) >= (
                float(lower) - r.merge_difference
            ):
                start = boxes.pop()[0]
        boxes.append((start, stop))
    return [(*box, float(mean(*box))) for box in boxes]


def slow_runs(column, r):
    """(start, stop, peak) of the runs above the low threshold."""
    found, t = [], 0
    while t < len(column):
        stop = t
        while stop < len(column) and column[stop] > r.low_threshold:
            stop += 1
        if stop > t:
            found.append((t, stop, max(column[t:stop])))
        t = max(stop, t + 1)
    return found


def slowly(whole, rules, tag_gate):
    """The same by loops over frames, as the documentation says it."""
    edges = whole.edges_seconds.tolist()
    events = []
    for k, (name, r) in enumerate(zip(whole.class_names, rules, strict=True)):
        column = [float(p) for p in whole.probabilities[:, k]]
        if tag_gate and whole.local_tags is not None:
            tags = whole.local_tags[:, k].tolist()
            column = [
                p if tag > r.gate_threshold else 0.0 for p, tag in zip(column, tags, strict=True)
            ]
        column = slow_median(column, r.median_seconds)
        found = slow_boxes(column, r) if r.step_seconds else slow_runs(column, r)
        joined = []
        for start, stop, peak in found:
            if peak <= r.threshold:
                continue
            onset, offset = edges[start], edges[stop]
            if joined and onset - joined[-1][1] <= r.max_gap_seconds + 1e-9:
                first = joined.pop()
                joined.append((first[0], offset, max(first[2], peak)))
            else:
                joined.append((onset, offset, peak))
        events += [
            Event(on, off, name, peak)
            for on, off, peak in joined
            if off - on >= r.min_event_seconds - 1e-9
        ]
    return in_order(events)


LEVELS = st.sampled_from([0.0, 0.25, 0.4, 0.5, 0.6, 0.8, 1.0])
RULES = st.builds(
    lambda threshold, ratio, gap, shortest, tag, gate, more: rule(
        threshold, threshold * ratio, gap, shortest, tag, gate_threshold=gate, **more
    ),
    st.sampled_from([0.0, 0.3, 0.5, 0.6, 0.9]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 0.1, 0.2, 0.3, 5.0]),
    st.sampled_from([0.0, 0.1, 0.2, 0.4, 5.0]),
    st.sampled_from([0.0, 0.5, 0.8]),
    st.sampled_from([0.0, 0.5, 0.8]),
    st.fixed_dictionaries(
        {
            "median_seconds": st.sampled_from([0.0, 0.29, 0.3, 0.5, 3.0]),
            "step_seconds": st.sampled_from([0.0, 0.1, 0.4, 0.6, 3.0]),
            "merge_ratio": st.sampled_from([0.0, 0.5, 1.0]),
            "merge_difference": st.sampled_from([0.0, 0.25]),
        }
    ),
)


@st.composite
def tracks(draw):
    frames = draw(st.integers(1, 30))
    rows = st.lists(st.tuples(LEVELS, LEVELS), min_size=frames, max_size=frames)
    tags = draw(st.none() | rows)
    local = None if tags is None else np.array(tags, np.float32)
    return track(draw(rows), local)


@settings(deadline=None, max_examples=120)
@given(tracks(), st.tuples(RULES, RULES), st.booleans())
def test_events_are_those_of_the_slow_twin(whole, rules, tag_gate):
    assert decode(whole, rules, tag_gate=tag_gate) == slowly(whole, rules, tag_gate)


@settings(deadline=None, max_examples=120)
@given(tracks(), st.tuples(RULES, RULES), st.booleans(), st.lists(st.integers(0, 30), max_size=8))
def test_blocks_never_change_the_events(whole, rules, tag_gate, cuts):
    frames = len(whole.probabilities)
    bounds = [0, *sorted(min(cut, frames) for cut in cuts), frames]
    decoder = Decoder(rules, NAMES, tag_gate=tag_gate)
    events = []
    for number in range(len(bounds) - 1):
        start, stop = bounds[number : number + 2]
        last = number == len(bounds) - 2
        local = None if whole.local_tags is None else whole.local_tags[start:stop]
        table = whole.probabilities[start:stop]
        end = whole.end_seconds if last else None
        pushed = decoder.push(ScoreTrack(table, NAMES, CLOCK, start, end, local))
        assert pushed == in_order(pushed)
        events += pushed
    assert in_order(events) == decode(whole, rules, tag_gate=tag_gate)


def test_an_event_comes_as_soon_as_nothing_can_change_it():
    decoder = Decoder([rule(gap=0.1, low=0.3)], ("a",), tag_gate=False)
    assert decoder.push(track([0.9, 0], end=False)) == []
    first = decoder.push(track([0], start=2, end=False))
    assert [event.onset_seconds for event in first] == [0.0]
    assert decoder.push(track([0, 0.9, 0.9], start=3, end=False)) == []
    # A run within the gap may yet reach the threshold.
    assert decoder.push(track([0, 0.4], start=6, end=False)) == []
    second = decoder.push(track([0.4, 0, 0, 0], start=8, end=False))
    assert [event.onset_seconds for event in second] == [pytest.approx(0.45)]
    assert decoder.push(track([0.9], start=12)) != []


def test_an_event_that_never_ends_takes_no_memory():
    decoder = Decoder([rule()], ("a",), tag_gate=False)
    for number in range(50):
        decoder.push(track(np.full(1000, 0.9), start=1000 * number, end=False))
    assert len(pickle.dumps(decoder)) < 5000
    (event,) = decoder.push(track([0.9], start=50_000))
    assert (event.onset_seconds, event.offset_seconds) == (0.0, pytest.approx(5000.18))


def test_boxes_and_medians_of_a_day_take_little_memory():
    rng = np.random.default_rng(0)
    asked = [rule(step_seconds=0.6, median_seconds=0.5), rule(step_seconds=3.0)]
    decoder = Decoder(asked, NAMES, tag_gate=False)
    for number in range(50):
        decoder.push(track(rng.random((1000, 2)), start=1000 * number, end=False))
    assert len(pickle.dumps(decoder)) < 10_000


def test_a_median_removes_what_is_short_and_fills_gaps():
    values = [0, 0.9, 0, 0, 0.9, 0.9, 0, 0.9, 0.9, 0]
    assert found(values) == [(1, 2), (4, 6), (7, 9)]
    assert found(values, median_seconds=0.3) == [(4, 9)]
    assert found([0.9, 0, 0, 0], median_seconds=0.3) == [(0, 1)]
    assert found([0.9, 0, 0, 0], median_seconds=0.5) == []


RISE = [0.1, 0.1, 0.2, 0.8, 0.9, 0.8, 0.3, 0.1, 0.1]


def test_the_extent_of_a_box_does_not_depend_on_the_threshold():
    for threshold in (0.0, 0.3, 0.6, 0.8):
        assert found(RISE, threshold=threshold, step_seconds=0.4) == [(3, 6)]
    assert found(RISE, threshold=0.84, step_seconds=0.4) == []
    assert len({tuple(found(RISE, threshold=t)) for t in (0.0, 0.25, 0.85)}) == 3
    (event,) = decode(track(RISE), [rule(step_seconds=0.4)], tag_gate=False)
    assert event.score == pytest.approx((0.8 + 0.9 + 0.8) / 3)


def test_boxes_are_one_where_the_gap_is_not_deep_enough():
    values = [0, 0, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0, 0]
    apart = [(2, 5), (8, 11)]
    assert found(values, step_seconds=0.4) == apart
    assert found(values, step_seconds=0.4, merge_ratio=0.6) == [(2, 11)]
    assert found(values, step_seconds=0.4, merge_ratio=0.7) == apart
    assert found(values, step_seconds=0.4, merge_difference=0.21) == [(2, 11)]
    assert found(values, step_seconds=0.4, merge_difference=0.19) == apart


@settings(deadline=None, max_examples=60)
@given(tracks(), st.tuples(RULES, RULES), st.sampled_from([0.0, 0.25, 0.3, 0.55, 0.9]))
def test_runs_of_the_decided_scores_are_what_any_threshold_gives(whole, rules, threshold):
    change = {"threshold": threshold, "low_threshold": threshold}
    change |= {"max_gap_seconds": 0.0, "min_event_seconds": 0.0}
    asked = [r.model_copy(update=change) for r in rules]
    edges = whole.edges_seconds.tolist()
    shown = decided_scores(whole, asked, tag_gate=True).probabilities
    expected = [
        (edges[start], edges[stop], name)
        for k, name in enumerate(NAMES)
        for start, stop in zip(*map(np.ndarray.tolist, runs(shown[:, k] > threshold)), strict=True)
    ]
    events = decode(whole, asked, tag_gate=True)
    # Of a mean that is the threshold, rounding may decide.
    ties = [e for e in events if abs(e.score - threshold) < 1e-6]
    found = [(e.onset_seconds, e.offset_seconds, e.label) for e in events]
    assert ties or sorted(found) == sorted(expected)


def test_intervals_are_half_open_on_the_edges_of_the_clock():
    (event,) = decode(track([0, 0.9, 0.9, 0]), [rule()], tag_gate=False)
    assert event == Event(0.15, 0.35, "a", pytest.approx(0.9))
    (event,) = decode(track([0.9, 0, 0, 0.9]), [rule(gap=9)], tag_gate=False)
    assert (event.onset_seconds, event.offset_seconds) == (0.0, pytest.approx(0.48))


def test_thresholds_are_strict():
    assert found([0.5, 0.51]) == [(1, 2)]
    assert found([0, 0.25, 0.5], threshold=0.25, low=0) == [(1, 3)]
    assert found([1.0], threshold=1.0) == []
    assert found([0.4, 0.5], threshold=0.5, low=0.2) == []


def test_a_threshold_between_two_neighbouring_floats_tells_them_apart():
    low = np.float32(0.9999)
    high = np.nextafter(low, np.float32(1))
    middle = (float(low) + float(high)) / 2
    assert found([low, high], threshold=middle) == [(1, 2)]
    assert found([low, high], threshold=float(low)) == [(1, 2)]


def test_hysteresis():
    values = [0.3, 0.3, 0.7, 0.3, 0, 0.3, 0.3]
    assert found(values, threshold=0.5, low=0.2) == [(0, 4)]
    assert found(values, threshold=0.5, low=0.5) == [(2, 3)]


def test_a_gap_of_exactly_the_longest_allowed_joins():
    values = [0, 0.9, 0, 0, 0, 0.9, 0]
    assert found(values, gap=0.3) == [(1, 6)]
    assert found(values, gap=0.299) == [(1, 2), (5, 6)]
    for first in range(1, 60):  # wherever rounding may strike
        placed = [0] * first + [0.9, 0, 0, 0, 0.9, 0]
        assert len(found(placed, gap=0.3)) == 1


def test_a_run_that_is_not_confirmed_joins_nothing():
    assert found([0.9, 0, 0.3, 0, 0.9], low=0.2, gap=0.1) == [(0, 1), (4, 5)]


def test_short_events_go_after_joining():
    assert found([0, 0.9, 0.9, 0], shortest=0.2) == [(1, 3)]
    assert found([0, 0.9, 0.9, 0], shortest=0.201) == []
    assert found([0, 0.9, 0, 0.9, 0], gap=0.1, shortest=0.3) == [(1, 4)]


def test_the_tag_gate_is_local():
    values = [0.9] * 6
    tags = np.array([[0.9], [0.9], [0.5], [0.2], [0.6], [0.6]], np.float32)
    assert found(values, local_tags=tags, tag_gate=True) == [(0, 2), (4, 6)]
    assert found(values, local_tags=tags, tag_gate=False) == [(0, 6)]
    assert found(values, local_tags=None, tag_gate=True) == [(0, 6)]
    assert found(values, local_tags=tags, tag_gate=True, tag=0.95) == []


def test_an_event_keeps_its_peak():
    (event,) = decode(track([0.6, 0.8, 0, 0.7]), [rule(gap=1)], tag_gate=False)
    assert event.score == pytest.approx(0.8)


def test_nothing_gives_nothing():
    assert decode(track([0.0, 0.0]), [rule()], tag_gate=False) == []
    empty = ScoreTrack(np.zeros((0, 1), np.float32), ("a",), CLOCK, 0, 0.0)
    assert decode(empty, [rule()], tag_gate=False) == []
    with pytest.raises(ValueError, match="recording's end"):
        decode(track([0.9], end=False), [rule()], tag_gate=False)
