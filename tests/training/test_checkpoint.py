"""A run that was killed goes on as if it had not been."""

import os

import numpy as np
import pytest
import torch

from earmark.config import CrnnSettings
from earmark.errors import UserError
from earmark.features import Normaliser
from earmark.model.crnn import GatedCRNN
from earmark.training.checkpoint import load_tensors, restore, save_tensors, training_state
from earmark.training.loop import Batch, train_epoch


def fresh(seed=0):
    torch.manual_seed(seed)
    given = CrnnSettings(filters=3, recurrent_units=3, dropout=0.4, time_pooling=(2, 1, 1))
    network = GatedCRNN(given, 6, 2, Normaliser(np.zeros(6), np.ones(6)))
    return network, torch.optim.Adam(network.parameters(), lr=0.01)


def batches(seed):
    random = torch.Generator().manual_seed(seed)
    for _ in range(3):
        features = torch.randn(4, 7, 6, generator=random)
        tags = (torch.rand(4, 2, generator=random) > 0.5).float()
        yield Batch(features, torch.tensor([7, 3, 5, 7]), tags)


def test_restored_is_unbroken_to_the_last_bit(tmp_path):
    unbroken, optimiser = fresh()
    for seed in (1, 2, 3, 4):
        train_epoch(unbroken, batches(seed), optimiser, precision="float32")

    killed, optimiser = fresh()
    for seed in (1, 2):
        train_epoch(killed, batches(seed), optimiser, precision="float32")
    path = tmp_path / "checkpoint.safetensors"
    save_tensors(path, training_state(killed, optimiser), {"epoch": 2})

    other, optimiser = fresh(seed=99)
    torch.rand(5)
    state, notes = load_tensors(path)
    assert notes == {"epoch": 2}
    restore(state, other, optimiser)
    for seed in (3, 4):
        train_epoch(other, batches(seed), optimiser, precision="float32")
    for (name, one), two in zip(
        unbroken.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two), name
    assert any(
        not torch.equal(a, b) for a, b in zip(killed.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize("part", ["optimiser/", "random"])
def test_each_part_of_the_state_is_needed(part):
    """The test above could not fail if what is left out here made no difference."""
    results = []
    for leave_out in (False, True):
        network, optimiser = fresh()
        train_epoch(network, batches(1), optimiser, precision="float32")
        state = {
            name: tensor.clone() for name, tensor in training_state(network, optimiser).items()
        }
        other, optimiser = fresh(seed=99)
        if leave_out:
            state = {name: t for name, t in state.items() if not name.startswith(part)}
            state.setdefault("random", torch.get_rng_state())
        restore(state, other, optimiser)
        train_epoch(other, batches(2), optimiser, precision="float32")
        results.append(torch.cat([parameter.flatten() for parameter in other.parameters()]))
    assert not torch.equal(*results)


def test_tensors_and_notes_come_back(tmp_path):
    path = tmp_path / "state.safetensors"
    tensors = {"a": torch.arange(6).reshape(2, 3).T, "b": torch.tensor(2.5), "c": torch.ones(2, 2)}
    save_tensors(path, tensors, {"scores": [0.1 + 0.2], "name": "ĝ"})
    found, notes = load_tensors(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert notes == {"scores": [0.1 + 0.2], "name": "ĝ"}


@pytest.mark.parametrize(
    "damage", [lambda d: b"", lambda d: d[:9], lambda d: d[:-3], lambda d: b"x" * 99]
)
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "state.safetensors"
    save_tensors(path, {"a": torch.ones(40)}, {})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"state.safetensors: is not a readable file of tensors"):
        load_tensors(path)


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(UserError, match="is not a readable file of tensors"):
        load_tensors(tmp_path / "none")


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    save_tensors(path, {"a": torch.ones(3)}, {"epoch": 1})

    def fail(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(UserError, match=r"state\.safetensors: can't be written: .* is full"):
            save_tensors(path, {"a": torch.zeros(3)}, {"epoch": 2})
    tensors, notes = load_tensors(path)
    assert notes == {"epoch": 1}
    assert torch.equal(tensors["a"], torch.ones(3))
    save_tensors(path, {"a": torch.zeros(3)}, {"epoch": 2})
    assert load_tensors(path)[1] == {"epoch": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["state.safetensors"]
