"""The rules that are tried for a class, and what each of them hits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from earmark.config import ClassDecoding, DecodingSettings
from earmark.events import TIE_SECONDS, Event, union
from earmark.inference.decoding import Candidates as Runs
from earmark.inference.decoding import median_half, step_half
from earmark.metrics.collars import maximum_matching
from earmark.tuning.axis import Axis, Times

THRESHOLDS_TRIED = 32
SPREAD_TRIED = 8.0  # of the reference's share of active frames, up and down
LOW_RATIOS_TRIED = (0.5, 1.0)  # and that of the settings
GAPS_TRIED = (0.0, 0.25, 0.5, 1.0)  # of the median event's length
LENGTHS_TRIED = (0.0, 0.25, 0.5)  # likewise
MEDIANS_TRIED = (0.0, 0.25, 0.5)  # likewise
STEPS_SECONDS_TRIED = (0.3, 0.6, 1.2)
MERGES_TRIED = ((0.67, 0.0), (0.33, 0.0), (1.0, 0.2))  # ratios and differences
QUIETER_TRIED = 32  # thresholds of a rule that gives too many false events
LONGEST_MEDIAN_SECONDS = 60.0  # that a rule may have
PLAIN = {"median_seconds": 0.0, "step_seconds": 0.0, "merge_ratio": 1.0, "merge_difference": 0.0}

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class ClassOnAxis:
    """One class on the axis.

    Attributes:
        axis: of all recordings.
        k: its column.
        own: the rule to beat.
        settings: low_ratio and tag_gate.
        settled: whether gate, median and boxes of that rule stay.
    """

    axis: Axis
    k: int
    own: ClassDecoding
    settings: DecodingSettings
    settled: bool = False

    @cached_property
    def references(self) -> list[Event]:
        """The events of the class, on the axis."""
        return [e for e in self.axis.references if e.label == self.axis.names[self.k]]

    @cached_property
    def typical_seconds(self) -> float:
        """Length of the median event."""
        return float(np.median([event.duration_seconds for event in union(self.references)]))

    def gates(self) -> list[float]:
        """The gate thresholds to try, that of the rule to beat first."""
        known = self.settings.tag_gate and self.axis.local_tags is not None
        others = [self.own.tag_threshold, 0.0] if known else []
        return list(dict.fromkeys([self.own.gate_threshold, *others]))

    def with_gate(self, threshold: float) -> "ClassOnAxis":
        """The class with another gate in the rule to beat, and all of its shape settled."""
        rule = self.own.model_copy(update={"gate_threshold": threshold})
        return replace(self, own=rule, settled=True)

    def with_shapes(self, gate_threshold: float) -> list["ClassOnAxis"]:
        """The class with each median, and each kind of boxes, settled in the rule to beat."""
        shapes: list[dict[str, float]] = [
            {"median_seconds": min(LONGEST_MEDIAN_SECONDS, part * self.typical_seconds)}
            for part in MEDIANS_TRIED
        ]
        shapes += [
            {"step_seconds": seconds, "merge_ratio": ratio, "merge_difference": difference}
            for seconds in STEPS_SECONDS_TRIED
            for ratio, difference in MERGES_TRIED
        ]
        # What comes to the same numbers of frames is tried once.
        found: dict[tuple[float, ...], ClassDecoding] = {}
        for shape in shapes:
            rule = self.own.model_copy(update=PLAIN | shape | {"gate_threshold": gate_threshold})
            halves = median_half(rule, self.axis.clock), step_half(rule, self.axis.clock)
            found.setdefault((*halves, rule.merge_ratio, rule.merge_difference), rule)
        return [replace(self, own=rule, settled=True) for rule in found.values()]

    def shaped(self) -> NDArray[np.float64]:
        """(F,) what the thresholds of the rule to beat look at."""
        rule, axis = self.own, self.axis
        scores = np.ascontiguousarray(axis.frames[:, self.k])
        if self.settings.tag_gate and axis.local_tags is not None:
            closed = axis.local_tags[:, self.k] <= np.float64(rule.gate_threshold)
            scores = np.where(closed, np.float32(0), scores)
        scores = axis.medians(scores, median_half(rule, axis.clock))
        if half := step_half(rule, axis.clock):
            return axis.boxes(scores, half, rule.merge_ratio, rule.merge_difference)
        return scores.astype(np.float64)

    def candidates(self, quieter_only: bool = False) -> "Candidates":
        """What is tried, the rule to beat first, and how each does.

        With ``quieter_only``, the rule to beat with higher thresholds alone.
        """
        tuning = self.axis.tuning
        judge = Collars(self) if tuning.target == "event_f1" else Segments(self)
        found = Candidates(self.axis, judge)
        (runs,) = _runs_above(self.shaped(), [self.own.low_threshold])
        for threshold in [self.own.threshold, *self._quieter(runs)]:
            rule = self.own.model_copy(update={"threshold": threshold})
            events = self.axis.joined(*self._times(runs, threshold), rule.max_gap_seconds)
            found.add(rule, _lasting(*events, rule.min_event_seconds))
        if quieter_only or not self.references:
            return found
        sounding = sum(event.duration_seconds for event in union(self.references))
        share = sounding / float(np.sum(self.axis.frame_stops - self.axis.frame_starts))
        shapes = [self]
        if not self.settled:
            shapes = [shape for gate in self.gates() for shape in self.with_shapes(gate)]
        for shape in shapes:
            scores = shape.shaped()
            strict = tuning.precision is not None or tuning.max_false_events_per_hour is not None
            thresholds = _thresholds(scores, share, strict)
            ratios = sorted({*LOW_RATIOS_TRIED, self.settings.low_ratio})
            gaps: Sequence[float] = GAPS_TRIED
            if shape.own.step_seconds:  # no threshold moves their edges, and near ones are one
                ratios, gaps = [1.0], [0.0]
            for ratio in ratios:
                lows = [threshold * ratio for threshold in thresholds]
                for threshold, runs in zip(thresholds, _runs_above(scores, lows), strict=True):
                    levels = {"threshold": threshold, "low_threshold": threshold * ratio}
                    rule = shape.own.model_copy(update=levels)
                    self._try_lengths(rule, self._times(runs, threshold), gaps, found)
        return found.undominated() if tuning.target == "error_rate" else found

    def _quieter(self, runs: Runs) -> list[float]:
        """Thresholds above the own one, up to one that no run exceeds in a quiet recording."""
        if self.axis.tuning.max_false_events_per_hour is None:
            return []
        starts, _, peaks = runs
        wrong = peaks[self.axis.quiet(self.axis.frame_starts[starts])]
        wrong = np.unique(wrong[wrong > self.own.threshold])
        if not len(wrong):
            return []
        places = np.linspace(0, len(wrong) - 1, min(len(wrong), QUIETER_TRIED)).round().astype(int)
        levels = np.append(np.unique(peaks), 1.0)
        above = levels[np.searchsorted(levels[:-1], wrong[places], side="right")]
        # Midway to the next higher score, so that rounding decides nothing.
        return [float(cut) for cut in (wrong[places] + above) / 2]

    def _times(self, runs: Runs, threshold: float) -> tuple[Times, Times]:
        """When the runs whose peaks exceed a threshold start and stop."""
        starts, stops, peaks = runs
        kept = peaks > threshold
        return self.axis.frame_starts[starts[kept]], self.axis.frame_stops[stops[kept] - 1]

    def _try_lengths(
        self,
        rule: ClassDecoding,
        times: tuple[Times, Times],
        gaps: Sequence[float],
        found: "Candidates",
    ) -> None:
        """Adds a rule with some gaps and shortest lengths, but those that change nothing."""
        count = -1
        for gap in gaps:
            events = self.axis.joined(*times, gap * self.typical_seconds)
            if len(events[0]) == count:
                continue
            count = lasting = len(events[0])
            for shortest in LENGTHS_TRIED:
                kept = _lasting(*events, shortest * self.typical_seconds)
                if shortest and len(kept[0]) == lasting:
                    continue
                lasting = len(kept[0])
                lengths = {
                    "max_gap_seconds": gap * self.typical_seconds,
                    "min_event_seconds": shortest * self.typical_seconds,
                }
                found.add(rule.model_copy(update=lengths), kept)


class Segments:
    """Counts active segments."""

    def __init__(self, of_class: ClassOnAxis) -> None:
        self._axis = of_class.axis
        self.active = self._scored(*_boundaries(of_class.references))
        self.wanted = int(self.active.sum())

    def hits(self, onsets: Times, offsets: Times) -> tuple[int, int, NDArray[np.uint8] | None]:
        """How many segments of the events are right, their number, and which they are, packed.

        The last is None where nothing but the error rate needs it.
        """
        given = self._scored(onsets, offsets)
        packed = np.packbits(given) if self._axis.tuning.target == "error_rate" else None
        return int((given & self.active).sum()), int(given.sum()), packed

    def _scored(self, onsets: Times, offsets: Times) -> NDArray[np.bool_]:
        return self._axis.active(onsets, offsets)[: self._axis.scored_segments]


class Collars:
    """Counts events as ``EventEvidence`` does."""

    def __init__(self, of_class: ClassOnAxis) -> None:
        self._tuning = of_class.axis.tuning
        self._until = of_class.axis.scored_seconds
        events = sorted(of_class.references, key=lambda event: event.onset_seconds)
        self._onsets, self._offsets = _boundaries(events)
        self.wanted = len(events)

    def hits(self, onsets: Times, offsets: Times) -> tuple[int, int, None]:
        """How many of the events in order, none of which overlap, are right, and their number."""
        scored = onsets < self._until
        onsets, offsets = onsets[scored], offsets[scored]
        tuning = self._tuning
        reach = tuning.collar_seconds + TIE_SECONDS
        first = np.searchsorted(onsets, self._onsets - reach)
        count = np.searchsorted(onsets, self._onsets + reach, side="right") - first
        wanted = np.repeat(np.arange(self.wanted), count)
        given = np.arange(len(wanted)) + np.repeat(first - np.cumsum(count) + count, count)
        lengths = self._offsets - self._onsets
        collar = np.maximum(tuning.collar_seconds, tuning.collar_ratio * lengths) + TIE_SECONDS
        met = np.abs(offsets[given] - self._offsets[wanted]) <= collar[wanted]
        wanted, given = wanted[met], given[met]
        # Most meet no other, and are matched without a search.
        alone = np.bincount(wanted, minlength=self.wanted)[wanted] == 1
        alone &= np.bincount(given, minlength=len(onsets))[given] == 1
        rest = maximum_matching(wanted[~alone], given[~alone])
        return int(alone.sum()) + len(rest), len(onsets), None


@dataclass(frozen=True)
class Candidates:
    """Rules of a class and what each hits, the rule to beat first.

    ``false`` counts the events in quiet recordings, where these are bounded.
    """

    axis: Axis
    judge: Segments | Collars
    rules: list[ClassDecoding] = field(default_factory=list)
    hits: list[int] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    packed: list[NDArray[np.uint8] | None] = field(default_factory=list)
    false: list[int] = field(default_factory=list)

    def add(self, rule: ClassDecoding, events: tuple[Times, Times]) -> None:
        """Counts the events that a rule gives."""
        hits, given, packed = self.judge.hits(*events)
        self.rules.append(rule)
        self.hits.append(hits)
        self.given.append(given)
        self.packed.append(packed)
        bounded = self.axis.tuning.max_false_events_per_hour is not None
        self.false.append(int(self.axis.quiet(events[0]).sum()) if bounded else 0)

    def ratio(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What F1 is the quotient of: 2 TP and 2 TP + FP + FN."""
        return 2 * np.array(self.hits), np.array(self.given) + self.judge.wanted

    def most_recalled(self, precision: float) -> int:
        """The highest recall at a precision; where none has it, the highest precision."""
        hits = np.array(self.hits)
        reached = hits / np.maximum(np.array(self.given), 1)
        enough = (reached >= precision) & (hits > 0)
        if enough.any():
            return int(np.lexsort((-reached, np.where(enough, -hits, 1)))[0])
        return int(np.lexsort((-hits, -reached))[0])

    def undominated(self) -> "Candidates":
        """The rule to beat, and those of which no other has fewer misses, false alarms and false
        events, all three."""
        hits, false = np.array(self.hits), np.array(self.false)
        wrong = np.array(self.given) - hits
        kept: list[int] = []
        for index in np.lexsort((false, wrong, -hits)).tolist():  # no later one hits more
            if not np.any((wrong[kept] <= wrong[index]) & (false[kept] <= false[index])):
                kept.append(index)
        return self.only([0, *kept])

    def only(self, indices: Sequence[int]) -> "Candidates":
        """Some of them, by their numbers."""

        def of(values: list[Kept]) -> list[Kept]:
            return [values[index] for index in indices]

        counts = of(self.hits), of(self.given), of(self.packed), of(self.false)
        return Candidates(self.axis, self.judge, of(self.rules), *counts)


