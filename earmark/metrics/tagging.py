"""Scores of clip tags: F1 in its averages, and how well the probabilities rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from earmark.metrics.counts import Counts, as_weights, mean_over_classes, ratio


@dataclass(frozen=True, slots=True, eq=False)
class TaggingScores:
    """What a tagger got right, over N clips and K classes.

    Attributes:
        class_names: the K classes.
        thresholds: (K,) a clip has a tag where its probability is above, not at, the threshold.
        counts: clips per class; ``counts.f1`` and its like are the class values.
        average_precision: (K,) NaN for a class without positives.
        roc_auc: (K,) NaN for a class without positives or without negatives.
        label_ranking_precision: (K,) of the clips with the tag, the mean share of true ones among
            the tags that rank no lower in the clip; NaN for a class without positives.
        micro_average_precision: of all pairs of clip and class in one ranking; NaN without any tag.
        micro_roc_auc: likewise; NaN also where every clip has every tag.
    """

    class_names: tuple[str, ...]
    thresholds: NDArray[np.float64]
    counts: Counts
    average_precision: NDArray[np.float64]
    roc_auc: NDArray[np.float64]
    label_ranking_precision: NDArray[np.float64]
    micro_average_precision: float
    micro_roc_auc: float

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

    @property
    def macro_roc_auc(self) -> float:
        """Mean over the classes that have positives and negatives; NaN if none has."""
        return mean_over_classes(self.roc_auc)

    @property
    def classes_without_roc_auc(self) -> int:
        """How many classes ``macro_roc_auc`` and ``mean_d_prime`` leave out."""
        return int(np.isnan(self.roc_auc).sum())

    @property
    def d_prime(self) -> NDArray[np.float64]:
        """(K,) d' of each class: sqrt(2) times the normal quantile of its ROC AUC.

        Infinite at an AUC of 1, minus infinite at 0, NaN where the AUC is.
        """
        return np.asarray(np.sqrt(2) * ndtri(self.roc_auc), np.float64)

    @property
    def mean_d_prime(self) -> float:
        """Mean of the class values, the AudioSet paper's balanced d'.

        One class that is ranked perfectly makes it infinite; infinities of both signs make it NaN.
        """
        with np.errstate(invalid="ignore"):
            return mean_over_classes(self.d_prime)

    @property
    def d_prime_of_macro_roc_auc(self) -> float:
        """d' of the macro AUC, as most papers on AudioSet give it; infinite at an AUC of 1."""
        return float(np.sqrt(2) * ndtri(self.macro_roc_auc))

    @property
    def lwlrap(self) -> float:
        """Label-weighted label-ranking average precision, of DCASE 2019 Task 2.

        The mean of ``label_ranking_precision`` with the number of positives as weights, hence the
        mean over all true tags. NaN without any.
        """
        found = ~np.isnan(self.label_ranking_precision)
        positives = self.counts.n_reference[found]
        if not positives.sum():
            return float("nan")
        return float(np.average(self.label_ranking_precision[found], weights=positives))


class TaggingEvidence:
    """Clip probabilities beside the clips' tags, sorted once, to be scored in any draw of clips.

    Args:
        reference: (N, K) whether the clip has the tag.
        probabilities: (N, K) in any range that the thresholds share.
        thresholds: (K,), or one number for all classes. Compared as float64, so that a float32
            probability is taken as the number it is.
        class_names: the K classes.
        tag_every_clip: whether a clip without a tag gets the class of its largest probability,
            the first of equal ones, unless that is 0: what the paper's released code does.

    Raises:
        ValueError: shapes that don't fit, or a probability or threshold that is not a number.
    """

    def __init__(
        self,
        reference: ArrayLike,
        probabilities: ArrayLike,
        thresholds: ArrayLike,
        class_names: Sequence[str],
        *,
        tag_every_clip: bool = False,
    ) -> None:
        truth, given = as_clips(reference, probabilities)
        if given.shape[1] != len(class_names):
            raise ValueError(
                f"came with {given.shape[1]} columns and {len(class_names)} class names"
            )
        limits = np.broadcast_to(np.asarray(thresholds, np.float64), given.shape[1:]).copy()
        if np.isnan(limits).any():
            raise ValueError("a threshold is not a number")
        self._class_names = tuple(class_names)
        self._thresholds = limits
        tagged = given > limits
        if tag_every_clip and given.size:
            bare = np.flatnonzero(~tagged.any(axis=1) & (given.max(axis=1) > 0))
            tagged[bare, given[bare].argmax(axis=1)] = True
        self._counts = Counts.per_clip(truth, tagged)
        self._label_precision = _label_precision(truth, given)
        self._classes = _Ranking.of(truth, given)
        self._pairs = _Ranking.of(truth.reshape(-1, 1), given.reshape(-1, 1))

    @property
    def clips(self) -> int:
        """N, how many clips there are."""
        return len(self._label_precision)

    def scores(self, weights: NDArray[np.int64] | None = None) -> TaggingScores:
        """The scores where clip n is there ``weights[n]`` times (N,); once where nothing is said.

        Raises:
            ValueError: weights that are not N whole numbers >= 0.
        """
        times = as_weights(weights, self.clips)
        counts = self._counts.drawn(times)
        average_precision, roc_auc = self._classes.areas(times)
        # All pairs are one class.
        pairs = self._pairs.areas(np.repeat(times, len(self._class_names)))
        micro_average_precision, micro_roc_auc = (float(area[0]) for area in pairs)
        return TaggingScores(
            class_names=self._class_names,
            thresholds=self._thresholds,
            counts=counts,
            average_precision=average_precision,
            roc_auc=roc_auc,
            label_ranking_precision=_share(times @ self._label_precision, counts.n_reference),
            micro_average_precision=micro_average_precision,
            micro_roc_auc=micro_roc_auc,
        )


