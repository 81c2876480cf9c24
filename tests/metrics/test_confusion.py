"""Confusion of classes, beside a twin that looks at every segment by itself."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.events import Event
from earmark.metrics.confusion import event_confusion, tag_confusion
from earmark.metrics.segments import segment_scores

NAMES = ("a", "b", "c")


def test_tags_by_hand():
    truth = [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    given_ = [[1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]]
    found = tag_confusion(truth, given_, NAMES)
    # In the second clip b is true too, so that it is not taken for a.
    assert found.counts.tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 0], [0, 0, 1]]
    assert found.totals.tolist() == [2, 1, 0, 2]
    assert found.shares[0].tolist() == [0.5, 0.5, 0.5]
    assert np.isnan(found.shares[2]).all()


def slow(reference, estimate, resolution, seconds):
    """Segment by segment."""
    counts, totals = np.zeros((4, 3), int), np.zeros(4, int)

    def active(events, segment):
        start, stop = segment * resolution, (segment + 1) * resolution
        return {e.label for e in events if e.onset_seconds < stop and e.offset_seconds > start}

    for clip, events in reference.items():
        for segment in range(math.ceil(seconds / resolution)):
            truth, found = active(events, segment), active(estimate.get(clip, ()), segment)
            for row in [NAMES.index(label) for label in truth] or [3]:
                totals[row] += 1
                for label in found:
                    if row == NAMES.index(label) or label not in truth:
                        counts[row, NAMES.index(label)] += 1
    return counts, totals


EVENTS = st.lists(
    st.builds(
        lambda onset, length, label: Event(onset / 4, (onset + length) / 4, label),
        st.integers(0, 24),
        st.integers(1, 16),
        st.sampled_from(NAMES),
    ),
    max_size=4,
)


@settings(deadline=None, max_examples=80)
@given(st.lists(EVENTS, max_size=3), st.lists(EVENTS, max_size=3), st.sampled_from([0.5, 1.0]))
def test_events_equal_the_slow_twin(wanted, found, resolution):
    reference = {f"{n}.wav": events for n, events in enumerate(wanted)}
    estimate = {f"{n}.wav": events for n, events in enumerate(found[: len(wanted)])}
    durations = dict.fromkeys(reference, 10.0)
    result = event_confusion(reference, estimate, NAMES, resolution, durations)
    counts, totals = slow(reference, estimate, resolution, 10.0)
    assert result.counts.tolist() == counts.tolist()
    assert result.totals.tolist() == totals.tolist()
    hits = segment_scores(reference, estimate, NAMES, resolution).counts
    assert np.diagonal(result.counts).tolist() == hits.tp.tolist()
    assert result.totals[:3].tolist() == hits.n_reference.tolist()


def test_silence_is_not_known_without_durations():
    reference = {"x": [Event(0, 1, "a")]}
    found = event_confusion(reference, {"x": [Event(0, 3, "b")]}, NAMES)
    assert found.counts.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 2, 0]]
    assert np.isnan(found.totals[-1])
    assert np.isnan(found.shares[-1]).all()
    # A clip that its events outlast is as long as they are.
    longer = event_confusion(reference, {"x": [Event(0, 3, "b")]}, NAMES, 1.0, {"x": 1.5})
    assert longer.totals.tolist() == [1, 0, 0, 2]
