"""What rules score on what was held out, and what they were chosen for."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from earmark.config import ClassDecoding, DecodingSettings, Target, TuningSettings
from earmark.events import Event
from earmark.inference.decoding import decided_scores, decode
from earmark.metrics.collars import EventEvidence
from earmark.metrics.confusion import event_confusion
from earmark.metrics.counts import Counts, mean_over_classes
from earmark.metrics.psds import PSDS1, PSDS2, PsdsEvidence
from earmark.metrics.segments import SegmentEvidence
from earmark.metrics.tagging import TaggingEvidence, TaggingScores
from earmark.scores import ScoreTrack


def goal_of_tags(tuning: TuningSettings) -> str:
    """What tag thresholds were chosen for, in words."""
    if tuning.precision is not None:
        return f"maximise recall at a precision of at least {tuning.precision:g}"
    alike = " with one for all classes" if tuning.shares_one_rule else ""
    return f"maximise {tuning.average} F1{alike}"


def goal_of_events(tuning: TuningSettings) -> str:
    """What rules for events were chosen for, in words."""
    segments = f"in segments of {tuning.resolution_seconds:g} s"
    if tuning.precision is not None:
        return f"{goal_of_tags(tuning)} {segments}"
    goals: dict[Target, str] = {
        "segment_f1": f"{goal_of_tags(tuning)} {segments}",
        "error_rate": f"minimise the error rate {segments}",
        "event_f1": f"{goal_of_tags(tuning)} of events within {tuning.collar_seconds:g} s",
        "psds1": "maximise PSDS, scenario 1",
        "psds2": "maximise PSDS, scenario 2",
    }
    return goals[tuning.target]


def tag_evidence(
    rules: Sequence[ClassDecoding],
    tags: NDArray[np.bool_],
    posteriors: NDArray[np.float32],
    class_names: Sequence[str],
) -> TaggingEvidence:
    """What the rules' thresholds make of posteriors (N, K) beside the tags (N, K)."""
    thresholds = np.array([rule.tag_threshold for rule in rules])
    return TaggingEvidence(tags, posteriors, thresholds, class_names)


def tag_scores(
    tagging: TaggingScores, judgeable: NDArray[np.bool_], tuning: TuningSettings
) -> dict[str, float]:
    """What is said of tags; the means are over the classes (K,) of which anything is known."""
    scores = {
        "tagging micro F1": float(tagging.micro.f1),
        "tagging macro F1": mean_over_classes(tagging.counts.f1[judgeable]),
        "tagging mAP": tagging.mean_average_precision,
    }
    if tuning.precision is not None:
        scores["tagging precision"] = float(tagging.micro.precision)
        scores["tagging recall"] = float(tagging.micro.recall)
    return scores


class RuledEvents:
    """What rules make of tracks beside what is true, to be scored in any draw of recordings."""

    def __init__(
        self,
        rules: Sequence[ClassDecoding],
        tracks: Mapping[str, ScoreTrack],
        references: Mapping[str, Sequence[Event]],
        decoding: DecodingSettings,
        tuning: TuningSettings,
    ) -> None:
        names, gate = next(iter(tracks.values())).class_names, decoding.tag_gate
        found = {name: decode(track, rules, tag_gate=gate) for name, track in tracks.items()}
        seconds = {name: float(track.edges_seconds[-1]) for name, track in tracks.items()}
        self._tuning = tuning
        self.segments = SegmentEvidence(references, found, names, tuning.resolution_seconds)
        self.confusion = event_confusion(
            references, found, names, tuning.resolution_seconds, seconds
        )
        self.events: EventEvidence | None = None
        self.psds: PsdsEvidence | None = None
        if tuning.target == "event_f1":
            collar = tuning.collar_seconds
            self.events = EventEvidence(
                references, found, names, collar, collar, tuning.collar_ratio
            )
        if tuning.target in ("psds1", "psds2"):
            shown = {n: decided_scores(t, rules, tag_gate=gate) for n, t in tracks.items()}
            parameters = PSDS1 if tuning.target == "psds1" else PSDS2
            self.psds = PsdsEvidence.from_scores(references, shown, seconds, names, parameters)

    def scores(self, weights: NDArray[np.int64] | None = None) -> dict[str, float]:
        """What is said of events, among it what was tuned for."""
        segments = self.segments.scores(weights)
        scores = {
            "segment F1": float(segments.overall.f1),
            "segment macro F1": segments.macro_f1,
            "segment error rate": segments.error_rate,
        }
        if self._tuning.precision is not None:
            scores["segment precision"] = float(segments.overall.precision)
            scores["segment recall"] = float(segments.overall.recall)
        if self.events is not None:
            events = self.events.scores(weights)
            scores["event F1"] = float(events.overall.f1)
            scores["event macro F1"] = events.macro_f1
        if self.psds is not None:
            name = f"PSDS, scenario {self._tuning.target[-1]}"
            scores[name] = self.psds.scores(weights).value
        return scores


def finite_scores(scores: dict[str, float]) -> dict[str, float]:
    """Those that are numbers: JSON has no others."""
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def short_of_precision(
    counts: Counts, class_names: Sequence[str], tuning: TuningSettings
) -> list[str]:
    """Which classes, of those that occur, miss the precision that was asked for."""
    if tuning.precision is None:
        return []
    missed = (counts.precision < tuning.precision) & (counts.n_reference > 0)
    return [name for name, short in zip(class_names, missed.tolist(), strict=True) if short]