def tagging_scores(
    reference: ArrayLike,
    probabilities: ArrayLike,
    thresholds: ArrayLike,
    class_names: Sequence[str],
    *,
    tag_every_clip: bool = False,
) -> TaggingScores:
    """Scores of clip probabilities against the clips' tags.

    The arguments and the errors are those of ``TaggingEvidence``; keep one of these to score draws
    of clips.
    """
    return TaggingEvidence(
        reference, probabilities, thresholds, class_names, tag_every_clip=tag_every_clip
    ).scores()


def average_precision(reference: ArrayLike, scores: ArrayLike) -> float:
    """Area under the precision-recall steps of one class, scikit-learn's definition.

        sum_n (recall_n - recall_(n-1)) * precision_n

    over the distinct scores from the highest down; equal scores are one step, so that the order
    of the clips doesn't matter. NaN without positives, where scikit-learn says 0 and warns.

    Args:
        reference: (N,) whether the clip has the tag.
        scores: (N,) in any range.
    """
    return _areas_of_one(reference, scores)[0]


def roc_auc(reference: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve of one class, by trapezia as scikit-learn has it.

    The share of the pairs of a positive and a negative in which the positive scores higher, a tie
    counting half. NaN without positives or without negatives, as scikit-learn, which warns.

    Args:
        reference: (N,) whether the clip has the tag.
        scores: (N,) in any range.
    """
    return _areas_of_one(reference, scores)[1]


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


@dataclass(frozen=True, slots=True, eq=False)
class _Ranking:
    """The rows of each column from the highest score down, the columns one after the other.

    Equal scores are one step of a ranking, and the areas change only where a step holds positives.
    A draw of rows changes no order, but how much each place holds.

    Attributes:
        row: (N * K,) the row at each place.
        positive_row: (P,) the row at each place with a positive.
        first_positive: (steps,) where a step's positives begin among these.
        start: (steps,) a step's first place.
        stop: (steps,) the place after its last.
        column: (steps,) its column.
        columns: K.
    """

    row: NDArray[np.int64]
    positive_row: NDArray[np.int64]
    first_positive: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    column: NDArray[np.int64]
    columns: int

    @staticmethod
    def of(reference: NDArray[np.bool_], scores: NDArray[np.float64]) -> "_Ranking":
        """The rankings of tags and scores, both (N, K)."""
        rows, columns = scores.shape
        descending = -scores.T
        row = np.argsort(descending, axis=1)
        ranked = np.take_along_axis(descending, row, axis=1)
        begins = np.ones((columns, rows), np.bool_)
        begins[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
        edges = np.append(np.flatnonzero(begins), scores.size)
        place = np.flatnonzero(np.take_along_axis(reference.T, row, axis=1))
        step = np.searchsorted(edges, place, side="right") - 1
        held, first_positive = np.unique(step, return_index=True)
        return _Ranking(
            row=row.ravel(),
            positive_row=row.ravel()[place],
            first_positive=first_positive,
            start=edges[held],
            stop=edges[held + 1],
            column=edges[held] // max(1, rows),
            columns=columns,
        )

    def areas(self, weights: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Average precision and ROC AUC (K,) where row n is there ``weights[n]`` times."""
        every = weights.sum()
        counted = np.concatenate(([0], np.cumsum(weights[self.row])))
        positives = np.add.reduceat(weights[self.positive_row], self.first_positive)
        all_positives = self._per_column(positives)
        all_negatives = every - all_positives
        hits = np.cumsum(positives) - (np.cumsum(all_positives) - all_positives)[self.column]
        above = counted[self.start] - every * self.column
        down_to = counted[self.stop] - every * self.column
        precision_steps = positives * ratio(hits, down_to)
        # A positive wins twice a point against negatives below it, and once against equal ones.
        missed = (above - (hits - positives)) + (down_to - hits)
        points = positives * (2 * all_negatives[self.column] - missed)
        return (
            _share(self._per_column(precision_steps), all_positives),
            _share(self._per_column(points), 2 * all_positives * all_negatives),
        )

    def _per_column(self, values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(self.column, values, self.columns).astype(np.float64, copy=False)


def _areas_of_one(reference: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Average precision and ROC AUC of one class."""
    truth, values = np.asarray(reference, np.bool_), np.asarray(scores, np.float64)
    ranking = _Ranking.of(truth[:, None], values[:, None])
    precision, auc = ranking.areas(np.ones(len(truth), np.int64))
    return float(precision[0]), float(auc[0])


def _label_precision(truth: NDArray[np.bool_], given: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, K) share of true tags among those of the clip that score no lower; 0 where not tagged."""
    precision = np.zeros(given.shape)
    for k in range(given.shape[1]):
        tagged = truth[:, k]
        no_lower = given[tagged] >= given[tagged, k, None]
        precision[tagged, k] = ratio((no_lower & truth[tagged]).sum(axis=1), no_lower.sum(axis=1))
    return precision


def _share(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """Element-wise quotient; NaN where the whole is nothing."""
    above, below = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    nothing = np.full(below.shape, np.nan)
    return np.asarray(np.divide(above, below, out=nothing, where=below > 0))
