"""Scores of clip tags: F1 in its averages, and average precision."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.metrics.counts import Counts, mean_over_classes, ratio


@dataclass(frozen=True, slots=True, eq=False)
class TaggingScores:
    """What a tagger got right, over N clips and K classes.

    Attributes:
        class_names: the K classes.
        thresholds: (K,) a clip has a tag where its probability is above, not at, the threshold.
        counts: clips per class; ``counts.f1`` and its like are the class values.
        average_precision: (K,) NaN for a class without positives.
    """

    class_names: tuple[str, ...]
    thresholds: NDArray[np.float64]
    counts: Counts
    average_precision: NDArray[np.float64]

    @property
    def micro(self) -> Counts:
        """Counts pooled over the classes: ``micro.f1``, ``micro.precision``, ``micro.recall``."""
        return self.counts.pooled()

    @property
    def macro_f1(self) -> float:
        """Mean of the class values, 0 for a class with nothing in the denominator.

        As scikit-learn's ``average="macro", zero_division=0``.
        """
        return mean_over_classes(self.counts.f1)

    @property
    def macro_precision(self) -> float:
        """Mean of the class values, 0 for a class that was never tagged."""
        return mean_over_classes(self.counts.precision)

    @property
    def macro_recall(self) -> float:
        """Mean of the class values, 0 for a class without positives."""
        return mean_over_classes(self.counts.recall)

    @property
    def f1_of_mean_precision_and_recall(self) -> float:
        """Harmonic mean of macro precision and macro recall.

        The other thing called macro F1, of the organisers' script of DCASE 2017 Task 4. It is never
        below ``macro_f1``.
        """
        precision, recall = self.macro_precision, self.macro_recall
        return float(ratio(2 * precision * recall, precision + recall))

    @property
    def mean_average_precision(self) -> float:
        """mAP: mean over the classes that have positives; NaN if none has."""
        return mean_over_classes(self.average_precision)

    @property
    def classes_without_positives(self) -> int:
        """How many classes ``mean_average_precision`` leaves out."""
        return int(np.isnan(self.average_precision).sum())


def tagging_scores(
    reference: ArrayLike,
    probabilities: ArrayLike,
    thresholds: ArrayLike,
    class_names: Sequence[str],
) -> TaggingScores:
    """Scores of clip probabilities against the clips' tags.

    Args:
        reference: (N, K) whether the clip has the tag.
        probabilities: (N, K) in any range that the thresholds share.
        thresholds: (K,), or one number for all classes. Compared as float64, so that a float32
            probability is taken as the number it is.
        class_names: the K classes.

    Raises:
        ValueError: shapes that don't fit, or a probability or threshold that is not a number.
    """
    truth, given = as_clips(reference, probabilities)
    if given.shape[1] != len(class_names):
        raise ValueError(f"came with {given.shape[1]} columns and {len(class_names)} class names")
    limits = np.broadcast_to(np.asarray(thresholds, np.float64), given.shape[1:]).copy()
    if np.isnan(limits).any():
        raise ValueError("a threshold is not a number")
    precisions = [average_precision(truth[:, k], given[:, k]) for k in range(given.shape[1])]
    return TaggingScores(
        class_names=tuple(class_names),
        thresholds=limits,
        counts=Counts.of(truth, given > limits),
        average_precision=np.array(precisions, np.float64),
    )


def average_precision(reference: ArrayLike, scores: ArrayLike) -> float:
    """Area under the precision-recall steps of one class, scikit-learn's definition.

        sum_n (recall_n - recall_(n-1)) * precision_n

    over the distinct scores from the highest down; equal scores are one step, so that the order
    of the clips doesn't matter. NaN without positives, where scikit-learn says 0 and warns.

    Args:
        reference: (N,) whether the clip has the tag.
        scores: (N,) in any range.
    """
    truth, values = np.asarray(reference, np.bool_), np.asarray(scores, np.float64)
    if not truth.any():
        return float("nan")
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    hits = np.cumsum(truth[order])[ends]
    return float(np.sum(np.diff(hits, prepend=0) * hits / (ends + 1)) / hits[-1])


def as_clips(
    reference: ArrayLike, probabilities: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Both tables as arrays (N, K); ValueError where they don't fit or hold a NaN."""
    truth, given = np.asarray(reference, np.bool_), np.asarray(probabilities, np.float64)
    if truth.ndim != 2 or truth.shape != given.shape:
        raise ValueError(
            f"reference and probabilities must both be (N, K), "
            f"came as {truth.shape} and {given.shape}"
        )
    if np.isnan(given).any():
        raise ValueError("a probability is not a number")
    return truth, given
