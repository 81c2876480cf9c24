"""Clips of unequal length in one batch: what lies beyond a clip never reaches it."""

from collections.abc import Callable
from typing import Any

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


def widened(numbers: Tensor) -> Tensor:
    """In 32 bits at least: what is summed needs more of them than bfloat16 has."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


class MaskedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics leave out the frames beyond each clip.

    Shape:
        (B, C, T, F) -> (B, C, T, F); ``lengths`` (B,) frames of each clip, or None.

    Attributes:
        sum_over_processes: where each process has a part of the batch, a tensor's sum over all
            of them; the statistics are then those of the whole batch. A part may have no clip.
    """

    sum_over_processes: Callable[[Tensor], Tensor] | None = None

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        if not self.training or (lengths is None and self.sum_over_processes is None):
            return super().forward(inputs)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            mean, variance, count = self._statistics(widened(inputs), lengths)
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), self.momentum)
        normed: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            *(inputs, self.weight, self.bias, mean, variance, count, lengths),
            *(self.eps, self.sum_over_processes),
        )
        return normed

    def _statistics(self, values: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (C,) and variance (C,) of the values inside the clips, and how many these are."""
        clips, channels, frames, bands = values.shape
        inside = torch.tensor(clips * frames) if lengths is None else lengths.sum()
        count = inside.to(values.device) * bands
        axes = (0, 2, 3)
        total = zero_beyond(values, lengths).sum(axes)
        mean = total / count.clamp(min=1)
        squares = zero_beyond(values - mean[:, None, None], lengths).square().sum(axes)
        if self.sum_over_processes is None:
            return mean, squares / count, count
        # Squares around 0 can be summed; in 64 bits nothing is lost when the mean is taken off.
        shift, total = mean.double(), total.double()
        around_zero = squares.double() + shift * (2 * total - count * shift)
        parts = torch.cat([count[None].double(), total, around_zero])
        sums = self.sum_over_processes(parts)
        count, total, squares = torch.split_with_sizes(sums, [1, channels, channels])
        exact = total / count
        variance = (squares / count - exact.square()).clamp(min=0)
        return exact.to(values.dtype), variance.to(values.dtype), count.to(values.dtype)


class _Normalise(torch.autograd.Function):
    """Batch norm with statistics that are given, and the derivative as if it had taken them."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        lengths: Tensor | None,
        eps: float,
        sum_over_processes: Callable[[Tensor], Tensor] | None,
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight, mean, variance, count, lengths)
        ctx.eps, ctx.sum_over_processes = eps, sum_over_processes
        return nn.functional.batch_norm(inputs, mean, variance, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, of_output: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, mean, variance, count, lengths = ctx.saved_tensors
        of_weight, of_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        if len(inputs):
            _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                *(of_output, inputs, weight, mean, variance, None, None, False, ctx.eps),
                (False, True, True),
            )
        sums = torch.stack([of_weight, of_bias])
        if ctx.sum_over_processes is not None:
            sums = ctx.sum_over_processes(sums)
        narrow = torch.rsqrt(variance + ctx.eps)
        gain = weight * narrow
        # What goes through the statistics, of which only the values inside a clip are part.
        slope = -gain * narrow * sums[0] / count
        offset = -gain * sums[1] / count - slope * mean
        gain, slope, offset = (of_channel[:, None, None] for of_channel in (gain, slope, offset))
        through = zero_beyond(torch.addcmul(offset, widened(inputs), slope), lengths)
        of_inputs = torch.addcmul(through, widened(of_output), gain).to(inputs.dtype)
        return of_inputs, of_weight, of_bias, *[None] * 6


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
