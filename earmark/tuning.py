"""Thresholds, gaps and shortest lengths per class that score best on validation data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from earmark.config import ClassDecoding, DecodingSettings, TuningSettings
from earmark.events import TIE_SECONDS, Event, union
from earmark.inference.decoding import confirmed_runs, gate, join
from earmark.metrics.segments import touched_segments
from earmark.metrics.thresholds import best_thresholds, maximise_ratio
from earmark.scores import ScoreTrack

THRESHOLDS_TRIED = 48
SPREAD_TRIED = 8.0  # of the reference's share of active frames, up and down
GAPS_TRIED = (0.0, 0.25, 0.5, 1.0)  # of the median event's length
LENGTHS_TRIED = (0.0, 0.25, 0.5)  # likewise


def untuned(classes: int, settings: DecodingSettings) -> list[ClassDecoding]:
    """The rules where nothing was held out to tune them on."""
    return [rule_for(settings.threshold, settings) for _ in range(classes)]


def tuned_on_tags(
    tags: NDArray[np.bool_],
    probabilities: NDArray[np.float32],
    settings: DecodingSettings,
    tuning: TuningSettings,
) -> list[ClassDecoding]:
    """Rules whose tag thresholds maximise F1 on tags; the frame thresholds are the same.

    Args:
        tags: (N, K) True where validation clip n has class k.
        probabilities: (N, K) clip probabilities.
        settings: the rest of the rules.
        tuning: what "best" means.
    """
    thresholds = best_thresholds(tags, probabilities, tuning.average)
    return [rule_for(float(threshold), settings) for threshold in thresholds]


def rules_of_tags(
    rules: Sequence[ClassDecoding], settings: DecodingSettings
) -> list[ClassDecoding]:
    """Rules that know nothing but the tag thresholds of others: what tags alone give."""
    return [rule_for(rule.tag_threshold, settings) for rule in rules]


def rule_for(threshold: float, settings: DecodingSettings) -> ClassDecoding:
    """A rule with one threshold for tags and frames, the rest from the settings."""
    return ClassDecoding(
        tag_threshold=threshold,
        threshold=threshold,
        low_threshold=threshold * settings.low_ratio,
        max_gap_seconds=settings.max_gap_seconds,
        min_event_seconds=settings.min_event_seconds,
    )


def tuned_on_events(
    rules: Sequence[ClassDecoding],
    tracks: Sequence[ScoreTrack],
    references: Sequence[Sequence[Event]],
    settings: DecodingSettings,
    tuning: TuningSettings,
) -> list[ClassDecoding]:
    """Rules whose frame thresholds, gaps and shortest lengths maximise segment-based F1.

    For every class each combination of some thresholds, gaps and lengths is decoded; the
    thresholds are spaced by how many frames they let through, since scores may crowd next to 0
    or 1. Of these and the rule that came the exact best is taken: of each class's F1 ("macro")
    or of the pooled F1 ("micro"). A class that does not occur in ``references`` keeps its rule.

    Args:
        rules: what to beat; their tag thresholds stay, since the tag gate uses them.
        tracks: one a validation recording, whole.
        references: the events of each.
        settings: low_ratio and tag_gate.
        tuning: what "best" means, and the segment length.
    """
    names = tracks[0].class_names
    by_class = [_of_class(references, name) for name in names]
    line = _Timeline(tracks, by_class, tuning.resolution_seconds)
    tag_thresholds = np.array([rule.tag_threshold for rule in rules])
    scored = np.concatenate(
        [
            np.append(
                gate(track.probabilities, track.local_tags, tag_thresholds)
                if settings.tag_gate
                else track.probabilities,
                np.zeros((1, len(names)), np.float32),
                axis=0,
            )
            for track in tracks
        ]
    )
    candidates = [
        _candidates(scored[:, k], rule, line, of_class, settings)
        for k, (of_class, rule) in enumerate(zip(by_class, rules, strict=True))
    ]
    numerators = [np.array([c.numerator for c in of_class]) for of_class in candidates]
    denominators = [np.array([c.denominator for c in of_class]) for of_class in candidates]
    if tuning.average == "micro":
        chosen = maximise_ratio(numerators, denominators)
    else:
        chosen = [
            maximise_ratio([top], [bottom])[0]
            for top, bottom in zip(numerators, denominators, strict=True)
        ]
    return [of_class[index].rule for of_class, index in zip(candidates, chosen, strict=True)]


@dataclass(frozen=True, slots=True)
class _Candidate:
    rule: ClassDecoding
    numerator: int  # 2 TP
    denominator: int  # 2 TP + FP + FN


class _Timeline:
    """All recordings on one axis: frame boundaries in seconds, and whole segments.

    Each recording starts on a segment of its own, further from the one before than any gap that
    is joined, and a frame of probability 0 after its last keeps their runs apart.
    """

    def __init__(
        self,
        tracks: Sequence[ScoreTrack],
        by_class: Sequence[Sequence[Sequence[Event]]],
        resolution_seconds: float,
    ) -> None:
        self.resolution_seconds = resolution_seconds
        self.segments = 0
        self.starts_seconds: list[float] = []
        starts: list[NDArray[np.float64]] = []
        stops: list[NDArray[np.float64]] = []
        for number, track in enumerate(tracks):
            position = self.segments * resolution_seconds
            edges = track.edges_seconds + position
            self.starts_seconds.append(position)
            starts.append(edges)
            stops.append(np.append(edges[1:], edges[-1]))
            # References may go on where the recording has ended.
            ends = [event.offset_seconds for of in by_class for event in of[number]]
            seconds = max([float(edges[-1]) - position, *ends])
            self.segments += math.ceil(seconds / resolution_seconds) + _APART_SEGMENTS
        self.frame_starts = np.concatenate(starts)
        self.frame_stops = np.concatenate(stops)

    def active(
        self, onsets: NDArray[np.float64], offsets: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """(segments,) which segments the events [onset, offset) touch."""
        first, beyond = touched_segments(onsets, offsets, self.resolution_seconds)
        steps = np.zeros(self.segments + 1, np.int64)
        np.add.at(steps, first, 1)
        np.add.at(steps, beyond, -1)
        return np.cumsum(steps[:-1]) > 0


_APART_SEGMENTS = 2


def _of_class(references: Sequence[Sequence[Event]], label: str) -> list[list[Event]]:
    return [
        union(e for e in events if e.label == label and e.duration_seconds > 0)
        for events in references
    ]


def _candidates(
    scores: NDArray[np.float32],
    rule: ClassDecoding,
    line: _Timeline,
    references: Sequence[Sequence[Event]],
    settings: DecodingSettings,
) -> list[_Candidate]:
    onsets = np.array(
        [
            event.onset_seconds + start
            for start, events in zip(line.starts_seconds, references, strict=True)
            for event in events
        ]
    )
    lengths = np.array([event.duration_seconds for events in references for event in events])
    wanted = line.active(onsets, onsets + lengths)

    def runs(low: float, threshold: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        starts, stops, _ = confirmed_runs(scores, low, threshold)
        return line.frame_starts[starts], line.frame_stops[stops - 1]

    def candidate(
        tried: ClassDecoding, run_onsets: NDArray[np.float64], run_offsets: NDArray[np.float64]
    ) -> _Candidate:
        first, last = _join_within(line, run_onsets, run_offsets, tried.max_gap_seconds)
        event_onsets, event_offsets = run_onsets[first], run_offsets[last]
        kept = event_offsets - event_onsets >= tried.min_event_seconds - TIE_SECONDS
        given = line.active(event_onsets[kept], event_offsets[kept])
        hits = int((given & wanted).sum())
        return _Candidate(tried, 2 * hits, int(given.sum() + wanted.sum()))

    found = [candidate(rule, *runs(rule.low_threshold, rule.threshold))]
    if not len(onsets):
        return found
    median = float(np.median(lengths))
    share = float(lengths.sum()) / float(np.sum(line.frame_stops - line.frame_starts))
    for threshold in _thresholds(scores, share):
        low = threshold * settings.low_ratio
        at_threshold = runs(low, threshold)
        for gap, shortest in product(GAPS_TRIED, LENGTHS_TRIED):
            tried = ClassDecoding(
                tag_threshold=rule.tag_threshold,
                threshold=threshold,
                low_threshold=low,
                max_gap_seconds=gap * median,
                min_event_seconds=shortest * median,
            )
            found.append(candidate(tried, *at_threshold))
    return found


def _join_within(
    line: _Timeline, onsets: NDArray[np.float64], offsets: NDArray[np.float64], gap: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``join``, with recordings moved further apart than any gap."""
    recording = np.searchsorted(line.starts_seconds, onsets, side="right")
    apart = recording * (2 * gap + 1.0)
    return join(onsets + apart, offsets + apart, gap)


def _thresholds(scores: NDArray[np.float32], share: float) -> list[float]:
    """Candidate thresholds that let through from an 8th to 8 times the reference's share."""
    shares = np.geomspace(share / SPREAD_TRIED, min(1.0, share * SPREAD_TRIED), THRESHOLDS_TRIED)
    ranked = np.sort(scores[scores > 0].astype(np.float64))[::-1]
    if not len(ranked):
        return [0.5]
    places = np.unique((shares * len(scores)).astype(int).clip(1, len(ranked)))
    below = np.append(ranked, 0.0)
    # Midway to the next lower score, so that rounding decides nothing.
    return [float(cut) for cut in np.unique((below[places - 1] + below[places]) / 2)]
