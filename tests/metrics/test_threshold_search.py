"""The threshold search against trying everything."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.metrics.counts import Counts
from earmark.metrics.thresholds import best_thresholds, maximise_ratio


@st.composite
def choices(draw):
    """Candidates (numerator, denominator) of up to four classes, like counts of F1."""
    classes = []
    for _ in range(draw(st.integers(1, 4))):
        pairs = st.tuples(st.integers(0, 6), st.integers(0, 8)).map(lambda p: (p[0], sum(p)))
        classes.append(draw(st.lists(pairs, min_size=1, max_size=5)))
    return classes


def ratio_of(pairs):
    above, below = (sum(side) for side in zip(*pairs, strict=True))
    return Fraction(above, below) if below else Fraction(0)


@settings(deadline=None, max_examples=150)
@given(choices())
def test_no_other_choice_has_a_higher_ratio(classes):
    chosen = maximise_ratio(
        [[a for a, _ in c] for c in classes], [[b for _, b in c] for c in classes]
    )
    found = ratio_of([c[index] for c, index in zip(classes, chosen, strict=True)])
    assert found == max(ratio_of(pairs) for pairs in product(*classes))


def test_the_best_of_each_class_is_not_the_best_of_all():
    # Alone, the second class is best at 1/2. Beside 1/1000, 41/1100 beats 2/1002; beside 90/100,
    # 91/102 beats 130/200.
    assert maximise_ratio([[1], [1, 40]], [[1000], [2, 100]]) == [0, 1]
    assert maximise_ratio([[90], [1, 40]], [[100], [2, 100]]) == [0, 0]


def test_ties_go_to_the_first_and_nothing_over_nothing_is_no_solution():
    assert maximise_ratio([[1, 2, 1]], [[2, 4, 2]]) == [0]
    assert maximise_ratio([[0, 1]], [[0, 2]]) == [1]
    assert maximise_ratio([], []) == []


def test_numbers_beyond_64_bits_stay_exact():
    # Beside 1/2 the second candidate is worth 2**19 * 2**44, one more than int64 holds.
    assert maximise_ratio([[2**44, 2**19]], [[2**45, 2**19]]) == [1]
    big = 2**40  # these two ratios differ by less than float64 can tell
    assert maximise_ratio([[big, big - 1]], [[big + 1, big]]) == [0]


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ([[1]], [[0]]),
        ([[1, 2]], [[3]]),
        ([[]], [[]]),
        ([[-1]], [[1]]),
        ([[0.5]], [[1]]),
        ([[1]], []),
    ],
)
def test_candidates_that_are_not_counts_are_refused(above, below):
    with pytest.raises(ValueError, match=r"every class|numerator"):
        maximise_ratio(above, below)


@st.composite
def tables(draw):
    """Tags and probabilities (N, K) from a coarse grid with 0 and 1, so that ties are common."""
    n, k = draw(st.integers(0, 6)), draw(st.integers(1, 3))
    tags = draw(st.lists(st.booleans(), min_size=n * k, max_size=n * k))
    grid = draw(st.lists(st.integers(0, 5), min_size=n * k, max_size=n * k))
    return np.array(tags, bool).reshape(n, k), np.array(grid).reshape(n, k) / 5


GRID = np.arange(-1, 12) / 10 + 0.05  # below, between and above every probability
GRID = GRID[(GRID >= 0) & (GRID <= 1.05)].clip(max=1)


@settings(deadline=None, max_examples=50)
@given(tables())
def test_no_threshold_has_a_higher_macro_f1(table):
    tags, probabilities = table
    found = Counts.of(tags, probabilities > best_thresholds(tags, probabilities, "macro"))
    best = np.max([Counts.of(tags, probabilities > t).f1 for t in GRID], axis=0)
    assert found.f1.tolist() == best.tolist()


@settings(deadline=None, max_examples=50)
@given(tables())
def test_no_thresholds_have_a_higher_micro_f1(table):
    tags, probabilities = table
    found = Counts.of(tags, probabilities > best_thresholds(tags, probabilities, "micro"))
    levels = GRID[::2]
    every = product(levels, repeat=tags.shape[1])
    best = max(Counts.of(tags, probabilities > np.array(t)).pooled().f1 for t in every)
    assert found.pooled().f1 == best


@settings(deadline=None, max_examples=50)
@given(tables(), st.sampled_from(["macro", "micro"]))
def test_thresholds_lie_in_range_and_between_the_probabilities(table, average):
    tags, probabilities = table
    thresholds = best_thresholds(tags, probabilities, average)
    assert thresholds.dtype == np.float64
    assert np.all((thresholds >= 0) & (thresholds <= 1))
    at = (probabilities == thresholds) & (thresholds < 1)
    assert not at.any()
    for k in np.flatnonzero(~tags.any(axis=0)):
        assert not np.any(probabilities[:, k] > thresholds[k])


def test_probabilities_next_to_one_are_told_apart():
    tags = np.array([[0], [1], [0], [1]])
    for low, high in [(0.9999, 0.99999), (np.nextafter(1, 0), 1.0), (0.0, 5e-324)]:
        given = np.array([[low], [high], [low], [high]])
        (threshold,) = best_thresholds(tags, given)
        assert low <= threshold < high
        assert ((given > threshold) == tags).all()
    (threshold,) = best_thresholds(tags, np.array([[0.9999], [0.99999]] * 2))
    assert threshold == pytest.approx(0.999945, abs=1e-12)


def test_float32_probabilities_are_cut_between_their_own_values():
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    given = np.array([[low], [high]], np.float32)
    (threshold,) = best_thresholds([[0], [1]], given)
    assert float(low) < threshold < float(high)


def test_of_equal_thresholds_the_nearest_to_a_half_is_taken():
    # Tagging the first alone and tagging all: F1 = 2/3 both times; cuts at 0.75 and 0.05.
    tags, given = [[1], [0], [0], [1]], [[0.9], [0.6], [0.6], [0.1]]
    assert best_thresholds(tags, given).tolist() == [0.75]
    # The mirror image: cuts at 0.95 and 0.25.
    tags, given = [[1], [0], [0], [1]], [[1.0], [0.9], [0.9], [0.5]]
    assert best_thresholds(tags, given).tolist() == [0.25]


def test_what_nothing_can_hit_is_never_tagged():
    assert best_thresholds([[0], [0]], [[0.2], [0.5]]).tolist() == [0.5]
    assert best_thresholds([[0], [0]], [[0.2], [0.8]]).tolist() == [0.9]
    assert best_thresholds([[0]], [[1.0]]).tolist() == [1.0]
    # The one positive has probability 0, which no threshold is below.
    assert best_thresholds([[1], [0]], [[0.0], [0.7]]).tolist() == [0.85]
    assert best_thresholds(np.zeros((0, 2)), np.zeros((0, 2))).tolist() == [0.5, 0.5]
    assert best_thresholds(np.zeros((3, 0)), np.zeros((3, 0)), "micro").tolist() == []


def test_micro_gives_up_a_hard_class_that_macro_keeps():
    rng = np.random.default_rng(0)
    easy = np.arange(100) < 50
    hard = np.arange(100) == 0
    tags = np.stack([easy, hard], axis=1)
    given = np.stack([easy * 0.8 + 0.1, np.append(0.3, rng.uniform(0.5, 0.9, 99))], axis=1)
    macro, micro = (best_thresholds(tags, given, average) for average in ("macro", "micro"))
    assert macro[1] < 0.3
    assert not np.any(given[:, 1] > micro[1])


def test_odd_arguments_are_refused():
    with pytest.raises(ValueError, match="average"):
        best_thresholds([[1]], [[0.5]], "median")
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        best_thresholds([[1]], [[1.5]])


def test_a_kept_threshold_stays_and_what_it_tags_counts():
    """A class without positives that goes on giving false alarms moves the others' best cuts."""
    rng = np.random.default_rng(5)
    moved = 0
    for _ in range(60):
        reference = rng.random((12, 2)) < 0.4
        reference[:, 1] = False
        probabilities = rng.random((12, 2)).round(1)
        found = best_thresholds(reference, probabilities, "micro", {1: 0.3})
        assert found[1] == 0.3
        cuts = np.unique(np.concatenate([probabilities[:, 0] - 0.05, [0.0, 0.999]])).clip(0)

        def f1(cut, reference=reference, probabilities=probabilities):
            tagged = probabilities > [cut, 0.3]
            hits = (tagged & reference).sum()
            return 2 * hits / max(1, tagged.sum() + reference.sum())

        assert f1(found[0]) == pytest.approx(max(map(f1, cuts)))
        moved += found[0] != best_thresholds(reference, probabilities, "micro")[0]
    assert moved
