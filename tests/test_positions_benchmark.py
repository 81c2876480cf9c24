"""The benchmark that tells knowing when from knowing that."""

import numpy as np
import pytest

from benchmarks.positions import cells, figures
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock


def test_a_segment_has_the_highest_of_the_frames_that_it_touches():
    # Frames of 0.4 s: the third, 0.8-1.2 s, is in both segments.
    clock = FrameClock(10, 4, 4)
    track = ScoreTrack(
        np.array([[0.1], [0.2], [0.9], [0.3], [0.4]], np.float32), ("a",), clock, end_seconds=2.0
    )
    np.testing.assert_allclose(cells(track, 1.0), [[0.9], [0.9]], atol=1e-7)
    np.testing.assert_allclose(cells(track, 0.5).ravel(), [0.2, 0.9, 0.9, 0.4], atol=1e-7)


def test_known_tags_take_false_alarms_in_other_clips_away():
    tagged = np.array([[True], [False], [True], [False]])
    scores = [np.array([[0.8], [0.1], [0.7], [0.2]]), np.full((4, 1), 0.9)]
    best, known, ranked = figures([tagged, np.zeros((4, 1), bool)], scores)
    assert best == pytest.approx(2 * 2 / (2 + 6))  # six found, two of them right
    assert known == ranked == 1.0
