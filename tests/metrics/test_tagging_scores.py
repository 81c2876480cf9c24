"""Tag scores against loops, scikit-learn and hand-made examples."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.metrics.counts import ratio
from earmark.metrics.tagging import average_precision, tagging_scores


@st.composite
def tables(draw):
    """Tags and probabilities (N, K) from a coarse grid, so that ties are common."""
    n, k = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    tags = draw(st.lists(st.booleans(), min_size=n * k, max_size=n * k))
    grid = draw(st.lists(st.integers(0, 4), min_size=n * k, max_size=n * k))
    return np.array(tags).reshape(n, k), np.array(grid).reshape(n, k) / 4


def f1_by_loops(tags, given):
    tp = sum(bool(a) and bool(b) for a, b in zip(tags, given, strict=True))
    wrong = sum(bool(a) != bool(b) for a, b in zip(tags, given, strict=True))
    return 2 * tp / (2 * tp + wrong) if tp or wrong else 0.0


def average_precision_by_loops(tags, values):
    """Precision where each threshold's recall rises, weighted by the rise."""
    area, recall_before = 0.0, 0.0
    for threshold in sorted(set(values), reverse=True):
        chosen = [tag for tag, value in zip(tags, values, strict=True) if value >= threshold]
        recall = sum(chosen) / sum(tags)
        area += (recall - recall_before) * sum(chosen) / len(chosen)
        recall_before = recall
    return area


@settings(deadline=None, max_examples=60)
@given(tables(), st.sampled_from([0.0, 0.25, 0.4, 1.0]))
def test_scores_equal_their_slow_twins(table, threshold):
    tags, probabilities = table
    names = [f"class {k}" for k in range(tags.shape[1])]
    scores = tagging_scores(tags, probabilities, threshold, names)
    chosen = probabilities > threshold
    by_class = [f1_by_loops(tags[:, k], chosen[:, k]) for k in range(len(names))]
    assert scores.counts.f1.tolist() == pytest.approx(by_class)
    assert scores.macro_f1 == pytest.approx(sum(by_class) / len(names))
    assert scores.micro.f1 == pytest.approx(f1_by_loops(tags.ravel(), chosen.ravel()))
    assert scores.f1_of_mean_precision_and_recall >= scores.macro_f1 - 1e-12
    known = [k for k in range(len(names)) if tags[:, k].any()]
    assert scores.classes_without_positives == len(names) - len(known)
    areas = [average_precision_by_loops(tags[:, k], probabilities[:, k]) for k in known]
    if known:
        assert scores.mean_average_precision == pytest.approx(sum(areas) / len(areas))
    else:
        assert math.isnan(scores.mean_average_precision)


@settings(deadline=None, max_examples=40)
@given(tables())
def test_scikit_learn_finds_the_same(table):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is a test-only peer")
    tags, probabilities = table
    names = [f"class {k}" for k in range(tags.shape[1])]
    scores = tagging_scores(tags, probabilities, 0.4, names)
    for average, ours in (("micro", float(scores.micro.f1)), ("macro", scores.macro_f1)):
        # One column would be read as a binary problem.
        truth, chosen = (np.pad(t, ((0, 0), (0, 1))) for t in (tags, probabilities > 0.4))
        if average == "micro":
            theirs = metrics.f1_score(truth, chosen, average="micro", zero_division=0)
        else:
            values = metrics.f1_score(truth, chosen, average=None, zero_division=0)
            theirs = values[:-1].mean()
        assert ours == pytest.approx(theirs)
    for k in np.flatnonzero(tags.any(axis=0)):
        theirs = metrics.average_precision_score(tags[:, k], probabilities[:, k])
        assert scores.average_precision[k] == pytest.approx(theirs)


