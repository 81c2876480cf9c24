"""The training loop: batches in, better weights out. It knows no metric and writes no file."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from earmark.errors import UserError
from earmark.training.launch import ALONE, Group
from earmark.training.loss import tag_loss


@dataclass(frozen=True, slots=True, eq=False)
class FrameLabels:
    """What each frame of a batch holds.

    Attributes:
        values: (B, T', K) 0 or 1, T' frames of the network's output.
        known: (B, T', K) 1 where that is known, else 0; None where all is.
        cells: how many are known of the whole batch, where other processes have parts of it.
    """

    values: Tensor
    known: Tensor | None = None
    cells: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Clips of a training step.

    Attributes:
        features: (B, T, F).
        lengths: (B,) frames of each clip, or None where all clips fill the batch.
        tags: (B, K) 0 or 1.
        known: (B, K) 1 where a tag is known, else 0; None where all are.
        cells: how many tags of the whole batch are known, where other processes have other parts
            of it.
        frames: labels of the frames, too, if there are any.
    """

    features: Tensor
    lengths: Tensor | None
    tags: Tensor
    known: Tensor | None = None
    cells: int | None = None
    frames: FrameLabels | None = None


FRAMES_WEIGH = 2.0
"""How much the loss of the frames counts beside that of the tags."""


def train_epoch(
    network: nn.Module,
    batches: Iterable[Batch],
    optimiser: torch.optim.Optimizer,
    *,
    precision: str,
    group: Group = ALONE,
    after_step: Callable[[], None] = lambda: None,
) -> float:
    """One pass over ``batches``; gives the mean loss.

    Of several processes each passes over its parts of the same batches, and gets the same loss.

    Args:
        network: features (B, T, F), lengths -> Localised; its device is used.
        batches: at least one.
        optimiser: over the network's parameters.
        precision: of the convolutions, ``float32`` or ``bfloat16``; the rest is float32.
        group: the processes that train together, which the network was united for.
        after_step: called after each step.

    Raises:
        UserError: the loss became infinite or not a number.
    """
    network.train()
    total = 0.0
    steps = 0
    device = next(network.parameters()).device
    for batch in batches:
        features = batch.features.to(device)
        lengths = None if batch.lengths is None else batch.lengths.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            output = network(features, lengths)
        known = None if batch.known is None else batch.known.to(device)
        loss = tag_loss(
            output.log_present, output.log_absent, batch.tags.to(device), known, batch.cells
        )
        if batch.frames is not None:
            loss = loss + FRAMES_WEIGH * frame_loss(output.frame_logits, batch.frames)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        of_all = group.sum_gradients(network, loss)
        optimiser.step()
        value = of_all.item()
        if not value < float("inf"):
            raise UserError(
                f"the loss must stay finite, but became {value} in step {steps + 1} of an epoch; "
                "lower training.learning_rate"
            )
        total += value
        steps += 1
        after_step()
    return total / steps


def frame_loss(logits: Tensor, labels: FrameLabels) -> Tensor:
    """Eq. 1 of frames."""
    device = logits.device
    known = None if labels.known is None else labels.known.to(device)
    present, absent = logsigmoid(logits), logsigmoid(-logits)
    return tag_loss(present, absent, labels.values.to(device), known, labels.cells)
