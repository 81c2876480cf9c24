"""Counts of hits, false alarms and cross-triggers at every threshold at which they change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.counts import ratio

Number = TypeVar("Number", np.int64, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """By how much counts change (E,) where the threshold falls below a score, and in which clip."""

    score: NDArray[np.float64]
    clip: NDArray[np.int64]
    by: NDArray[np.int64]


def joined(parts: Sequence[Changes]) -> Changes:
    """All changes as one."""
    return Changes(
        np.concatenate([np.empty(0), *(part.score for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.clip for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.by for part in parts)]),
    )


class _Steps:
    """A count at each of some thresholds, as a function of how often each clip occurs.

    Args:
        changes: what the count is the sum of.
        points: (P,) falling scores, among them those of the changes.
        rows: clips, or more, from which ``changes.clip`` draws.
    """

    def __init__(self, changes: Changes, points: NDArray[np.float64], rows: int) -> None:
        order = np.argsort(-changes.score)
        by = changes.by[order]
        # A falling count looks its weight up among the negated ones, behind the others.
        self._row = np.repeat(changes.clip[order] + rows * (by < 0), np.abs(by))
        self._stop = np.searchsorted(-np.repeat(changes.score[order], np.abs(by)), -points, "right")

    def count(
        self, weights: NDArray[Number], points: NDArray[np.int64] | slice = slice(None)
    ) -> NDArray[Number]:
        """The count (P,) where row n occurs ``weights[n]`` times, at the chosen points."""
        totals = np.zeros(len(self._row) + 1, weights.dtype)
        np.cumsum(np.concatenate([weights, -weights])[self._row], out=totals[1:])
        return totals[self._stop[points]]


class ClassSteps:
    """One class's counts at all thresholds that differ.

    Args:
        clips: how many there are.
        tp: changes of the hits.
        fp: changes of the false alarms.
        ct: changes of the cross-triggers; ``clip`` is the other class times clips, plus clip.
        classes: how many there are.
    """

    def __init__(self, clips: int, tp: Changes, fp: Changes, ct: Changes, classes: int) -> None:
        # Above all scores nothing is detected.
        scores = np.concatenate([[np.inf], tp.score, fp.score, ct.score])
        self._scores = np.unique(scores)[::-1]
        self._tp, self._fp = (_Steps(changes, self._scores, clips) for changes in (tp, fp))
        self._ct = _Steps(ct, self._scores, clips * classes) if len(ct.score) else None

    def roc(
        self,
        times: NDArray[np.int64],
        hours: float,
        price: NDArray[np.float64],
        max_efpr_per_hour: float,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Rates of false alarms (P,), rising, and the most hits (P,) up to each.

        Args:
            times: (N,) how often each clip occurs.
            hours: of all clips.
            price: (K,) what a cross-trigger with each class adds to the rate.
            max_efpr_per_hour: no point beyond is looked at.
        """
        rate = self._fp.count(times) / hours
        inside = np.flatnonzero(rate <= max_efpr_per_hour)
        rate, tp = rate[inside], self._tp.count(times, inside)
        if self._ct is not None:
            paid = np.outer(price, times).ravel()
            # Sums that should be 0 are only nearly.
            rate = rate + np.maximum(self._ct.count(paid, inside), 0.0)
        # Most points are no better than their neighbour, so that few are left to sort.
        better = np.ones(len(rate), np.bool_)
        better[1:] = (tp[1:] > tp[:-1]) | (rate[1:] < rate[:-1])
        better &= rate <= max_efpr_per_hour
        rate, tp = rate[better], tp[better]
        order = np.lexsort((-tp, rate))
        rate, tp = rate[order], np.maximum.accumulate(tp[order])
        corner = np.diff(tp, prepend=-1) > 0
        return rate[corner], tp[corner]

    def best_f1(self, times: NDArray[np.int64], events: int) -> tuple[float, int, int]:
        """The threshold with the highest F1, and hits and false alarms there."""
        tp, fp = self._tp.count(times), self._fp.count(times)
        best = int(np.argmax(ratio(2 * tp, tp + fp + events)))
        high = float(self._scores[best])
        if not best:
            return high, 0, 0
        changed = np.flatnonzero((tp[best:] != tp[best]) | (fp[best:] != fp[best]))
        if not len(changed):
            return -np.inf, int(tp[best]), int(fp[best])
        low = float(self._scores[best + changed[0]])
        middle = low + (high - low) / 2
        # Midway between neighbouring floats may round up to the higher one, which must stay above.
        return middle if middle < high else low, int(tp[best]), int(fp[best])
