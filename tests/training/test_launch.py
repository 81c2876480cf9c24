"""Several processes take the steps that one takes, and end together."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from earmark.config import (
    ContextMlpSettings,
    CrnnSettings,
    FrameCnnSettings,
    MultiScaleCnnSettings,
)
from earmark.data.sampler import BalancedSampler
from earmark.errors import UserError
from earmark.features import Normaliser
from earmark.model.build import build
from earmark.model.masking import MaskedBatchNorm
from earmark.training import launch as launching
from earmark.training.launch import ALONE, Group, joined, launch
from earmark.training.loop import Batch, FrameLabels, train_epoch

CPU = torch.device("cpu")
SHORT = {"filters": 4, "layers_per_block": 1, "recurrent_units": 3}
POOLING = {"time_pooling": (2, 1), "frequency_pooling": (2, 3)}
NETWORKS = {
    "gated_crnn": CrnnSettings(**SHORT, **POOLING),
    "relu_crnn": CrnnSettings(**SHORT, **POOLING, activation="relu", recurrent="none"),
    "context_mlp": ContextMlpSettings(
        kind="context_mlp", context_frames=3, hidden_units=(4,), dropout=0
    ),
    "frame_cnn": FrameCnnSettings(
        kind="frame_cnn",
        filters=4,
        layers=2,
        kernel_frames=3,
        smoothing_frames=(1.0, 2.0),
        dropout=0,
    ),
    "multi_scale_cnn": MultiScaleCnnSettings(
        kind="multi_scale_cnn", segment_frames=(0, 5), filters=(3,), dropout=0
    ),
}
FRAMES, BANDS, CLASSES = 9, 6, 2
CLIPS = {8: 3, 5: 20, 1: 3}  # in a batch, and steps


@dataclass(frozen=True)
class Course:
    """What became of a network: the first step's gradients, all losses, the last state."""

    gradients: np.ndarray
    losses: list[float]
    state: np.ndarray


def flat(tensors):
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors]).numpy()


