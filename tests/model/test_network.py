"""The network: its size, its shapes, and clips of unequal length that don't see each other."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from earmark.config import CrnnSettings
from earmark.features import Normaliser
from earmark.model.crnn import GatedCRNN
from earmark.model.gating import GatedConv, ReluConv
from earmark.model.localisation import Localisation
from earmark.model.masking import MaskedBatchNorm, MaskedMaxPool
from earmark.model.recurrent import BiGru, GatedBiGru

AT, SED = (2, 2, 2), (1, 1, 1)
BANDS, CLASSES = 8, 3


def network(seed=0, **changes):
    torch.manual_seed(seed)
    given = CrnnSettings(**({"filters": 4, "recurrent_units": 4} | changes))
    # Far from 0 and 1, so that padding by zeros is not zero once normalised.
    statistics = Normaliser(np.linspace(-9, -3, BANDS), np.linspace(0.5, 3, BANDS))
    made = GatedCRNN(given, BANDS, CLASSES, statistics)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    for module in made.modules():
        if isinstance(module, MaskedBatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return made


def features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3 - 6


def size(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("pooling", [SED, AT])
def test_parameters_of_the_paper(pooling):
    made = GatedCRNN(
        CrnnSettings(time_pooling=pooling), 64, 17, Normaliser(np.zeros(64), np.ones(64))
    )
    assert sum(size(layer.convolution) for layer in made.layers) == 369_792
    assert sum(size(layer.norm) for layer in made.layers) == 1_536
    assert size(made.recurrent) == 493_056
    assert size(made.localisation) == 8_738
    assert size(made) == 873_122


@pytest.mark.parametrize(("pooling", "frames"), [(SED, 240), (AT, 30)])
def test_frames_out(pooling, frames):
    made = GatedCRNN(
        CrnnSettings(time_pooling=pooling, filters=2, recurrent_units=2),
        64,
        17,
        Normaliser(np.zeros(64), np.ones(64)),
    ).eval()
    output = made(features(1, 240, 64))
    assert output.frame_probabilities.shape == output.log_weights.shape == (1, frames, 17)
    assert output.clip_probabilities.shape == output.log_absent.shape == (1, 17)


def test_the_gate_by_hand():
    torch.manual_seed(0)
    layer = GatedConv(2, 3, 3).eval()
    nn.init.normal_(layer.norm.weight)
    nn.init.normal_(layer.norm.bias)
    inputs = torch.randn(1, 2, 4, 5)
    weight = (
        layer.convolution.weight * (layer.norm.weight / math.sqrt(1 + 1e-5))[:, None, None, None]
    )
    padded = nn.functional.pad(inputs, (1, 1, 1, 1))[0]
    output = layer(inputs)[0]
    for f in range(3):
        for t in range(4):
            for band in range(5):
                patch = padded[:, t : t + 3, band : band + 3]
                linear = (weight[f] * patch).sum() + layer.norm.bias[f]
                gate = (weight[f + 3] * patch).sum() + layer.norm.bias[f + 3]
                expected = linear / (1 + torch.exp(-gate))
                assert output[f, t, band].item() == pytest.approx(expected.item(), abs=1e-5)


def test_relu_lets_nothing_negative_through():
    layer = ReluConv(1, 4, 3)
    output = layer(torch.randn(2, 1, 6, 5))
    assert output.min() == 0
    assert output.max() > 0


def test_the_gated_recurrent_layer_is_a_product():
    layer = GatedBiGru(5, 3)
    inputs = torch.randn(2, 6, 5)
    expected = layer.value(inputs) * torch.sigmoid(layer.gate(inputs))
    torch.testing.assert_close(layer(inputs), expected)
    assert size(layer) == 2 * size(BiGru(5, 3))


FORMS = (
    [
        {"time_pooling": pooling, "recurrent": recurrent}
        for pooling in (SED, AT)
        for recurrent in ("gru", "gated_gru", "none")
    ]
    + [
        {"time_pooling": pooling, "localisation": kind, "activation": activation}
        for pooling, kind, activation in [
            (AT, "max", "gated"),
            (SED, "mean", "relu"),
            ((3, 1, 2), "linear_softmax", "gated"),
            ((2, 1, 1), "attention_over_time", "relu"),
        ]
    ]
    + [{"time_pooling": AT, "background": True}]
)
each_form = pytest.mark.parametrize("form", FORMS, ids=lambda f: "-".join(map(str, f.values())))


@each_form
@pytest.mark.parametrize("garbage", [0.0, 1e4, math.nan])
def test_a_clip_in_a_padded_batch_is_itself_alone(form, garbage):
    made = network(**form).eval()
    lengths = torch.tensor([13, 21, 1, 8, 16])
    batch = features(5, 21, BANDS)
    for row, length in zip(batch, lengths.tolist(), strict=True):
        row[length:] = garbage
    together = made(batch, lengths)
    assert torch.isfinite(together.log_present).all()
    for b, length in enumerate(lengths.tolist()):
        alone = made(batch[b : b + 1, :length])
        frames = alone.frame_logits.shape[1]
        for mine, whole in [
            (alone.frame_probabilities[0], together.frame_probabilities[b, :frames]),
            (alone.log_weights[0], together.log_weights[b, :frames]),
            (alone.log_present[0], together.log_present[b]),
            (alone.log_absent[0], together.log_absent[b]),
        ]:
            torch.testing.assert_close(mine, whole, atol=1e-5, rtol=1e-5)
        assert (together.log_weights[b, frames:] == -torch.inf).all()


def trained_once(form, batch, lengths):
    made = network(**form).train()
    output = made(batch, lengths)
    (output.log_present.sum() - 2 * output.log_absent.sum()).backward()
    statistics = [b for m in made.modules() if isinstance(m, MaskedBatchNorm) for b in m.buffers()]
    return output, statistics, [parameter.grad for parameter in made.parameters()]


@each_form
@pytest.mark.parametrize("garbage", [0.0, -50.0, math.nan])
def test_more_padding_changes_nothing_in_training(form, garbage):
    lengths = torch.tensor([9, 5, 12])
    short = features(3, 12, BANDS)
    long = torch.full((3, 23, BANDS), garbage)
    long[:, :12] = short
    for row, length in zip(long, lengths.tolist(), strict=True):
        row[length:] = garbage
    output, statistics, gradients = trained_once(form, short, lengths)
    padded_output, padded_statistics, padded_gradients = trained_once(form, long, lengths)
    torch.testing.assert_close(padded_output.log_present, output.log_present, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(padded_output.log_absent, output.log_absent, atol=1e-5, rtol=1e-5)
    for mine, padded in zip(statistics, padded_statistics, strict=True):
        torch.testing.assert_close(mine, padded, atol=1e-6, rtol=1e-6)
    for mine, padded in zip(gradients, padded_gradients, strict=True):
        assert torch.isfinite(padded).all()
        torch.testing.assert_close(mine, padded, atol=1e-4, rtol=1e-3)


def test_masked_norm_with_full_lengths_is_the_plain_one():
    torch.manual_seed(0)
    ours, plain = MaskedBatchNorm(3), nn.BatchNorm2d(3)
    for _ in range(3):
        mine = (torch.randn(4, 3, 5, 6) * 4 + 7).requires_grad_()
        theirs = mine.detach().clone().requires_grad_()
        weights = torch.randn(4, 3, 5, 6)
        one, two = ours(mine, torch.full((4,), 5)), plain(theirs)
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
        (one * weights).sum().backward()
        (two * weights).sum().backward()
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-4)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer, atol=1e-6, rtol=1e-6)


def test_masked_norm_is_the_plain_one_over_the_frames_inside():
    values = torch.randn(2, 1, 4, 3)
    ours, plain = MaskedBatchNorm(1), nn.BatchNorm2d(1)
    found = ours(values, torch.tensor([4, 2]))
    inside = torch.cat([values[0, 0], values[1, 0, :2]])
    expected = plain(inside[None, None])[0, 0]
    torch.testing.assert_close(found[0, 0], expected[:4], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1, 0, :2], expected[4:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.running_var, plain.running_var)


def test_pooling_rounds_up_and_stays_inside():
    pool = MaskedMaxPool(2, 2)
    inputs = -torch.ones(2, 1, 5, 3)
    inputs[1, 0, 3:] = 9
    pooled, lengths = pool(inputs, torch.tensor([5, 3]))
    assert pooled.shape == (2, 1, 3, 2)
    assert lengths.tolist() == [3, 2]
    assert (pooled[0] == -1).all()
    assert (pooled[1, :, :2] == -1).all()
    assert (pooled[1, :, 2] == 0).all()


@each_form
def test_one_frame_is_enough_and_none_is_an_error(form):
    made = network(**form)
    for mode in (True, False):
        made.train(mode)
        output = made(features(2, 1, BANDS))
        assert output.frame_logits.shape == (2, 1, CLASSES)
        assert torch.isfinite(output.log_present).all()
    with pytest.raises(ValueError, match="at least one frame"):
        made(torch.zeros(2, 0, BANDS))
    with pytest.raises(ValueError, match="at least one frame"):
        Localisation(4, 2, "mean")(torch.zeros(2, 0, 4))


@each_form
def test_permuting_classes_permutes_the_output(form):
    made, order = network(**form).eval(), torch.tensor([2, 0, 1])
    inputs = features(2, 11, BANDS)
    before = made(inputs)
    with torch.no_grad():
        for head in (made.localisation.classifier, made.localisation.localiser):
            if head is not None:
                head.weight.copy_(head.weight[order])
                head.bias.copy_(head.bias[order])
    after = made(inputs)
    torch.testing.assert_close(after.frame_logits, before.frame_logits[:, :, order])
    torch.testing.assert_close(after.log_weights, before.log_weights[:, :, order])
    torch.testing.assert_close(after.log_present, before.log_present[:, order])


def test_features_are_normalised_first():
    made = network().eval()
    plain = GatedCRNN(made.settings, BANDS, CLASSES, Normaliser(np.zeros(BANDS), np.ones(BANDS)))
    plain.load_state_dict(made.state_dict())
    inputs = features(1, 9, BANDS)
    standard = (inputs - made.mean) / made.deviation
    torch.testing.assert_close(plain.eval()(standard).log_present, made(inputs).log_present)


def test_bfloat16_keeps_localisation_in_float32():
    made = network().eval()
    inputs = features(2, 12, BANDS)
    exact = made(inputs, torch.tensor([12, 7]))
    kinds = {}
    for name, module in made.named_modules():
        module.register_forward_hook(
            lambda _, inputs, output, name=name: kinds.update(
                {name: getattr(output, "dtype", None)}
            )
        )
    with torch.autocast("cpu", torch.bfloat16):
        rough = made(inputs, torch.tensor([12, 7]))
    assert {tensor.dtype for tensor in rough} == {torch.float32}
    assert kinds["layers.0.convolution"] == torch.bfloat16
    assert kinds["recurrent"] == kinds["localisation.classifier"] == torch.float32
    assert kinds["localisation.localiser"] == torch.float32
    torch.testing.assert_close(rough.log_present, exact.log_present, atol=0.1, rtol=0.1)
    assert not torch.equal(rough.log_present, exact.log_present)


def test_bfloat16_trains_with_padding():
    made = network(time_pooling=AT).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = made(features(2, 12, BANDS), torch.tensor([12, 3]))
    output.log_present.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in made.parameters())


def test_dropout_acts_in_training_alone():
    made = network(dropout=0.5)
    inputs = features(2, 12, BANDS)
    assert not torch.equal(made(inputs).log_present, made(inputs).log_present)
    made.eval()
    assert torch.equal(made(inputs).log_present, made(inputs).log_present)
    without = network(dropout=0.0)
    assert torch.equal(without(inputs).log_present, without(inputs).log_present)


def test_every_number_of_the_settings_is_read():
    base = size(network())
    for change in (
        {"filters": 5},
        {"filters": (4, 4, 5)},
        {"kernel_size": 5},
        {"layers_per_block": 1},
        {"layers_per_block": (2, 2, 1)},
        {"time_pooling": (1,), "frequency_pooling": (2,)},
        {"frequency_pooling": (1, 1, 1)},
        {"recurrent_units": 5},
        {"recurrent": "gated_gru"},
        {"recurrent": "none"},
        {"activation": "relu"},
        {"localisation": "mean"},
        {"background": True},
    ):
        assert size(network(**change)) != base, change


def test_each_block_has_its_number_of_filters():
    made = network(filters=(2, 3, 5), layers_per_block=2)
    assert [layer.norm.num_features // 2 for layer in made.layers] == [2, 2, 3, 3, 5, 5]
    same, alike = network(filters=4), network(filters=(4, 4, 4))
    assert [p.shape for p in same.parameters()] == [p.shape for p in alike.parameters()]
    with pytest.raises(ValueError, match="filters needs one number, or one a block"):
        CrnnSettings(filters=(4, 5))


def test_each_block_has_its_number_of_layers():
    made = network(filters=(2, 3, 5), layers_per_block=(1, 3, 2))
    assert [layer.norm.num_features // 2 for layer in made.layers] == [2, 3, 3, 3, 5, 5]
    assert made(features(2, 20, BANDS)).frame_logits.shape == (2, 20, CLASSES)
    same, alike = network(layers_per_block=2), network(layers_per_block=(2, 2, 2))
    assert [p.shape for p in same.parameters()] == [p.shape for p in alike.parameters()]
    with pytest.raises(ValueError, match="layers_per_block needs one number, or one a block"):
        CrnnSettings(layers_per_block=(1, 2))


def test_one_number_for_all_blocks_is_kept_as_one():
    for given in (1, (1, 2, 2)):
        settings = CrnnSettings(layers_per_block=given)
        kept = settings.model_dump(mode="json")
        assert kept["layers_per_block"] == (given if given == 1 else list(given))
        assert CrnnSettings.model_validate(kept) == settings


def test_the_background_is_the_level_that_a_fifth_of_the_clip_lies_below():
    made = network(background=True)
    batch = features(2, 20, BANDS)
    maps = made.maps(batch, torch.tensor([20, 11]))
    # Where all clips fill the batch it is found in another way.
    assert torch.equal(made.maps(batch, None), made.maps(batch, torch.tensor([20, 20])))
    assert torch.equal(maps[:, 0], batch)
    for clip, length, of_clip in zip(maps, (20, 11), batch, strict=True):
        level = np.sort(of_clip[:length].numpy(), axis=0)[length // 5]
        assert np.array_equal(clip[1, :length].numpy(), of_clip[:length].numpy() - level)
    assert torch.equal(made.maps(batch, None), made.maps(batch, torch.tensor([20, 20])))
    # What lasts is gone, whatever its level; what is brief stays as loud as it is above that.
    steady = torch.full((1, 20, BANDS), 3.0)
    steady[:, 7:9] += 2
    above = made.maps(steady, None)[0, 1]
    brief = torch.zeros(20, BANDS)
    brief[7:9] = 2
    assert torch.equal(above, brief)
