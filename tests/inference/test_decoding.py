"""Frame probabilities to events: a slow twin, and blocks that change nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.config import ClassDecoding
from earmark.events import Event, in_order
from earmark.inference.decoding import Decoder, decode
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock

CLOCK = FrameClock(100, 20, 10)  # frames of 0.1 s; the first is half a hop longer
NAMES = ("a", "b")


def rule(threshold=0.5, low=None, gap=0.0, shortest=0.0, tag=0.5):
    return ClassDecoding(
        tag_threshold=tag,
        threshold=threshold,
        low_threshold=threshold if low is None else low,
        max_gap_seconds=gap,
        min_event_seconds=shortest,
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


def slowly(whole, rules, tag_gate):
    """The same by loops over frames, as the documentation says it."""
    edges = whole.edges_seconds.tolist()
    events = []
    for k, (name, r) in enumerate(zip(whole.class_names, rules, strict=True)):
        column = [float(p) for p in whole.probabilities[:, k]]
        if tag_gate and whole.local_tags is not None:
            tags = whole.local_tags[:, k].tolist()
            column = [
                p if tag > r.tag_threshold else 0.0 for p, tag in zip(column, tags, strict=True)
            ]
        kept, t = [], 0
        while t < len(column):
            stop = t
            while stop < len(column) and column[stop] > r.low_threshold:
                stop += 1
            if stop > t and max(column[t:stop]) > r.threshold:
                kept.append((edges[t], edges[stop], max(column[t:stop])))
            t = max(stop, t + 1)
        joined = []
        for onset, offset, peak in kept:
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
    lambda threshold, ratio, gap, shortest, tag: rule(
        threshold, threshold * ratio, gap, shortest, tag
    ),
    st.sampled_from([0.0, 0.3, 0.5, 0.6, 0.9]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 0.1, 0.2, 0.3, 5.0]),
    st.sampled_from([0.0, 0.1, 0.2, 0.4, 5.0]),
    st.sampled_from([0.0, 0.5, 0.8]),
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
    decoder = Decoder([rule(gap=0.1)], ("a",), tag_gate=False)
    assert decoder.push(track([0.9, 0, 0, 0], end=False)) == []
    first = decoder.push(track([0.9, 0.9], start=4, end=False))
    assert first == []
    first = decoder.push(track([0], start=6, end=False))
    assert [event.onset_seconds for event in first] == [0.0]
    assert [e.onset_seconds for e in decoder.push(track([0], start=7))] == [pytest.approx(0.45)]


def test_an_event_that_never_ends_takes_no_memory():
    decoder = Decoder([rule()], ("a",), tag_gate=False)
    for number in range(50):
        decoder.push(track(np.full(1000, 0.9), start=1000 * number, end=False))
    held = [value for state in vars(decoder).values() for value in np.atleast_1d(state)]
    assert sum(getattr(np.asarray(value), "nbytes", 0) for value in held) < 1000
    (event,) = decoder.push(track([0.9], start=50_000))
    assert (event.onset_seconds, event.offset_seconds) == (0.0, pytest.approx(5000.18))


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
