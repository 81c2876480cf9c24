"""Events: order and union."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.events import Event, in_order, union

EVENTS = st.lists(
    st.builds(
        lambda onset, length, label, score: Event(onset, onset + length, label, score),
        st.integers(0, 30),
        st.integers(0, 6),
        st.sampled_from("ab"),
        st.none() | st.sampled_from([0.25, 0.5, 0.75]),
    ),
    max_size=8,
)


def test_order_is_onset_then_label_then_offset():
    events = [Event(1, 2, "b"), Event(1, 3, "a"), Event(1, 2, "a"), Event(0, 9, "z")]
    assert in_order(events) == [events[3], events[2], events[1], events[0]]
    assert Event(0.5, 2.0, "a").duration_seconds == 1.5


@settings(deadline=None, max_examples=80)
@given(EVENTS)
def test_union_covers_the_same_instants_once(events):
    joined = union(events)
    for label in "ab":
        for half in np.arange(0.5, 40):
            before = any(
                e.onset_seconds <= half < e.offset_seconds for e in events if e.label == label
            )
            after = [
                e for e in joined if e.label == label and e.onset_seconds <= half < e.offset_seconds
            ]
            assert len(after) == before
        of_label = [e for e in joined if e.label == label]
        assert all(a.offset_seconds < b.onset_seconds for a, b in itertools.pairwise(of_label))
    assert union(joined) == joined
    assert joined == in_order(joined)


def test_union_joins_a_gap_that_is_allowed_and_no_longer_one():
    parts = [Event(0, 1, "a", 0.2), Event(2, 3, "a", 0.9), Event(4.5, 5, "a")]
    assert union(parts, 1.0) == [Event(0, 3, "a", 0.9), Event(4.5, 5, "a", None)]
    assert union(parts, 0.99) == parts
    assert union(parts, 1.5) == [Event(0, 5, "a", 0.9)]
    assert union([]) == []


def test_a_contained_event_shortens_nothing():
    assert union([Event(0, 9, "a"), Event(1, 2, "a")]) == [Event(0, 9, "a")]
