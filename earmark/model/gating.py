"""Eq. 2: convolutions with a learned gate, and the ReLU that they replace (paper, sec. 2.3)."""

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
        self.norm = MaskedBatchNorm(2 * filters)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        normed = self.norm(self.convolution(zero_beyond(inputs, lengths)), lengths)
        return nn.functional.glu(normed, dim=1)


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
        self.norm = MaskedBatchNorm(filters)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        normed = self.norm(self.convolution(zero_beyond(inputs, lengths)), lengths)
        return torch.relu(normed)
