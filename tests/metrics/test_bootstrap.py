"""Bootstrap intervals against theory, and the draws they are made of."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.metrics.bootstrap import Comparison, Interval, compare, draws, intervals
from earmark.metrics.counts import Counts
from earmark.metrics.tagging import TaggingEvidence


def micro_f1(counts):
    return lambda weights: {"micro F1": float(counts.drawn(weights).pooled().f1)}


def coin_tables(rng, clips, classes=5, right=0.8):
    """Tags, and estimates that are right so often, by themselves in each class of each clip."""
    tags = rng.random((clips, classes)) < 0.3
    return tags, tags == (rng.random(tags.shape) < right)


def test_the_interval_is_as_wide_as_the_delta_method_says():
    clips = 3000
    counts = Counts.per_clip(*coin_tables(np.random.default_rng(0), clips))
    # F1 is a ratio of two sums over clips, whose error is that of (above - F1 * below) / sum.
    above = 2 * counts.tp.sum(axis=1)
    below = above + counts.fp.sum(axis=1) + counts.fn.sum(axis=1)
    f1 = above.sum() / below.sum()
    error = math.sqrt(clips) * np.std(above - f1 * below) / below.sum()
    found = intervals(micro_f1(counts), clips, resamples=2000)["micro F1"]
    assert found.low == pytest.approx(f1 - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(f1 + 1.96 * error, abs=0.3 * error)
    narrow = intervals(micro_f1(counts), clips, resamples=2000, level=0.5)["micro F1"]
    assert narrow.high - narrow.low == pytest.approx(2 * 0.6745 * error, rel=0.15)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    truth = 2 * 0.3 * 0.8 / (2 * 0.3 * 0.8 + 0.2)  # of a clip's class: TP 0.24, FP + FN 0.2
    held = 0
    for seed in range(150):
        statistics = micro_f1(Counts.per_clip(*coin_tables(rng, 150)))
        found = intervals(statistics, 150, resamples=150, level=0.9, seed=seed)["micro F1"]
        held += found.low <= truth <= found.high
    assert 0.83 <= held / 150 <= 0.96


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 30), st.integers(0, 5), st.integers(0, 2**32))
def test_every_draw_takes_as_many_clips_as_there_are(clips, resamples, seed):
    drawn = list(draws(clips, resamples=resamples + 1, seed=seed))
    assert len(drawn) == resamples + 1
    for weights in drawn:
        assert weights.shape == (clips,)
        assert weights.dtype == np.int64
        assert weights.sum() == clips
        assert weights.min() >= 0


def test_every_clip_is_drawn_equally_often():
    total = sum(draws(7, resamples=7000))
    assert total == pytest.approx([7000] * 7, rel=0.05)
    # Once in 7 draws of 7 clips it is left out: (6 / 7)^7 of the time.
    missing = np.mean([weights == 0 for weights in draws(7, resamples=7000)])
    assert missing == pytest.approx((6 / 7) ** 7, rel=0.03)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), st.integers(0, 2**32))
def test_groups_stay_together(groups, seed):
    for weights in draws(len(groups), resamples=5, seed=seed, groups=groups):
        times = {
            group: {int(w) for w, g in zip(weights, groups, strict=True) if g == group}
            for group in groups
        }
        assert all(len(of_group) == 1 for of_group in times.values())
        assert sum(of_group.pop() for of_group in times.values()) == len(set(groups))


def test_groups_of_one_clip_are_no_groups_and_copies_are_no_evidence():
    counts = Counts.per_clip(*coin_tables(np.random.default_rng(2), 200))
    plain = intervals(micro_f1(counts), 200, resamples=300)
    assert intervals(micro_f1(counts), 200, resamples=300, groups=range(200)) == plain
    # Each clip nine times: as groups the same, as clips of their own three times as certain.
    copies = Counts(*(np.repeat(count, 9, axis=0) for count in (counts.tp, counts.fp, counts.fn)))
    sources = [str(clip) for clip in range(200) for _ in range(9)]
    assert intervals(micro_f1(copies), 1800, resamples=300, groups=sources) == plain
    wide, narrow = (
        found["micro F1"].high - found["micro F1"].low
        for found in (plain, intervals(micro_f1(copies), 1800, resamples=300))
    )
    assert narrow == pytest.approx(wide / 3, rel=0.2)


def test_seeds_reproduce():
    statistics = micro_f1(Counts.per_clip(*coin_tables(np.random.default_rng(3), 50)))
    one = intervals(statistics, 50, resamples=100, seed=5)
    assert intervals(statistics, 50, resamples=100, seed=5) == one
    assert intervals(statistics, 50, resamples=100, seed=6) != one


def test_the_ends_are_the_draws_next_outward():
    values = iter(np.random.default_rng(0).permutation(1000))
    found = intervals(lambda _: {"rank": next(values)}, 3, resamples=1000)
    assert found == {"rank": Interval(24, 975)}  # 24 draws on either side


def test_draws_without_a_number_are_left_out_and_counted():
    values = iter([math.nan, 1, 2, math.inf, math.nan, math.inf])
    found = intervals(lambda _: {"a": next(values)}, 3, resamples=6, level=0.5)
    assert found == {"a": Interval(1, math.inf, left_out=2)}
    nothing = intervals(lambda _: {"a": math.nan}, 3, resamples=6)["a"]
    assert np.isnan([nothing.low, nothing.high]).all()
    assert nothing.left_out == 6


def test_a_class_that_is_rare_is_at_times_not_drawn():
    evidence = TaggingEvidence([[1]] + [[0]] * 9, np.linspace(1, 0, 10)[:, None], 0.5, ["a"])
    found = intervals(
        lambda weights: {"mAP": evidence.scores(weights).mean_average_precision},
        evidence.clips,
        resamples=1000,
    )["mAP"]
    assert (found.low, found.high) == (1, 1)
    assert found.left_out == pytest.approx(1000 * 0.9**10, rel=0.15)


def test_a_system_does_not_differ_from_itself():
    rng = np.random.default_rng(4)
    tags = rng.random((60, 4)) < 0.3
    given_ = rng.random(tags.shape)
    one, same = (TaggingEvidence(tags, given_, 0.5, list("abcd")) for _ in range(2))

    def statistics(evidence):
        def of(weights):
            scores = evidence.scores(weights)
            return {"F1": scores.micro.f1, "mAP": scores.mean_average_precision}

        return of

    found = compare(statistics(one), statistics(same), 60, resamples=50)
    nothing = Comparison(Interval(0, 0), share_above=0, p_value=1)
    assert found == {"F1": nothing, "mAP": nothing}


def test_pairs_tell_what_two_intervals_cannot():
    # Clips differ widely, the systems by a little in nearly every clip.
    rng = np.random.default_rng(5)
    hard = rng.normal(0, 1, 400)
    better, worse = hard + 0.05 + rng.normal(0, 0.1, 400), hard

    def mean_of(values):
        return lambda weights: {"mean": weights @ values / weights.sum()}

    apart = [intervals(mean_of(values), 400, resamples=400)["mean"] for values in (better, worse)]
    assert apart[0].low < apart[1].high
    found = compare(mean_of(better), mean_of(worse), 400, resamples=400)["mean"]
    assert found.difference.low > 0
    assert found.share_above == 1
    assert found.p_value == pytest.approx(2 / 401)
    mirrored = compare(mean_of(worse), mean_of(better), 400, resamples=400)["mean"]
    assert mirrored.difference == Interval(-found.difference.high, -found.difference.low)
    assert (mirrored.share_above, mirrored.p_value) == (0, found.p_value)


def test_p_values_are_even_where_there_is_no_difference():
    rng = np.random.default_rng(6)
    p_values = []
    for seed in range(150):
        a, b = rng.normal(size=(2, 60))
        found = compare(
            lambda w, a=a: {"mean": w @ a / 60},
            lambda w, b=b: {"mean": w @ b / 60},
            60,
            resamples=100,
            seed=seed,
        )
        p_values.append(found["mean"].p_value)
    assert np.mean(np.array(p_values) <= 0.5) == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.06)


def test_an_infinite_difference_counts_and_none_of_two_infinities_does():
    a, b = iter([math.inf, math.inf, 1.0, 0.0]), iter([math.inf, 0.0, 0.0, 1.0])
    found = compare(lambda _: {"d": next(a)}, lambda _: {"d": next(b)}, 2, resamples=4)["d"]
    assert found.difference == Interval(-1, math.inf, left_out=1)
    assert found.share_above == pytest.approx(2 / 3)
    assert found.p_value == pytest.approx(2 * (1 + 1) / (3 + 1))
    nothing = compare(lambda _: {"d": math.nan}, lambda _: {"d": 0.0}, 2, resamples=4)["d"]
    assert np.isnan([nothing.share_above, nothing.p_value]).all()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"clips": 0}, "at least 1"),
        ({"resamples": 0}, "at least 1"),
        ({"level": 1.0}, "between 0 and 1"),
        ({"level": 0.0}, "between 0 and 1"),
        ({"level": math.nan}, "between 0 and 1"),
        ({"groups": ["a", "b"]}, "2 groups for 3 clips"),
    ],
)
def test_odd_arguments_are_refused(change, complaint):
    arguments = {"clips": 3, "resamples": 2} | change

    def nothing(weights):
        return {"a": 0.0}

    with pytest.raises(ValueError, match=complaint):
        intervals(nothing, **arguments)
    with pytest.raises(ValueError, match=complaint):
        compare(nothing, nothing, **arguments)


def test_scores_that_come_and_go_are_refused():
    rows = iter([{}, {"a": 1.0}])
    with pytest.raises(ValueError, match="'a' comes and goes"):
        intervals(lambda _: next(rows), 3, resamples=2)
    with pytest.raises(ValueError, match="only one has 'b'"):
        compare(lambda _: {"a": 1.0, "b": 1.0}, lambda _: {"a": 1.0}, 3, resamples=2)
