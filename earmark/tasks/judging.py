"""How sure the scores are on which rules were chosen, and what these rules confuse."""

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.bootstrap import RESAMPLES, Statistics, intervals
from earmark.metrics.confusion import Confusion
from earmark.model.bundle import FalseAlarms, Judged

FEWEST_RESAMPLES = 200
"""Draws where one takes long, of many clips and classes, or of frame scores."""

_QUICK_CELLS = 2_000_000
_MOST_CLASSES, _MOST_THERE = 10, 3


def judge(
    on: str,
    statistics: Statistics,
    sources: Sequence[Hashable],
    unit: str,
    confusion: Confusion,
    wrongly_found: NDArray[np.int64],
    *,
    slow: bool = False,
) -> Judged:
    """What a model card says beside the scores themselves.

    Args:
        on: which clips the scores are of, in words.
        statistics: the scores of draws of these.
        sources: (N,) where each is from; clips of one source are drawn together.
        unit: what is counted, clips or segments.
        confusion: which classes were found where which are true.
        wrongly_found: (K,) in how many units each class was found that wasn't there.
        slow: whether a draw takes long.
    """
    count = len(set(sources))
    slow = slow or len(sources) * len(wrongly_found) > _QUICK_CELLS
    ends = {}
    if count > 1:
        resamples = FEWEST_RESAMPLES if slow else RESAMPLES
        ends = intervals(statistics, len(sources), resamples=resamples, groups=sources)
    return Judged(
        on=on,
        sources=count,
        intervals={
            name: (end.low, end.high)
            for name, end in ends.items()
            if math.isfinite(end.low) and math.isfinite(end.high)
        },
        unit=unit,
        false_alarms=_false_alarms(confusion, wrongly_found),
    )


def _false_alarms(
    confusion: Confusion, wrongly_found: NDArray[np.int64]
) -> tuple[FalseAlarms, ...]:
    """Of the classes that were most often found where they weren't: what was there."""
    names, found = confusion.class_names, []
    for k in np.argsort(-wrongly_found, kind="stable")[:_MOST_CLASSES].tolist():
        instead = confusion.counts[:-1, k].copy()
        instead[k] = 0  # where it was there it was rightly found
        there = np.argsort(-instead, kind="stable")[:_MOST_THERE].tolist()
        if wrongly_found[k]:
            found.append(
                FalseAlarms(
                    label=names[k],
                    count=int(wrongly_found[k]),
                    there={names[j]: int(instead[j]) for j in there if instead[j]},
                    nothing=int(confusion.counts[-1, k]),
                )
            )
    return tuple(found)
