"""Decoding rules per class that score best on validation data."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from earmark.calibration import expit, logit, moved_threshold
from earmark.config import ClassCalibration, ClassDecoding, DecodingSettings, TuningSettings
from earmark.events import TIE_SECONDS, Event, union
from earmark.inference.changepoints import as_boxes, as_ticks, means, merge, steps, turning_points
from earmark.inference.decoding import Candidates as Runs
from earmark.inference.decoding import join, median_half, spread, step_half
from earmark.metrics.collars import maximum_matching
from earmark.metrics.psds import PSDS1, PSDS2, PsdRoc, PsdsEvidence, PsdsParameters
from earmark.metrics.segments import touched_segments
from earmark.metrics.thresholds import best_thresholds, maximise_ratio
from earmark.scores import ScoreTrack

THRESHOLDS_TRIED = 32
SPREAD_TRIED = 8.0  # of the reference's share of active frames, up and down
LOW_RATIOS_TRIED = (0.5, 1.0)  # and that of the settings
GAPS_TRIED = (0.0, 0.25, 0.5, 1.0)  # of the median event's length
LENGTHS_TRIED = (0.0, 0.25, 0.5)  # likewise
MEDIANS_TRIED = (0.0, 0.25, 0.5)  # likewise
STEPS_SECONDS_TRIED = (0.3, 0.6, 1.2)
MERGES_TRIED = ((0.67, 0.0), (0.33, 0.0), (1.0, 0.2))  # ratios and differences
QUIETER_TRIED = 32  # thresholds of a rule that gives too many false events
PRIOR_TAGS = 10  # as many as the settings' threshold weighs: a few clips prove little
LONGEST_MEDIAN_SECONDS = 60.0  # that a rule may have
PLAIN = {"median_seconds": 0.0, "step_seconds": 0.0, "merge_ratio": 1.0, "merge_difference": 0.0}

Times = NDArray[np.float64]
Kept = TypeVar("Kept")
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


def tuned_on_events(
    rules: Sequence[ClassDecoding],
    tracks: Sequence[ScoreTrack],
    references: Sequence[Sequence[Event]],
    settings: DecodingSettings,
    tuning: TuningSettings,
    negatives: Sequence[ScoreTrack] = (),
) -> list[ClassDecoding]:
    """Rules whose events score best, whatever in a rule decides on them.

    For every class each combination of some medians, or boxes, with the tag gate open or not, and
    of thresholds, hysteresis, gaps and lengths is decoded; the thresholds are spaced by how many
    frames they let through, since scores may crowd next to 0 or 1. Of these and the rule that
    came are taken, by ``tuning.target``:

    - "segment_f1" and "event_f1": the exact best, of each class's F1 ("macro") or of the pooled
      F1 ("micro").
    - "error_rate": a local optimum. In a segment a false alarm of one class makes up for a miss of
      another, so that the classes depend on each other. From the best micro F1, and from the
      rules that came, class after class takes what lowers the error rate of all most, as long as
      any can.
    - "psds1" and "psds2": gate, median and boxes likewise, by PSDS, to which the rest doesn't
      matter; the rest is the best for segment-based F1.

    Where ``tuning`` asks for a precision, it is the highest recall of segments at that precision
    among these, or the highest precision of a class in which none of them reaches it.

    Where ``tuning`` bounds the false events per hour, those of all classes together on recordings
    without an event: the best rules of those that give at most so many each, the same number for
    every class, and as high as the bound allows. A rule that gives more may have another
    threshold, up to one that nothing there exceeds.

    A class that does not occur in ``references`` keeps its rule, or the next one within the bound.

    Where ``tuning`` asks for one rule, each recording counts once for every class, as if there
    were one class alone, and all have the best rule of that but for their tag thresholds; the
    rule that came is then the first class's. A bound then only raises the thresholds of classes.

    Args:
        rules: what to beat; their tag thresholds stay.
        tracks: one a validation recording, whole.
        references: the events of each.
        settings: low_ratio and tag_gate.
        tuning: what "best" means, and segments and collars.
        negatives: of further recordings, which hold none of the classes; they count for nothing
            but the bound, and with them there need be no ``tracks``.
    """
    if tuning.shares_one_rule and tracks:
        alike = _one_rule(rules, tracks, references, settings, tuning)
        if tuning.max_false_events_per_hour is None:
            return alike
        # From the rule that all share each class departs as far as it must.
        quiet = [t for t, events in zip(tracks, references, strict=True) if not events]
        return tuned_on_events(alike, [], [], settings, tuning, [*quiet, *negatives])
    line = _Timeline(tracks, references, tuning, negatives)
    classes = [_Class(line, k, rule, settings) for k, rule in enumerate(rules)]
    if tuning.target in ("psds1", "psds2"):
        parameters = PSDS1 if tuning.target == "psds1" else PSDS2
        classes = _best_shapes(classes, tracks, references, parameters)
    candidates = [of_class.candidates() for of_class in classes]

    def best_of(candidates: Sequence[_Candidates]) -> list[int]:
        if tuning.precision is not None:
            return [of_class.most_recalled(tuning.precision) for of_class in candidates]
        if tuning.target == "error_rate":
            return _fewest_errors(candidates, line)
        return _best_f1(candidates, tuning.average == "micro")

    best = best_of(candidates)
    if tuning.max_false_events_per_hour is not None:
        most = tuning.max_false_events_per_hour * line.quiet_seconds / 3600
        best = _bounded(candidates, best, best_of, most)
    return [of_class.rules[index] for of_class, index in zip(candidates, best, strict=True)]


def _one_rule(
    rules: Sequence[ClassDecoding],
    tracks: Sequence[ScoreTrack],
    references: Sequence[Sequence[Event]],
    settings: DecodingSettings,
    tuning: TuningSettings,
) -> list[ClassDecoding]:
    """The best rule of all classes together, with the tag thresholds that they had."""
    names = tracks[0].class_names
    one = names[:1]
    columns = [track.of_classes([k]) for k in range(len(names)) for track in tracks]
    (found,) = tuned_on_events(
        rules[:1],
        [replace(column, class_names=one) for column in columns],
        [
            [replace(event, label=one[0]) for event in events if event.label == name]
            for name in names
            for events in references
        ],
        settings,
        tuning.model_copy(update={"one_rule": False, "max_false_events_per_hour": None}),
    )
    return [found.model_copy(update={"tag_threshold": rule.tag_threshold}) for rule in rules]


class _Timeline:
    """All recordings on one axis: frame boundaries in seconds, and whole segments.

    Each recording starts on a segment of its own, further from the one before than what is joined
    or matched, and a frame of score 0 after its last keeps their runs apart.

    Attributes:
        names: the K classes.
        clock: of the frames.
        tuning: segments and collars.
        segments: how many there are.
        scored_segments: those before the negatives, and ``scored_seconds``.
        quiet_seconds: of all recordings without an event.
        frames: (F, K) scores.
        local_tags: (F, K) what the tag gate looks at, where it is known.
        frame_starts: (F,) in seconds, and ``frame_stops``.
        references: the events, in seconds on the axis.
    """

    def __init__(
        self,
        tracks: Sequence[ScoreTrack],
        references: Sequence[Sequence[Event]],
        tuning: TuningSettings,
        negatives: Sequence[ScoreTrack] = (),
    ) -> None:
        scored = len(tracks)
        tracks = [*tracks, *negatives]
        references = [*references, *([()] * len(negatives))]
        self.names = tracks[0].class_names
        self.clock = tracks[0].clock
        self.tuning = tuning
        self.segments = 0
        self.references: list[Event] = []
        starts_seconds: list[float] = []
        self._lengths = [len(track.probabilities) for track in tracks]
        apart = 2 + math.ceil(2 * tuning.collar_seconds / tuning.resolution_seconds)
        starts: list[Times] = []
        stops: list[Times] = []
        for track, events in zip(tracks, references, strict=True):
            position = self.segments * tuning.resolution_seconds
            edges = track.edges_seconds + position
            starts_seconds.append(position)
            starts.append(edges)
            stops.append(np.append(edges[1:], edges[-1]))
            # References may go on where the recording has ended.
            ends = [event.offset_seconds for event in events]
            seconds = max([float(edges[-1]) - position, *ends])
            self.segments += math.ceil(seconds / tuning.resolution_seconds) + apart
            self.references += [
                replace(
                    event,
                    onset_seconds=event.onset_seconds + position,
                    offset_seconds=event.offset_seconds + position,
                )
                for event in events
                if event.duration_seconds > 0
            ]
        self._starts_seconds = np.array(starts_seconds)
        self._quiet = np.array([not events for events in references])
        self.quiet_seconds = sum(
            float(track.edges_seconds[-1])
            for track, quiet in zip(tracks, self._quiet, strict=True)
            if quiet
        )
        self.scored_seconds = starts_seconds[scored] if negatives else math.inf
        self.scored_segments = (
            round(self.scored_seconds / tuning.resolution_seconds) if negatives else self.segments
        )
        self._known: dict[tuple[int, bool], tuple[NDArray[np.int64], NDArray[np.bool_]]] = {}
        self.frame_starts = np.concatenate(starts)
        self.frame_stops = np.concatenate(stops)
        self.frames = _one_after_another([track.probabilities for track in tracks])
        local = [track.local_tags for track in tracks if track.local_tags is not None]
        self.local_tags = _one_after_another(local) if len(local) == len(tracks) else None

    def cut(self, values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Values (F, K) as those of each recording."""
        parts = np.split(values, np.cumsum([length + 1 for length in self._lengths])[:-1])
        return [part[:-1] for part in parts]

    def medians(self, scores: NDArray[np.float32], half: int) -> NDArray[np.float32]:
        """The scores (F,) as ``MedianFilter`` gives them."""
        if not half:
            return scores
        padded, inside = self._padded(half, mirrored=True)
        filtered = scores.copy()
        filtered[padded[inside]] = median_filter(scores[padded], 2 * half + 1)[inside]
        return filtered

    def boxes(
        self, scores: NDArray[np.float32], half: int, ratio: float, difference: float
    ) -> NDArray[np.float64]:
        """The scores (F,) of the boxes that ``BoxFinder`` gives, 0 elsewhere."""
        padded, inside = self._padded(half, mirrored=False)
        ticks = as_ticks(scores)[padded]
        # Boundaries where a recording's frames start, or where its last one stops.
        there = inside | np.append(False, inside[:-1])
        change = np.zeros(len(ticks), np.int64)
        change[half : len(ticks) - half + 1] = steps(ticks, half)
        turns = turning_points(np.where(there, change, 0))
        before = np.append(0, np.cumsum(ticks))
        alone = as_boxes(np.stack([turns, before[turns]]))
        recording = np.cumsum(~inside)
        apart = recording[alone[0, 1:]] != recording[alone[0, :-1]]
        boxes = merge(alone, ratio, difference, apart)
        return spread(padded[boxes[0]], padded[boxes[1]], means(boxes), len(scores))

    def active(self, onsets: Times, offsets: Times) -> NDArray[np.bool_]:
        """(segments,) which segments the events [onset, offset) touch."""
        first, beyond = touched_segments(onsets, offsets, self.tuning.resolution_seconds)
        changes = np.bincount(first, minlength=self.segments + 1)
        changes -= np.bincount(beyond, minlength=self.segments + 1)
        return np.asarray(np.cumsum(changes[:-1]) > 0)

    def quiet(self, onsets: Times) -> NDArray[np.bool_]:
        """Whether what starts then is in a recording without an event."""
        recording = np.searchsorted(self._starts_seconds, onsets, side="right") - 1
        return np.asarray(self._quiet[recording])

    def joined(self, onsets: Times, offsets: Times, gap: float) -> tuple[Times, Times]:
        """Runs made one where the gap is short enough, of each recording by itself."""
        recording = np.searchsorted(self._starts_seconds, onsets, side="right")
        apart = recording * (2 * gap + 1.0)
        first, last = join(onsets + apart, offsets + apart, gap)
        return onsets[first], offsets[last]

    def _padded(self, half: int, *, mirrored: bool) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Frames with ``half`` more on either side of each recording, and which are its own.

        Those more are the recording's mirrored ones, or the frame of score 0 that follows it.
        """
        if (half, mirrored) in self._known:
            return self._known[half, mirrored]
        index, inside, start = [], [], 0
        for length in self._lengths:
            own = np.arange(start, start + length)
            start += length + 1
            if not mirrored or not length:
                around = np.full(half, start - 1)
                index += [around, own, around]
            elif length >= half:
                index += [own[:half][::-1], own, own[length - half :][::-1]]
            else:
                index.append(np.pad(own, half, "symmetric"))
            around = np.zeros(half, np.bool_)
            inside += [around, np.ones(length, np.bool_), around]
        self._known[half, mirrored] = np.concatenate(index), np.concatenate(inside)
        return self._known[half, mirrored]


@dataclass(frozen=True)
class _Class:
    """One class on the axis.

    Attributes:
        line: the axis.
        k: its column.
        own: the rule to beat.
        settings: low_ratio and tag_gate.
        settled: whether gate, median and boxes of that rule stay.
    """

    line: _Timeline
    k: int
    own: ClassDecoding
    settings: DecodingSettings
    settled: bool = False

    @cached_property
    def references(self) -> list[Event]:
        """The events of the class, on the axis."""
        return [e for e in self.line.references if e.label == self.line.names[self.k]]

    @cached_property
    def typical_seconds(self) -> float:
        """Length of the median event."""
        return float(np.median([event.duration_seconds for event in union(self.references)]))

    def gates(self) -> list[float]:
        """The gate thresholds to try, that of the rule to beat first."""
        known = self.settings.tag_gate and self.line.local_tags is not None
        others = [self.own.tag_threshold, 0.0] if known else []
        return list(dict.fromkeys([self.own.gate_threshold, *others]))

    def with_gate(self, threshold: float) -> "_Class":
        """The class with another gate in the rule to beat, and all of its shape settled."""
        rule = self.own.model_copy(update={"gate_threshold": threshold})
        return replace(self, own=rule, settled=True)

    def with_shapes(self, gate_threshold: float) -> list["_Class"]:
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
            halves = median_half(rule, self.line.clock), step_half(rule, self.line.clock)
            found.setdefault((*halves, rule.merge_ratio, rule.merge_difference), rule)
        return [replace(self, own=rule, settled=True) for rule in found.values()]

    def shaped(self) -> NDArray[np.float64]:
        """(F,) what the thresholds of the rule to beat look at."""
        rule, line = self.own, self.line
        scores = np.ascontiguousarray(line.frames[:, self.k])
        if self.settings.tag_gate and line.local_tags is not None:
            closed = line.local_tags[:, self.k] <= np.float64(rule.gate_threshold)
            scores = np.where(closed, np.float32(0), scores)
        scores = line.medians(scores, median_half(rule, line.clock))
        if half := step_half(rule, line.clock):
            return line.boxes(scores, half, rule.merge_ratio, rule.merge_difference)
        return scores.astype(np.float64)

    def candidates(self) -> "_Candidates":
        """What is tried, the rule to beat first, and how each does."""
        tuning = self.line.tuning
        judge = _Collars(self) if tuning.target == "event_f1" else _Segments(self)
        found = _Candidates(self.line, judge)
        (runs,) = _runs_above(self.shaped(), [self.own.low_threshold])
        for threshold in [self.own.threshold, *self._quieter(runs)]:
            rule = self.own.model_copy(update={"threshold": threshold})
            events = self.line.joined(*self._times(runs, threshold), rule.max_gap_seconds)
            found.add(rule, _lasting(*events, rule.min_event_seconds))
        if not self.references:
            return found
        sounding = sum(event.duration_seconds for event in union(self.references))
        share = sounding / float(np.sum(self.line.frame_stops - self.line.frame_starts))
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
        if self.line.tuning.max_false_events_per_hour is None:
            return []
        starts, _, peaks = runs
        wrong = peaks[self.line.quiet(self.line.frame_starts[starts])]
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
        return self.line.frame_starts[starts[kept]], self.line.frame_stops[stops[kept] - 1]

    def _try_lengths(
        self,
        rule: ClassDecoding,
        times: tuple[Times, Times],
        gaps: Sequence[float],
        found: "_Candidates",
    ) -> None:
        """Adds a rule with some gaps and shortest lengths, but those that change nothing."""
        count = -1
        for gap in gaps:
            events = self.line.joined(*times, gap * self.typical_seconds)
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


class _Segments:
    """Counts active segments."""

    def __init__(self, of_class: _Class) -> None:
        self._line = of_class.line
        self.active = self._scored(*_boundaries(of_class.references))
        self.wanted = int(self.active.sum())

    def hits(self, onsets: Times, offsets: Times) -> tuple[int, int, NDArray[np.uint8] | None]:
        """How many segments of the events are right, their number, and which they are, packed.

        The last is None where nothing but the error rate needs it.
        """
        given = self._scored(onsets, offsets)
        packed = np.packbits(given) if self._line.tuning.target == "error_rate" else None
        return int((given & self.active).sum()), int(given.sum()), packed

    def _scored(self, onsets: Times, offsets: Times) -> NDArray[np.bool_]:
        return self._line.active(onsets, offsets)[: self._line.scored_segments]


class _Collars:
    """Counts events as ``EventEvidence`` does."""

    def __init__(self, of_class: _Class) -> None:
        self._tuning = of_class.line.tuning
        self._until = of_class.line.scored_seconds
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
class _Candidates:
    """Rules of a class and what each hits, the rule to beat first.

    ``false`` counts the events in quiet recordings, where these are bounded.
    """

    line: _Timeline
    judge: _Segments | _Collars
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
        bounded = self.line.tuning.max_false_events_per_hour is not None
        self.false.append(int(self.line.quiet(events[0]).sum()) if bounded else 0)

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

    def undominated(self) -> "_Candidates":
        """The rule to beat, and those of which no other has fewer misses, false alarms and false
        events, all three."""
        hits, false = np.array(self.hits), np.array(self.false)
        wrong = np.array(self.given) - hits
        kept: list[int] = []
        for index in np.lexsort((false, wrong, -hits)).tolist():  # no later one hits more
            if not np.any((wrong[kept] <= wrong[index]) & (false[kept] <= false[index])):
                kept.append(index)
        return self.only([0, *kept])

    def only(self, indices: Sequence[int]) -> "_Candidates":
        """Some of them, by their numbers."""

        def of(values: list[Kept]) -> list[Kept]:
            return [values[index] for index in indices]

        counts = of(self.hits), of(self.given), of(self.packed), of(self.false)
        return _Candidates(self.line, self.judge, of(self.rules), *counts)


def _bounded(
    candidates: Sequence[_Candidates],
    best: list[int],
    best_of: Callable[[Sequence[_Candidates]], list[int]],
    most: float,
) -> list[int]:
    """The ``best`` candidates or, where these give more than ``most`` false events together, the
    best of those that give at most so many each, found by bisection."""
    if _false_events(candidates, best) <= most:
        return best
    allowed, too_many = -1, max(max(of_class.false) for of_class in candidates)
    while too_many - allowed > 1:
        each = (allowed + too_many) // 2
        within = [np.flatnonzero(np.array(of.false) <= each).tolist() for of in candidates]
        found = best_of([of.only(indices) for of, indices in zip(candidates, within, strict=True)])
        trial = [indices[index] for indices, index in zip(within, found, strict=True)]
        if _false_events(candidates, trial) <= most:
            best, allowed = trial, each
        else:
            too_many = each
    return best


def _false_events(candidates: Sequence[_Candidates], chosen: Sequence[int]) -> int:
    return sum(of.false[index] for of, index in zip(candidates, chosen, strict=True))


def _best_f1(candidates: Sequence[_Candidates], pooled: bool) -> list[int]:
    """The candidate of each class with the best F1, of all together or of each by itself."""
    ratios = [of_class.ratio() for of_class in candidates]
    groups = [ratios] if pooled else [[ratio] for ratio in ratios]
    return [
        index
        for group in groups
        for index in maximise_ratio([top for top, _ in group], [bottom for _, bottom in group])
    ]


def _fewest_errors(candidates: Sequence[_Candidates], line: _Timeline) -> list[int]:
    """The candidate of each class, no other of which alone lowers the error rate of all.

    In each segment S + D + I is the larger of its false alarms and its misses.
    """
    wrong, missed = [], []  # of each class (C, segments)
    for of_class in candidates:
        assert isinstance(of_class.judge, _Segments)
        wanted = of_class.judge.active
        given = np.unpackbits(np.array(of_class.packed), axis=1, count=line.scored_segments).view(
            np.bool_
        )
        wrong.append((given & ~wanted).astype(np.int16))
        missed.append((~given & wanted).astype(np.int16))

    def descended(chosen: list[int]) -> tuple[int, list[int]]:
        all_wrong = np.sum([of[c] for of, c in zip(wrong, chosen, strict=True)], axis=0)
        all_missed = np.sum([of[c] for of, c in zip(missed, chosen, strict=True)], axis=0)
        errors, before = int(np.maximum(all_wrong, all_missed).sum()), -1
        while errors != before:
            before = errors
            for k, (fp, fn) in enumerate(zip(wrong, missed, strict=True)):
                other_fp, other_fn = all_wrong - fp[chosen[k]], all_missed - fn[chosen[k]]
                totals = np.maximum(fp + other_fp, fn + other_fn).sum(axis=1)
                if totals.min() < errors:
                    chosen[k], errors = int(totals.argmin()), int(totals.min())
                all_wrong, all_missed = other_fp + fp[chosen[k]], other_fn + fn[chosen[k]]
        return errors, chosen

    starts = (_best_f1(candidates, pooled=True), [0] * len(candidates))
    return min((descended(start) for start in starts), key=lambda found: found[0])[1]


def _best_shapes(
    classes: Sequence[_Class],
    tracks: Sequence[ScoreTrack],
    references: Sequence[Sequence[Event]],
    parameters: PsdsParameters,
) -> list[_Class]:
    """The classes with gate, median and boxes settled: those of the best PSDS.

    Medians and boxes are tried with the gate as it is, then other gates with the best of them.
    """
    line = classes[0].line
    if not tracks:
        return list(classes)
    events = {str(number): events for number, events in enumerate(references)}
    seconds = {str(n): float(track.edges_seconds[-1]) for n, track in enumerate(tracks)}

    def curves(columns: Sequence[NDArray[np.float64]]) -> tuple[PsdRoc | None, ...]:
        parts = line.cut(np.stack(columns, axis=1).astype(np.float32))[: len(tracks)]
        shown = {
            str(number): replace(track, probabilities=part)
            for number, (track, part) in enumerate(zip(tracks, parts, strict=True))
        }
        evidence = PsdsEvidence.from_scores(events, shown, seconds, line.names, parameters)
        return evidence.scores().curves

    def best_of(tried: Sequence[Sequence[_Class]]) -> list[_Class]:
        """The n-th of all classes are scored at once: a curve doesn't depend on other classes."""
        found = []
        for n in range(max(map(len, tried))):
            together = [of_class[min(n, len(of_class) - 1)] for of_class in tried]
            found.append(curves([of_class.shaped() for of_class in together]))
        chosen = _best_curves(list(zip(*found, strict=True)), parameters)
        return [of[min(n, len(of) - 1)] for of, n in zip(tried, chosen, strict=True)]

    chosen = best_of(
        [
            [of_class, *of_class.with_shapes(of_class.own.gate_threshold)]
            if of_class.references
            else [of_class]
            for of_class in classes
        ]
    )
    return best_of([[of_class.with_gate(gate) for gate in of_class.gates()] for of_class in chosen])


