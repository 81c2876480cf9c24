"""The systems that the paper compares itself with: sizes, shapes, and clips of unequal length."""

import re

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from earmark.config import (
    ContextMlpSettings,
    CrnnSettings,
    FrameCnnSettings,
    MultiScaleCnnSettings,
    settings_from,
)
from earmark.errors import UserError
from earmark.features import Normaliser
from earmark.model.baselines.frame_cnn import GaussianSmoothing
from earmark.model.build import build
from earmark.model.masking import MaskedBatchNorm
from earmark.recipes import names, systems
from earmark.training.loss import tag_loss

CLASSES = 3
SMALL = {
    "context_mlp": ContextMlpSettings(
        kind="context_mlp", context_frames=5, hidden_units=(6, 5), dropout=0.2
    ),
    "frame_cnn": FrameCnnSettings(
        kind="frame_cnn",
        filters=5,
        layers=2,
        kernel_frames=3,
        smoothing_frames=(1.0, 2.5),
        dropout=0.2,
    ),
    "multi_scale_cnn": MultiScaleCnnSettings(
        kind="multi_scale_cnn", segment_frames=(0, 7, 4), filters=(3, 4), dropout=0.2
    ),
}


def made(kind, bands=8, seed=0):
    torch.manual_seed(seed)
    statistics = Normaliser(np.linspace(-9, -3, bands), np.linspace(0.5, 3, bands))
    network = build(SMALL[kind], bands, CLASSES, statistics)
    for module in network.modules():
        if isinstance(module, MaskedBatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network


def features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3 - 6


def size(network):
    return sum(parameter.numel() for parameter in network.parameters())


def of_recipe(recipe, classes=17):
    """The network of a recipe of one system, fresh."""
    (settings,) = systems(recipe, {}).values()
    return of_settings(settings, classes)


def of_settings(settings, classes=17):
    bands = settings.features.mel_bands
    normaliser = Normaliser(np.zeros(bands), np.ones(bands))
    return build(settings.network, bands, classes, normaliser), bands


def test_parameters_of_the_recipes():
    # Five frames of 40 bands -> 50 -> 50 -> 17, each with its shift.
    assert size(of_recipe("dcase2017-baseline")[0]) == 200 * 50 + 50 + 50 * 50 + 50 + 50 * 17 + 17
    # Convolutions of 5 frames over 64 bands and twice over 128 filters, three batch norms, two
    # heads, and three widths for each class.
    convolutions = 5 * (64 * 128 + 2 * 128 * 128)
    assert size(of_recipe("frame-cnn")[0]) == convolutions + 3 * 256 + 2 * (128 * 17 + 17) + 3 * 17
    convolutions = 9 * (16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128**2)
    norms, head = 4 * (16 + 32 + 64 + 128), 256 * 17 + 17
    assert size(of_recipe("multi-scale-cnn-ensemble")[0]) == 3 * (convolutions + norms + head)
    gated = 873_122
    for recipe in ("gated-crnn-logmel", "gated-crnn-mfcc", "gated-crnn-logmel-at"):
        assert size(of_recipe(recipe)[0]) == gated
    # Half of the convolutions and norms, and one head.
    plain = 369_792 // 2 + 1_536 // 2 + 493_056 + 8_738 // 2
    assert size(of_recipe("crnn-logmel")[0]) == plain


COARSER = {
    "crnn-logmel": 8,
    "crnn-logmel-unbalanced": 8,
    "gated-crnn-logmel-at": 8,
    "gated-crnn-mfcc-at": 8,
    "gated-crnn-small": 4,
    "best-small": 4,
    "best-gated": 4,
    "best-deep": 4,
}
"""Feature frames in one frame of the output, where it isn't one."""

FRAMES = {"dcase2017-baseline": 499, "best-small": 239}
"""Feature frames of ten seconds, where these aren't the paper's."""


@pytest.mark.parametrize("recipe", [n for n in names() if n not in ("demo", "syllables")])
def test_ten_seconds_through_every_recipe(recipe):
    for name, settings in systems(recipe, {}).items():
        clock = settings.features.clock
        frames = clock.frame_count(10 * settings.features.rate_hz)
        name = re.sub(r"-\d$", "", name)  # a member that is there again
        assert frames == FRAMES.get(name, 240)
        network, bands = of_settings(settings)
        with torch.inference_mode():
            output = network.eval()(features(1, frames, bands))
        coarser = COARSER.get(name, 1)
        assert output.frame_logits.shape == (1, -(-frames // coarser), 17)
        assert settings.clock.frame_count(10 * settings.features.rate_hz) == -(-frames // coarser)
        assert output.clip_probabilities.shape == (1, 17)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("frames", [1, 2, 13, 28])
def test_probabilities_of_any_length(kind, frames):
    network = made(kind).eval()
    output = network(features(2, frames, 8))
    assert output.frame_probabilities.shape == output.log_weights.shape == (2, frames, CLASSES)
    clip = output.clip_probabilities
    assert bool(((clip >= 0) & (clip <= 1)).all())
    assert torch.allclose(clip + output.log_absent.exp(), torch.ones_like(clip), atol=1e-6)
    with pytest.raises(ValueError, match="at least one frame"):
        network(features(1, 0, 8))


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("training", [False, True])
def test_padding_is_not_heard(kind, training):
    """A clip in a batch of longer ones is what it is alone, up to the batch's statistics."""
    network = made(kind)
    alone, longer = features(1, 9, 8, seed=1), features(1, 16, 8, seed=2)
    padded = torch.cat([alone, torch.full((1, 7, 8), 99.0)], dim=1)
    lengths = torch.tensor([9, 16])
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    network.train(training)
    if training:  # statistics are of the batch: what lies beyond must not change them
        other = torch.cat([alone, torch.full((1, 7, 8), -50.0)], dim=1)
        expected = network(torch.cat([other, longer]), lengths)
        found = network(torch.cat([padded, longer]), lengths)
        assert torch.allclose(found.frame_logits[0, :9], expected.frame_logits[0, :9], atol=1e-5)
        assert torch.allclose(found.log_present, expected.log_present, atol=1e-5)
        return
    expected = network(alone, None)
    found = network(torch.cat([padded, longer]), lengths)
    assert torch.allclose(found.frame_logits[:1, :9], expected.frame_logits, atol=1e-5)
    assert torch.allclose(found.log_present[:1], expected.log_present, atol=1e-5)
    assert torch.allclose(found.log_absent[:1], expected.log_absent, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_a_few_steps_learn(kind):
    """Class 0 is loud in the first band, class 1 in the last; class 2 never occurs."""
    network = made(kind)
    given = features(16, 21, 8)
    tags = torch.zeros(16, CLASSES)
    tags[::2, 0], tags[1::2, 1] = 1.0, 1.0
    given[::2, :, 0] += 12.0
    given[1::2, :, 7] += 12.0
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    losses = []
    for _ in range(40):
        output = network(given)
        loss = tag_loss(output.log_present, output.log_absent, tags)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
    told = network.eval()(given).clip_probabilities > 0.5
    assert torch.equal(told, tags > 0)


def test_frames_inherit_tags_and_vote():
    network = made("context_mlp").eval()
    given, tags = features(2, 12, 8), torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    output = network(given)
    votes = (output.frame_probabilities > 0.5).float().mean(dim=1)
    assert torch.allclose(output.clip_probabilities, votes)
    for layer in network.layers:
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    output = network.train()(given)
    by_frame = torch.nn.functional.binary_cross_entropy_with_logits(
        output.frame_logits, tags[:, None].expand(2, 12, 3)
    )
    assert tag_loss(output.log_present, output.log_absent, tags).item() == pytest.approx(
        by_frame.item(), rel=1e-5
    )


def test_context_by_hand():
    network = made("context_mlp").eval()
    given = features(1, 6, 8)
    normed = (given[0] - network.mean) / network.deviation
    rows = torch.cat([torch.zeros(2, 8), normed, torch.zeros(2, 8)])
    for frame in range(6):
        # Band by band, its five frames side by side.
        around = rows[frame : frame + 5].T.flatten()
        expected = network.layers(around)
        assert torch.allclose(network(given).frame_logits[0, frame], expected, atol=1e-5)


def test_segments_are_seen_by_themselves():
    network = made("multi_scale_cnn").eval()
    given = features(1, 28, 8)
    changed = given.clone()
    changed[0, 25:] += 5.0
    with torch.inference_mode():
        for number, length in ((1, 7), (2, 4)):
            member = network.members[number]
            before, after = (network._of_frames(member, length, f, None) for f in (given, changed))
            same = 25 // length * length
            assert torch.equal(before[0, :same], after[0, :same])
            assert not torch.allclose(before[0, same:], after[0, same:])
            assert torch.equal(before[0, 0], before[0, length - 1])
        normed = (given - network.mean) / network.deviation
        each = [
            torch.sigmoid(network._of_frames(member, length, normed, None))
            for member, length in zip(network.members, (28, 7, 4), strict=True)
        ]
        mean = torch.stack(each).mean(dim=0)
        output = network(given)
        assert torch.allclose(output.frame_probabilities, mean, atol=1e-6)
        assert torch.allclose(output.clip_probabilities, mean.mean(dim=1), atol=1e-6)


def test_smoothing_is_scipys_gaussian():
    smoothing = GaussianSmoothing((2.0,), 1)
    scores = torch.randn(1, 60, 1)
    found = smoothing(scores, None)[0, :, 0].detach().numpy()
    inside = scores[0, :, 0].numpy()
    weights = gaussian_filter1d(np.ones(60), 2.0, mode="constant", truncate=3.0)
    expected = gaussian_filter1d(inside, 2.0, mode="constant", truncate=3.0) / weights
    assert np.allclose(found, expected, atol=1e-5)


def test_settings_of_networks_are_told_apart():
    assert isinstance(settings_from({}).network, CrnnSettings)
    assert isinstance(settings_from({"network": {"filters": 8}}).network, CrnnSettings)
    for settings in SMALL.values():
        again = settings_from({"network": settings.model_dump()}).network
        assert type(again) is type(settings)
    with pytest.raises(UserError, match=r"network.kind must be one of crnn, .*, came as 'mlp'"):
        settings_from({"network": {"kind": "mlp"}})
    with pytest.raises(UserError, match=r"no setting 'network.layer'; did you mean 'layers'"):
        settings_from({"network": {"kind": "frame_cnn", "layer": 3}})
    with pytest.raises(UserError, match=r"'network.filters' is missing"):
        settings_from({"network": {"kind": "frame_cnn"}})
