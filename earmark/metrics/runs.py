"""The runs of frames that some threshold separates from those around them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """All runs of frames (R,) that some threshold separates from the frames around them.

    A run appears where the threshold falls below its lowest score, and is part of a longer one
    where it falls below the higher of the scores on either side: runs make a tree.

    Attributes:
        first: position before the run's first frame.
        last: position of its last frame.
        birth: its lowest score.
        death: the higher score next to it; -infinity if it is a whole clip.
        parent: the run that takes its place; -1 if it is a whole clip.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    birth: NDArray[np.float64]
    death: NDArray[np.float64]
    parent: NDArray[np.int64]

    @staticmethod
    def of(scores: NDArray[np.float64], longest: int) -> "Runs":
        """The runs of scores (P + 1,) that -infinity parts into stretches of at most ``longest``.

        Every frame stands for the run in which it is lowest, and of several the first does.
        """
        frames = np.flatnonzero(scores > -np.inf)
        lowest = _Lowest(scores, longest)
        left = lowest.nearest(frames, -1, np.less_equal)
        earlier = scores[left] == scores[frames]
        # The frame that stands for each frame's run: of equal frames in a run, the first.
        stands = np.arange(len(scores))
        stands[frames[earlier]] = left[earlier]
        while np.any((further := stands[stands]) != stands):
            stands = further
        chosen, left = frames[~earlier], left[~earlier]
        right = lowest.nearest(chosen, 1, np.less)
        number = np.full(len(scores), -1)
        number[chosen] = np.arange(len(chosen))
        beside = np.where(scores[left] >= scores[right], left, right)
        return Runs(left, right - 1, scores[chosen], scores[beside], number[stands[beside]])

    def net(self, counted: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(R,) by how much the number of counted runs changes where each run appears."""
        ended = self.parent[counted & (self.parent >= 0)]
        return counted - np.bincount(ended, minlength=len(counted))


class _Lowest:
    """The lowest score of any stretch that ends at a position, if a power of two long.

    Args:
        scores: (P,) with -infinity at both ends and at most ``longest`` apart.
        longest: the most scores in between.
    """

    def __init__(self, scores: NDArray[np.float64], longest: int) -> None:
        self._of = [scores]
        for level in range(longest.bit_length() - 1):
            half, below = 1 << level, self._of[-1].copy()
            np.minimum(below[half:], self._of[-1][:-half], out=below[half:])
            self._of.append(below)

    def nearest(
        self, frames: NDArray[np.int64], direction: Literal[-1, 1], stops: np.ufunc
    ) -> NDArray[np.int64]:
        """The nearest position beside each frame whose score ``stops`` it: is less (or equal).

        In leaps of falling powers of two, each taken where the lowest score under it doesn't stop.
        """
        scores = self._of[0]
        found = frames + direction
        # About half of the frames stop at their neighbour.
        moving = np.flatnonzero(~stops(scores[found], scores[frames]))
        position, score = found[moving], scores[frames[moving]]
        for level in reversed(range(len(self._of))):
            end = position if direction < 0 else position + ((1 << level) - 1)
            free = ~stops(self._of[level].take(end, mode="clip"), score)
            np.add(position, direction << level, out=position, where=free)
        found[moving] = position
        return found
