"""Bounding boxes of events, whatever the threshold: where the scores change most. No torch here.

After Ebbers, Germain, Wichern and Le Roux, "Sound Event Bounding Boxes" (Interspeech 2024).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]

SCALE = 2.0**32
"""Scores are whole ticks in here, so that sums don't depend on where a block starts."""


class BoxFinder:
    """Finds the boxes of one class, whose scores come in consecutive blocks.

    Between any two frames a step filter gives by how much the ``half`` scores after exceed the
    ``half`` before, 0 beyond the recording. Where that is positive, until it turns negative, an
    event starts where it is largest; where it is negative, until it turns positive, one ends where
    it is smallest; of equals the first counts. A box's score is the mean of its frames.

    From the first box to the last, two in a row are made one where the mean score in between is at
    least ``merge_ratio`` times the lower one's, or at most ``merge_difference`` below it.

    Args:
        half: frames on either side, at least 1.
        merge_ratio: 1 for boxes that are no higher than what is between them.
        merge_difference: likewise, 0.
        first_frame: the recording's first.
    """

    def __init__(
        self, half: int, merge_ratio: float, merge_difference: float, *, first_frame: int = 0
    ) -> None:
        self._half = half
        self._merging = merge_ratio, merge_difference
        self._ticks = np.zeros(half, np.int64)  # from ``half`` frames before the next boundary on
        self._boundary = first_frame
        self._before = 0  # ticks of all frames before the boundary
        # Steps, boundaries and ticks before them (3, ...): the extreme so far of a sign that may
        # last, and the start of a box that has no end yet.
        self._extreme = np.zeros((3, 0), np.int64)
        self._start = np.zeros((3, 0), np.int64)
        self._box = np.zeros((4, 0), np.int64)  # one that may be joined with the next

    @property
    def earliest(self) -> int:
        """The first frame at which a box may start that wasn't given yet."""
        held = (*self._box[0].tolist(), *self._start[1].tolist(), *self._extreme[1].tolist())
        return int(min((*held, self._boundary)))

    def push(
        self, scores: NDArray[np.float32], *, last: bool
    ) -> tuple[Whole, Whole, NDArray[np.float64]]:
        """First frames, frames after the last, and scores of the boxes that are complete now."""
        half = self._half
        beyond = np.zeros(half if last else 0, np.int64)
        ticks = np.concatenate([self._ticks, as_ticks(scores), beyond])
        count = max(0, len(ticks) - 2 * half + 1)
        before = self._before + np.append(0, np.cumsum(ticks[half : half + count]))
        rows = [steps(ticks, half), self._boundary + np.arange(count), before[:-1]]
        points = np.concatenate([self._extreme, rows], axis=1)
        points = points[:, turning_points(points[0])]
        self._ticks, self._before = ticks[count:], int(before[-1])
        self._boundary += count
        self._extreme = points[:, len(points[0]) if last else -1 :]
        points = points[:, : len(points[0]) - len(self._extreme[0])]

        points = np.concatenate([self._start, points], axis=1)
        paired = len(points[0]) // 2 * 2
        self._start = points[:, paired:]
        boxes = np.concatenate([self._box, as_boxes(points[1:, :paired])], axis=1)
        boxes = merge(boxes, *self._merging)
        self._box = boxes[:, len(boxes[0]) if last else -1 :]
        done = boxes[:, : len(boxes[0]) - len(self._box[0])]
        return done[0], done[1], means(done)


def as_ticks(scores: NDArray[Any]) -> Whole:
    """Scores in [0, 1] as whole ticks."""
    return np.rint(scores.astype(np.float64) * SCALE).astype(np.int64)


def steps(ticks: Whole, half: int) -> Whole:
    """(P - 2 half + 1,) by how much ``half`` ticks exceed the ``half`` before them, of (P,)."""
    total = np.append(0, np.cumsum(ticks))
    return np.asarray(total[2 * half :] - 2 * total[half : len(total) - half] + total[: -2 * half])


def turning_points(steps: Whole) -> Whole:
    """Where each stretch of one sign is largest in size, the first of equals; 0 has no sign.

    >>> turning_points(np.array([0, 1, 3, 0, 3, -2, 0, -1])).tolist()
    [2, 5]
    """
    at = np.flatnonzero(steps)
    if not len(at):
        return at
    size = np.abs(steps[at])
    turned = np.diff(steps[at] > 0)
    first = np.append(0, np.flatnonzero(turned) + 1)
    stretch = np.append(0, np.cumsum(turned))
    largest = np.flatnonzero(size == np.maximum.reduceat(size, first)[stretch])
    return np.asarray(at[largest[np.unique(stretch[largest], return_index=True)[1]]])


def as_boxes(points: Whole) -> Whole:
    """Boxes (4, B) of boundaries and ticks before them (2, 2 B), starts and stops in turn.

    The rows are starts, stops, ticks before the starts and ticks before the stops.
    """
    return np.concatenate([points[0].reshape(-1, 2).T, points[1].reshape(-1, 2).T])


def means(boxes: Whole) -> NDArray[np.float64]:
    """(B,) the mean score of each box."""
    return _mean(boxes[3] - boxes[2], boxes[1] - boxes[0])


def merge(
    boxes: Whole, ratio: float, difference: float, apart: NDArray[np.bool_] | None = None
) -> Whole:
    """Boxes in order (4, B), joined as ``BoxFinder`` says.

    Args:
        boxes: as ``as_boxes`` gives them.
        ratio: see ``BoxFinder``, and so ``difference``.
        apart: (B - 1,) which boxes are never joined with the one after.
    """
    joins = _joins(boxes[:, :-1], boxes[:, 1:], ratio, difference)
    # Boxes that weren't joined themselves join as they did at first, so that few are looked at.
    may_join = np.flatnonzero(joins).tolist()
    starts, stops, before_starts, before_stops = boxes.tolist()
    ends = set() if apart is None else set(np.flatnonzero(apart).tolist())
    kept = np.ones(len(starts), np.bool_)
    done = 0
    for number in may_join:
        if number < done:
            continue
        done = number + 1
        start, before_start = starts[number], before_starts[number]
        while done < len(starts) and done - 1 not in ends:
            stop, before_stop = stops[number], before_stops[number]
            gap = (before_starts[done] - before_stop) / ((starts[done] - stop) * SCALE)
            lower = min(
                (before_stop - before_start) / ((stop - start) * SCALE),
                (before_stops[done] - before_starts[done]) / ((stops[done] - starts[done]) * SCALE),
            )
            if gap < ratio * lower and gap < lower - difference:
                break
            stops[number], before_stops[number] = stops[done], before_stops[done]
            kept[done] = False
            done += 1
    return np.array([starts, stops, before_starts, before_stops], np.int64)[:, kept]


def _joins(box: Whole, following: Whole, ratio: float, difference: float) -> NDArray[np.bool_]:
    """Which boxes (4, B) and those that follow them are one, as they are."""
    gap = _mean(following[2] - box[3], following[0] - box[1])
    lower = np.minimum(means(box), means(following))
    return np.asarray((gap >= ratio * lower) | (gap >= lower - difference))


def _mean(ticks: Whole, frames: Whole) -> NDArray[np.float64]:
    return np.asarray(ticks / (frames * SCALE))
