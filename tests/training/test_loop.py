"""The loop learns, says when it can't, and runs where it is told."""

import numpy as np
import pytest
import torch

from earmark.config import CrnnSettings
from earmark.errors import UserError
from earmark.features import Normaliser
from earmark.model.crnn import GatedCRNN
from earmark.training.devices import choose_device, choose_precision
from earmark.training.loop import Batch, train_epoch


def learner():
    torch.manual_seed(0)
    given = CrnnSettings(filters=4, recurrent_units=4)
    network = GatedCRNN(given, 8, 2, Normaliser(np.zeros(8), np.ones(8)))
    return network, torch.optim.Adam(network.parameters(), lr=0.01)


def batches(count):
    """Class 0 lights the lower bands for three frames, class 1 the upper ones."""
    random = torch.Generator().manual_seed(0)
    for _ in range(count):
        features = 0.3 * torch.randn(8, 12, 8, generator=random)
        tags = (torch.rand(8, 2, generator=random) > 0.5).float()
        places = torch.randint(0, 10, (8, 2), generator=random).tolist()
        for clip, tag, (low, high) in zip(features, tags, places, strict=True):
            clip[low : low + 3, :4] += 3 * tag[0]
            clip[high : high + 3, 4:] += 3 * tag[1]
        yield Batch(features, None, tags)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_learns_from_clip_labels(precision):
    network, optimiser = learner()
    steps = []
    first = train_epoch(network, batches(2), optimiser, precision=precision)
    train_epoch(
        network, batches(60), optimiser, precision=precision, after_step=lambda: steps.append(1)
    )
    last = train_epoch(network, batches(2), optimiser, precision=precision)
    assert first > 0.5
    assert last < 0.25
    assert len(steps) == 60
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


def test_the_loss_is_the_mean_over_the_batches():
    network, optimiser = learner()
    for group in optimiser.param_groups:
        group["lr"] = 0.0
    one = [train_epoch(network, [batch], optimiser, precision="float32") for batch in batches(3)]
    assert train_epoch(network, batches(3), optimiser, precision="float32") == pytest.approx(
        np.mean(one), rel=1e-5
    )


def test_a_loss_that_is_no_number_stops_the_run():
    network, optimiser = learner()
    (batch,) = batches(1)
    broken = Batch(batch.features * torch.nan, None, batch.tags)
    with pytest.raises(UserError, match=r"nan in step 2 .* lower training\.learning_rate"):
        train_epoch(network, [batch, broken], optimiser, precision="float32")


def test_devices_are_chosen_by_name():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UserError, match="auto, cpu, cuda or mps, came as 'gpu'"):
        choose_device("gpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_fastest_that_is_there(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == expected
    if not cuda:
        with pytest.raises(UserError, match="device 'cuda' is not there"):
            choose_device("cuda")


def test_precision_is_what_was_asked_for():
    cpu, mps = torch.device("cpu"), torch.device("mps")
    assert choose_precision("float32", cpu) == "float32"
    assert choose_precision("bfloat16", cpu) == "bfloat16"
    assert choose_precision("auto", cpu) in ("float32", "bfloat16")
    assert choose_precision("auto", mps) == "float32"
