"""Probabilities that mean what they say, in the order that they had."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from earmark.calibration import calibrated, calibrated_track, fitted, moved_threshold
from earmark.config import ClassCalibration, LogitLine
from earmark.metrics.tagging import tagging_scores
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock

LINES = st.builds(LogitLine, scale=st.floats(0.1, 5), shift=st.floats(-5, 5))
PROBABILITIES = st.floats(0, 1, width=32)


def test_a_line_is_scale_and_shift_of_the_logit():
    given_ = np.array([[0.2, 0.2, 0.2], [0.9, 0.9, 0.9]], np.float32)
    lines = [LogitLine(scale=2, shift=-1), LogitLine(), LogitLine(shift=0.5)]
    found = calibrated(lines, given_)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], expit(2 * logit(given_[:, 0]) - 1), rtol=1e-6)
    assert np.array_equal(found[:, 1], given_[:, 1])
    np.testing.assert_allclose(found[:, 2], expit(logit(given_[:, 2]) + 0.5), rtol=1e-6)
    assert calibrated([LogitLine()] * 3, given_) is given_


@given(st.lists(PROBABILITIES, min_size=2), LINES)
def test_the_order_stays_and_the_ends_are_finite(values, line):
    before = np.array([*values, 0, 1], np.float32)[:, None]
    after = calibrated([line], before)
    assert np.isfinite(logit(after.astype(np.float64).clip(1e-300, 1 - 2**-53))).all()
    assert ((after >= 0) & (after <= 1)).all()
    assert (np.diff(after[np.argsort(before[:, 0]), 0]) >= 0).all()


def test_certainty_is_no_certainty_any_more():
    low, high = calibrated([LogitLine(scale=0.25)], np.array([[0], [1]], np.float32))[:, 0]
    assert 0.005 < low < 0.02
    assert 0.98 < high < 0.995


GENTLE = st.builds(LogitLine, scale=st.floats(0.3, 1.2), shift=st.floats(-3, 3))
"""So that float64 tells all of them apart."""


@settings(max_examples=50)
@given(st.integers(0, 10**6), GENTLE, GENTLE)
def test_a_moved_threshold_decides_as_before(seed, was, now):
    rng = np.random.default_rng(seed)
    raw = np.append(rng.uniform(0.01, 0.99, 30), 1)[:, None]
    before, after = calibrated([was], raw), calibrated([now], raw)
    cuts = np.sort(before[:, 0])
    cuts = [0.0, *((cuts[1:] + cuts[:-1]) / 2), 1.0]
    for cut in cuts:
        moved = moved_threshold(cut, was, now)
        assert np.array_equal(before > cut, after > moved)
    assert [moved_threshold(cut, was, was) for cut in cuts] == cuts


def clips(seed, count, scale=1.0, shift=0.0):
    """Probabilities, and truths that are as frequent as the line makes of them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, count)
    return expit(logits), rng.random(count) < expit(scale * logits + shift)


def test_the_line_that_made_the_truth_is_found():
    line = fitted(*clips(0, 40_000, 0.5, -1.5))
    assert line.scale == pytest.approx(0.5, abs=0.03)
    assert line.shift == pytest.approx(-1.5, abs=0.05)


def test_few_clips_move_little_and_separated_ones_are_finite():
    few = fitted(np.array([0.6, 0.4]), np.array([True, False]))
    assert (few.scale, few.shift) == (pytest.approx(1, abs=0.1), pytest.approx(0, abs=0.1))
    parted = fitted(np.repeat([0.99, 0.01], 500), np.repeat([True, False], 500))
    assert 1 <= parted.scale < 3
    turned = fitted(np.repeat([0.01, 0.99], 500), np.repeat([True, False], 500))
    assert turned.scale > 0


@pytest.mark.parametrize("there", [True, False])
def test_what_all_are_says_nothing(there):
    assert fitted(np.array([0.2, 0.9]), np.array([there, there])) == LogitLine()


def test_a_weight_is_so_many_observations():
    probabilities, truth = clips(1, 60, 0.5, 1)
    times = np.arange(60) % 4
    found = fitted(probabilities, truth, times.astype(np.float64))
    repeated = fitted(np.repeat(probabilities, times), np.repeat(truth, times))
    assert found.scale == pytest.approx(repeated.scale, abs=1e-4)
    assert found.shift == pytest.approx(repeated.shift, abs=1e-4)


def test_what_ranks_alone_stays():
    rng = np.random.default_rng(2)
    columns = [clips(seed, 200, 0.6, -1) for seed in range(3)]
    given_ = np.array([column[0] for column in columns], np.float32).T
    given_[rng.random(given_.shape) < 0.1] = 1
    tags = np.array([column[1] for column in columns]).T
    lines = [fitted(*column) for column in columns]
    limits = [0.3, 0.5, 0.8]
    moved = [moved_threshold(t, LogitLine(), one) for t, one in zip(limits, lines, strict=True)]
    before = tagging_scores(tags, given_, limits, "abc")
    after = tagging_scores(tags, calibrated(lines, given_), moved, "abc")
    assert np.array_equal(after.average_precision, before.average_precision)
    assert np.array_equal(after.roc_auc, before.roc_auc)
    assert np.array_equal(after.counts.f1, before.counts.f1)


def test_of_a_track_frames_have_one_line_and_all_that_is_of_clips_another():
    half = np.full((2, 1), 0.5, np.float32)
    track = ScoreTrack(half, ("a",), FrameClock(10, 1, 1), 0, 0.2, half, half[0])
    classes = [ClassCalibration(clips=LogitLine(shift=1), frames=LogitLine(shift=-1))]
    found = calibrated_track(classes, track)
    assert found.probabilities == pytest.approx(expit(-1))
    assert found.local_tags == pytest.approx(expit(1))
    assert found.tags == pytest.approx(expit(1))
    bare = calibrated_track(classes, ScoreTrack(half, ("a",), track.clock))
    assert bare.local_tags is None
    assert bare.tags is None
