"""Seconds, samples and frames. The only place that converts one into the other."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FrameClock:
    """When each frame of a recording sounds.

    Windows of ``window_samples`` start every ``hop_samples``, the first at sample 0. A frame
    covers one hop about its window's centre; the first frame starts at 0 and the last one ends
    at the recording's end, so that the frames of a recording are gapless.
    A frame of a network that pools time by ``pooling`` covers that many of these.
    """

    rate_hz: int
    window_samples: int
    hop_samples: int
    pooling: int = 1

    @property
    def hop_seconds(self) -> Fraction:
        """The time from one frame to the next, exact."""
        return Fraction(self.hop_samples * self.pooling, self.rate_hz)

    @property
    def lead_seconds(self) -> Fraction:
        """Where the first frame's own hop starts: half of what the window has beyond a hop."""
        return Fraction(self.window_samples - self.hop_samples, 2 * self.rate_hz)

    def frame_count(self, samples: int) -> int:
        """Frames of a recording of ``samples``, at least one.

        A recording shorter than a window fills one by zeros. A tail of less than half a hop
        adds no frame, a longer one adds one.
        """
        beyond = max(0, samples - self.window_samples)
        windows = 1 + (2 * beyond + self.hop_samples) // (2 * self.hop_samples)
        return self.pooled(windows)

    def samples_for(self, windows: int) -> int:
        """Samples that ``windows`` whole windows span; the inverse of ``frame_count``."""
        return (windows - 1) * self.hop_samples + self.window_samples

    def pooled(self, windows: int) -> int:
        """Frames left of ``windows`` after pooling time, rounded up."""
        return -(-windows // self.pooling)

    def coarser(self, pooling: int) -> "FrameClock":
        """This clock with ``pooling`` of its frames in one."""
        return FrameClock(
            self.rate_hz, self.window_samples, self.hop_samples, self.pooling * pooling
        )

    def start_seconds(self, frame: int) -> float:
        """Where a frame starts; frame T of T frames starts where frame T - 1 ends, before the
        last one is stretched to the recording's end."""
        return 0.0 if frame <= 0 else float(self.lead_seconds + frame * self.hop_seconds)

    def edges_seconds(
        self, frames: int, end_seconds: float | None = None, first: int = 0
    ) -> NDArray[np.float64]:
        """The ``frames`` + 1 boundaries of the frames ``first``, ``first`` + 1, ...

        ``end_seconds`` is the recording's end where the last of these frames is its last.
        """
        starts = np.arange(first, first + frames + 1)
        # As in start_seconds: a quotient of exact whole numbers is rounded once.
        lead = self.window_samples - self.hop_samples
        edges = (lead + 2 * self.hop_samples * self.pooling * starts) / (2 * self.rate_hz)
        edges[starts <= 0] = 0.0
        if end_seconds is not None and frames:
            edges[-1] = end_seconds
        return edges
