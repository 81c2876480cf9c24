"""Decoding rules per class, as the settings or held-out tags say them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from earmark.calibration import expit, logit, moved_threshold
from earmark.config import ClassCalibration, ClassDecoding, DecodingSettings, TuningSettings
from earmark.metrics.thresholds import best_thresholds

PRIOR_TAGS = 10  # as many as the settings' threshold weighs: a few clips prove little
AS_IT_IS = ClassCalibration()


def untuned(classes: int, settings: DecodingSettings) -> list[ClassDecoding]:
    """The rules where nothing was held out to tune them on."""
    return [rule_for(settings.threshold, settings) for _ in range(classes)]


def tuned_on_tags(
    tags: NDArray[np.bool_],
    probabilities: NDArray[np.float32],
    settings: DecodingSettings,
    tuning: TuningSettings,
    votes: bool = False,
    kept: Mapping[int, float] | None = None,
    calibration: Sequence[ClassCalibration] | None = None,
) -> list[ClassDecoding]:
    """Rules whose tag thresholds maximise F1 on tags; frame thresholds are as ``rule_for`` says.

    Where ``tuning`` asks for a precision, they are those of the highest recall that reach it; for
    a class that can't, those of the highest precision. Where it asks for one rule, all but the
    ``kept`` ones are the same, the best for all classes pooled, drawn towards the settings'
    threshold by ``PRIOR_TAGS``: between their logits, as near to it as the tags are few.

    Args:
        tags: (N, K) True where validation clip n has class k.
        probabilities: (N, K) clip probabilities.
        settings: the rest of the rules.
        tuning: what "best" means.
        votes: see ``rule_for``.
        kept: tag thresholds of classes, by their number, that stay as they are.
        calibration: of the probabilities, one a class; see ``rule_for``.
    """
    if tuning.shares_one_rule:
        rest = [k for k in range(tags.shape[1]) if k not in (kept or {})]
        thresholds = [(kept or {}).get(k, settings.threshold) for k in range(tags.shape[1])]
        if rest:
            pooled = tags[:, rest].reshape(-1, 1), probabilities[:, rest].reshape(-1, 1)
            (best,) = _tag_thresholds(*pooled, tuning, {})
            share = pooled[0].sum() / (pooled[0].sum() + PRIOR_TAGS)
            ends = logit(np.array([settings.threshold, best]))
            for k in rest:
                thresholds[k] = float(expit(ends @ [1 - share, share]))
    else:
        thresholds = _tag_thresholds(tags, probabilities, tuning, kept or {})
    return [
        rule_for(threshold, settings, votes, of_class)
        for threshold, of_class in zip(
            thresholds, calibration or [AS_IT_IS] * len(thresholds), strict=True
        )
    ]


def _tag_thresholds(
    tags: NDArray[np.bool_],
    probabilities: NDArray[np.float32],
    tuning: TuningSettings,
    kept: Mapping[int, float],
) -> list[float]:
    """The best threshold of each class, but for those that are ``kept``."""
    if tuning.precision is None:
        best: list[float] = best_thresholds(tags, probabilities, tuning.average, kept).tolist()
        return best
    columns = zip(tags.T, probabilities.T, strict=True)
    precise = [_precise_threshold(*column, tuning.precision) for column in columns]
    return [kept.get(k, threshold) for k, threshold in enumerate(precise)]


def _precise_threshold(
    tags: NDArray[np.bool_], probabilities: NDArray[np.float32], precision: float
) -> float:
    """The threshold of highest recall at a precision; where none has it, of highest precision.

    Midway between two probabilities, as in ``best_thresholds``.
    """
    values, group = np.unique(probabilities.astype(np.float64), return_inverse=True)
    positives = np.bincount(group, weights=tags, minlength=len(values))
    hits = np.cumsum(positives[::-1])[::-1]
    tagged = np.cumsum(np.bincount(group, minlength=len(values))[::-1])[::-1]
    below = np.append(0.0, values[:-1])
    cuts = below + (values - below) / 2
    # Midway between neighbouring floats may round up to the higher one, which must stay above.
    cuts = np.where(cuts < values, cuts, below)
    reached = np.where(values > 0, hits / tagged, -1.0)  # nothing is below 0
    enough = np.flatnonzero((reached >= precision) & (hits > 0))
    if not len(enough):
        return float(cuts[int(np.argmax(reached))])
    # Of all with the highest recall, that with the fewest false alarms.
    return float(cuts[enough[hits[enough] == hits[enough].max()][-1]])


def rules_of_tags(
    rules: Sequence[ClassDecoding],
    settings: DecodingSettings,
    votes: bool = False,
    calibration: Sequence[ClassCalibration] | None = None,
) -> list[ClassDecoding]:
    """Rules that know nothing but the tag thresholds of others: what tags alone give."""
    return [
        rule_for(rule.tag_threshold, settings, votes, of_class)
        for rule, of_class in zip(rules, calibration or [AS_IT_IS] * len(rules), strict=True)
    ]


def moved_rule(rule: ClassDecoding, was: ClassCalibration, now: ClassCalibration) -> ClassDecoding:
    """The rule that decides on probabilities calibrated ``now`` as ``rule`` did on what they were.

    Of boxes nearly: a mean of probabilities is not moved as each of them. Of a threshold that is a
    score itself rounding decides.
    """
    levels = {
        name: moved_threshold(getattr(rule, name), *lines)
        for lines, names in (
            ((was.clips, now.clips), ("tag_threshold", "gate_threshold")),
            ((was.frames, now.frames), ("threshold", "low_threshold")),
        )
        for name in names
    }
    return rule.model_copy(update=levels)


def rule_for(
    tag_threshold: float,
    settings: DecodingSettings,
    votes: bool = False,
    calibration: ClassCalibration = AS_IT_IS,
) -> ClassDecoding:
    """A rule with one threshold for tags and frames, the rest from the settings.

    It is one before the ``calibration`` of the two: the network has both on one scale. Where the
    clip's probability is a share of frames (``votes``), that threshold means nothing to frames,
    and theirs is from the settings, too.
    """
    moved = moved_threshold(tag_threshold, calibration.clips, calibration.frames)
    threshold = settings.threshold if votes else moved
    boxes = settings.method == "bounding_boxes"
    return ClassDecoding(
        tag_threshold=tag_threshold,
        threshold=threshold,
        low_threshold=threshold * settings.low_ratio,
        max_gap_seconds=settings.max_gap_seconds,
        min_event_seconds=settings.min_event_seconds,
        median_seconds=settings.median_seconds,
        step_seconds=settings.step_seconds if boxes else 0.0,
        merge_ratio=settings.merge_ratio if boxes else 1.0,
        merge_difference=settings.merge_difference if boxes else 0.0,
    )
