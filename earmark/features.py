"""Samples -> log mel or MFCC frames; the normaliser fitted on training data (paper, sec. 4.1)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earmark.config import FeatureSettings
from earmark.spectra import (
    BLOCK_SAMPLES,
    FrontEnd,
    analysis_window,
)
from earmark.spectra import cosine_transform as cosine_transform
from earmark.spectra import mel_filters as mel_filters

VERSION = 1
"""Of the numbers: raised when the same samples and settings come to give others."""

# As many filters as a vector register has lanes; together they cover a part of the bins only.
_GROUP_BANDS = 16


class FeatureExtractor(FrontEnd):
    """Log mel or MFCC frames of batches of samples, on any device.

    Shape:
        samples (B, S) -> features (B, T, F), T = ``settings.clock.frame_count(S)``.
    """

    def __init__(self, settings: FeatureSettings, device: str | torch.device = "cpu") -> None:
        super().__init__(settings)
        self.device = torch.device(device)
        window = torch.from_numpy(analysis_window(settings))
        self._window = window.to(self.device, torch.float32)
        self._mel = torch.from_numpy(mel_filters(settings)).to(self.device, torch.float32).T
        cosines = torch.from_numpy(cosine_transform(settings.mel_bands))
        self._cosines = cosines.to(self.device, torch.float32).T
        self._groups = list(_groups(self._mel)) if self.device.type == "cpu" else []

    def __call__(self, samples: Tensor) -> Tensor:
        """Features (B, T, F) of samples (B, S) at ``settings.rate_hz``."""
        frames = self.clock.frame_count(samples.shape[-1])
        return self.windows(_fit(samples, self.clock.samples_for(frames)))

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
        size = max(1, BLOCK_SAMPLES // self.settings.window_samples)
        mel = framed.new_empty(*framed.shape[:-1], self.settings.mel_bands)
        for row, filled in zip(framed, mel, strict=True):
            for frames, bands in zip(row.split(size), filled.split(size), strict=True):
                spectrum = torch.fft.rfft(frames * self._window)
                # numpy takes the absolute value in vectors, torch number by number.
                magnitude = torch.from_numpy(np.abs(spectrum.numpy()))
                for group, bins, filters in self._groups:
                    torch.mm(magnitude[:, bins], filters, out=bands[:, group])
        return mel

    def of_windows(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        tensor = torch.from_numpy(samples).to(self.device)[None]
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


@dataclass(frozen=True, slots=True, eq=False)
class Normaliser:
    """Mean and standard deviation of each band over all training frames, (F,) each."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def mean_and_squares(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of features (T, F), T >= 1, the mean and the summed squared distances from it, (F,) each."""
    values = features.astype(np.float64)
    mean = values.mean(axis=0)
    return mean, ((values - mean) ** 2).sum(axis=0)


class NormaliserFit:
    """Fits a Normaliser in one pass, in float64, whatever the number of frames."""

    def __init__(self, bands: int) -> None:
        self._count = 0
        self._mean = np.zeros(bands)
        self._squares = np.zeros(bands)

    def add(self, features: NDArray[np.float32]) -> None:
        """Takes in features (T, F), T >= 1."""
        self.add_summed(len(features), *mean_and_squares(features))

    def add_summed(
        self, count: int, mean: NDArray[np.float64], squares: NDArray[np.float64]
    ) -> None:
        """Takes in ``count`` frames by what ``mean_and_squares`` says of them (the pairwise
        update of Chan et al., 1979)."""
        total = self._count + count
        shift = mean - self._mean
        self._squares += squares
        self._squares += shift**2 * (self._count * count / total)
        self._mean += shift * (count / total)
        self._count = total

    def result(self) -> Normaliser:
        """The normaliser of all that was added; a band that never changes is not amplified."""
        deviation = np.sqrt(self._squares / max(1, self._count))
        return Normaliser(self._mean.copy(), np.where(deviation < 1e-3, 1.0, deviation))
