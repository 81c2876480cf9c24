"""What a single number hides: precision over recall, and what a probability is worth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.metrics.counts import ratio
from earmark.metrics.tagging import as_clips

BINS = 10


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionRecall:
    """Precision over recall of one class, from the highest threshold down.

    Attributes:
        thresholds: (P,) falling: tags at or above one of them are given.
        precision: (P,) of what is given then.
        recall: (P,) never falling; 0 throughout without positives.
    """

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    @staticmethod
    def of(reference: ArrayLike, scores: ArrayLike) -> "PrecisionRecall":
        """The curve of one class; equal scores are one step.

        The sum of precision times the rise of recall is ``metrics.tagging.average_precision``.

        Args:
            reference: (N,) whether the clip has the tag.
            scores: (N,) in any range.

        Raises:
            ValueError: lengths that differ, or a score that is not a number.
        """
        truth, given = as_clips(np.reshape(reference, (-1, 1)), np.reshape(scores, (-1, 1)))
        values = given[:, 0]
        order = np.argsort(-values)
        ranked = values[order]
        last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])
        hits = np.cumsum(truth[order])[last]
        return PrecisionRecall(ranked[last], ratio(hits, last + 1), ratio(hits, truth.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """How often what was given a probability is true, in bins of equal width over [0, 1].

    Attributes:
        counts: (B,) how many probabilities lie in each; 1 lies in the last.
        mean_probability: (B,) NaN in an empty bin.
        observed: (B,) which share of them is true; NaN in an empty bin.
    """

    counts: NDArray[np.int64]
    mean_probability: NDArray[np.float64]
    observed: NDArray[np.float64]

    @staticmethod
    def of(reference: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> "Reliability":
        """Of tables of tags and probabilities (N, K), all pairs of clip and class together.

        Raises:
            ValueError: shapes that differ, or a probability outside [0, 1].
        """
        truth, given = as_clips(reference, probabilities)
        if not np.all((given >= 0) & (given <= 1)):
            raise ValueError("probabilities must lie in [0, 1]")
        place = np.minimum((given.ravel() * bins).astype(np.int64), bins - 1)
        counts = np.bincount(place, minlength=bins)
        empty = np.where(counts, 1.0, np.nan)
        total = np.bincount(place, given.ravel(), bins)
        true = np.bincount(place, truth.ravel(), bins)
        return Reliability(counts, ratio(total, counts) * empty, ratio(true, counts) * empty)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: how far the two lie apart, in the mean over what was given.

        NaN where nothing was.
        """
        filled = self.counts > 0
        if not filled.any():
            return float("nan")
        apart = np.abs(self.mean_probability - self.observed)[filled]
        return float(np.average(apart, weights=self.counts[filled]))
