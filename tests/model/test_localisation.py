"""Eqs. 3-4 by loops, and eq. 1 in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.model.localisation import Localisation, one_at_a_time, pool
from earmark.training.loss import tag_loss

KINDS = ["attention", "attention_over_time", "linear_softmax", "mean", "max"]


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def by_loops(made, frames):
    """Clip probabilities of one clip (T, C), as the paper writes them."""
    logits = made.classifier(frames).tolist()
    z = made.localiser(frames).tolist() if made.localiser is not None else None
    count, classes = len(logits), len(logits[0])
    clip = []
    for k in range(classes):
        o = [sigmoid(logits[t][k]) for t in range(count)]
        if made.kind == "attention":
            weights = [
                math.exp(z[t][k]) / sum(math.exp(z[t][j]) for j in range(classes))
                for t in range(count)
            ]
        elif made.kind == "attention_over_time":
            total = sum(math.exp(z[t][k]) for t in range(count))
            weights = [math.exp(z[t][k]) / total for t in range(count)]
        elif made.kind == "linear_softmax":
            weights = o
        elif made.kind == "mean":
            weights = [1.0] * count
        else:
            weights = [float(t == o.index(max(o))) for t in range(count)]
        located = [a * b for a, b in zip(o, weights, strict=True)]
        clip.append(sum(located) / sum(weights))
    return clip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", [0, 4])
def test_clips_are_weighted_means_of_their_frames(kind, padding):
    torch.manual_seed(3)
    made = Localisation(6, 4, kind)
    inputs = 3 * torch.randn(3, 7 + padding, 6)
    lengths = torch.tensor([7, 2, 1])
    found = made(inputs, lengths)
    for b, length in enumerate(lengths.tolist()):
        expected = torch.tensor(by_loops(made, inputs[b, :length]))
        torch.testing.assert_close(found.clip_probabilities[b], expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found.log_absent[b].exp(), 1 - expected, atol=1e-6, rtol=1e-5)
    whole = made(inputs)
    for b in range(3):
        expected = torch.tensor(by_loops(made, inputs[b]))
        torch.testing.assert_close(whole.clip_probabilities[b], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.frame_probabilities, torch.sigmoid(made.classifier(inputs)))


def test_the_paper_takes_the_softmax_over_the_classes():
    made = Localisation(6, 4, "attention")
    weights = made(torch.randn(2, 5, 6)).log_weights.exp()
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 5))
    assert not torch.allclose(weights.sum(dim=1), torch.ones(2, 4), atol=1e-2)


def test_equal_frames_are_the_clip():
    made = Localisation(6, 4, "attention")
    found = made(torch.randn(1, 1, 6).expand(1, 9, 6))
    torch.testing.assert_close(found.clip_probabilities[0], found.frame_probabilities[0, 0])


def test_the_loss_is_binary_cross_entropy():
    torch.manual_seed(0)
    made = Localisation(6, 4, "attention").double()
    found = made(3 * torch.randn(5, 8, 6, dtype=torch.float64))
    tags = (torch.rand(5, 4) > 0.5).float()
    loss = tag_loss(found.log_present, found.log_absent, tags)
    expected = torch.nn.functional.binary_cross_entropy(
        found.clip_probabilities.double(), tags.double()
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=8)
@given(size=st.sampled_from([1.0, 30.0, 100.0, 1e4]), seed=st.integers(0, 9))
def test_the_loss_never_overflows(kind, size, seed):
    torch.manual_seed(seed)
    made = Localisation(6, 3, kind)
    inputs = (size * torch.randn(4, 5, 6)).requires_grad_()
    found = made(inputs, torch.tensor([5, 1, 3, 2]))
    assert (found.log_present <= 0).all()
    assert (found.log_absent <= 0).all()
    loss = tag_loss(found.log_present, found.log_absent, torch.eye(4)[:, :3])
    loss.backward()
    assert torch.isfinite(loss)
    assert loss >= 0
    assert torch.isfinite(inputs.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in made.parameters())


def test_a_sure_mistake_still_has_a_gradient():
    made = Localisation(1, 1, "mean")
    torch.nn.init.ones_(made.classifier.weight)
    torch.nn.init.zeros_(made.classifier.bias)
    inputs = torch.full((1, 3, 1), 60.0).requires_grad_()
    found = made(inputs)
    loss = tag_loss(found.log_present, found.log_absent, torch.zeros(1, 1))
    loss.backward()
    assert loss.item() == pytest.approx(60.0)
    torch.testing.assert_close(inputs.grad, torch.full((1, 3, 1), 1 / 3))


def test_a_probability_of_exactly_0_is_no_nan():
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    assert tag_loss(zero - torch.inf, zero, zero).item() == 0
    assert tag_loss(zero, zero - torch.inf, one).item() == 0
    assert torch.isfinite(tag_loss(zero - torch.inf, zero, one))


def test_rounding_lifts_no_probability_above_1():
    torch.manual_seed(0)
    for _ in range(30):
        log_weights, logits = 3 * torch.randn(16, 200, 17) - 4, torch.randn(16, 200, 17) + 17
        for sign in (1, -1):
            assert all((found <= 0).all() for found in pool(sign * logits, log_weights))


def test_one_class_at_a_time_shares_one_probability():
    torch.manual_seed(4)
    logits = 5 * torch.randn(2, 6, 4)
    shares = torch.softmax(torch.cat([logits, torch.zeros(2, 6, 1)], dim=2), dim=2)[..., :-1]
    torch.testing.assert_close(one_at_a_time(logits).sigmoid(), shares, atol=1e-6, rtol=1e-5)
    made = Localisation(6, 4, "linear_softmax", exclusive=True)
    inputs = 30 * torch.randn(2, 6, 6)
    assert bool((made(inputs).frame_probabilities.sum(dim=2) <= 1 + 1e-5).all())
    free = Localisation(6, 4, "linear_softmax")
    free.load_state_dict(made.state_dict())
    assert bool((free(inputs).frame_probabilities.sum(dim=2) > 1).any())


@pytest.mark.parametrize("size", [0.0, 30.0, 1e4])
def test_one_class_at_a_time_stays_finite(size):
    logits = torch.tensor([[[size, -size, 0.0]], [[size, size, size]]], requires_grad=True)
    found = one_at_a_time(logits)
    found.sum().backward()
    assert bool(found.isfinite().all())
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize("size", [1.0, 15.0, 60.0])
def test_a_class_that_is_wrongly_sure_is_unlearnt(size):
    """However sure: what the likeliest class has is its own logit's, less the others'."""
    logits = torch.tensor([[[size, -1.0, 0.5]]], requires_grad=True)
    found = one_at_a_time(logits)
    rest = math.log(1 + math.exp(-1) + math.exp(0.5))
    assert found[0, 0, 0].item() == pytest.approx(size - rest, rel=1e-5)
    torch.nn.functional.softplus(found[0, 0, 0]).backward()  # the loss where it is absent
    assert logits.grad[0, 0, 0] > 0.2
