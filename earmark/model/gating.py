"""Eq. 2: convolutions with a learned gate, and the ReLU that they replace (paper, sec. 2.3).

Filters are the innermost axis in memory ("channels last"): all operations between two
convolutions are then quicker by far, and on a CPU the convolutions are, too.
"""

from typing import Any

import torch
from torch import Tensor, nn

from earmark.model.masking import MaskedBatchNorm, zero_beyond


class GatedConv(nn.Module):
    """A convolution whose output is let through by another one (paper, eq. 2).

        Y = (W * X + b) . sigmoid(V * X + c)

    Both convolutions are one of twice the filters. Batch norm comes before the gate, its shift
    serving as b and c, so the convolution has no bias.

    Shape:
        (B, C, T, F) -> (B, filters, T, F); ``lengths`` (B,) frames of each clip, or None.
    """

    def __init__(self, channels: int, filters: int, kernel_size: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            channels, 2 * filters, kernel_size, padding=kernel_size // 2, bias=False
        )
        _filters_innermost(self.convolution)
        self.norm = MaskedBatchNorm(2 * filters)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        normed = self.norm(self.convolution(zero_beyond(inputs, lengths)), lengths)
        if not torch.is_grad_enabled():
            return nn.functional.glu(normed, dim=1)
        gated: Tensor = _Gate.apply(normed)  # type: ignore[no-untyped-call]
        return gated


class _Gate(torch.autograd.Function):
    """``glu`` over the filters, with a derivative that is quick where they are innermost."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return nn.functional.glu(inputs, dim=1)

    @staticmethod
    def backward(ctx: Any, of_output: Tensor) -> Tensor:
        (inputs,) = ctx.saved_tensors
        values, gates = inputs.chunk(2, dim=1)
        opened = torch.sigmoid(gates)
        of_inputs = torch.empty_like(inputs)
        of_values, of_gates = of_inputs.chunk(2, dim=1)
        torch.mul(of_output, opened, out=of_values)
        torch.ops.aten.sigmoid_backward.grad_input(of_output * values, opened, grad_input=of_gates)
        return of_inputs


def _filters_innermost(convolution: nn.Conv2d) -> None:
    weight = convolution.weight
    weight.data = weight.data.contiguous(memory_format=torch.channels_last)


class ReluConv(nn.Module):
    """The plain layer of the CRNN baseline (paper, sec. 2.1): convolution, batch norm, ReLU.

    Shape:
        (B, C, T, F) -> (B, filters, T, F); ``lengths`` (B,) frames of each clip, or None.
    """

    def __init__(self, channels: int, filters: int, kernel_size: int | tuple[int, int]) -> None:
        super().__init__()
        time, bands = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
        self.convolution = nn.Conv2d(
            channels, filters, (time, bands), padding=(time // 2, bands // 2), bias=False
        )
        _filters_innermost(self.convolution)
        self.norm = MaskedBatchNorm(filters)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        normed = self.norm(self.convolution(zero_beyond(inputs, lengths)), lengths)
        return torch.relu(normed)
