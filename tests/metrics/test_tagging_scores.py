"""Tag scores against loops, scikit-learn and hand-made examples."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.metrics.counts import as_weights, ratio
from earmark.metrics.tagging import TaggingEvidence, average_precision, roc_auc, tagging_scores


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


def roc_auc_by_loops(tags, values):
    """The share of pairs that are in order, ties half."""
    positives = [v for t, v in zip(tags, values, strict=True) if t]
    negatives = [v for t, v in zip(tags, values, strict=True) if not t]
    points = sum((p > n) + (p == n) / 2 for p in positives for n in negatives)
    return points / (len(positives) * len(negatives)) if positives and negatives else math.nan


def label_precisions_by_loops(tags, values):
    """Of every true tag its class, and the share of true tags from its rank in the clip up."""
    for row, scores in zip(tags.tolist(), values.tolist(), strict=True):
        for k in range(len(row)):
            if row[k]:
                above = [j for j in range(len(row)) if scores[j] >= scores[k]]
                yield k, sum(row[j] for j in above) / len(above)


def mean(values):
    return sum(values) / len(values) if values else math.nan


def numbers(scores):
    """Everything that is said of a table, as one array."""
    classes = (
        *(scores.counts.tp, scores.counts.fp, scores.counts.fn, scores.average_precision),
        *(scores.roc_auc, scores.d_prime, scores.label_ranking_precision),
    )
    pooled = (
        *(scores.micro.f1, scores.macro_f1, scores.mean_average_precision, scores.macro_roc_auc),
        *(scores.micro_average_precision, scores.micro_roc_auc, scores.lwlrap),
        *(scores.mean_d_prime, scores.d_prime_of_macro_roc_auc),
    )
    return np.concatenate([*classes, np.array(pooled, float)])


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


@settings(deadline=None, max_examples=60)
@given(tables())
def test_rankings_equal_their_slow_twins(table):
    tags, probabilities = table
    classes = range(tags.shape[1])
    scores = tagging_scores(tags, probabilities, 0.5, [f"class {k}" for k in classes])
    areas = [roc_auc_by_loops(tags[:, k], probabilities[:, k]) for k in classes]
    assert scores.roc_auc.tolist() == pytest.approx(areas, abs=1e-12, nan_ok=True)
    known = [area for area in areas if not math.isnan(area)]
    assert scores.macro_roc_auc == pytest.approx(mean(known), nan_ok=True)
    assert scores.classes_without_roc_auc == len(areas) - len(known)
    pooled = roc_auc_by_loops(tags.ravel(), probabilities.ravel())
    assert scores.micro_roc_auc == pytest.approx(pooled, abs=1e-12, nan_ok=True)
    pooled = average_precision_by_loops(tags.ravel(), probabilities.ravel()) if tags.any() else None
    assert scores.micro_average_precision == pytest.approx(pooled or math.nan, nan_ok=True)
    shares = list(label_precisions_by_loops(tags, probabilities))
    by_class = [mean([share for k, share in shares if k == label]) for label in classes]
    assert scores.label_ranking_precision.tolist() == pytest.approx(by_class, nan_ok=True)
    assert scores.lwlrap == pytest.approx(mean([share for _, share in shares]), nan_ok=True)


@st.composite
def drawn_tables(draw):
    """A table, and how often each of its clips is drawn."""
    tags, probabilities = draw(tables())
    times = draw(st.lists(st.integers(0, 3), min_size=len(tags), max_size=len(tags)))
    return tags, probabilities, np.array(times)


@settings(deadline=None, max_examples=60)
@given(drawn_tables())
def test_weights_are_clips_that_occur_so_often(drawn):
    tags, probabilities, times = drawn
    names = [f"class {k}" for k in range(tags.shape[1])]
    evidence = TaggingEvidence(tags, probabilities, 0.4, names)
    repeated = (np.repeat(table, times, axis=0) for table in (tags, probabilities))
    np.testing.assert_allclose(
        numbers(evidence.scores(times)), numbers(tagging_scores(*repeated, 0.4, names)), atol=1e-12
    )
    assert evidence.clips == len(tags)


@settings(deadline=None, max_examples=40)
@given(drawn_tables())
def test_scikit_learn_ranks_the_same(drawn):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is a test-only peer")
    tags, probabilities, times = drawn
    names = [f"class {k}" for k in range(tags.shape[1])]
    scores = TaggingEvidence(tags, probabilities, 0.4, names).scores(times)
    columns = [*zip(tags.T, probabilities.T, strict=True), (tags.ravel(), probabilities.ravel())]
    precisions = [*scores.average_precision, scores.micro_average_precision]
    areas = [*scores.roc_auc, scores.micro_roc_auc]
    for (truth, values), precision, area in zip(columns, precisions, areas, strict=True):
        weights = np.repeat(times, len(truth) // len(times))
        drawn_truth, drawn_values = np.repeat(truth, weights), np.repeat(values, weights)
        if drawn_truth.any():
            theirs = metrics.average_precision_score(drawn_truth, drawn_values)
            assert precision == pytest.approx(theirs, abs=1e-9)
        else:
            # scikit-learn says 0 and warns: nothing can be found, which is no failure.
            assert math.isnan(precision)
        if drawn_truth.any() and not drawn_truth.all():
            theirs = metrics.roc_auc_score(drawn_truth, drawn_values)
            assert area == pytest.approx(theirs, abs=1e-9)
        else:
            assert math.isnan(area)  # scikit-learn warns, and says so too
    weights = times * tags.sum(axis=1)
    if tags.shape[1] == 1:
        # One column would be read as a binary problem. A clip's only label ranks first.
        assert scores.lwlrap == (1 if weights.any() else pytest.approx(math.nan, nan_ok=True))
    elif weights.any():
        theirs = metrics.label_ranking_average_precision_score(
            tags, probabilities, sample_weight=weights
        )
        assert scores.lwlrap == pytest.approx(theirs, abs=1e-9)
    else:
        assert math.isnan(scores.lwlrap)


@pytest.mark.parametrize("levels", [2, 5, 10**6])
def test_scikit_learn_ranks_thousands_of_ties_the_same(levels):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is a test-only peer")
    rng = np.random.default_rng(levels)
    tags = rng.random((3000, 6)) < 0.2
    given = np.floor(levels * (rng.random(tags.shape) + tags) / 2) / levels
    scores = tagging_scores(tags, given, 0.5, list("abcdef"))
    for average, precision, area in (
        ("macro", scores.mean_average_precision, scores.macro_roc_auc),
        ("micro", scores.micro_average_precision, scores.micro_roc_auc),
    ):
        theirs = metrics.average_precision_score(tags, given, average=average)
        assert precision == pytest.approx(theirs, abs=1e-9)
        theirs = metrics.roc_auc_score(tags, given, average=average)
        assert area == pytest.approx(theirs, abs=1e-9)
    theirs = metrics.label_ranking_average_precision_score(
        tags, given, sample_weight=tags.sum(axis=1)
    )
    assert scores.lwlrap == pytest.approx(theirs, abs=1e-9)


def test_d_prime_is_how_far_two_normal_distributions_lie_apart():
    rng = np.random.default_rng(0)
    apart = np.array([0.5, 1.0, 2.0])
    tags = np.arange(20_000)[:, None] % 2 == np.zeros(3)
    scores = tagging_scores(tags, rng.normal(size=tags.shape) + apart * tags, 0.5, list("abc"))
    assert scores.d_prime == pytest.approx(apart, abs=0.05)
    assert scores.mean_d_prime == pytest.approx(apart.mean(), abs=0.05)
    # The mean of the areas lies under the area of the mean: the quantile bends upwards.
    assert scores.d_prime_of_macro_roc_auc < scores.mean_d_prime - 0.02
    quantile = NormalDist().inv_cdf(float(np.mean(scores.roc_auc)))
    assert scores.d_prime_of_macro_roc_auc == pytest.approx(math.sqrt(2) * quantile, abs=1e-9)


def test_d_prime_of_perfect_classes_is_infinite():
    tags = np.array([[1, 1, 1, 0], [0, 0, 0, 0]])
    right, tied, wrong, empty = [0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0.1, 0.1]

    def of(*columns):
        return tagging_scores(tags[:, : len(columns)], np.transpose(columns), 0.5, columns)

    scores = of(right, tied, tied, empty)
    assert scores.d_prime.tolist() == pytest.approx([math.inf, 0, 0, math.nan], nan_ok=True)
    assert scores.mean_d_prime == math.inf
    assert 0 < scores.d_prime_of_macro_roc_auc < math.inf
    assert scores.classes_without_roc_auc == 1
    assert of(right).d_prime_of_macro_roc_auc == math.inf
    assert of(wrong).mean_d_prime == -math.inf
    assert math.isnan(of(right, wrong).mean_d_prime)
    assert of(right, wrong).d_prime_of_macro_roc_auc == 0


def test_ties_are_worth_half_and_rank_last():
    assert roc_auc([1, 0, 0, 1], [0.5] * 4) == 0.5
    assert roc_auc([1, 0, 0], [0.5, 0.5, 0.1]) == 0.75
    assert math.isnan(roc_auc([1, 1], [0.1, 0.2]))
    assert math.isnan(roc_auc([], []))
    scores = tagging_scores([[1, 0, 0]], [[0.5, 0.5, 0.1]], 0.5, ["a", "b", "c"])
    assert scores.lwlrap == 0.5


def test_lwlrap_weights_a_class_by_its_clips():
    tags, given = [[1, 0], [1, 0], [0, 1]], [[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]]
    scores = tagging_scores(tags, given, 0.5, ["a", "b"])
    assert scores.label_ranking_precision.tolist() == [1, 0.5]
    assert scores.lwlrap == pytest.approx((2 * 1 + 0.5) / 3)


@pytest.mark.parametrize("weights", [[1], [1, 1, 1], [1, -1], [1.0, 1.0], [[1, 1]]])
def test_weights_that_are_no_draw_are_refused(weights):
    with pytest.raises(ValueError, match="2 whole numbers"):
        as_weights(weights, 2)
    with pytest.raises(ValueError, match="2 whole numbers"):
        TaggingEvidence([[1], [0]], [[0.5], [0.5]], 0.5, ["a"]).scores(weights)


def test_an_empty_draw_is_like_no_clips():
    scores = TaggingEvidence([[1], [0]], [[0.5], [0.5]], 0.4, ["a"]).scores(np.array([0, 0]))
    assert scores.micro.f1 == 0
    assert np.isnan([scores.micro_average_precision, scores.micro_roc_auc, scores.lwlrap]).all()


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
    np.testing.assert_array_equal(other.roc_auc, one.roc_auc[columns])
    np.testing.assert_allclose(other.lwlrap, one.lwlrap)


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
    assert np.isnan([scores.macro_roc_auc, scores.mean_d_prime, scores.micro_roc_auc]).all()
    assert np.isnan([scores.micro_average_precision, scores.lwlrap]).all()


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


def test_every_clip_may_get_a_tag():
    truth = [[1, 0], [0, 1], [0, 1], [0, 0]]
    given = [[0.4, 0.3], [0.2, 0.2], [0.1, 0.9], [0.0, 0.0]]
    plain = tagging_scores(truth, given, 0.5, ("a", "b"))
    every = tagging_scores(truth, given, 0.5, ("a", "b"), tag_every_clip=True)
    assert (plain.counts.tp.tolist(), plain.counts.fp.tolist()) == ([0, 1], [0, 0])
    # The first clip's largest is right, the second's is the first of two; the last has none.
    assert (every.counts.tp.tolist(), every.counts.fp.tolist()) == ([1, 1], [1, 0])
    assert every.mean_average_precision == plain.mean_average_precision
