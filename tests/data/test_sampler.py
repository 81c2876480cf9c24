"""Batches: balanced as the paper says, complete, and the same again for the same seed."""

import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from earmark.data.sampler import (
    BalancedSampler,
    ShardedSampler,
    ShuffledSampler,
    class_weights,
)
from earmark.formats.labels import read_labels


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(0, 100_000), min_size=1, max_size=20),
    st.floats(1, 50),
)
def test_weights_follow_the_formula(counts, ratio):
    weights = class_weights(np.array(counts), ratio)
    present = [n for n in counts if n]
    for n, weight in zip(counts, weights, strict=True):
        if not n:
            assert weight == 0
            continue
        spread = max(present) / min(present)
        power = 1.0 if spread == 1 else min(1.0, math.log(ratio) / math.log(spread))
        assert weight == pytest.approx((n / min(present)) ** power)
        assert 1 - 1e-9 <= weight <= ratio * (1 + 1e-9)


def test_weights_by_hand():
    assert class_weights(np.array([10, 20, 30]), 5).tolist() == [1, 2, 3]
    assert class_weights(np.array([10, 90]), 1).tolist() == [1, 1]
    assert class_weights(np.array([1, 100, 10_000]), 5) == pytest.approx([1, math.sqrt(5), 5])
    assert class_weights(np.array([0, 0]), 5).tolist() == [0, 0]


def one_class_each(counts, untagged=0):
    rows = np.repeat(np.eye(len(counts), dtype=bool), counts, axis=0)
    return np.concatenate([rows, np.zeros((untagged, len(counts)), bool)])


def drawn(sampler, epochs):
    return np.array([batch for _ in range(epochs) for batch in sampler.epoch()])


@pytest.mark.parametrize("ratio", [1.0, 5.0])
def test_draws_have_the_wanted_proportions(ratio):
    tags = one_class_each([1000, 100, 4], untagged=368)
    batches = drawn(BalancedSampler(tags, 44, ratio, seed=0), 20)
    draws = batches.size
    assert batches.shape == (20 * math.ceil(1472 / 44), 44)
    counts = np.append(
        tags[batches.ravel()].sum(axis=0), (~tags[batches.ravel()].any(axis=1)).sum()
    )
    shares = np.append(class_weights(np.array([1000, 100, 4]), ratio), 0)
    shares = shares / shares.sum() * (1 - 368 / 1472)
    shares[3] = 368 / 1472  # at their natural share
    error = 4 * np.sqrt(draws * shares * (1 - shares))
    assert (np.abs(counts - draws * shares) < error).all()
    if ratio == 1:
        assert shares[0] == pytest.approx(0.25)


def test_a_list_is_used_up_before_it_restarts():
    tags = one_class_each([30, 7], untagged=5)
    batches = drawn(BalancedSampler(tags, 10, 5.0, seed=1), 30).ravel()
    for members in (range(30), range(30, 37), range(37, 42)):
        of_list = [number for number in batches if number in members]
        for start in range(0, len(of_list) - len(members) + 1, len(members)):
            assert sorted(of_list[start : start + len(members)]) == list(members)
        first, second = of_list[: len(members)], of_list[len(members) : 2 * len(members)]
        assert first != second or len(members) < 6


def test_a_clip_brings_its_other_tags():
    tags = np.array([[True, True], [True, False]])
    batches = drawn(BalancedSampler(tags, 4, 1.0, seed=0), 50).ravel()
    assert Counter(batches.tolist())[0] > len(batches) / 2


@pytest.mark.parametrize(
    "tags",
    [
        np.zeros((9, 3), bool),
        np.ones((9, 3), bool),
        one_class_each([9, 0, 0]),
        np.zeros((5, 0), bool),
    ],
)
def test_odd_tables_are_drawn_from_too(tags):
    batches = drawn(BalancedSampler(tags, 4, 5.0, seed=0), 3)
    assert batches.shape[1] == 4
    assert set(batches.ravel()) <= set(range(len(tags)))


def samplers(seed):
    tags = one_class_each([30, 7], untagged=5)
    return BalancedSampler(tags, 10, 5.0, seed), ShuffledSampler(43, 10, seed)


