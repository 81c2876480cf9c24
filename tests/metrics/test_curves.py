"""Curves behind the numbers: against scikit-learn, and by hand."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.metrics.curves import PrecisionRecall, Reliability
from earmark.metrics.tagging import average_precision

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import precision_recall_curve

CLIPS = st.lists(st.tuples(st.booleans(), st.integers(0, 8).map(lambda n: n / 8)), min_size=1)


@settings(deadline=None, max_examples=60)
@given(CLIPS)
def test_precision_and_recall_are_those_of_scikit_learn(clips):
    truth, scores = (np.array(column) for column in zip(*clips, strict=True))
    found = PrecisionRecall.of(truth, scores)
    assert np.all(np.diff(found.thresholds) < 0)
    if not truth.any():
        assert not found.recall.any()
        return
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    np.testing.assert_allclose(found.thresholds, thresholds[::-1])
    np.testing.assert_allclose(found.precision, precision[-2::-1])
    np.testing.assert_allclose(found.recall, recall[-2::-1])
    area = found.precision @ np.diff(found.recall, prepend=0)
    assert area == pytest.approx(average_precision(truth, scores))


@settings(deadline=None, max_examples=60)
@given(CLIPS)
def test_reliability_is_that_of_scikit_learn(clips):
    truth, scores = (np.array(column) for column in zip(*clips, strict=True))
    # Away from the edges of bins, which scikit-learn counts to the bin below.
    scores = scores * 0.9 + 0.01
    found = Reliability.of(truth[:, None], scores[:, None], bins=7)
    observed, mean = calibration_curve(truth, scores, n_bins=7)
    filled = found.counts > 0
    np.testing.assert_allclose(found.observed[filled], observed)
    np.testing.assert_allclose(found.mean_probability[filled], mean)
    assert np.isnan(found.observed[~filled]).all()
    assert found.counts.sum() == len(clips)


def test_reliability_at_the_ends_and_its_error():
    found = Reliability.of([[True, False], [True, False]], [[1.0, 0.0], [0.95, 0.2]])
    assert found.counts.tolist() == [1, 0, 1, 0, 0, 0, 0, 0, 0, 2]
    assert found.observed[-1] == 1
    # Off by 0, 0.2 and, in the mean of two, 0.025.
    assert found.calibration_error == pytest.approx((0 + 0.2 + 2 * 0.025) / 4)
    assert np.isnan(Reliability.of(np.zeros((0, 2)), np.zeros((0, 2))).calibration_error)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Reliability.of([[True]], [[1.5]])
