"""How far a score would move with other clips: bootstrap intervals, and two systems compared."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95

Statistics = Callable[[NDArray[np.int64]], Mapping[str, float]]
"""Scores by name, where clip n is there ``weights[n]`` times; the same names for any weights."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a score lies over the draws of clips.

    Attributes:
        low: lower end; NaN where no draw gave a number.
        high: upper end, likewise.
        left_out: draws in which the score is not a number, as without a positive.
    """

    low: float
    high: float
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a score of one system differs from another's over the same draws of clips.

    Attributes:
        difference: of the first system's score less the second's.
        share_above: of the draws that gave a number, those in which the difference is above 0.
        p_value: two-sided: twice the share of draws at 0 or on the rarer side of it, at most 1.
            One draw on that side is added, so that it is never 0; it can't fall below
            2 / (resamples + 1).
    """

    difference: Interval
    share_above: float
    p_value: float


def intervals(
    statistics: Statistics,
    clips: int,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Interval]:
    """Percentile intervals of scores over draws of the clips with replacement.

    The ends are scores of draws, the next outward of the percentiles: nothing is interpolated, so
    that infinite scores do no harm. A draw in which a score is NaN is left out, and counted.

    Args:
        statistics: scores by name of weighted clips, as
            ``lambda w: {"micro F1": float(evidence.scores(w).micro.f1)}``.
        clips: N, how many there are, at least one.
        resamples: how many draws, at least one.
        level: share of the draws within the interval, between 0 and 1.
        seed: of the draws; equal seeds draw equally.
        groups: (N,) the source of every clip, such as its recording. Whole sources are then
            drawn, as many as there are: clips of one source are no independent evidence.

    Raises:
        ValueError: arguments outside these bounds, or names that change from draw to draw.
    """
    _check_level(level)
    drawn = draws(clips, resamples=resamples, seed=seed, groups=groups)
    columns = _columns(statistics(weights) for weights in drawn)
    return {name: _interval(values, level) for name, values in columns.items()}


def compare(
    a: Statistics,
    b: Statistics,
    clips: int,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Comparison]:
    """The scores of ``a`` less those of ``b``, paired: each draw of clips scores both systems.

    What makes clips easy or hard for both cancels, so that a difference may be certain where the
    two intervals overlap.

    Args:
        a: scores by name of one system, as for ``intervals``.
        b: those of the other, of the same clips in the same order, with the same names.
        clips: as for ``intervals``, and so are all that follow.

    Raises:
        ValueError: as ``intervals``, or names that only one of the two has.
    """
    _check_level(level)

    def difference(weights: NDArray[np.int64]) -> Mapping[str, float]:
        ours, theirs = a(weights), b(weights)
        if odd := ours.keys() ^ theirs.keys():
            raise ValueError(f"both systems need the same scores; only one has '{min(odd)}'")
        # Python's floats: infinity less infinity is no number, without a warning.
        return {name: float(ours[name]) - float(theirs[name]) for name in ours}

    drawn = draws(clips, resamples=resamples, seed=seed, groups=groups)
    columns = _columns(difference(weights) for weights in drawn)
    return {name: _comparison(values, level) for name, values in columns.items()}


def draws(
    clips: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> Iterator[NDArray[np.int64]]:
    """How often each clip is drawn (N,), draw by draw; the arguments are those of ``intervals``.

    Clips by themselves sum to N in every draw; with groups the groups do, not the clips.
    """
    if clips < 1 or resamples < 1:
        raise ValueError(f"came with {clips} clips and {resamples} resamples; at least 1 is needed")
    sources: Sequence[Hashable] = range(clips) if groups is None else groups
    if len(sources) != clips:
        raise ValueError(f"came with {len(sources)} groups for {clips} clips")
    number = {source: index for index, source in enumerate(dict.fromkeys(sources))}
    source_of = np.array([number[source] for source in sources])
    count = len(number)
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(generator.integers(count, size=count), minlength=count)[source_of]


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, came as {level}")


def _columns(rows: Iterable[Mapping[str, float]]) -> dict[str, NDArray[np.float64]]:
    """Each score's values over the draws."""
    drawn = list(rows)
    for row in drawn:
        if odd := row.keys() ^ drawn[0].keys():
            raise ValueError(f"every draw needs the same scores; '{min(odd)}' comes and goes")
    return {name: np.array([float(row[name]) for row in drawn]) for name in drawn[0]}


def _interval(values: NDArray[np.float64], level: float) -> Interval:
    known = values[~np.isnan(values)]
    left_out = len(values) - len(known)
    if not known.size:
        return Interval(float("nan"), float("nan"), left_out)
    low = np.quantile(known, (1 - level) / 2, method="lower")
    high = np.quantile(known, (1 + level) / 2, method="higher")
    return Interval(float(low), float(high), left_out)


def _comparison(values: NDArray[np.float64], level: float) -> Comparison:
    difference = _interval(values, level)
    known = values[~np.isnan(values)]
    if not known.size:
        return Comparison(difference, float("nan"), float("nan"))
    rarer = min(int(np.count_nonzero(known <= 0)), int(np.count_nonzero(known >= 0)))
    p_value = min(1.0, 2 * (rarer + 1) / (len(known) + 1))
    return Comparison(difference, float(np.mean(known > 0)), p_value)
