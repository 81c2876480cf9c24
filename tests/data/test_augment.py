"""Clips that are changed at random stay what their tags say."""

import math

import numpy as np
import pytest
import torch

from earmark.config import AugmentationSettings, FeatureSettings, Settings
from earmark.data.augment import Augmentation
from earmark.features import FeatureExtractor

CLIPS, FRAMES, BANDS = 6, 12, 16
DECIBEL = math.log(10) / 20


def augment(seed=0, **settings):
    change = Augmentation(AugmentationSettings(**settings), torch.Generator().manual_seed(seed))

    def both(features, lengths, tags, known=None):
        return change(change.turned(features, lengths), lengths, tags, known)

    return both


@pytest.fixture
def features():
    return torch.randn(CLIPS, FRAMES, BANDS, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tags():
    return torch.eye(CLIPS)


LENGTHS = torch.tensor([12, 5, 12, 1, 9, 12])


def test_nothing_changes_at_the_defaults(features, tags):
    changed, of_changed, known = augment()(features, LENGTHS, tags)
    assert torch.equal(changed, features)
    assert torch.equal(of_changed, tags)
    assert known is None


def test_the_same_generator_gives_the_same(features, tags):
    settings = {"shift": True, "pitch_bands": 2.0, "filter_db": 3.0, "mixed_share": 0.5}
    one, again, other = (augment(seed, **settings)(features, None, tags)[0] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_shifted_clip_is_turned_within_its_length(features, tags):
    changed, of_changed, _ = augment(shift=True)(features, LENGTHS, tags)
    assert torch.equal(of_changed, tags)
    found = []
    for before, after, length in zip(features, changed, LENGTHS.tolist(), strict=True):
        assert torch.equal(before[length:], after[length:])
        turns = [
            n for n in range(length) if torch.equal(before[:length].roll(n, 0), after[:length])
        ]
        assert len(turns) == 1
        found += turns
    assert len(set(found)) > 2


def test_a_moved_line_stays_one_line_in_all_frames(tags):
    features = torch.full((CLIPS, FRAMES, BANDS), -10.0)
    features[:, :, 8] = 0.0
    changed, _, _ = augment(pitch_bands=3.0)(features, None, tags)
    assert torch.equal(changed, changed[:, :1].expand_as(changed))
    weight = changed[:, 0] + 10
    assert torch.allclose(weight.sum(dim=1), torch.tensor(10.0))
    places = (weight * torch.arange(BANDS)).sum(dim=1) / 10
    moved = places - 8
    assert moved.abs().max() <= 3
    assert moved.min() < -0.5
    assert moved.max() > 0.5


def test_stretching_keeps_the_lowest_band_and_spreads_the_rest(tags):
    ramp = torch.arange(float(BANDS)).expand(CLIPS, FRAMES, BANDS)
    changed, _, _ = augment(pitch_stretch=0.2)(ramp, None, tags)
    assert torch.equal(changed[:, :, 0], ramp[:, :, 0])
    spread = changed[:, 0, 10] / 10
    assert ((spread >= 0.8) & (spread <= 1.2)).all()
    assert spread.max() - spread.min() > 0.05
    inside = spread[:, None] * torch.arange(11)
    assert torch.allclose(changed[:, 0, :11], inside, atol=1e-5)


def test_a_frequency_response_is_the_same_all_along(features, tags):
    changed, _, _ = augment(filter_db=6.0)(features, None, tags)
    response = (changed - features) / DECIBEL
    assert torch.allclose(response, response[:, :1].expand_as(response), atol=1e-4)
    assert response.abs().max() <= 6
    assert response[:, 0].std(dim=1).min() > 0.1
    steps = response[:, 0].diff(dim=1)
    assert steps.abs().max() < 12 * 6 / (BANDS - 1)  # straight between at most seven bands


def test_a_level_is_what_a_gain_does_to_the_samples(tags):
    samples = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (2, 8000))).float()
    extract = FeatureExtractor(FeatureSettings(mel_bands=BANDS))
    louder = extract(samples * 10 ** (6 / 20)) - extract(samples)
    assert torch.allclose(louder, torch.tensor(6 * DECIBEL), atol=1e-3)
    features = torch.zeros(CLIPS, FRAMES, BANDS)
    changed, _, _ = augment(level_db=6.0)(features, None, tags)
    assert torch.equal(changed, changed[:, :1, :1].expand_as(changed))
    assert changed.abs().max() <= 6 * DECIBEL
    assert len(changed[:, 0, 0].unique()) == CLIPS


def test_mixed_clips_have_the_tags_of_both(features, tags):
    changed, of_changed, _ = augment(mixed_share=1.0, mixed_db=0.0)(features, None, tags)
    assert set(of_changed.sum(dim=1).tolist()) <= {1.0, 2.0}
    for n, row in enumerate(of_changed):
        sources = row.nonzero().flatten().tolist()
        assert n in sources
        other = next((s for s in sources if s != n), n)
        assert torch.allclose(changed[n], torch.logaddexp(features[n], features[other]))


def test_some_clips_are_mixed_and_some_not(tags):
    tags = torch.eye(200)
    features = torch.zeros(200, 2, 2)
    changed, of_changed, _ = augment(mixed_share=0.3)(features, None, tags)
    mixed = of_changed.sum(dim=1) == 2
    assert 30 < mixed.sum() < 90
    assert (changed[mixed] > 0).all()
    untouched = changed[:, 0, 0] == 0
    assert untouched.sum() > 100


def test_the_level_of_what_is_mixed_in_varies(tags):
    features = torch.zeros(CLIPS, FRAMES, BANDS)
    changed, _, _ = augment(mixed_share=1.0, mixed_db=5.0)(features, None, tags)
    added = torch.log(torch.expm1(changed[:, 0, 0])) / DECIBEL
    assert added.abs().max() <= 5.001
    assert added.std() > 0.5


def test_nothing_longer_is_mixed_into_a_clip(features, tags):
    changed, of_changed, _ = augment(mixed_share=1.0)(features, LENGTHS, tags)
    for n, row in enumerate(of_changed):
        for source in row.nonzero().flatten().tolist():
            assert LENGTHS[source] <= LENGTHS[n]
        longest = max(
            int(LENGTHS[s]) for s in row.nonzero().flatten().tolist() if s != n or row.sum() == 1
        )
        assert torch.equal(changed[n, longest:], features[n, longest:])


def test_of_a_mixture_is_known_what_is_known_of_both_or_heard_in_one():
    tags = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    known = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    features = torch.zeros(2, 2, 2)
    for seed in range(20):
        _, mixed, told = augment(seed, mixed_share=1.0)(features, None, tags, known)
        if mixed[1, 0]:  # the second one has got the first one
            assert told.tolist() == [[1, 1, 0], [1, 1, 0]]
            return
    raise AssertionError("nothing was mixed")


def test_a_process_without_clips_has_nothing_to_change():
    nothing = torch.zeros(0, 1, BANDS)
    changed, tags, _ = augment(shift=True, mixed_share=1.0)(nothing, None, torch.zeros(0, 3))
    assert changed.shape == nothing.shape
    assert len(tags) == 0


def test_bands_of_other_features_are_not_changed():
    Settings.model_validate({"features": {"kind": "mfcc"}, "augmentation": {"shift": True}})
    with pytest.raises(ValueError, match=r"log_mel, and features.kind is mfcc"):
        Settings.model_validate({"features": {"kind": "mfcc"}, "augmentation": {"filter_db": 3}})
