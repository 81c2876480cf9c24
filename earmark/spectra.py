"""Windows of samples -> log mel or MFCC frames: the numbers, and the way of a stream. No torch."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from earmark.config import FeatureSettings

# What stays in a core's second-level cache through all steps is spared the way to memory and back.
BLOCK_SAMPLES = 1 << 17


class FrontEnd(ABC):
    """What a network is given of samples, a frame for each window of them.

    Attributes:
        settings: of windows and features.
        clock: when each frame sounds.
    """

    def __init__(self, settings: FeatureSettings) -> None:
        self.settings = settings
        self.clock = settings.clock

    @property
    def width(self) -> int:
        """F, the numbers of a frame."""
        return self.settings.mel_bands

    @abstractmethod
    def of_windows(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Frames (T, F) of the whole windows in samples (S,), T >= 1."""

    def of_clips(self, clips: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Frames (T, F) of each of several clips (S,) of any lengths."""
        return [self._of_frames(clip, self.clock.frame_count(len(clip))) for clip in clips]

    def stream(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Frames (t, F) of a recording that comes in consecutive blocks of samples (s,).

        Together they equal the frames of the whole; of the samples, a window stays in memory.
        """
        hop, window = self.settings.hop_samples, self.settings.window_samples
        rest = np.zeros(0, np.float32)
        total = done = 0
        for block in blocks:
            total += len(block)
            rest = np.concatenate([rest, block])
            whole = (len(rest) - window) // hop + 1 if len(rest) >= window else 0
            if whole:
                yield self.of_windows(rest[: (whole - 1) * hop + window])
                rest = rest[whole * hop :]
                done += whole
        left = self.clock.frame_count(total) - done
        if left:
            yield self._of_frames(rest, left)

    def _of_frames(self, samples: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
        """``frames`` frames, of samples that are cut or filled by zeros to as many windows."""
        length = self.clock.samples_for(frames)
        missing = length - len(samples)
        return self.of_windows(np.pad(samples, (0, missing)) if missing > 0 else samples[:length])


class NumpyFeatures(FrontEnd):
    """Log mel or MFCC frames by numpy, where there is no torch."""

    def __init__(self, settings: FeatureSettings) -> None:
        super().__init__(settings)
        self._window = analysis_window(settings).astype(np.float32)
        self._mel = mel_filters(settings).astype(np.float32).T
        self._cosines = cosine_transform(settings.mel_bands).astype(np.float32).T

    def of_windows(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        window, hop = self.settings.window_samples, self.settings.hop_samples
        framed = sliding_window_view(samples, window)[::hop]
        mel = np.empty((len(framed), self.settings.mel_bands), np.float32)
        size = max(1, BLOCK_SAMPLES // window)
        for first in range(0, len(framed), size):
            spectrum = np.fft.rfft(framed[first : first + size] * self._window)
            np.matmul(np.abs(spectrum), self._mel, out=mel[first : first + size])
        mel += np.float32(self.settings.log_offset)
        log_mel: NDArray[np.float32] = np.log(mel, out=mel)
        return log_mel if self.settings.kind == "log_mel" else log_mel @ self._cosines


def analysis_window(settings: FeatureSettings) -> NDArray[np.float64]:
    """What a window of samples is multiplied with, (window_samples,), periodic."""
    flat, wave = {"hamming": (0.54, 0.46), "hann": (0.5, 0.5)}[settings.window]
    turns = np.arange(settings.window_samples) / settings.window_samples
    return np.asarray(flat - wave * np.cos(2 * np.pi * turns))


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