def _runs_above(scores: NDArray[np.float64], levels: Sequence[float]) -> Iterator[Runs]:
    """The runs (F,) above each of some rising levels, with their peaks."""
    at = np.arange(len(scores))
    for level in levels:
        # What is above a level is so above those before, and becomes less and less.
        at = at[scores[at] > level]
        if not len(at):
            yield at, at, np.zeros(0)
            continue
        breaks = np.flatnonzero(np.diff(at) > 1)
        first = np.append(0, breaks + 1)
        stops = at[np.append(breaks, len(at) - 1)] + 1
        yield at[first], stops, np.maximum.reduceat(scores[at], first)


def _thresholds(scores: NDArray[np.float64], share: float, strict: bool) -> list[float]:
    """Rising thresholds that let through from an 8th to 8 times the reference's share.

    With ``strict`` there are as many that let through less, down to a single frame.
    """
    least = share / SPREAD_TRIED
    shares = np.geomspace(least, min(1.0, share * SPREAD_TRIED), THRESHOLDS_TRIED)
    if strict:
        fewer = np.geomspace(1 / len(scores), max(least, 1 / len(scores)), THRESHOLDS_TRIED)
        shares = np.concatenate([fewer, shares])
    ranked = np.sort(scores[scores > 0])[::-1]
    if not len(ranked):
        return [0.5]
    places = np.unique((shares * len(scores)).astype(int).clip(1, len(ranked)))
    below = np.append(ranked, 0.0)
    # Midway to the next lower score, so that rounding decides nothing.
    return [float(cut) for cut in np.unique((below[places - 1] + below[places]) / 2)]


def _lasting(onsets: Times, offsets: Times, shortest: float) -> tuple[Times, Times]:
    """The events that are long enough."""
    kept = offsets - onsets >= shortest - TIE_SECONDS
    return onsets[kept], offsets[kept]


def _boundaries(events: Sequence[Event]) -> tuple[Times, Times]:
    onsets = np.array([event.onset_seconds for event in events], np.float64)
    return onsets, np.array([event.offset_seconds for event in events], np.float64)