def batches(group, clips, unequal, to_one):
    """The process's parts of random batches, padded to their own longest clip."""
    random = torch.Generator().manual_seed(clips)
    for _ in range(CLIPS[clips]):
        features = torch.randn(clips, FRAMES, BANDS, generator=random, dtype=torch.float64)
        tags = (torch.rand(clips, CLASSES, generator=random) > 0.5).double()
        lengths = torch.randint(2, FRAMES + 1, (clips,), generator=random)
        if not unequal:
            lengths[:] = FRAMES
        known = torch.rand(clips, CLASSES, generator=random) > 0.4
        mine = torch.from_numpy(group.part(np.arange(clips)))
        of_mine = lengths[mine]
        longest = int(of_mine.max()) if len(mine) else 1
        pooled = -(-longest // to_one)
        told = torch.rand(clips, FRAMES, CLASSES, generator=random) > 0.5
        inside = to_one * torch.arange(FRAMES)[None, :] < lengths[:, None]
        inside = inside[:, :, None].expand_as(told)
        yield Batch(
            features[mine, :longest],
            of_mine if (of_mine != longest).any() else None,
            tags[mine],
            known[mine].double() if unequal else None,
            int(known.sum()) if unequal else clips * CLASSES,
            FrameLabels(
                told[mine, :pooled].double(),
                inside[mine, :pooled].double() if unequal else None,
                int(inside.sum()),
            ),
        )


def course(group, kind, clips, unequal):
    torch.manual_seed(group.rank)  # so that it matters that one's weights are all processes'
    network = build(
        NETWORKS[kind], BANDS, CLASSES, Normaliser(np.zeros(BANDS), np.ones(BANDS))
    ).double()
    group.unite(network)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for batch in batches(group, clips, unequal, NETWORKS[kind].total_time_pooling):
        losses.append(train_epoch(network, [batch], optimiser, precision="float32", group=group))
        if len(losses) == 1:
            gradients = flat(parameter.grad for parameter in network.parameters())
    return Course(gradients, losses, flat(network.state_dict().values()))


def cases():
    return [(kind, clips, unequal) for kind in NETWORKS for clips in CLIPS for unequal in (0, 1)]


def both_processes(values):
    """What each process has: rows (2, ...)."""
    rows = torch.zeros(2, *np.shape(values), dtype=torch.float64)
    rows[dist.get_rank()] = torch.as_tensor(values)
    dist.all_reduce(rows)
    return rows.numpy()


def all_courses():
    with joined(CPU) as group:
        assert group.size == 2
        found = {case: course(group, *case) for case in cases()}
        states = {case: both_processes(one.state) for case, one in found.items()}
        sampler = BalancedSampler(TAGS, 5, 2.0, seed=3)
        drawn = [group.part(numbers) for numbers in sampler.epoch()]
        parts = both_processes([np.append(part, [-1] * (3 - len(part))) for part in drawn])
        torch.manual_seed(0)
        group.seed_epoch(seed=1, epoch=2)
        random = both_processes(torch.rand(3))
        told = group.from_first(lambda: {"rank": group.rank})
        threads = torch.get_num_threads()
        with pytest.raises(UserError, match="of the first"):
            group.from_first(fail_as_user)
    return found, states, parts, random, told, threads


TAGS = np.random.default_rng(0).random((30, 3)) < 0.3


def fail_as_user():
    raise UserError("of the first")


@pytest.fixture(scope="module")
def of_two():
    return launch(2, all_courses)


@pytest.mark.slow
@pytest.mark.parametrize("unequal", [0, 1])
@pytest.mark.parametrize("clips", CLIPS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_two_processes_take_the_steps_of_one(of_two, kind, clips, unequal):
    courses, states, *_ = of_two
    two, one = courses[kind, clips, unequal], course(ALONE, kind, clips, unequal)
    assert abs(two.losses[0] - one.losses[0]) < 1e-8
    assert np.abs(one.gradients).max() > 1e-3
    np.testing.assert_allclose(two.gradients, one.gradients, rtol=0, atol=1e-8)
    np.testing.assert_allclose(two.losses, one.losses, rtol=1e-5)
    np.testing.assert_allclose(two.state, one.state, rtol=1e-5, atol=1e-7)
    first, second = states[kind, clips, unequal]
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_the_parts_of_a_batch_are_the_batch(of_two):
    parts = of_two[2]
    for numbers, first, second in zip(
        BalancedSampler(TAGS, 5, 2.0, seed=3).epoch(), *parts, strict=True
    ):
        joint = np.concatenate([first[first >= 0], second[second >= 0]])
        assert sorted(joint) == sorted(numbers)
        assert len(first[first >= 0]) == 3


def test_parts_share_nothing_and_differ_by_one():
    numbers = np.arange(11)
    parts = [Group(rank, 4).part(numbers) for rank in range(4)]
    assert sorted(np.concatenate(parts)) == list(numbers)
    assert [len(part) for part in parts] == [3, 3, 3, 2]
    assert len(Group(1, 2).part(np.arange(1))) == 0


@pytest.mark.slow
def test_each_process_draws_its_own(of_two):
    first, second = of_two[3]
    torch.manual_seed(0)
    np.testing.assert_array_equal(first, torch.rand(3).double())
    assert (first != second).all()


@pytest.mark.slow
def test_the_first_one_tells_and_cores_are_shared(of_two):
    *_, told, threads = of_two
    assert told == {"rank": 0}
    assert threads == max(1, torch.get_num_threads() // 2)


def test_alone_nothing_changes(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined(CPU) as group:
        assert group == ALONE
        norm = MaskedBatchNorm(2)
        group.unite(norm)
        assert norm.sum_over_processes is None
        torch.manual_seed(0)
        group.seed_epoch(0, 1)
        assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(0))
        assert group.from_first(lambda: 5) == 5


@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda", r"needs a GPU, and there are 1 for 2.*fewer processes"), ("mps", "can't share")],
)
def test_devices_that_can_not_be_shared(monkeypatch, device, message):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=message), joined(torch.device(device)):
        pass


def end_second(how):
    """Both wait for each other, but the second does not come."""
    with joined(CPU) as group:
        group.sum(torch.ones(1))
        if group.rank == 1:
            match how:
                case "raises":
                    raise ZeroDivisionError("in the second")
                case "user":
                    raise UserError("a rule, what came")
                case "exits":
                    os._exit(7)
                case "hangs the first":
                    os.kill(os.getpid(), signal.SIGSEGV)
                case _:
                    os.kill(os.getpid(), signal.SIGKILL)
        if how == "hangs the first":
            time.sleep(600)
        group.sum(torch.ones(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("raises", ChildProcessError, r"process 2 of 2 failed:\n.*ZeroDivisionError: in the sec"),
        ("user", UserError, r"^a rule, what came$"),
        ("exits", ChildProcessError, r"process 2 of 2 has ended by itself with exit code 7"),
        ("hangs the first", ChildProcessError, r"process 2 of 2 was ended by signal SIGSEGV"),
        ("is killed", ChildProcessError, r"process 2 of 2 was killed \(SIGKILL\), .*memory"),
    ],
)
def test_one_that_ends_early_ends_all_and_is_named(how, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        launch(2, end_second, how)


def end_one_after_the_other(first, how):
    if int(os.environ["RANK"]) != first:
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGABRT)  # as a library may that has lost the other
    if how == "user":
        raise UserError("a rule, what came")
    os._exit(7)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("how", ["user", "exits"])
def test_the_first_to_end_is_named(first, how):
    message = "^a rule, what" if how == "user" else f"process {first + 1} of 2 has ended by itself"
    with pytest.raises(UserError if how == "user" else ChildProcessError, match=message):
        launch(2, end_one_after_the_other, first, how)


def threads_of_libraries():
    return os.environ["OMP_NUM_THREADS"], torch.get_num_threads()


@pytest.mark.slow
def test_threads_are_shared_unless_the_user_says_how_many(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        assert launch(2, threads_of_libraries) == ("1", 1)
        assert "OMP_NUM_THREADS" not in os.environ
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        assert launch(2, threads_of_libraries)[0] == "2"
    finally:
        torch.set_num_threads(before)
    assert os.environ["OMP_NUM_THREADS"] == "2"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the system's table of sockets")
def test_no_other_machine_can_reach_the_processes():
    store = launching._store_of_this_machine()
    listening = set()
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        for line in Path(table).read_text(encoding="utf-8").splitlines()[1:]:
            address, at = line.split()[1].split(":")
            if int(at, 16) == store.port and line.split()[3] == "0A":
                listening.add(address)
    assert listening == {"0100007F"}


def test_the_norm_has_the_derivative_of_what_it_does():
    torch.manual_seed(0)
    norm = MaskedBatchNorm(3).double()
    torch.nn.init.normal_(norm.weight)
    inputs = torch.randn(4, 3, 5, 2, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([5, 1, 3, 4])
    assert torch.autograd.gradcheck(lambda x, *_: norm(x, lengths), (inputs, *norm.parameters()))
    norm.sum_over_processes = lambda sums: 1.0 * sums
    assert torch.autograd.gradcheck(lambda x, *_: norm(x), (inputs, *norm.parameters()))


@pytest.mark.parametrize("unequal", [False, True])
def test_the_norm_keeps_its_digits_far_from_zero(unequal):
    """Statistics of parts are joined from sums, which would lose a small spread in 32 bits."""
    torch.manual_seed(0)
    exact = 1000 + 0.1 * torch.randn(6, 2, 50, 8, dtype=torch.float64)
    lengths = torch.tensor([50] * 6) if unequal else None
    norm = MaskedBatchNorm(2)
    norm.sum_over_processes = lambda sums: 2 * sums  # another process has the same clips
    norm(exact.float(), lengths)
    rounded = exact.float().double()
    expected = 0.9 + 0.1 * rounded.var(dim=(0, 2, 3), correction=1)
    np.testing.assert_allclose(norm.running_var, expected, rtol=1e-5)


def test_the_norm_in_bfloat16_is_near_the_one_in_float32():
    torch.manual_seed(0)
    inputs = torch.randn(4, 3, 5, 2, requires_grad=True)
    weights, lengths = torch.randn(4, 3, 5, 2), torch.tensor([5, 1, 3, 4])
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        inputs.grad = None
        output = MaskedBatchNorm(3)(inputs.to(dtype), lengths)
        assert output.dtype == dtype
        (output * weights).sum().backward()
        found += [output.float(), inputs.grad]
    torch.testing.assert_close(found[0], found[2], atol=0.03, rtol=0.03)
    torch.testing.assert_close(found[1], found[3], atol=0.03, rtol=0.03)
