"""Clips of unequal length in one batch: what lies beyond a clip never reaches it."""

import torch
from torch import Tensor, nn


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """(B, T) True where frame t lies inside clip b; ``lengths`` (B,) in frames."""
    return torch.arange(frames, device=lengths.device)[None, :] < lengths[:, None]


def zero_beyond(inputs: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, C, T, F) with zeros beyond each clip; None means that all clips fill the batch."""
    if lengths is None:
        return inputs
    return inputs.masked_fill(~frame_mask(lengths, inputs.shape[2])[:, None, :, None], 0.0)


class MaskedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics leave out the frames beyond each clip.

    Shape:
        (B, C, T, F) -> (B, C, T, F); ``lengths`` (B,) frames of each clip, or None.
    """

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None or not self.training:
            return super().forward(inputs)
        mask = frame_mask(lengths, inputs.shape[2])[:, None, :, None]
        values = inputs.float()
        count = lengths.sum() * inputs.shape[3]
        mean = values.masked_fill(~mask, 0.0).sum(dim=(0, 2, 3)) / count
        centred = values - mean[None, :, None, None]
        variance = centred.masked_fill(~mask, 0.0).square().sum(dim=(0, 2, 3)) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shifted = centred * scale[None, :, None, None] + self.bias[None, :, None, None]
        return shifted.to(inputs.dtype)


class MaskedMaxPool(nn.Module):
    """Max pooling over time and frequency, both rounded up, so that one frame is enough.

    Shape:
        (B, C, T, F) -> (B, C, ceil(T / time), ceil(F / frequency)) with zeros beyond each clip, and
        the shorter ``lengths``.
    """

    def __init__(self, time: int, frequency: int) -> None:
        super().__init__()
        self.time = time
        self.frequency = frequency

    def forward(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        size = (self.time, self.frequency)
        if lengths is not None and self.time > 1:
            # Zeros beyond a clip would win over its negative values in the last window.
            beyond = ~frame_mask(lengths, inputs.shape[2])[:, None, :, None]
            inputs = inputs.masked_fill(beyond, -torch.inf)
            lengths = (lengths + self.time - 1).div(self.time, rounding_mode="floor")
        pooled = nn.functional.max_pool2d(inputs, size, ceil_mode=True)
        return zero_beyond(pooled, lengths), lengths
