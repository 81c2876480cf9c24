"""Overlapping windows -> one seamless score track of a long recording. No torch here."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class WindowPlan:
    """Which windows cover a recording, as its frames become known.

    Windows of ``length`` frames start every ``hop`` frames from frame 0 on; the last one ends
    with the recording. A recording of at most ``length`` frames is one window.

    Args:
        length: feature frames in a window, rounded up to a multiple of ``align``.
        overlap: the share of a window that the next one covers too.
        align: starts are multiples of this many frames, the network's time pooling.
    """

    def __init__(self, length: int, overlap: float, align: int = 1) -> None:
        self.length = math.ceil(length / align) * align
        self.hop = max(align, round(self.length * (1 - overlap) / align) * align)
        self._align = align
        self._next = 0

    def ready(self, known: int) -> Iterator[tuple[int, int]]:
        """(start, stop) of further windows that are not the recording's last one."""
        while self._next + self.length < known:
            yield self._next, self._next + self.length
            self._next += self.hop

    def finish(self, total: int) -> Iterator[tuple[int, int]]:
        """(start, stop) of all that is left once the recording's ``total`` frames are known."""
        yield from self.ready(total)
        yield max(0, math.ceil((total - self.length) / self._align) * self._align), total

    @property
    def needed_from(self) -> int:
        """Frames before this one are in no further window, but the last may start one hop
        before it."""
        return max(0, self._next - self.hop)


class Stitched(NamedTuple):
    """Consecutive frames that no further window reaches; C columns are members x classes.

    Attributes:
        start: the first frame.
        frames: (t, C) blended frame probabilities.
        weights: (t, C) blended localisation weights.
        local_tags: (t, K) largest clip probability of the windows that cover each frame.
    """

    start: int
    frames: NDArray[np.float64]
    weights: NDArray[np.float64]
    local_tags: NDArray[np.float32]


class Stitcher:
    """Blends what overlapping windows say of a frame, the middle of a window counting most.

    Windows come in the order of their starts. A frame that one window covers keeps that
    window's value exactly.
    """

    def __init__(self, columns: int, classes: int) -> None:
        self._start = 0
        self._frames = np.zeros((0, columns))
        self._weights = np.zeros((0, columns))
        self._shares = np.zeros((0, 1))
        self._local_tags = np.zeros((0, classes), np.float32)

    def add(
        self,
        start: int,
        frames: NDArray[np.float32],
        weights: NDArray[np.float64],
        clip: NDArray[np.float32],
    ) -> Stitched:
        """Takes in a window and gives the frames before it, which are now final.

        Args:
            start: the window's first frame.
            frames: (t, C) frame probabilities.
            weights: (t, C) localisation weights.
            clip: (K,) clip probabilities.
        """
        done = self._take(start)
        length = len(frames)
        missing = length - len(self._frames)
        if missing > 0:
            self._frames = _longer(self._frames, missing)
            self._weights = _longer(self._weights, missing)
            self._shares = _longer(self._shares, missing)
            self._local_tags = _longer(self._local_tags, missing)
        share = np.sin(np.pi * (np.arange(length) + 0.5) / length)[:, None] ** 2
        alone = self._shares[:length] == 0
        before = self._shares[:length]
        total = before + share
        for sums, values in ((self._frames, frames), (self._weights, weights)):
            # A running weighted mean: a frame's first value stays as it is.
            sums[:length] = np.where(
                alone, values, sums[:length] + (values - sums[:length]) * (share / total)
            )
        self._shares[:length] = total
        np.maximum(self._local_tags[:length], clip, out=self._local_tags[:length])
        return done

    def add_all(
        self,
        starts: Sequence[int],
        frames: NDArray[np.float32],
        weights: NDArray[np.float64],
        clips: NDArray[np.float32],
    ) -> Stitched:
        """``add`` for several windows: starts (B,), the others with an axis B in front."""
        done = [self.add(*window) for window in zip(starts, frames, weights, clips, strict=True)]
        _, *parts = zip(*done, strict=True)
        return Stitched(done[0].start, *(np.concatenate(part) for part in parts))

    def finish(self) -> Stitched:
        """The frames that are left."""
        return self._take(self._start + len(self._frames))

    def _take(self, until: int) -> Stitched:
        count = until - self._start
        done = Stitched(
            self._start, self._frames[:count], self._weights[:count], self._local_tags[:count]
        )
        self._frames = self._frames[count:].copy()
        self._weights = self._weights[count:].copy()
        self._shares = self._shares[count:].copy()
        self._local_tags = self._local_tags[count:].copy()
        self._start = until
        return done


def _longer(rows: NDArray[Any], missing: int) -> NDArray[Any]:
    return np.concatenate([rows, np.zeros((missing, rows.shape[1]), rows.dtype)])
