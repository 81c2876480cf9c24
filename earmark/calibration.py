"""Probabilities that mean what they say: of all that are 0.8, eight in ten are true."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from earmark.config import ClassCalibration, LogitLine
from earmark.scores import ScoreTrack

Floats = TypeVar("Floats", bound=NDArray[np.floating[Any]])

PRIOR_DEVIATIONS = (0.25, 1.0)
"""Of scale and shift about 1 and 0, before anything is known.

Weak enough to follow what a few hundred clips say, and strong enough that a dozen clips make
nothing worse. The shift is the freer of the two: of a rare class that was drawn more often in
training it has a way to go.
"""

_SCALES, _SHIFTS = (0.05, 20.0), (-20.0, 20.0)

_SUREST = 2.0**-26
"""Nearer to 0 or 1 no probability is taken: what float32 gives as 1 may be as far from it."""


def calibrated(lines: Sequence[LogitLine], probabilities: Floats) -> Floats:
    """Probabilities (..., K) on their lines, one a class, as logit' = scale * logit + shift.

    Whatever ranks higher still does, but where two are as good as 0, or as 1. A class whose line
    changes nothing keeps its numbers to the bit.
    """
    moved = [k for k, line in enumerate(lines) if line != LogitLine()]
    if not moved:
        return probabilities
    scales = np.array([lines[k].scale for k in moved])
    shifts = np.array([lines[k].shift for k in moved])
    result = probabilities.copy()
    result[..., moved] = expit(scales * logit(probabilities[..., moved]) + shifts)
    return result


def calibrated_track(classes: Sequence[ClassCalibration], track: ScoreTrack) -> ScoreTrack:
    """A track whose frame and clip probabilities are calibrated, one of ``classes`` a class."""
    clips, frames = [one.clips for one in classes], [one.frames for one in classes]
    return replace(
        track,
        probabilities=calibrated(frames, track.probabilities),
        local_tags=None if track.local_tags is None else calibrated(clips, track.local_tags),
        tags=None if track.tags is None else calibrated(clips, track.tags),
    )


def moved_threshold(threshold: float, was: LogitLine, now: LogitLine) -> float:
    """Where a threshold of probabilities on the line ``was`` lies on the line ``now``.

    0 and 1 stay, which all or none are above.
    """
    if was == now or threshold in (0, 1):
        return threshold
    odds = (np.log(threshold) - np.log1p(-threshold) - was.shift) / was.scale
    return float(expit(now.scale * np.clip(odds, *logit(np.array([0.0, 1.0]))) + now.shift))


def fitted(
    probabilities: NDArray[np.floating[Any]],
    truth: NDArray[np.bool_],
    weights: NDArray[np.float64] | None = None,
) -> LogitLine:
    """The line of one class that makes what is true most probable (Platt, 1999).

    The minimum of the log loss, with a weak normal prior about the line that changes nothing, so
    that a few observations, or a class that is told without an error, give a line of use, too.
    Where all are true, or none, the line changes nothing: nothing says where the two part.

    Args:
        probabilities: (N,) of a class.
        truth: (N,) whether it is there.
        weights: (N,) how many observations each counts for; without, one.
    """
    from scipy.optimize import minimize  # which takes a while to load

    if truth.all() or not truth.any():
        return LogitLine()
    weight = np.ones(len(truth)) if weights is None else weights
    logits = logit(probabilities)
    neutral, deviations = np.array([1.0, 0.0]), np.array(PRIOR_DEVIATIONS)

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = line[0] * logits + line[1]
        apart = (line - neutral) / deviations
        value = float(weight @ (np.logaddexp(0, odds) - truth * odds)) + apart @ apart / 2
        excess = weight * (expit(odds) - truth)
        return value, np.array([excess @ logits, excess.sum()]) + apart / deviations

    found = minimize(loss, neutral, jac=True, method="L-BFGS-B", bounds=[_SCALES, _SHIFTS])
    scale, shift = found.x.tolist()
    return LogitLine(scale=scale, shift=shift)


def logit(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Log odds; of what is nearer to 0 or 1 than any probability is taken, those of the nearest."""
    values = np.clip(probabilities.astype(np.float64), _SUREST, 1 - _SUREST)
    return np.asarray(np.log(values) - np.log1p(-values))


def expit(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probabilities of log odds."""
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))
