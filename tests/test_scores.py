"""Score tracks: blocks join without a gap."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock

CLOCK = FrameClock(100, 20, 10)
NAMES = ("a", "b")


def test_shape_must_fit_the_classes():
    with pytest.raises(ValueError, match=r"\(T, 2\), came as \(3, 1\)"):
        ScoreTrack(np.zeros((3, 1), np.float32), NAMES, CLOCK)
    with pytest.raises(ValueError, match="came as"):
        ScoreTrack(np.zeros(2, np.float32), NAMES, CLOCK)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 12), max_size=4).map(sorted))
def test_blocks_join_to_the_whole(cuts):
    table = np.arange(24, dtype=np.float32).reshape(12, 2) / 24
    bounds = [0, *cuts, 12]
    blocks = [
        ScoreTrack(
            table[start:stop],
            NAMES,
            CLOCK,
            5 + start,
            2.0 if index == len(bounds) - 2 else None,
            table[start:stop] / 2,
            table[0] if index == len(bounds) - 2 else None,
        )
        for index, (start, stop) in enumerate(itertools.pairwise(bounds))
    ]
    whole = ScoreTrack.join(blocks)
    np.testing.assert_array_equal(whole.probabilities, table)
    np.testing.assert_array_equal(whole.local_tags, table / 2)
    np.testing.assert_array_equal(whole.tags, table[0])
    assert (whole.start_frame, whole.end_seconds) == (5, 2.0)
    edges = [block.edges_seconds for block in blocks if len(block.probabilities)]
    assert all(a[-1] == b[0] for a, b in itertools.pairwise(edges))
    assert whole.edges_seconds[-1] == 2.0
    assert whole.edges_seconds[0] == pytest.approx(0.05 + 0.5)


def test_a_gap_between_blocks_is_an_error():
    block = ScoreTrack(np.zeros((3, 2), np.float32), NAMES, CLOCK)
    with pytest.raises(ValueError, match="frame 3, not 0"):
        ScoreTrack.join([block, block])
    with pytest.raises(ValueError, match="at least one"):
        ScoreTrack.join([])


def test_local_tags_of_some_blocks_are_known_of_none():
    known = ScoreTrack(
        np.zeros((3, 2), np.float32), NAMES, CLOCK, local_tags=np.ones((3, 2), np.float32)
    )
    unknown = ScoreTrack(np.zeros((3, 2), np.float32), NAMES, CLOCK, start_frame=3)
    assert ScoreTrack.join([known, unknown]).local_tags is None
