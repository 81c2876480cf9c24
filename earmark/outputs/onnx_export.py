"""The networks of a system as one ONNX graph, with or without the front end.

The graph has whatever number of windows at a time, of whatever length:

    features (B, T, F), or with the front end samples (B, S)
    -> clips (B, K), frames (B, T', K): the mean of the networks
    -> member_frames, member_log_weights (B, T', M * K): each network by itself, as long
       recordings need them (``runtime.py``)
"""

import math
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earmark.config import FeatureSettings
from earmark.errors import UserError
from earmark.model.network import Network
from earmark.spectra import analysis_window, cosine_transform, mel_filters
from earmark.writing import replacing

OPSET = 17
OUTPUTS = {
    "clips": ("windows",),
    "frames": ("windows", "frames"),
    "member_frames": ("windows", "frames"),
    "member_log_weights": ("windows", "frames"),
}
"""What the graph gives, and those of its axes that are open."""

_LARGEST_STEP = 4096
_EXAMPLE_FRAMES = 37  # a multiple of no pooling or segment that a trace could mistake it for


def write_graph(
    path: Path, networks: Sequence[Network], front_end: FeatureSettings | None = None
) -> None:
    """Writes the networks of a system as an ONNX file.

    Args:
        path: of the file.
        networks: in the mode for evaluation, on the CPU.
        front_end: whose features the graph computes itself, from samples; None where it takes
            features.

    Raises:
        UserError: it can't be written, or the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError("ONNX is not installed: pip install 'earmark[onnx]'") from error
    bands = len(networks[0].mean)
    if front_end is None:
        name, axes, example = (
            "features",
            ("windows", "frames"),
            torch.zeros(2, _EXAMPLE_FRAMES, bands),
        )
    else:
        name, axes = "samples", ("windows", "samples")
        example = torch.zeros(2, front_end.clock.samples_for(_EXAMPLE_FRAMES))
    graph = _Graph(networks, front_end).eval()
    with replacing(path) as part, torch.no_grad(), warnings.catch_warnings():
        # That this exporter is the older one, and that a trace takes numbers for constants: whoever
        # exports compares the graph with the networks, at several lengths.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (example,),
            part,
            dynamo=False,
            opset_version=OPSET,
            input_names=[name],
            output_names=list(OUTPUTS),
            dynamic_axes={key: dict(enumerate(of)) for key, of in {name: axes, **OUTPUTS}.items()},
        )
        written = onnx.load(part)
        written.producer_name, written.producer_version = "earmark", version("earmark")
        onnx.checker.check_model(written)
        part.write_bytes(written.SerializeToString())


class _Graph(nn.Module):
    """What the graph computes."""

    def __init__(self, networks: Sequence[Network], front_end: FeatureSettings | None) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.front_end = None if front_end is None else _FrontEnd(front_end)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features = inputs if self.front_end is None else self.front_end(inputs)
        found = [network(features) for network in self.networks]
        frames = [of.frame_probabilities for of in found]
        clips = torch.stack([of.clip_probabilities for of in found]).mean(dim=0)
        log_weights = torch.cat([of.log_weights for of in found], dim=2)
        return clips, torch.stack(frames).mean(dim=0), torch.cat(frames, dim=2), log_weights


class _FrontEnd(nn.Module):
    """The features of ``FeatureExtractor`` in products of matrices, which every runtime has.

    The discrete Fourier transform of W = A * B samples is taken in two steps, the second over what
    the first gives for every B-th sample (Cooley and Tukey, 1965): with A and B near the root of
    W, its tables are small, and so are the sums that rounding errors gather in.

    Shape:
        samples (B, S), S >= 1 -> features (B, T, F), T = ``clock.frame_count(S)``.
    """

    def __init__(self, settings: FeatureSettings) -> None:
        super().__init__()
        self.settings = settings
        size = settings.window_samples
        inner = max(d for d in range(1, math.isqrt(size) + 1) if size % d == 0)
        outer = size // inner
        if outer > _LARGEST_STEP:
            raise UserError(
                f"features can't be in the graph: window_samples, {size}, has a prime factor that "
                "is too large; export without --features"
            )
        self.size, self.inner, self.outer = size, inner, outer
        kept = outer // 2 + 1  # of the second step: the others are conjugates
        self.first = _real_and_imaginary(inner, inner, inner)
        self.twiddle = _real_and_imaginary(size, outer, inner)
        self.second = _real_and_imaginary(outer, outer, kept)
        self.window = _table(analysis_window(settings))
        # Bin k = k1 + A * k2 comes as (k1, k2); those above the half have no filter.
        filters = np.zeros((kept * inner, settings.mel_bands))
        filters[: size // 2 + 1] = mel_filters(settings).T
        by_row = filters.reshape(kept, inner, settings.mel_bands).swapaxes(0, 1)
        self.mel = _table(by_row.reshape(filters.shape))
        self.cosines = _table(cosine_transform(settings.mel_bands).T)

    def forward(self, samples: Tensor) -> Tensor:
        hop = self.settings.hop_samples
        # A tensor in any case, so that the trace keeps how the count follows from the length.
        beyond = torch.zeros((), dtype=torch.int64) + samples.shape[1] - self.size
        count = 1 + (2 * beyond.clamp(min=0) + hop) // (2 * hop)
        starts = torch.arange(count) * hop  # type: ignore[call-overload]  # a number of the trace
        places = starts[:, None] + torch.arange(self.size)
        framed = nn.functional.pad(samples, (0, self.size))[:, places] * self.window  # (B, T, W)
        rows = framed.reshape(*framed.shape[:2], self.inner, self.outer).transpose(2, 3)
        real, imaginary = rows @ self.first[0], rows @ self.first[1]
        turned = _product((real, imaginary), self.twiddle, torch.mul)
        across = turned[0].transpose(2, 3), turned[1].transpose(2, 3)
        bins = _product(across, self.second, torch.matmul)  # (B, T, k1, k2)
        magnitude = torch.sqrt(bins[0].square() + bins[1].square())
        mel = magnitude.flatten(start_dim=2) @ self.mel
        log_mel = torch.log(mel + self.settings.log_offset)
        return log_mel if self.settings.kind == "log_mel" else log_mel @ self.cosines


Complex = tuple[Tensor, Tensor]
"""Real and imaginary parts, as few runtimes have complex numbers."""


def _product(one: Complex, two: Complex, times: Callable[[Tensor, Tensor], Tensor]) -> Complex:
    real = times(one[0], two[0]) - times(one[1], two[1])
    return real, times(one[0], two[1]) + times(one[1], two[0])


def _real_and_imaginary(size: int, rows: int, columns: int) -> Complex:
    """exp(-2 pi i * row * column / size), (rows, columns)."""
    turns = np.outer(np.arange(rows), np.arange(columns)) % size / size
    return _table(np.cos(2 * np.pi * turns)), _table(-np.sin(2 * np.pi * turns))


def _table(values: NDArray[np.float64]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