def _best_curves(
    curves: Sequence[Sequence[PsdRoc | None]], parameters: PsdsParameters
) -> list[int]:
    """Which of each class's curves give the best score together, no other of one class alone.

    The first of each class is what to beat.
    """
    known = [k for k, of_class in enumerate(curves) if of_class[0] is not None]
    limit = parameters.max_efpr_per_hour

    rates = np.unique(
        np.concatenate([np.zeros(1), *(c.efpr_per_hour for of in curves for c in of if c)])
    )
    values = [np.array([c.at(rates) for c in curves[k] if c is not None]) for k in known]
    widths = np.diff(np.minimum(rates, limit), append=limit)

    def area(ratios: NDArray[np.float64]) -> float:
        spread = parameters.alpha_st * ratios.std(axis=0)
        return float(np.maximum(ratios.mean(axis=0) - spread, 0.0) @ widths)

    def ascended(chosen: list[int]) -> tuple[float, list[int]]:
        ratios = np.array([of[c] for of, c in zip(values, chosen, strict=True)])
        best, before = area(ratios), -1.0
        while best > before:
            before = best
            for row, of_class in enumerate(values):
                for index, candidate in enumerate(of_class):
                    trial = ratios.copy()
                    trial[row] = candidate
                    if (found := area(trial)) > best:
                        best, chosen[row], ratios = found, index, trial
        return best, chosen

    starts = ([int(np.argmax(of @ widths)) for of in values], [0] * len(known))
    indices = [0] * len(curves)
    if known:
        found = max((ascended(start) for start in starts), key=lambda found: found[0])[1]
        for k, index in zip(known, found, strict=True):
            indices[k] = index
    return indices


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


def _lasting(onsets: Times, offsets: Times, shortest: float) -> tuple[Times, Times]:
    """The events that are long enough."""
    kept = offsets - onsets >= shortest - TIE_SECONDS
    return onsets[kept], offsets[kept]


def _boundaries(events: Sequence[Event]) -> tuple[Times, Times]:
    onsets = np.array([event.onset_seconds for event in events], np.float64)
    return onsets, np.array([event.offset_seconds for event in events], np.float64)


def _one_after_another(tables: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Tables (T, K) in one (F, K), a row of 0 after each."""
    return np.concatenate([np.pad(table, ((0, 1), (0, 0))) for table in tables])
