"""Samples -> log mel or MFCC frames; the normaliser fitted on training data (paper, sec. 4.1)."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earmark.config import FeatureSettings

VERSION = 1
"""Of the numbers: raised when the same samples and settings come to give others."""

# What stays in a core's second-level cache through all steps is spared the way to memory and back.
_BLOCK_SAMPLES = 1 << 17
# As many filters as a vector register has lanes; together they cover a part of the bins only.
_GROUP_BANDS = 16


class FeatureExtractor:
    """Log mel or MFCC frames of batches of samples, on any device.

    Shape:
        samples (B, S) -> features (B, T, F), T = ``settings.clock.frame_count(S)``.
    """

    def __init__(self, settings: FeatureSettings, device: str | torch.device = "cpu") -> None:
        self.settings = settings
        self.clock = settings.clock
        self.device = torch.device(device)
        windows = {"hamming": torch.hamming_window, "hann": torch.hann_window}
        window = windows[settings.window](settings.window_samples, dtype=torch.float64)
        self._window = window.to(self.device, torch.float32)
        self._mel = torch.from_numpy(mel_filters(settings)).to(self.device, torch.float32).T
        cosines = torch.from_numpy(cosine_transform(settings.mel_bands))
        self._cosines = cosines.to(self.device, torch.float32).T
        self._groups = list(_groups(self._mel)) if self.device.type == "cpu" else []

    def __call__(self, samples: Tensor) -> Tensor:
        """Features (B, T, F) of samples (B, S) at ``settings.rate_hz``."""
        frames = self.clock.frame_count(samples.shape[-1])
        return self.windows(_fit(samples, self.clock.samples_for(frames)))

    def of_clips(self, clips: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Features (T, F) of each of several clips (S,) of any lengths."""
        return [self._of_array(clip, self.clock.frame_count(len(clip))) for clip in clips]

    def stream(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Features (t, F) of a recording that comes in consecutive blocks of samples (s,).

        Together they equal the features of the whole; of the samples, a window stays in memory.
        """
        hop, window = self.settings.hop_samples, self.settings.window_samples
        rest = np.zeros(0, np.float32)
        total = done = 0
        for block in blocks:
            total += len(block)
            rest = np.concatenate([rest, block])
            whole = (len(rest) - window) // hop + 1 if len(rest) >= window else 0
            if whole:
                yield self._of_array(rest[: (whole - 1) * hop + window])
                rest = rest[whole * hop :]
                done += whole
        left = self.clock.frame_count(total) - done
        if left:
            yield self._of_array(rest, left)

    def windows(self, samples: Tensor) -> Tensor:
        """Features (B, T, F) of the whole windows in samples (B, S), T >= 1."""
        framed = samples.unfold(-1, self.settings.window_samples, self.settings.hop_samples)
        mel = self._mel_in_blocks(framed) if self._groups else self._mel_at_once(framed)
        log_mel = mel.add_(self.settings.log_offset).log_()
        return log_mel if self.settings.kind == "log_mel" else log_mel @ self._cosines

    def _mel_at_once(self, framed: Tensor) -> Tensor:
        """Mel bands (B, T, F) of windows (B, T, W)."""
        spectrum = torch.fft.rfft(framed * self._window)
        return torch.sqrt(spectrum.real.square() + spectrum.imag.square()) @ self._mel

    def _mel_in_blocks(self, framed: Tensor) -> Tensor:
        """The same, as a CPU likes it."""
        size = max(1, _BLOCK_SAMPLES // self.settings.window_samples)
        mel = framed.new_empty(*framed.shape[:-1], self.settings.mel_bands)
        for row, filled in zip(framed, mel, strict=True):
            for frames, bands in zip(row.split(size), filled.split(size), strict=True):
                spectrum = torch.fft.rfft(frames * self._window)
                # numpy takes the absolute value in vectors, torch number by number.
                magnitude = torch.from_numpy(np.abs(spectrum.numpy()))
                for group, bins, filters in self._groups:
                    torch.mm(magnitude[:, bins], filters, out=bands[:, group])
        return mel

    def _of_array(
        self, samples: NDArray[np.float32], frames: int | None = None
    ) -> NDArray[np.float32]:
        tensor = torch.from_numpy(samples).to(self.device)[None]
        if frames is not None:
            tensor = _fit(tensor, self.clock.samples_for(frames))
        features: NDArray[np.float32] = self.windows(tensor)[0].cpu().numpy()
        return features


def _fit(samples: Tensor, length: int) -> Tensor:
    """Samples (B, S) cut or filled by zeros to (B, length)."""
    missing = length - samples.shape[-1]
    return torch.nn.functional.pad(samples, (0, missing)) if missing > 0 else samples[:, :length]


def _groups(mel: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Neighbouring bands of filters (bins, F), the bins at which any is above 0, and the filters
    there."""
    for first in range(0, mel.shape[1], _GROUP_BANDS):
        bands = slice(first, first + _GROUP_BANDS)
        used = mel[:, bands].any(dim=1).nonzero()
        bins = slice(int(used.min()), int(used.max()) + 1) if len(used) else slice(0, 0)
        yield bands, bins, mel[bins, bands].contiguous()


def mel_filters(settings: FeatureSettings) -> NDArray[np.float64]:
    """Triangles (F, bins) on the Slaney mel scale, each of unit area, as librosa's default.

    Slaney's scale (Auditory Toolbox, 1998) is linear to 1 kHz, 200/3 Hz a mel, then logarithmic,
    27 mels for a factor of 6.4.
    """
    bins = np.arange(settings.window_samples // 2 + 1)
    bins_hz = bins * (settings.rate_hz / settings.window_samples)
    low, high = _hz_to_mel(settings.low_hz), _hz_to_mel(settings.high_hz)
    corners_hz = _mel_to_hz(np.linspace(low, high, settings.mel_bands + 2))
    lower, centre, upper = (corners_hz[i : i + settings.mel_bands, None] for i in range(3))
    rising = (bins_hz - lower) / (centre - lower)
    falling = (upper - bins_hz) / (upper - centre)
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return filters * (2.0 / (upper - lower))


_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    if hz < _KNEE_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return _KNEE_MEL + math.log(hz / _KNEE_HZ) / _LOG_STEP


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _KNEE_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _KNEE_MEL) - _KNEE_MEL))
    return np.where(mel < _KNEE_MEL, mel * _LINEAR_HZ_PER_MEL, above)


