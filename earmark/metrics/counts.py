"""Hits, false alarms and misses, and the ratios that every score is made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    """Element-wise quotient of values >= 0; 0 / 0 is 0, and anything else over 0 is infinite."""
    above, below = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    empty = np.where(above > 0, np.inf, 0.0)
    return np.asarray(np.divide(above, below, out=empty, where=below > 0))


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """How often an estimate met its reference.

    Per clip and class (N, K), per class (K,), or pooled (no axis).

    Attributes:
        tp: hits.
        fp: false alarms.
        fn: misses.
    """

    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]

    @staticmethod
    def of(reference: NDArray[np.bool_], estimate: NDArray[np.bool_]) -> "Counts":
        """Counts per class of two tables (N, K) of yes and no."""
        return Counts.per_clip(reference, estimate).drawn(as_weights(None, len(reference)))

    @staticmethod
    def per_clip(reference: NDArray[np.bool_], estimate: NDArray[np.bool_]) -> "Counts":
        """Counts (N, K), each 0 or 1, of two tables (N, K) of yes and no."""
        return Counts(
            (reference & estimate).astype(np.int64),
            (~reference & estimate).astype(np.int64),
            (reference & ~estimate).astype(np.int64),
        )

    def drawn(self, weights: NDArray[np.int64]) -> "Counts":
        """Of counts (N, K), the sums (K,) over the clips, clip n taken ``weights[n]`` times."""
        return Counts(weights @ self.tp, weights @ self.fp, weights @ self.fn)

    def pooled(self) -> "Counts":
        """The sums over the classes: what a micro average is taken of."""
        return Counts(*(np.asarray(np.sum(count)) for count in (self.tp, self.fp, self.fn)))

    @property
    def n_reference(self) -> NDArray[np.int64]:
        """What there was to find."""
        return self.tp + self.fn

    @property
    def precision(self) -> NDArray[np.float64]:
        """Hits among what was estimated; 0 where nothing was."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Hits among what there was to find; 0 where there was nothing."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall; 0 where there is nothing on either side."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def mean_over_classes(values: NDArray[Any]) -> float:
    """Mean of class values (K,), leaving out those that are not a number; NaN if none is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def as_weights(weights: ArrayLike | None, clips: int) -> NDArray[np.int64]:
    """How often each clip is taken (N,): once where nothing is said.

    Raises:
        ValueError: weights that are not ``clips`` whole numbers >= 0.
    """
    if weights is None:
        return np.ones(clips, np.int64)
    given = np.asarray(weights)
    if given.shape != (clips,) or given.dtype.kind not in "iu" or np.any(given < 0):
        raise ValueError(f"weights must be {clips} whole numbers >= 0, one a clip")
    return given.astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ErrorScores:
    """Counts of K classes, and the errors of all classes together."""

    class_names: tuple[str, ...]
    counts: Counts
    substitutions: int
    deletions: int
    insertions: int

    @property
    def overall(self) -> Counts:
        """Counts pooled over the classes: ``overall.f1``, ``.precision``, ``.recall``."""
        return self.counts.pooled()

    @property
    def macro_f1(self) -> float:
        """Mean of the class values, 0 for a class with nothing on either side.

        sed_eval 0.2.1 leaves a class out of this mean where nothing was there, and also where
        nothing was estimated, so that a class which is missed throughout costs nothing.
        """
        return mean_over_classes(self.counts.f1)

    @property
    def n_reference(self) -> int:
        """What there was to find, each class counted by itself."""
        return int(self.overall.n_reference)

    @property
    def error_rate(self) -> float:
        """(S + D + I) / n_reference.

        Without any reference it is 0 if nothing was estimated, else infinite (sed_eval 0.2.1: a
        number of the order of 1e15).
        """
        errors = self.substitutions + self.deletions + self.insertions
        return float(ratio(errors, self.n_reference))

    @property
    def class_error_rate(self) -> NDArray[np.float64]:
        """(K,) (FP + FN) / N_ref of the class, with the same edges."""
        return ratio(self.counts.fp + self.counts.fn, self.counts.n_reference)
