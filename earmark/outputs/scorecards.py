"""What is said of a prediction's scores: which of them, by what names, in which tables."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.bootstrap import Comparison, Interval
from earmark.metrics.collars import EventEvidence, EventScores
from earmark.metrics.counts import Counts
from earmark.metrics.false_events import FalseEvents
from earmark.metrics.intersections import IntersectionEvidence
from earmark.metrics.psds import PSDS1, PSDS2, PsdsEvidence
from earmark.metrics.segments import SegmentEvidence, SegmentScores
from earmark.metrics.tagging import TaggingEvidence

Table = list[list[str]]
"""Rows of cells, the header first; the first column is text, the others mostly numbers."""

Weights = NDArray[np.int64] | None

TUNED_HERE = "tuned on the data being scored"

_SHOWN = {
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "mean_average_precision": "mAP",
    "macro_roc_auc": "ROC AUC",
    "lwlrap": "lwlrap",
    "f1": "segment F1",
    "error_rate": "segment error rate",
    "event_f1": "event F1",
    "event_macro_f1": "event macro F1",
    "event_error_rate": "event error rate",
    "onset_f1": "onset F1",
    "onset_macro_f1": "onset macro F1",
    "onset_error_rate": "onset error rate",
    "intersection_f1": "intersection F1",
    "intersection_macro_f1": "intersection macro F1",
    "psds1": "PSDS 1",
    "psds2": "PSDS 2",
    "best_intersection_macro_f1": "best intersection macro F1",
    "false_events_per_hour": "false events per hour",
}


class Scorecard(Protocol):
    """Scores of one kind: of tags, of events or of frame scores."""

    @property
    def clips(self) -> int:
        """N, how many clips are scored."""

    def statistics(self, weights: Weights = None) -> dict[str, float]:
        """The headline scores by their stable names, in any draw of the clips."""

    def numbers(self) -> dict[str, Any]:
        """All scores by their stable names, as fractions."""

    def class_numbers(self) -> dict[str, NDArray[Any]]:
        """Scores of each class (K,) by their stable names."""

    def tables(self, intervals: Mapping[str, Interval]) -> list[Table]:
        """Headline and classes, for people."""


class TagCard:
    """Scores of tags.

    Args:
        evidence: the probabilities, 0 and 1 where they were decided before.
        ranked: whether there were probabilities, so that how they rank means something.
        remark: what must be said beside scores that rest on the thresholds.
        calibration_errors: of all classes together, and of each (K,), where there were
            probabilities.
    """

    def __init__(
        self,
        evidence: TaggingEvidence,
        *,
        ranked: bool,
        remark: str = "",
        calibration_errors: tuple[float, NDArray[np.float64]] | None = None,
    ) -> None:
        self._errors = calibration_errors
        self.clips = evidence.clips
        self.scores = evidence.scores()
        self._evidence, self._ranked, self._remark = evidence, ranked, remark

    def statistics(self, weights: Weights = None) -> dict[str, float]:
        scores = self._evidence.scores(weights)
        found = {"micro_f1": float(scores.micro.f1), "macro_f1": scores.macro_f1}
        if self._ranked:
            found["mean_average_precision"] = scores.mean_average_precision
            found["macro_roc_auc"] = scores.macro_roc_auc
            found["lwlrap"] = scores.lwlrap
        return found

    def numbers(self) -> dict[str, Any]:
        scores = self.scores
        content = {
            **_ratios(scores.micro, "micro_"),
            "macro_f1": scores.macro_f1,
            "macro_precision": scores.macro_precision,
            "macro_recall": scores.macro_recall,
            "f1_of_mean_precision_and_recall": scores.f1_of_mean_precision_and_recall,
            "classes_without_positives": scores.classes_without_positives,
        }
        if self._ranked:
            content |= {
                "mean_average_precision": scores.mean_average_precision,
                "micro_average_precision": scores.micro_average_precision,
                "macro_roc_auc": scores.macro_roc_auc,
                "micro_roc_auc": scores.micro_roc_auc,
                "classes_without_roc_auc": scores.classes_without_roc_auc,
                "mean_d_prime": scores.mean_d_prime,
                "d_prime_of_macro_roc_auc": scores.d_prime_of_macro_roc_auc,
                "lwlrap": scores.lwlrap,
            }
        if self._errors is not None:
            content["expected_calibration_error"] = self._errors[0]
        return content

    def class_numbers(self) -> dict[str, NDArray[Any]]:
        scores = self.scores
        found = {**_ratios(scores.counts), "n_reference": scores.counts.n_reference}
        if self._ranked:
            found["average_precision"] = scores.average_precision
            found["roc_auc"] = scores.roc_auc
            found["label_ranking_precision"] = scores.label_ranking_precision
            found["threshold"] = scores.thresholds
        if self._errors is not None:
            found["expected_calibration_error"] = self._errors[1]
        return found

    def tables(self, intervals: Mapping[str, Interval]) -> list[Table]:
        scores = self.scores
        both = scores.f1_of_mean_precision_and_recall
        macro = scores.macro_f1, scores.macro_precision, scores.macro_recall
        micro = (float(value) for value in _ratios(scores.micro).values())
        headline = [
            ["tags", "F1", "95 % interval", "precision", "recall", ""],
            ["micro", *_beside(micro, intervals, "micro_f1"), self._remark],
            ["macro", *_beside(macro, intervals, "macro_f1"), self._remark],
            ["F1 of mean precision and recall", percent(both), "", "", "", self._remark],
        ]
        classes = [
            ["class", "clips", "F1", "precision", "recall"],
            *_class_rows(scores.class_names, scores.counts),
        ]
        if not self._ranked:
            return [headline, classes]
        known = len(scores.class_names) - scores.classes_without_positives
        values = {
            f"mAP (of the {known} classes that occur)": "mean_average_precision",
            "ROC AUC": "macro_roc_auc",
            "lwlrap": "lwlrap",
        }
        now = self.statistics()
        primes = {
            "d' (of the ROC AUC)": scores.d_prime_of_macro_roc_auc,
            "d' (mean of the classes)": scores.mean_d_prime,
        }
        ranking = [
            ["ranking", "value", "95 % interval"],
            *(
                [name, percent(now[key]), interval_text(intervals.get(key))]
                for name, key in values.items()
            ),
            *([name, _decimals(value, 2), ""] for name, value in primes.items()),
        ]
        if self._errors is not None:
            ranking.append(["expected calibration error", percent(self._errors[0]), ""])
        columns = [
            ["AP", *map(percent, scores.average_precision)],
            ["ROC AUC", *map(percent, scores.roc_auc)],
            ["threshold", *(f"{threshold:.6g}" for threshold in scores.thresholds)],
        ]
        if self._errors is not None:
            columns.append(["calibration error", *map(percent, self._errors[1])])
        return [headline, ranking, _joined(classes, columns)]


class EventCard:
    """Scores of events: in segments, by their boundaries, by their onsets, by shared time."""

    def __init__(
        self,
        segments: SegmentEvidence,
        events: EventEvidence,
        onsets: EventEvidence,
        intersections: IntersectionEvidence,
        points: Mapping[str, float] | None = None,
        remark: str = "",
        false_events: FalseEvents | None = None,
    ) -> None:
        """``points`` are PSDS of this one operating point by their stable names.

        ``false_events`` are there where clips without an event are, and their lengths are known.
        """
        self.false_events = false_events
        self.clips = segments.clips
        self.scores = segments.scores()
        self._segments, self._events, self._onsets = segments, events, onsets
        self._intersections, self._points, self._remark = intersections, points or {}, remark

    def statistics(self, weights: Weights = None) -> dict[str, float]:
        segments = self._segments.scores(weights)
        found = {
            "f1": float(segments.overall.f1),
            "error_rate": segments.error_rate,
            "macro_f1": segments.macro_f1,
        }
        for name, evidence in (("event", self._events), ("onset", self._onsets)):
            events = evidence.scores(weights)
            found[f"{name}_f1"] = float(events.overall.f1)
            found[f"{name}_error_rate"] = events.error_rate
            found[f"{name}_macro_f1"] = events.macro_f1
        shared = self._intersections.scores(weights)
        found["intersection_f1"] = float(shared.overall.f1)
        found["intersection_macro_f1"] = shared.macro_f1
        if self.false_events is not None:
            found["false_events_per_hour"] = float(self.false_events.per_hour(weights).sum())
        return found

    def numbers(self) -> dict[str, Any]:
        events, onsets = self._events.scores(), self._onsets.scores()
        shared = self._intersections.scores()
        content: dict[str, Any] = {
            "resolution_seconds": self.scores.resolution_seconds,
            **_ratios(self.scores.overall),
            **_errors(self.scores),
            "macro_f1": self.scores.macro_f1,
            "onset_collar_seconds": events.onset_collar_seconds,
            "offset_collar_seconds": events.offset_collar_seconds,
            "offset_collar_ratio": events.offset_collar_ratio,
        }
        for name, scores in (("event_", events), ("onset_", onsets)):
            content |= {
                **_ratios(scores.overall, name),
                **_errors(scores, name),
                f"{name}macro_f1": scores.macro_f1,
            }
        return content | {
            "intersection_dtc": shared.dtc,
            "intersection_gtc": shared.gtc,
            **_ratios(shared.overall, "intersection_"),
            "intersection_macro_f1": shared.macro_f1,
            **self._points,
            **self._false(),
        }

    def _false(self) -> dict[str, float]:
        """What was found in clips without an event, and how long these are."""
        if self.false_events is None:
            return {}
        return {
            "false_events_per_hour": float(self.false_events.per_hour().sum()),
            "hours_without_events": self.false_events.hours,
        }

    def about(self, intervals: Mapping[str, Interval]) -> list[str]:
        """The same in a line, if there are such clips."""
        if self.false_events is None:
            return []
        per_hour, hours = self._false().values()
        ends = interval_text(intervals.get("false_events_per_hour"), 1, 2)
        drawn = f"95 % interval {ends}, " if ends else ""
        return [
            f"false events per hour on recordings without events: {per_hour:.2f} "
            f"({drawn}{hours:.3g} hours)"
        ]

    def class_numbers(self) -> dict[str, NDArray[Any]]:
        events, onsets = self._events.scores(), self._onsets.scores()
        found = {
            **_ratios(self.scores.counts),
            "n_reference": self.scores.counts.n_reference,
            "error_rate": self.scores.class_error_rate,
        }
        for name, scores in (("event_", events), ("onset_", onsets)):
            found |= {
                **_ratios(scores.counts, name),
                f"{name}n_reference": scores.counts.n_reference,
                f"{name}error_rate": scores.class_error_rate,
            }
        if self.false_events is not None:
            found["false_events_per_hour"] = self.false_events.per_hour()
        return found | _ratios(self._intersections.scores().counts, "intersection_")

    def tables(self, intervals: Mapping[str, Interval]) -> list[Table]:
        segments, shared = self.scores, self._intersections.scores()
        events, onsets = self._events.scores(), self._onsets.scores()
        collar, resolution = events.onset_collar_seconds, segments.resolution_seconds
        header = ["events", "F1", "95 % interval", "precision", "recall"]
        headline = [[*header, "error rate", "95 % interval", ""]]
        for name, prefix, scores in (
            (f"segments of {resolution:g} s", "", segments),
            (f"onset and offset within {collar:g} s", "event_", events),
            (f"onset within {collar:g} s", "onset_", onsets),
        ):
            ratios = (float(value) for value in _ratios(scores.overall).values())
            rate = f"{prefix}error_rate"
            headline += [
                [
                    name,
                    *_beside(ratios, intervals, f"{prefix}f1"),
                    f"{scores.error_rate:.2f}",
                    interval_text(intervals.get(rate), 1, 2),
                    self._remark,
                ],
                _macro(scores.macro_f1, intervals, f"{prefix}macro_f1"),
            ]
        ratios = (float(value) for value in _ratios(shared.overall).values())
        headline += [
            [
                f"intersection of {100 * shared.dtc:g} %",
                *_beside(ratios, intervals, "intersection_f1"),
                "",
                "",
                self._remark,
            ],
            _macro(shared.macro_f1, intervals, "intersection_macro_f1"),
        ]
        errors = [["counts", "reference", "substitutions", "deletions", "insertions"]] + [
            [name, *(str(part) for part in _counted(scores))]
            for name, scores in (("segments", segments), ("events", events), ("onsets", onsets))
        ]
        classes = [
            ["class", "segments", "F1", "precision", "recall"],
            *_class_rows(segments.class_names, segments.counts),
        ]
        columns = [
            ["error rate", *(f"{rate:.2f}" for rate in segments.class_error_rate)],
            ["events", *map(str, events.counts.n_reference)],
            ["event F1", *map(percent, events.counts.f1)],
            ["onset F1", *map(percent, onsets.counts.f1)],
            ["intersection F1", *map(percent, shared.counts.f1)],
        ]
        if self.false_events is not None:
            rates = self.false_events.per_hour()
            columns.append(["false per hour", *(_decimals(rate, 2) for rate in rates)])
        return [headline, errors, _joined(classes, columns)]


class FrameCard:
    """Scores of frame scores over all thresholds.

    Args:
        psds1: evidence under ``PSDS1``.
        psds2: evidence under ``PSDS2``.
        shared: evidence with half of an event to be shared, for the best intersection-based F1.
    """

    def __init__(self, psds1: PsdsEvidence, psds2: PsdsEvidence, shared: PsdsEvidence) -> None:
        self.clips = psds1.clips
        self.psds1, self.psds2 = psds1.scores(), psds2.scores()
        self._psds1, self._psds2, self._shared = psds1, psds2, shared
        self._thresholds, self._best = shared.best_f1()

    def statistics(self, weights: Weights = None) -> dict[str, float]:
        _, best = self._shared.best_f1(weights)
        return {
            "psds1": self._psds1.scores(weights).value,
            "psds2": self._psds2.scores(weights).value,
            "best_intersection_macro_f1": best.macro_f1,
        }

    def numbers(self) -> dict[str, Any]:
        return {
            "psds1": self.psds1.value,
            "psds2": self.psds2.value,
            **{
                f"{name}_{key}": getattr(parameters, key)
                for name, parameters in (("psds1", PSDS1), ("psds2", PSDS2))
                for key in ("dtc", "gtc", "cttc", "alpha_ct", "alpha_st", "max_efpr_per_hour")
            },
            "best_intersection_macro_f1": self._best.macro_f1,
            "best_intersection_dtc": self._best.dtc,
            "best_intersection_gtc": self._best.gtc,
        }

    def class_numbers(self) -> dict[str, NDArray[Any]]:
        return {
            "event_n_reference": self._best.counts.n_reference,
            "psds1": self.psds1.class_values,
            "psds2": self.psds2.class_values,
            **_ratios(self._best.counts, "best_intersection_"),
            "best_intersection_threshold": self._thresholds,
        }

    def tables(self, intervals: Mapping[str, Interval]) -> list[Table]:
        best = self._best
        headline = [["frame scores, at all thresholds", "value", "95 % interval", ""]]
        for name, score in (("psds1", self.psds1), ("psds2", self.psds2)):
            ends = interval_text(intervals.get(name), 1, 3)
            headline.append([_SHOWN[name], _decimals(score.value, 3), ends, ""])
        remark = f"thresholds {TUNED_HERE}"
        for name, value in (("best_intersection_macro_f1", best.macro_f1),):
            ends = interval_text(intervals.get(name))
            headline.append([_SHOWN[name], percent(value), ends, remark])
        columns = [
            ["class", *best.class_names],
            ["events", *map(str, best.counts.n_reference)],
            ["PSDS 1", *(_decimals(value, 3) for value in self.psds1.class_values)],
            ["PSDS 2", *(_decimals(value, 3) for value in self.psds2.class_values)],
            ["best F1", *map(percent, best.counts.f1)],
            ["its threshold", *(f"{threshold:.4g}" for threshold in self._thresholds)],
        ]
        return [headline, [list(row) for row in zip(*columns, strict=True)]]


def comparison_table(
    first: Mapping[str, float], second: Mapping[str, float], found: Mapping[str, Comparison]
) -> Table:
    """Both scores, their difference with its interval, and p."""
    # Beside that of events, the macro F1 of segments needs its whole name.
    shown = _SHOWN | ({"macro_f1": "segment macro F1"} if "f1" in first else {})
    rows = [["compared", "this", "other", "difference", "95 % interval", "p"]]
    for name, comparison in found.items():
        one = name.startswith("psds") or name.endswith(("error_rate", "per_hour"))
        scale, digits = (1, 3) if one else (100, 1)
        values = first[name], second[name], first[name] - second[name]
        rows.append(
            [
                shown[name],
                *(_decimals(scale * value, digits) for value in values),
                interval_text(comparison.difference, scale, digits),
                _decimals(comparison.p_value, 3),
            ]
        )
    return rows


def percent(value: float | np.floating[Any] | NDArray[np.float64]) -> str:
    """A fraction in percent; a dash where it is no number."""
    return _decimals(100 * float(value), 1)


def interval_text(interval: Interval | None, scale: float = 100, digits: int = 1) -> str:
    """Both ends; nothing where there is no interval."""
    if interval is None:
        return ""
    low, high = (_decimals(scale * end, digits) for end in (interval.low, interval.high))
    return f"{low} to {high}"


def _decimals(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _beside(ratios: Iterable[float], intervals: Mapping[str, Interval], name: str) -> list[str]:
    """F1, its interval, precision and recall."""
    f1, precision, recall = ratios
    return [percent(f1), interval_text(intervals.get(name)), percent(precision), percent(recall)]


def _macro(value: float, intervals: Mapping[str, Interval], name: str) -> list[str]:
    return ["  macro", percent(value), interval_text(intervals.get(name)), "", "", "", "", ""]


def _ratios(counts: Counts, prefix: str = "") -> dict[str, NDArray[np.float64]]:
    return {
        f"{prefix}f1": counts.f1,
        f"{prefix}precision": counts.precision,
        f"{prefix}recall": counts.recall,
    }


def _errors(scores: SegmentScores | EventScores, prefix: str = "") -> dict[str, float]:
    names = ("n_reference", "substitutions", "deletions", "insertions")
    counted = dict(zip((f"{prefix}{name}" for name in names), _counted(scores), strict=True))
    return {f"{prefix}error_rate": scores.error_rate, **counted}


def _counted(scores: SegmentScores | EventScores) -> tuple[int, int, int, int]:
    return scores.n_reference, scores.substitutions, scores.deletions, scores.insertions


def _class_rows(class_names: Sequence[str], counts: Counts) -> Table:
    columns = [list(class_names), [str(n) for n in counts.n_reference]]
    columns += [[percent(value) for value in values] for values in _ratios(counts).values()]
    return [list(row) for row in zip(*columns, strict=True)]


def _joined(table: Table, columns: Sequence[Sequence[str]]) -> Table:
    """A table with further columns, each with its header."""
    return [[*row, *cells] for row, *cells in zip(table, *columns, strict=True)]
