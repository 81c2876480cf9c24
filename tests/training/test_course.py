"""How fast each step learns, and the weights that are kept."""

import itertools
import math

import pytest
import torch
from torch import nn

from earmark.config import TrainingSettings
from earmark.training.checkpoint import restore, training_state
from earmark.training.course import Course, share_of_rate


def begun(**settings):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    given = TrainingSettings(learning_rate=0.1, **settings)
    return network, optimiser, Course(network, optimiser, given, steps_per_epoch=5)


def step(network, optimiser, course, seed):
    generator = torch.Generator().manual_seed(seed)
    optimiser.zero_grad()
    network(torch.randn(4, 2, generator=generator)).square().sum().backward()
    optimiser.step()
    course.after_step()


def rate(optimiser):
    (group,) = optimiser.param_groups
    return group["lr"]


def test_a_constant_rate_stays():
    network, optimiser, course = begun(epochs=2)
    for seed in range(10):
        assert rate(optimiser) == 0.1
        step(network, optimiser, course, seed)
    assert course.averaged is None


def test_a_wave_rises_and_then_falls_to_nothing():
    network, optimiser, course = begun(epochs=8, schedule="cosine")
    rates = []
    for seed in range(40):
        rates.append(rate(optimiser))
        step(network, optimiser, course, seed)
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == rates[1]
    assert all(a > b for a, b in itertools.pairwise(rates[1:]))
    assert rates[20] == pytest.approx(0.05)
    assert 0 < rates[-1] < 0.001
    assert rate(optimiser) == pytest.approx(0.0, abs=1e-12)
    assert sum(share_of_rate(n, 40, "cosine") for n in range(40)) == pytest.approx(20, abs=1)


def test_the_average_is_that_of_its_definition():
    network, optimiser, course = begun(epochs=2, average_decay=0.3)
    mean = None
    for seed in range(9):
        step(network, optimiser, course, seed)
        now = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        stays = 0 if mean is None else min(0.3, seed / (seed + 10))
        mean = now if mean is None else {n: stays * mean[n] + (1 - stays) * now[n] for n in now}
    for name, tensor in course.averaged.state_dict().items():
        expected = now[name] if name.endswith("tracked") else mean[name]
        assert torch.allclose(tensor.double(), expected.double(), atol=1e-6), name
    assert not course.averaged.training
    assert not any(p.requires_grad for p in course.averaged.parameters())
    assert not torch.equal(course.averaged[0].weight, network[0].weight)


def test_a_course_that_goes_on_equals_the_unbroken_one():
    settings = {"epochs": 3, "schedule": "cosine", "average_decay": 0.9}
    unbroken = begun(**settings)
    for seed in range(15):
        step(*unbroken, seed)
    network, optimiser, course = begun(**settings)
    for seed in range(10):
        step(network, optimiser, course, seed)
    state = {
        k: v.clone()
        for k, v in training_state(network, optimiser, averaged=course.averaged).items()
    }
    other, its_optimiser, its_course = begun(**settings)
    restore(state, other, its_optimiser, averaged=its_course.averaged)
    its_course.goes_on_after(2)
    for seed in range(10, 15):
        step(other, its_optimiser, its_course, seed)
    for name, tensor in unbroken[2].averaged.state_dict().items():
        assert torch.equal(tensor, its_course.averaged.state_dict()[name]), name
    assert math.isclose(rate(unbroken[1]), rate(its_optimiser), abs_tol=1e-15)


def test_frames_have_a_course_of_their_own_that_starts_from_what_is_kept():
    settings = {"epochs": 5, "frame_share": 0.6, "schedule": "cosine", "average_decay": 0.9}
    network, optimiser, course = begun(**settings)
    rates = []
    for seed in range(25):
        if seed % 5 == 0:
            before = {n: t.clone() for n, t in course.kept.state_dict().items()}
            course.begins(seed // 5 + 1)
        if seed < 10:
            assert course.teacher is None
        if seed == 10:
            taught = before
            for name, tensor in before.items():
                assert torch.equal(course.teacher.state_dict()[name], tensor), name
                assert torch.equal(network.state_dict()[name], tensor), name
        rates.append(rate(optimiser))
        step(network, optimiser, course, seed)
    assert rates[:10] == pytest.approx([0.1 * share_of_rate(n, 10, "cosine") for n in range(10)])
    assert rates[10:] == pytest.approx([0.1 * share_of_rate(n, 15, "cosine") for n in range(15)])
    assert all(
        torch.equal(tensor, taught[name]) for name, tensor in course.teacher.state_dict().items()
    )


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_course_of_frames_goes_on_as_the_unbroken_one(epochs):
    settings = {"epochs": 5, "frame_share": 0.6, "schedule": "cosine", "average_decay": 0.9}

    def walked(network, optimiser, course, start, stop):
        for number in range(start, stop):
            course.begins(number + 1)
            for part in range(5):
                step(network, optimiser, course, 5 * number + part)

    unbroken = begun(**settings)
    walked(*unbroken, 0, 5)
    network, optimiser, course = begun(**settings)
    walked(network, optimiser, course, 0, epochs)
    others = {"averaged": course.averaged, "teacher": course.teacher}
    state = {k: v.clone() for k, v in training_state(network, optimiser, **others).items()}
    other, its_optimiser, its_course = begun(**settings)
    its_course.goes_on_after(epochs)
    restore(state, other, its_optimiser, averaged=its_course.averaged, teacher=its_course.teacher)
    walked(other, its_optimiser, its_course, epochs, 5)
    for name, tensor in unbroken[2].averaged.state_dict().items():
        assert torch.equal(tensor, its_course.averaged.state_dict()[name]), name
    for name, tensor in unbroken[2].teacher.state_dict().items():
        assert torch.equal(tensor, its_course.teacher.state_dict()[name]), name