def cosine_transform(size: int) -> NDArray[np.float64]:
    """The orthonormal DCT-II as a matrix (coefficients, bands)."""
    angles = np.pi / size * np.outer(np.arange(size), np.arange(size) + 0.5)
    matrix: NDArray[np.float64] = np.cos(angles) * math.sqrt(2.0 / size)
    matrix[0] /= math.sqrt(2.0)
    return matrix


@dataclass(frozen=True, slots=True, eq=False)
class Normaliser:
    """Mean and standard deviation of each band over all training frames, (F,) each."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


class NormaliserFit:
    """Fits a Normaliser in one pass, in float64, whatever the number of frames."""

    def __init__(self, bands: int) -> None:
        self._count = 0
        self._mean = np.zeros(bands)
        self._squares = np.zeros(bands)

    def add(self, features: NDArray[np.float32]) -> None:
        """Takes in features (T, F), T >= 1 (the pairwise update of Chan et al., 1979)."""
        values = features.astype(np.float64)
        count = len(values)
        mean = values.mean(axis=0)
        total = self._count + count
        shift = mean - self._mean
        self._squares += ((values - mean) ** 2).sum(axis=0)
        self._squares += shift**2 * (self._count * count / total)
        self._mean += shift * (count / total)
        self._count = total

    def result(self) -> Normaliser:
        """The normaliser of all that was added; a band that never changes is not amplified."""
        deviation = np.sqrt(self._squares / max(1, self._count))
        return Normaliser(self._mean.copy(), np.where(deviation < 1e-3, 1.0, deviation))