@settings(deadline=None, max_examples=30)
@given(tables(), st.randoms(use_true_random=False))
def test_order_of_clips_and_classes_does_not_matter(table, random):
    tags, probabilities = table
    n, k = tags.shape
    rows, columns = random.sample(range(n), n), random.sample(range(k), k)
    names = np.array([f"class {i}" for i in range(k)])
    limits = np.linspace(0.1, 0.9, k)
    one = tagging_scores(tags, probabilities, limits, names)
    moved = np.ix_(rows, columns)
    other = tagging_scores(tags[moved], probabilities[moved], limits[columns], names[columns])
    assert other.counts.f1.tolist() == one.counts.f1[columns].tolist()
    np.testing.assert_allclose(other.average_precision, one.average_precision[columns])
    assert other.micro.f1 == one.micro.f1


def test_a_probability_at_its_threshold_is_no_tag():
    scores = tagging_scores([[1], [1]], [[0.5], [np.nextafter(0.5, 1)]], 0.5, ["car"])
    assert (scores.counts.tp.tolist(), scores.counts.fn.tolist()) == ([1], [1])


def test_a_float32_probability_is_taken_as_the_number_it_is():
    # float32(0.1) is 0.1000000015: above 0.1, unless 0.1 is rounded to float32 too.
    probabilities = np.array([[0.1]], np.float32)
    assert tagging_scores([[1]], probabilities, 0.1, ["car"]).counts.tp.tolist() == [1]


def test_three_averages_of_one_table():
    tags = np.array([[1, 0], [1, 0], [1, 1], [0, 0]])
    chosen = np.array([[1, 0], [1, 1], [0, 1], [0, 1]])
    scores = tagging_scores(tags, chosen, 0.5, ["a", "b"])
    assert scores.counts.precision.tolist() == pytest.approx([1, 1 / 3])
    assert scores.counts.recall.tolist() == pytest.approx([2 / 3, 1])
    assert scores.macro_f1 == pytest.approx((0.8 + 0.5) / 2)
    assert scores.micro.f1 == pytest.approx(6 / 9)
    assert scores.f1_of_mean_precision_and_recall == pytest.approx(
        2 * (2 / 3) * (5 / 6) / (2 / 3 + 5 / 6)
    )


def test_tags_against_themselves_are_perfect():
    tags = np.array([[1, 0, 0], [0, 1, 0]])
    scores = tagging_scores(tags, tags, 0.5, ["a", "b", "never"])
    assert scores.micro.f1 == 1
    assert scores.mean_average_precision == 1
    assert scores.macro_f1 == pytest.approx(2 / 3)
    assert scores.classes_without_positives == 1


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_score_is_zero_and_warns_nothing(shape):
    scores = tagging_scores(np.zeros(shape), np.zeros(shape), 0.5, ["a", "b", "c"][: shape[1]])
    assert scores.micro.f1 == 0
    assert math.isnan(scores.mean_average_precision)


def test_average_precision_without_positives_is_no_number():
    assert math.isnan(average_precision([0, 0], [0.3, 0.4]))
    assert math.isnan(average_precision([], []))


def test_equal_scores_are_one_step():
    assert average_precision([1, 0, 0, 1], [0.5] * 4) == average_precision([0, 1, 1, 0], [0.5] * 4)
    assert average_precision([1, 0], [0.5, 0.5]) == 0.5


@pytest.mark.parametrize(
    ("tags", "probabilities", "thresholds", "names"),
    [
        ([[1, 0]], [[0.5]], 0.5, ["a"]),
        ([1], [0.5], 0.5, ["a"]),
        ([[1]], [[0.5]], 0.5, ["a", "b"]),
        ([[1, 0]], [[0.5, 0.5]], [0.5, 0.5, 0.5], ["a", "b"]),
        ([[1]], [[math.nan]], 0.5, ["a"]),
        ([[1]], [[0.5]], math.nan, ["a"]),
    ],
)
def test_tables_that_do_not_fit_are_refused(tags, probabilities, thresholds, names):
    with pytest.raises(ValueError, match=r"\w"):
        tagging_scores(tags, probabilities, thresholds, names)


def test_ratio_of_nothing_is_zero_and_of_something_infinite():
    assert ratio([0, 1, 1], [0, 0, 4]).tolist() == [0, math.inf, 0.25]