@pytest.mark.parametrize("kind", [0, 1])
def test_same_seed_same_batches_and_skipped_epochs_go_on_equal(kind):
    one, two, other = samplers(3)[kind], samplers(3)[kind], samplers(4)[kind]
    batches = drawn(one, 6)
    assert np.array_equal(batches, drawn(two, 6))
    assert not np.array_equal(batches, drawn(other, 6))
    resumed = samplers(3)[kind]
    for _ in range(4):
        for _ in resumed.epoch():
            pass
    assert np.array_equal(drawn(resumed, 2), batches[4 * one.batches_per_epoch :])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 9))
def test_shuffled_takes_each_clip_once_before_any_again(clips, size, seed):
    sampler = ShuffledSampler(clips, size, seed)
    batches = drawn(sampler, 5)
    assert batches.shape == (5 * math.ceil(clips / size), size)
    order = batches.ravel().tolist()
    for start in range(0, len(order) - clips + 1, clips):
        assert sorted(order[start : start + clips]) == list(range(clips))


@pytest.fixture(scope="module")
def official():
    if "EARMARK_DATA" not in os.environ:
        pytest.skip("EARMARK_DATA does not say where the DCASE 2017 tables are")
    path = Path(os.environ["EARMARK_DATA"]) / "dcase2017_task4" / "training_set.csv"
    table = read_labels(path)
    index = {name: k for k, name in enumerate(table.class_names)}
    tags = np.zeros((len(table.rows), len(index)), bool)
    for row, has in zip(table.rows, tags, strict=True):
        has[[index[label] for label in row.labels]] = True
    return tags, index


def test_the_official_table_is_drawn_five_to_one(official, record_property):
    tags, index = official
    car, alarm = index["Car"], index["Car alarm"]
    assert tags.shape == (51_172, 17)
    assert tags.sum() == 56_131
    assert (tags[:, car].sum(), tags[:, alarm].sum()) == (25_077, 180)
    sampler = BalancedSampler(tags, 44, 5.0, seed=0)
    assert sampler.batches_per_epoch == 1163
    share = sampler.draw_probabilities
    assert share[car] / share[alarm] == pytest.approx(5.0)
    assert share[car] == max(share)
    assert share[-1] == 0
    # A class's draws are its share of the epoch, within four standard deviations.
    draws = Counter()

    def counted(k, draw):
        def spy():
            draws[k] += 1
            return draw()

        return spy

    for k, deck in enumerate(sampler._decks):
        deck.draw = counted(k, deck.draw)
    batches = drawn(sampler, 1)
    assert batches.shape == (1163, 44)
    counts = np.array([draws[k] for k in range(17)])
    expected = share[:17] * batches.size
    assert (np.abs(counts - expected) < 4 * np.sqrt(expected)).all()
    # A drawn clip brings its other tags, so positives are less balanced than draws.
    positives = tags[batches.ravel()].sum(axis=0)
    assert (positives >= counts).all()
    record_property("draws, Car to Car alarm", float(counts[car] / counts[alarm]))
    record_property("positives, Car to Car alarm", float(positives[car] / positives[alarm]))
    assert positives[car] / positives[alarm] < tags[:, car].sum() / tags[:, alarm].sum() / 10


def test_positive_shares_are_what_batches_hold():
    tags = np.array([[1, 0], [1, 1], [1, 0], [0, 0]], bool)
    sampler = BalancedSampler(tags, batch_size=4, ratio=5.0, seed=0)
    held = [tags[batch].mean(axis=0) for _ in range(2000) for batch in sampler.epoch()]
    assert np.mean(held, axis=0) == pytest.approx(sampler.positive_shares, abs=0.02)
    assert sampler.positive_shares == pytest.approx([0.75, 0.375])


@pytest.mark.parametrize(("least", "batches"), [(1, 3), (12, 3), (13, 4), (40, 10)])
def test_few_clips_make_an_epoch_that_is_long_enough(least, batches):
    tags = np.eye(10, dtype=bool)
    balanced = BalancedSampler(tags, 4, 5, seed=0, min_clips=least)
    plain = ShuffledSampler(10, 4, seed=0, min_clips=least)
    shards = np.arange(10, dtype=np.int32) // 2
    sharded = ShardedSampler(sparse.csr_array(tags), shards, 2, 4, 5, seed=0, min_clips=least)
    for sampler in (balanced, plain, sharded):
        assert sampler.batches_per_epoch == batches
        assert [len(batch) for batch in sampler.epoch()] == [4] * batches
