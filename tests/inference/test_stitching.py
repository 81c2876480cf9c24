"""Windows that cover every frame, and blend into one track."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.inference.stitching import Stitcher, WindowPlan


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 60),
    st.floats(0, 0.95),
    st.integers(1, 8),
    st.lists(st.integers(1, 90), min_size=1, max_size=6),
)
def test_windows_cover_every_frame(length, overlap, align, arrivals):
    plan = WindowPlan(length, overlap, align)
    known, windows = 0, []
    for more in arrivals:
        known += more
        needed = plan.needed_from
        ready = list(plan.ready(known))
        assert all(needed <= start and stop < known for start, stop in ready)
        windows += ready
    needed = plan.needed_from
    windows += (last := list(plan.finish(known)))
    assert all(start >= needed for start, _ in last)
    covered = np.zeros(known, int)
    for start, stop in windows:
        assert start % align == 0
        assert stop - start <= plan.length
        covered[start:stop] += 1
    assert (covered > 0).all()
    assert windows[-1][1] == known
    assert all(stop - start == plan.length for start, stop in windows[:-1])
    assert all(a[0] < b[0] for a, b in itertools.pairwise(windows))
    if known <= length:
        assert windows == [(0, known)]


def test_windows_do_not_depend_on_how_frames_arrive():
    one, many = WindowPlan(30, 0.5), WindowPlan(30, 0.5)
    slowly = [window for known in range(1, 101) for window in many.ready(known)]
    assert [*slowly, *many.finish(100)] == list(one.finish(100))
    assert list(WindowPlan(30, 0.5).finish(100)) == [
        (0, 30), (15, 45), (30, 60), (45, 75), (60, 90), (70, 100),
    ]  # fmt: skip
    assert list(WindowPlan(30, 0.0).finish(90)) == [(0, 30), (30, 60), (60, 90)]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 20), st.floats(0, 0.9), st.integers(1, 90), st.integers(0, 9))
def test_windows_that_agree_blend_to_the_whole(length, overlap, total, seed):
    rng = np.random.default_rng(seed)
    frames = rng.random((total, 4)).astype(np.float32)
    weights = rng.random((total, 4)).astype(np.float32)
    stitcher = Stitcher(4, 2)
    done = []
    for start, stop in WindowPlan(length, overlap).finish(total):
        done.append(stitcher.add(start, frames[start:stop], weights[start:stop], np.zeros(2, "f4")))
    done.append(stitcher.finish())
    assert np.array_equal(np.concatenate([part.frames for part in done]), frames)
    assert np.array_equal(np.concatenate([part.weights for part in done]), weights)
    starts = np.cumsum([0, *(len(part.frames) for part in done)])
    assert [part.start for part in done] == starts[:-1].tolist()


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 12), st.integers(1, 6), st.integers(2, 5), st.integers(0, 99))
def test_blending_is_a_weighted_mean_by_loops(length, hop, count, seed):
    hop = min(hop, length)
    rng = np.random.default_rng(seed)
    total = (count - 1) * hop + length
    stitcher, done = Stitcher(2, 1), []
    above, below, tags = np.zeros((total, 2)), np.zeros((total, 1)), np.zeros(total)
    for number in range(count):
        frames = rng.random((length, 2)).astype(np.float32)
        clip = rng.random(1).astype(np.float32)
        done.append(stitcher.add(number * hop, frames, 2 * frames, clip))
        for t in range(length):
            share = np.sin(np.pi * (t + 0.5) / length) ** 2
            above[number * hop + t] += share * frames[t]
            below[number * hop + t] += share
            tags[number * hop + t] = max(tags[number * hop + t], clip[0])
    done.append(stitcher.finish())
    blended = np.concatenate([part.frames for part in done])
    np.testing.assert_allclose(blended, above / below, rtol=1e-9)
    np.testing.assert_allclose(np.concatenate([p.weights for p in done]), 2 * blended, rtol=1e-6)
    np.testing.assert_allclose(np.concatenate([p.local_tags for p in done])[:, 0], tags)


def test_what_is_given_never_changes_again():
    stitcher = Stitcher(1, 1)
    stitcher.add(0, np.ones((4, 1), "f4"), np.ones((4, 1), "f4"), np.ones(1, "f4"))
    done = stitcher.add(2, np.zeros((4, 1), "f4"), np.ones((4, 1), "f4"), np.ones(1, "f4"))
    before = done.frames.copy()
    stitcher.add(3, np.full((4, 1), 9, "f4"), np.ones((4, 1), "f4"), np.ones(1, "f4"))
    assert np.array_equal(done.frames, before)
    assert before[:, 0].tolist() == [1, 1]


@pytest.mark.parametrize(("frames", "align"), [(250, 8), (7, 8), (240, 8), (1, 1)])
def test_the_longest_training_clip_is_one_window(frames, align):
    assert list(WindowPlan(frames, 0.5, align).finish(frames)) == [(0, frames)]
