"""Wrong tags are told from right ones, in rare classes as in frequent ones."""

import numpy as np
import pytest

from earmark.data.doubts import doubts, surest_stretch
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock


def judged(rng, clips, share, spread, wrong):
    """True tags and probabilities of a class; ``wrong`` of the tags, and as many others, flip."""
    true = np.arange(clips) < round(share * clips)
    odds = np.where(true, spread, -spread) + rng.standard_normal(clips)
    flips = np.zeros(clips, bool)
    count = round(wrong * true.sum())
    flips[:count] = flips[clips - count :] = True
    return true ^ flips, 1 / (1 + np.exp(-odds)), flips


@pytest.mark.parametrize("share", [0.03, 0.2, 0.5])
def test_flipped_tags_come_first(share):
    rng = np.random.default_rng(0)
    tags, sounds, flips = judged(rng, 2000, share, 3.0, 0.1)
    found = doubts(tags[:, None], sounds[:, None].astype(np.float32))
    order = np.argsort(-found.doubt[:, 0])[: flips.sum()]
    assert flips[order].mean() > 0.75
    assert flips[found.suspected[:, 0]].mean() > 0.6
    assert found.suspected[flips, 0].mean() > 0.45
    assert found.suspected[~flips, 0].mean() < 0.02


def test_right_tags_are_hardly_suspected():
    tags, sounds, _ = judged(np.random.default_rng(1), 2000, 0.3, 3.0, 0.0)
    assert doubts(tags[:, None], sounds[:, None]).suspected.mean() < 0.005


def test_of_a_class_that_is_hardly_told_no_tag_is_found_missing():
    tags, sounds, _ = judged(np.random.default_rng(1), 2000, 0.1, 0.3, 0.0)
    found = doubts(tags[:, None], sounds[:, None])
    assert np.isfinite(found.doubt).all()
    assert found.suspected[~tags].mean() < 0.01


def test_classes_don_t_touch_each_other():
    rng = np.random.default_rng(2)
    of_classes = [judged(rng, 500, share, 2.0, 0.1) for share in (0.1, 0.4)]
    tags = np.stack([tags for tags, _, _ in of_classes], axis=1)
    sounds = np.stack([sounds for _, sounds, _ in of_classes], axis=1)
    both = doubts(tags, sounds)
    for k in range(2):
        alone = doubts(tags[:, [k]], sounds[:, [k]])
        np.testing.assert_array_equal(both.doubt[:, [k]], alone.doubt)
        np.testing.assert_array_equal(both.suspected[:, [k]], alone.suspected)


def test_the_contrary_of_all_tags_has_the_same_doubts():
    tags, sounds, _ = judged(np.random.default_rng(3), 300, 0.2, 2.0, 0.1)
    one, other = (doubts(t[:, None], p[:, None]) for t, p in ((tags, sounds), (~tags, 1 - sounds)))
    np.testing.assert_allclose(one.doubt, other.doubt, atol=1e-4)
    np.testing.assert_array_equal(one.suspected, other.suspected)


def test_what_models_can_t_tell_is_not_judged():
    rng = np.random.default_rng(4)
    tags = np.zeros((100, 4), bool)
    tags[:30, 0] = tags[:30, 1] = tags[:, 2] = True
    sounds = rng.uniform(size=(100, 4))
    sounds[:30, 0] *= 0.5  # lower with the tag than without
    sounds[:30, 1] += 0.5
    sounds[7, 1] = np.nan
    found = doubts(tags, np.clip(sounds, 0, 1))
    assert np.isnan(found.doubt[:, [0, 2, 3]]).all()
    assert np.flatnonzero(np.isnan(found.doubt[:, 1])).tolist() == [7]
    assert not found.suspected[:, [0, 2, 3]].any()


def test_certain_probabilities_stay_finite():
    tags = np.array([[True], [True], [False], [False], [False]])
    sounds = np.array([[1.0], [0.0], [0.0], [0.0], [1.0]], np.float32)
    found = doubts(tags, sounds)
    assert np.isfinite(found.doubt).all()
    assert found.doubt[1] > 0.5 > found.doubt[0]


def test_the_surest_stretch_is_around_the_peak():
    probabilities = np.zeros((10, 4), np.float32)
    probabilities[2:4, 0] = 0.3
    probabilities[5:8, 0] = 0.5, 0.9, 0.46
    probabilities[8, 0] = 0.44
    probabilities[:, 1] = 0.2
    probabilities[9, 2] = 1.0
    clock = FrameClock(1000, 100, 100)
    found = surest_stretch(ScoreTrack(probabilities, tuple("abcd"), clock, end_seconds=1.05))
    np.testing.assert_allclose(found, [[0.5, 0.8], [0, 1.05], [0.9, 1.05], [0, 1.05]])
