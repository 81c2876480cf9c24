"""Training on several processes: who they are, what they sum, and how they start and end.

Each has a part of every batch. What a loss needs of the whole batch is summed over all parts, so
that several processes take the step that one would take.
"""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import wait
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from earmark.errors import UserError
from earmark.model.masking import MaskedBatchNorm

Result = TypeVar("Result")

# The others wait while the first one computes features or chooses thresholds; a process that has
# died is noticed by its broken connections.
_PATIENCE = timedelta(days=7)
# After a process has failed: for the others to say why, and then to end.
_GRACE_SECONDS = 3.0
# Gloo would listen on the machine's other addresses, too.
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that train together, and which of them this one is.

    They must call what sums or waits in the same order.

    Attributes:
        rank: of this process, from 0; the first one writes and speaks.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def part(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's part of the numbers of a batch; the parts differ by one at most."""
        return numbers[self.rank :: self.size]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, the same to the last bit on each of them."""
        if self.size == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    def sum_gradients(self, network: nn.Module, loss: Tensor) -> Tensor:
        """Sums the gradients, and the losses that they are of, over all processes."""
        loss = loss.detach()
        if self.size == 1:
            return loss
        gradients = []
        for parameter in network.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        total = self.sum(torch.cat([*(g.flatten() for g in gradients), loss[None]]))
        *sums, loss = torch.split_with_sizes(total, [*(g.numel() for g in gradients), 1])
        for gradient, of_all in zip(gradients, sums, strict=True):
            gradient.copy_(of_all.view(gradient.shape))
        return loss[0]

    def unite(self, network: nn.Module) -> None:
        """Gives all processes the first one's weights, and batch norm the whole batch."""
        if self.size == 1:
            return
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, 0)
        for module in network.modules():
            if isinstance(module, MaskedBatchNorm):
                module.sum_over_processes = self.sum

    def seed_epoch(self, seed: int, epoch: int) -> None:
        """Seeds what an epoch draws on all processes but the first, whose draws go on."""
        if self.rank:
            (own,) = np.random.SeedSequence([seed, epoch, self.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(own))

    def from_first(self, work: Callable[[], Result]) -> Result:
        """What ``work`` gives on the first process, which alone does it; the others wait.

        Raises:
            UserError: on all of them, if it does on the first.
        """
        if self.size == 1:
            return work()
        told: list[Any] = [None, None]
        error = None
        if self.rank == 0:
            try:
                told[0] = work()
            except UserError as raised:
                error, told[1] = raised, str(raised)
        dist.broadcast_object_list(told, device=torch.device("cpu"))
        if told[1] is not None:
            raise UserError(told[1]) from error
        result: Result = told[0]
        return result


ALONE = Group()


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The processes that ``torchrun`` or ``launch`` has started this one with; alone without.

    Of the GPUs of a machine, each process takes that of its number there.

    Raises:
        UserError: there is no device of its own for this process.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    backend = "gloo"
    if device.type == "cuda":
        number, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if number >= there:
            raise UserError(
                f"each process needs a GPU, and there are {there} for {number + 1} or more; start "
                "fewer processes, or pass --device cpu"
            )
        torch.cuda.set_device(number)
        backend = "cpu:gloo,cuda:nccl"
    elif device.type != "cpu":
        raise UserError(f"several processes can't share device '{device}'; pass --device cpu")
    dist.init_process_group(backend, timeout=_PATIENCE)
    yield Group(dist.get_rank(), dist.get_world_size())
    # After an error the others may be gone, and there is nobody to part from.
    dist.destroy_process_group()


def _store_of_this_machine() -> Any:
    """Where the processes find each other, which no other machine can reach."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    return dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1",
        port,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listening.detach(),
    )


def launch(
    processes: int, work: Callable[..., Result], /, *arguments: object, **named: object
) -> Result:
    """Runs ``work`` on several processes of this machine that find each other by ``joined``.

    They share this one's threads, unless OMP_NUM_THREADS says how many each has. If one ends early
    the others are ended, as they are if this one is.

    Args:
        processes: how many.
        work: importable by its name; so are, or can be pickled, its arguments and its result.
        arguments: of ``work``.
        named: of ``work``, too.

    Returns:
        What ``work`` gave on the first process.

    Raises:
        UserError: what a process raised.
        ChildProcessError: a process has ended otherwise; says which one, and why.
    """
    store = _store_of_this_machine()
    context = multiprocessing.get_context("spawn")
    workers: list[Any] = []
    waiting: dict[Any, int] = {}
    ended: dict[int, _End] = {}
    seen_seconds: dict[int, float] = {}
    give_up: float | None = None
    try:
        for rank in range(processes):
            receiver, sender = context.Pipe(duplex=False)
            # As torchrun sets them; the store is this process's.
            environment = {
                "RANK": rank,
                "LOCAL_RANK": rank,
                "WORLD_SIZE": processes,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": store.port,
                **_LOOPBACK,
                "TORCHELASTIC_USE_AGENT_STORE": True,
                "TORCHELASTIC_RESTART_COUNT": 0,
            }
            worker = context.Process(
                target=_run,
                args=(sender, environment, work, arguments, named),
                daemon=True,
            )
            with _one_of(processes):
                worker.start()
            sender.close()
            workers.append(worker)
            waiting[receiver] = rank
        while waiting:
            left = None if give_up is None else max(0.0, give_up - time.monotonic())
            ready = wait(list(waiting), left)
            if not ready:
                break
            now = time.monotonic()
            for readable in ready:
                rank = waiting.pop(readable)
                seen_seconds[rank] = now
                ended[rank] = _end(readable, workers[rank])
                if ended[rank].error is not None and give_up is None:
                    give_up = time.monotonic() + _GRACE_SECONDS
    finally:
        if len(ended) < processes:
            for worker in workers:
                worker.terminate()
        for worker in workers:
            worker.join(_GRACE_SECONDS)
            worker.kill()
    failed = [rank for rank in ended if ended[rank].error is not None]
    if failed:
        # One that failed breaks the connections of the others: they fail after it. Of those that
        # were seen to end at once, what couldn't say so was killed, and is the cause.
        cause = min(failed, key=lambda rank: (seen_seconds[rank], ended[rank].seconds))
        error = str(ended[cause].error)
        if ended[cause].mendable:
            raise UserError(error)
        raise ChildProcessError(f"process {cause + 1} of {processes} {error}")
    result: Result = ended[0].result
    return result


@dataclass(frozen=True, slots=True)
class _End:
    """How a process has ended, and when: all of a machine have one monotonic clock.

    It is 0 of one that could not say so itself.
    """

    seconds: float
    result: Any = None
    error: str | None = None
    mendable: bool = False


def _end(receiver: Any, worker: Any) -> _End:
    try:
        end: _End = receiver.recv()
        return end
    except (EOFError, OSError):
        worker.join()
    code = worker.exitcode
    name = signal.Signals(-code).name if code < 0 else ""
    if name == "SIGKILL":  # which Windows doesn't have
        return _End(0.0, error="was killed (SIGKILL), as a system does when its memory is used up")
    if name:
        return _End(0.0, error=f"was ended by signal {name}")
    return _End(0.0, error=f"has ended by itself with exit code {code}")


@contextmanager
def _one_of(processes: int) -> Iterator[None]:
    """Has a process that is started meanwhile take its share of the threads, and no more.

    Its libraries read the number when they are loaded; one that the user has set stays.
    """
    name = "OMP_NUM_THREADS"
    if name in os.environ:
        yield
        return
    os.environ[name] = str(max(1, torch.get_num_threads() // processes))
    try:
        yield
    finally:
        del os.environ[name]


def _run(
    sender: Any,
    environment: dict[str, object],
    work: Callable[..., object],
    arguments: tuple[object, ...],
    named: dict[str, object],
) -> None:
    """What a process of ``launch`` does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who launched it ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {name: str(value) for name, value in environment.items()}
    try:
        end = _End(time.monotonic(), result=work(*arguments, **named))
    except UserError as error:
        end = _End(time.monotonic(), error=str(error), mendable=True)
    except Exception:
        # The end of a long trace says most, and a pipe holds no more without a reader.
        end = _End(time.monotonic(), error=f"failed:\n{traceback.format_exc()[-16_000:]}")
    sender.send(end)
    sender.close()
    if end.error is not None:
        sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
