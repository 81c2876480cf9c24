"""The thresholds that maximise F1, found exactly."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.metrics.tagging import as_clips


def best_thresholds(
    reference: ArrayLike,
    probabilities: ArrayLike,
    average: Literal["macro", "micro"] = "macro",
    kept: Mapping[int, float] | None = None,
) -> NDArray[np.float64]:
    """The thresholds (K,) with the highest F1 on these clips.

    A tag is given where a probability is above its threshold. Every cut between two distinct
    probabilities of a class is a candidate and lies midway, so that rounding can't decide; keep
    all digits when you write them. Nothing is tagged at 0.5, or where a probability is above
    that, midway between the largest one and 1.

    Of equally good candidates the nearest to 0.5 is taken, then the higher. A class in which no
    threshold hits anything, for want of positives say, is never tagged on these clips.

    Args:
        reference: (N, K) whether the clip has the tag.
        probabilities: (N, K) in [0, 1].
        average: "macro" maximises F1 of each class by itself, hence their mean; "micro" F1 of
            the counts pooled over the classes, for which a class's best cut depends on the
            others'.
        kept: thresholds of classes, by their number, that stay as they are; what they tag counts.

    Raises:
        ValueError: shapes that don't fit, a probability outside [0, 1], another ``average``.
    """
    if average not in ("macro", "micro"):
        raise ValueError(f"average must be 'macro' or 'micro', came as {average!r}")
    truth, given = as_clips(reference, probabilities)
    if given.size and not (given.min() >= 0 and given.max() <= 1):
        raise ValueError("probabilities must lie in [0, 1]")
    classes = range(given.shape[1])
    candidates = [_candidates(truth[:, k], given[:, k]) for k in classes]
    for k, threshold in (kept or {}).items():
        tagged = given[:, k] > threshold
        hits, pairs = (truth[:, k] & tagged).sum(), truth[:, k].sum() + tagged.sum()
        candidates[k] = np.array([threshold]), np.array([2 * hits]), np.array([pairs])
    groups = [[k] for k in classes] if average == "macro" else [list(classes)]
    best = np.empty(len(classes))
    for group in groups:
        chosen = maximise_ratio(
            [candidates[k][1] for k in group], [candidates[k][2] for k in group]
        )
        best[group] = [candidates[k][0][index] for k, index in zip(group, chosen, strict=True)]
    return best


def maximise_ratio(numerators: Sequence[ArrayLike], denominators: Sequence[ArrayLike]) -> list[int]:
    """One candidate of each class, such that sum(numerators) / sum(denominators) is highest.

    For F1 of pooled counts the candidates of a class are (2 TP, 2 TP + FP + FN) at its settings.
    Exact, by Dinkelbach's iteration in whole numbers: the candidates that maximise
    sum(numerator - r * denominator), r being the best ratio so far, either have a higher ratio
    or show that r is the highest.

    Args:
        numerators: K arrays (C_k,) of whole numbers >= 0, C_k >= 1.
        denominators: likewise; where one is 0, so is its numerator. 0 / 0 counts as 0.

    Returns:
        The K indices. Of candidates that serve equally well, the first of the class.

    Raises:
        ValueError: arrays that don't fit, an empty one, or numbers other than these.
    """
    above = [_whole(values) for values in numerators]
    below = [_whole(values) for values in denominators]
    if [a.shape for a in above] != [b.shape for b in below]:
        raise ValueError("every class needs as many numerators as denominators")
    if any(np.any((b == 0) & (a > 0)) for a, b in zip(above, below, strict=True)):
        raise ValueError("a numerator above 0 needs a denominator above 0")
    # The products below reach sum * largest; Python's own numbers where int64 would overflow.
    largest = max((int(v.max()) for v in (*above, *below)), default=0)
    if largest * largest * max(1, len(above)) >= 2**62:
        above, below = [a.astype(object) for a in above], [b.astype(object) for b in below]

    chosen, p, q = [0] * len(above), 0, 1
    while True:
        trial = [int(np.argmax(a * q - b * p)) for a, b in zip(above, below, strict=True)]
        new_p = sum(int(a[index]) for a, index in zip(above, trial, strict=True))
        new_q = sum(int(b[index]) for b, index in zip(below, trial, strict=True))
        if new_p * q <= p * new_q:
            # Nothing over nothing is on the line p / q too, yet its own ratio is 0.
            return trial if new_q or not p else chosen
        chosen, p, q = trial, new_p, new_q


def _candidates(
    reference: NDArray[np.bool_], probabilities: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Thresholds (C,) of a class with their 2 TP and 2 TP + FP + FN, the preferred ones first."""
    values, group = np.unique(probabilities, return_inverse=True)
    positives = np.bincount(group, weights=reference, minlength=len(values)).astype(np.int64)
    clips = np.bincount(group, minlength=len(values))
    # A cut below every value, unless 0 is one of them, and then above one value after the other.
    low = np.append(0.0, values[:-1])
    cuts = low + (values - low) / 2
    # Midway between neighbouring floats may round up to the higher one, which must stay above.
    cuts = np.where(cuts < values, cuts, low)
    tagged = np.cumsum(clips[::-1])[::-1]
    hits = np.cumsum(positives[::-1])[::-1]
    # A cut that hits nothing is no better than tagging nothing, which comes last.
    useful = (hits > 0) & (values > 0)
    largest = values[-1] if len(values) else 0.0
    thresholds = np.append(cuts[useful], 0.5 if largest <= 0.5 else (largest + 1) / 2)
    hits, tagged = np.append(hits[useful], 0), np.append(tagged[useful], 0)
    preferred = np.lexsort((-thresholds, np.abs(thresholds - 0.5)))
    # 2 TP + FP + FN is what is tagged and what there is to tag, hits counting twice.
    pairs = tagged + int(positives.sum())
    return thresholds[preferred], 2 * hits[preferred], pairs[preferred]


def _whole(values: ArrayLike) -> NDArray[np.int64]:
    """An array of whole numbers >= 0, not empty."""
    given = np.asarray(values)
    if given.ndim != 1 or not given.size or not np.all((given >= 0) & (given == np.floor(given))):
        raise ValueError("every class needs an array of whole numbers >= 0, not empty")
    return given.astype(np.int64)
