"""The polyphonic sound detection score (Bilen et al. 2020), exact (Ebbers et al. 2022)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.events import Event
from earmark.metrics.counts import Counts, as_weights, ratio
from earmark.metrics.intersections import (
    TICKS_PER_SECOND,
    TIE_TICKS,
    IntersectionScores,
    Intervals,
    Line,
    Spans,
    as_ticks,
    check_part,
    judge,
    reaches,
)
from earmark.scores import ScoreTrack

SECONDS_PER_HOUR = 3600.0
Number = TypeVar("Number", np.int64, np.float64)


@dataclass(frozen=True, slots=True)
class PsdsParameters:
    """What counts as detected, and what an error costs.

    Attributes:
        dtc: part of a detection that the reference must cover, or it is a false alarm.
        gtc: part of a reference event that right detections must cover.
        cttc: part of a false alarm that another class must cover to make it a cross-trigger;
            given if ``alpha_ct`` is above 0, and only then.
        alpha_ct: what a cross-trigger costs beside a false alarm.
        alpha_st: what the deviation between the classes costs.
        max_efpr_per_hour: up to which rate of false alarms the score goes.
    """

    dtc: float
    gtc: float
    cttc: float | None = None
    alpha_ct: float = 0.0
    alpha_st: float = 0.0
    max_efpr_per_hour: float = 100.0

    def __post_init__(self) -> None:
        check_part("dtc", self.dtc)
        check_part("gtc", self.gtc)
        if self.cttc is not None:
            check_part("cttc", self.cttc)
        if not (0 <= self.alpha_ct < np.inf and 0 <= self.alpha_st < np.inf):
            raise ValueError("alpha_ct and alpha_st must be at least 0 and finite")
        if (self.cttc is None) != (self.alpha_ct == 0):
            raise ValueError("cttc must be given if alpha_ct is above 0, and only then")
        if not 0 < self.max_efpr_per_hour < np.inf:
            raise ValueError("max_efpr_per_hour must be above 0 and finite")


PSDS1 = PsdsParameters(dtc=0.7, gtc=0.7, alpha_st=1.0)
"""Scenario 1 of DCASE's Task 4: a system should react fast, so boundaries count."""

PSDS2 = PsdsParameters(dtc=0.1, gtc=0.1, cttc=0.3, alpha_ct=0.5, alpha_st=1.0)
"""Scenario 2 of DCASE's Task 4: a system shouldn't confuse classes, boundaries count less."""


@dataclass(frozen=True, slots=True, eq=False)
class PsdRoc:
    """Hits against false alarms, a step function: each ratio holds up to the next rate.

    Attributes:
        efpr_per_hour: (P,) rising, from 0: effective rate of false alarms, cross-triggers in it.
        tp_ratio: (P,) part of the reference events that is hit at such a rate.
    """

    efpr_per_hour: NDArray[np.float64]
    tp_ratio: NDArray[np.float64]

    def at(self, efpr_per_hour: NDArray[np.float64]) -> NDArray[np.float64]:
        """The ratios at rates >= 0."""
        index = np.searchsorted(self.efpr_per_hour, efpr_per_hour, "right") - 1
        return np.asarray(self.tp_ratio[index])

    def area(self, max_efpr_per_hour: float) -> float:
        """The mean ratio over the rates from 0 to a largest one."""
        widths = np.diff(
            np.minimum(self.efpr_per_hour, max_efpr_per_hour), append=max_efpr_per_hour
        )
        return float(widths @ self.tp_ratio) / max_efpr_per_hour


@dataclass(frozen=True, slots=True, eq=False)
class Psds:
    """The score and what it is made of.

    Attributes:
        class_names: the K classes.
        parameters: what was counted.
        value: area under ``effective``, 0 to 1; NaN if no class has reference events.
        class_values: (K,) area under each class's curve; NaN for a class without reference events.
        curves: K curves; None for a class without reference events.
        effective: the classes' mean less ``alpha_st`` times their standard deviation, at least 0;
            not always rising.
    """

    class_names: tuple[str, ...]
    parameters: PsdsParameters
    value: float
    class_values: NDArray[np.float64]
    curves: tuple[PsdRoc | None, ...]
    effective: PsdRoc


class PsdsEvidence:
    """What is known of every clip: at which thresholds its hits and false alarms change.

    Made by ``from_scores`` or ``from_events``, with the arguments and errors of
    ``psds_from_scores`` and ``psds_from_events``.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        parameters: PsdsParameters,
        durations_seconds: Iterable[float],
        references: Sequence[Spans],
        line: Line,
        classes: Sequence["_ClassSteps"],
    ) -> None:
        self.class_names = tuple(class_names)
        self.parameters = parameters
        self._durations = np.array(list(durations_seconds), np.float64)
        if not np.all((self._durations > 0) & (self._durations < np.inf)):
            raise ValueError("durations must be above 0 s and finite")
        self.clips = len(self._durations)
        self._events = np.zeros((self.clips, len(references)), np.int64)
        self._ticks = np.zeros((self.clips, len(references)), np.int64)
        for k, spans in enumerate(references):
            clip = line.clip_of(spans.onset)
            np.add.at(self._events[:, k], clip, 1)
            np.add.at(self._ticks[:, k], clip, spans.length)
        self._classes = classes

    @classmethod
    def from_scores(
        cls,
        reference: Mapping[str, Sequence[Event]],
        tracks: Mapping[str, ScoreTrack],
        durations_seconds: Mapping[str, float],
        class_names: Sequence[str],
        parameters: PsdsParameters,
    ) -> "PsdsEvidence":
        """Evidence of frame scores, at all thresholds."""
        clips = list(durations_seconds)
        _check_clips(reference, tracks, durations=durations_seconds)
        wanted = Intervals.read(reference, clips, class_names)
        frames = _Frames(clips, tracks, class_names)
        line = Line(len(clips), [(wanted.clip, wanted.offset), (frames.clip, frames.edges)])
        references = list(line.spans(wanted, len(class_names)))
        classes = frames.changes(line, references, parameters)
        return cls(class_names, parameters, durations_seconds.values(), references, line, classes)

    @classmethod
    def from_events(
        cls,
        reference: Mapping[str, Sequence[Event]],
        operating_points: Sequence[Mapping[str, Sequence[Event]]],
        durations_seconds: Mapping[str, float],
        class_names: Sequence[str],
        parameters: PsdsParameters,
    ) -> "PsdsEvidence":
        """Evidence of lists of events, each at an operating point of its own."""
        clips = list(durations_seconds)
        _check_clips(reference, *operating_points, durations=durations_seconds)
        wanted = Intervals.read(reference, clips, class_names)
        points = [Intervals.read(events, clips, class_names) for events in operating_points]
        line = Line(len(clips), [(side.clip, side.offset) for side in (wanted, *points)])
        k = len(class_names)
        references = list(line.spans(wanted, k))
        found = [list(line.spans(intervals, k)) for intervals in points]
        classes = [
            _changes_over_points(line, references, own, [point[own] for point in found], parameters)
            for own in range(k)
        ]
        return cls(class_names, parameters, durations_seconds.values(), references, line, classes)

    def scores(self, weights: ArrayLike | None = None) -> Psds:
        """The score where clip n occurs ``weights[n]`` times (N,), once by default."""
        times = as_weights(weights, self.clips)
        asked = self.parameters
        events, ticks = times @ self._events, times @ self._ticks
        known = np.flatnonzero(events)
        hours = ticks / (SECONDS_PER_HOUR * TICKS_PER_SECOND)
        # What a cross-trigger with each class adds to the rate, a mean over the other classes.
        price = asked.alpha_ct * ratio(ticks > 0, hours * max(1, len(known) - 1))
        total_hours = float(times @ self._durations) / SECONDS_PER_HOUR

        curves: list[PsdRoc | None] = [None] * len(self.class_names)
        for k in known.tolist():
            curves[k] = self._classes[k].roc(
                times, int(events[k]), total_hours, price, asked.max_efpr_per_hour
            )
        drawn = [curve for curve in curves if curve is not None]
        limit = asked.max_efpr_per_hour
        rates = np.unique(np.concatenate([np.zeros(1), *(c.efpr_per_hour for c in drawn)]))
        ratios = np.array([curve.at(rates) for curve in drawn]).reshape(len(drawn), len(rates))
        spread = asked.alpha_st * ratios.std(axis=0) if drawn else 0.0
        mean = ratios.mean(axis=0) if drawn else np.zeros(len(rates))
        effective = PsdRoc(rates, np.maximum(mean - spread, 0))
        return Psds(
            class_names=self.class_names,
            parameters=asked,
            value=effective.area(limit) if drawn else float("nan"),
            class_values=np.array(
                [float("nan") if curve is None else curve.area(limit) for curve in curves]
            ),
            curves=tuple(curves),
            effective=effective,
        )

    def best_f1(
        self, weights: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], IntersectionScores]:
        """Thresholds (K,) with the highest F1 of each class, and the scores there.

        Edges and ties as in ``best_intersection_scores``.
        """
        times = as_weights(weights, self.clips)
        events = times @ self._events
        best = [
            steps.best_f1(times, int(count))
            for steps, count in zip(self._classes, events, strict=True)
        ]
        thresholds = np.array([threshold for threshold, _, _ in best], np.float64)
        tp, fp = np.array([counts for _, *counts in best], np.int64).reshape(-1, 2).T
        counts = Counts(tp, fp, events - tp)
        dtc, gtc = self.parameters.dtc, self.parameters.gtc
        return thresholds, IntersectionScores(self.class_names, dtc, gtc, counts)


def psds_from_scores(
    reference: Mapping[str, Sequence[Event]],
    tracks: Mapping[str, ScoreTrack],
    durations_seconds: Mapping[str, float],
    class_names: Sequence[str],
    parameters: PsdsParameters,
) -> Psds:
    """The exact score of frame probabilities, over all thresholds.

    A detection is a run of frames above a threshold, strictly; the thresholds are all that differ
    in what they detect, from above the highest score to below the lowest, as in sed_scores_eval.
    Detections are judged as in ``intersection_scores``. A false alarm of which another class
    covers at least ``cttc`` is a cross-trigger with that class, and

        efpr = false alarms / hours of all clips
             + alpha_ct * mean over the other classes of (cross-triggers / hours of that class)

    A class's curve is the highest hit ratio at any threshold whose efpr is at most so much. The
    score is the area under the classes' mean less ``alpha_st`` times their standard deviation,
    nowhere below 0, from 0 to ``max_efpr_per_hour``, divided by the latter.

    A class without reference events is left out altogether, as if it weren't listed, also from
    the means over other classes. That and the tolerance of ``intersection_scores`` are all that
    differs from sed_scores_eval 0.0.4, apart from where that fails: at a class without reference
    events, at reference events of a class that overlap or touch, and where a class's counts are
    the same at all thresholds.

    Args:
        reference: events of the clips; one that is left out has none.
        tracks: frame scores of the clips, in any finite range; one that is left out has no
            detections, and so has a class that a track leaves out.
        durations_seconds: every clip that is scored, and how long it lasts.
        class_names: the K classes, with every label on either side.
        parameters: such as ``PSDS1`` and ``PSDS2``.

    Raises:
        ValueError: a clip without a duration, a duration that isn't above 0, a label or a track's
            class that isn't listed, a score that isn't finite, frames that end before they start,
            or events that ``intersection_scores`` refuses.
    """
    return PsdsEvidence.from_scores(
        reference, tracks, durations_seconds, class_names, parameters
    ).scores()


def psds_from_events(
    reference: Mapping[str, Sequence[Event]],
    operating_points: Sequence[Mapping[str, Sequence[Event]]],
    durations_seconds: Mapping[str, float],
    class_names: Sequence[str],
    parameters: PsdsParameters,
) -> Psds:
    """The score of lists of events at several operating points, as psds_eval computes it.

    Everything as in ``psds_from_scores``, only that a class's curve goes over the operating
    points, in any order, and over detecting nothing. It is below the exact score, the more so the
    fewer points there are.

    Unlike here, psds_eval 0.5.3 keeps events apart that touch, refuses those that overlap, and
    doesn't count false alarms that lie beyond a clip's end.

    Args:
        reference: events of the clips; one that is left out has none.
        operating_points: estimated events of the clips, at each point; likewise.
        durations_seconds: every clip that is scored, and how long it lasts.
        class_names: the K classes, with every label on either side.
        parameters: such as ``PSDS1`` and ``PSDS2``.

    Raises:
        ValueError: as ``psds_from_scores``.
    """
    return PsdsEvidence.from_events(
        reference, operating_points, durations_seconds, class_names, parameters
    ).scores()


def best_intersection_scores(
    reference: Mapping[str, Sequence[Event]],
    tracks: Mapping[str, ScoreTrack],
    class_names: Sequence[str],
    dtc: float = 0.5,
    gtc: float = 0.5,
) -> tuple[NDArray[np.float64], IntersectionScores]:
    """Thresholds (K,) that maximise each class's intersection-based F1, and the scores there.

    Exact over all thresholds. A threshold lies midway between two scores at which the class's
    counts change. It is -infinity where detecting everything is best, and infinity where nothing
    can be hit. Of equally good ones the highest is taken.

    Args:
        reference: events of every clip that is scored; a clip without events has an empty list.
        tracks: as in ``psds_from_scores``.
        class_names: the K classes, with every label on either side.
        dtc: as in ``intersection_scores``, and so is ``gtc``.
        gtc: ground truth intersection criterion.

    Raises:
        ValueError: as ``psds_from_scores``.
    """
    lengths = dict.fromkeys(reference, 1.0)  # no rate is asked for
    evidence = PsdsEvidence.from_scores(
        reference, tracks, lengths, class_names, PsdsParameters(dtc, gtc)
    )
    return evidence.best_f1()


@dataclass(frozen=True, slots=True, eq=False)
class _Changes:
    """By how much counts change (E,) where the threshold falls below a score, and in which clip."""

    score: NDArray[np.float64]
    clip: NDArray[np.int64]
    by: NDArray[np.int64]


class _Steps:
    """A count at each of some thresholds, as a function of how often each clip occurs.

    Args:
        changes: what the count is the sum of.
        points: (P,) falling scores, among them those of the changes.
        rows: clips, or more, from which ``changes.clip`` draws.
    """

    def __init__(self, changes: _Changes, points: NDArray[np.float64], rows: int) -> None:
        order = np.argsort(-changes.score)
        by = changes.by[order]
        # A falling count looks its weight up among the negated ones, behind the others.
        self._row = np.repeat(changes.clip[order] + rows * (by < 0), np.abs(by))
        self._stop = np.searchsorted(-np.repeat(changes.score[order], np.abs(by)), -points, "right")

    def count(
        self, weights: NDArray[Number], points: NDArray[np.int64] | slice = slice(None)
    ) -> NDArray[Number]:
        """The count (P,) where row n occurs ``weights[n]`` times, at the chosen points."""
        totals = np.zeros(len(self._row) + 1, weights.dtype)
        np.cumsum(np.concatenate([weights, -weights])[self._row], out=totals[1:])
        return totals[self._stop[points]]


class _ClassSteps:
    """One class's counts at all thresholds that differ.

    Args:
        clips: how many there are.
        tp: changes of the hits.
        fp: changes of the false alarms.
        ct: changes of the cross-triggers; ``clip`` is the other class times clips, plus clip.
        classes: how many there are.
    """

    def __init__(self, clips: int, tp: _Changes, fp: _Changes, ct: _Changes, classes: int) -> None:
        # Above all scores nothing is detected.
        scores = np.concatenate([[np.inf], tp.score, fp.score, ct.score])
        self._scores = np.unique(scores)[::-1]
        self._tp, self._fp = (_Steps(changes, self._scores, clips) for changes in (tp, fp))
        self._ct = _Steps(ct, self._scores, clips * classes) if len(ct.score) else None

    def roc(
        self,
        times: NDArray[np.int64],
        events: int,
        hours: float,
        price: NDArray[np.float64],
        max_efpr_per_hour: float,
    ) -> PsdRoc:
        """The class's curve.

        Args:
            times: (N,) how often each clip occurs.
            events: the class's reference events, above 0.
            hours: of all clips.
            price: (K,) what a cross-trigger with each class adds to the rate.
            max_efpr_per_hour: no point beyond is looked at.
        """
        rate = self._fp.count(times) / hours
        inside = np.flatnonzero(rate <= max_efpr_per_hour)
        rate, tp = rate[inside], self._tp.count(times, inside)
        if self._ct is not None:
            paid = np.outer(price, times).ravel()
            # Sums that should be 0 are only nearly.
            rate = rate + np.maximum(self._ct.count(paid, inside), 0.0)
        # Most points are no better than their neighbour, so that few are left to sort.
        better = np.ones(len(rate), np.bool_)
        better[1:] = (tp[1:] > tp[:-1]) | (rate[1:] < rate[:-1])
        better &= rate <= max_efpr_per_hour
        rate, tp = rate[better], tp[better]
        order = np.lexsort((-tp, rate))
        rate, tp = rate[order], np.maximum.accumulate(tp[order])
        corner = np.diff(tp, prepend=-1) > 0
        return PsdRoc(rate[corner], tp[corner] / events)

    def best_f1(self, times: NDArray[np.int64], events: int) -> tuple[float, int, int]:
        """The threshold with the highest F1, and hits and false alarms there."""
        tp, fp = self._tp.count(times), self._fp.count(times)
        best = int(np.argmax(ratio(2 * tp, tp + fp + events)))
        high = float(self._scores[best])
        if not best:
            return high, 0, 0
        changed = np.flatnonzero((tp[best:] != tp[best]) | (fp[best:] != fp[best]))
        if not len(changed):
            return -np.inf, int(tp[best]), int(fp[best])
        low = float(self._scores[best + changed[0]])
        middle = low + (high - low) / 2
        # Midway between neighbouring floats may round up to the higher one, which must stay above.
        return middle if middle < high else low, int(tp[best]), int(fp[best])


class _Frames:
    """The frames of all clips on one axis of positions, ahead of each clip a position without.

    A frame's onset is the edge one position before it, its offset the edge at its own.

    Attributes:
        clip: (P,) each position's clip.
        edges: (P,) ticks in the clip; 0 where it has no track.
        scores: (K, P) -infinity ahead of each clip, after the last, and where a class is unknown.
        longest: frames of the longest clip.
    """

    def __init__(
        self, clips: Sequence[str], tracks: Mapping[str, ScoreTrack], class_names: Sequence[str]
    ) -> None:
        class_index = {name: index for index, name in enumerate(class_names)}
        lengths = [len(tracks[name].probabilities) if name in tracks else 0 for name in clips]
        self.longest = max(lengths, default=0)
        # One more after the last frame, which belongs to no clip.
        starts = np.cumsum([0, *(length + 1 for length in lengths)])
        self.clip = np.repeat(np.arange(len(clips)), np.diff(starts))
        edges = np.zeros(starts[-1], np.float64)
        self.scores = np.full((len(class_names), starts[-1] + 1), -np.inf)
        for start, length, name in zip(starts, lengths, clips, strict=False):
            if name not in tracks:
                continue
            track = tracks[name]
            if strange := [label for label in track.class_names if label not in class_index]:
                raise ValueError(f"the class '{strange[0]}' of clip '{name}' isn't listed")
            if not np.isfinite(track.probabilities).all():
                raise ValueError(f"a score of clip '{name}' isn't a finite number")
            edges[start : start + length + 1] = track.edges_seconds
            if not np.all(np.diff(edges[start : start + length + 1], prepend=0.0) >= 0):
                raise ValueError(f"a frame of clip '{name}' ends before it starts")
            rows = [class_index[label] for label in track.class_names]
            self.scores[rows, start + 1 : start + length + 1] = track.probabilities.T
        self.edges = as_ticks(edges)

    def changes(
        self, line: Line, references: Sequence[Spans], parameters: PsdsParameters
    ) -> list[_ClassSteps]:
        """What each class's runs of frames above a threshold hit, over all thresholds."""
        edges = line.starts[self.clip] + self.edges
        # How much of each class there is before each edge: any run's share of it is a difference.
        before = np.array([spans.covered_before(edges) for spans in references], np.int64)
        others = _present(line, references)
        return [
            self._class_steps(k, line, edges, before, others, references[k], parameters)
            for k in range(len(references))
        ]

    def _class_steps(
        self,
        own: int,
        line: Line,
        edges: NDArray[np.int64],
        before: NDArray[np.int64],
        others: NDArray[np.int64],
        wanted: Spans,
        parameters: PsdsParameters,
    ) -> _ClassSteps:
        runs = _Runs.of(self.scores[own], self.longest)
        length = edges[runs.last] - edges[runs.first]
        covered = before[own][runs.last] - before[own][runs.first]
        sounds = length > TIE_TICKS
        right = sounds & reaches(covered, parameters.dtc, length)
        wrong = sounds & ~right
        clip = self.clip[runs.first]
        crossed = []
        if parameters.cttc is not None:
            for column in others.T:
                at = np.flatnonzero(wrong & (column[clip] >= 0) & (column[clip] != own))
                other, first, last = column[clip[at]], runs.first[at], runs.last[at]
                shared = before[other, last] - before[other, first]
                enough = reaches(shared, parameters.cttc, length[at])
                triggers = np.zeros(len(wrong), np.bool_)
                triggers[at[enough]] = True
                net = runs.net(triggers)
                changed = np.flatnonzero(net)
                row = column[clip[changed]] * len(line.starts) + clip[changed]
                crossed.append(_Changes(runs.birth[changed], row, net[changed]))
        net = runs.net(wrong)
        changed = np.flatnonzero(net)
        return _ClassSteps(
            len(line.starts),
            tp=_hits(line, wanted, edges, runs, right, parameters.gtc),
            fp=_Changes(runs.birth[changed], clip[changed], net[changed]),
            ct=_joined(crossed),
            classes=len(before),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Runs:
    """All runs of frames (R,) that some threshold separates from the frames around them.

    A run appears where the threshold falls below its lowest score, and is part of a longer one
    where it falls below the higher of the scores on either side: runs make a tree.

    Attributes:
        first: position before the run's first frame.
        last: position of its last frame.
        birth: its lowest score.
        death: the higher score next to it; -infinity if it is a whole clip.
        parent: the run that takes its place; -1 if it is a whole clip.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    birth: NDArray[np.float64]
    death: NDArray[np.float64]
    parent: NDArray[np.int64]

    @staticmethod
    def of(scores: NDArray[np.float64], longest: int) -> "_Runs":
        """The runs of scores (P + 1,) that -infinity parts into stretches of at most ``longest``.

        Every frame stands for the run in which it is lowest, and of several the first does.
        """
        frames = np.flatnonzero(scores > -np.inf)
        lowest = _Lowest(scores, longest)
        left = lowest.nearest(frames, -1, np.less_equal)
        earlier = scores[left] == scores[frames]
        # The frame that stands for each frame's run: of equal frames in a run, the first.
        stands = np.arange(len(scores))
        stands[frames[earlier]] = left[earlier]
        while np.any((further := stands[stands]) != stands):
            stands = further
        chosen, left = frames[~earlier], left[~earlier]
        right = lowest.nearest(chosen, 1, np.less)
        number = np.full(len(scores), -1)
        number[chosen] = np.arange(len(chosen))
        beside = np.where(scores[left] >= scores[right], left, right)
        return _Runs(left, right - 1, scores[chosen], scores[beside], number[stands[beside]])

    def net(self, counted: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(R,) by how much the number of counted runs changes where each run appears."""
        ended = self.parent[counted & (self.parent >= 0)]
        return counted - np.bincount(ended, minlength=len(counted))


class _Lowest:
    """The lowest score of any stretch that ends at a position, if a power of two long.

    Args:
        scores: (P,) with -infinity at both ends and at most ``longest`` apart.
        longest: the most scores in between.
    """

    def __init__(self, scores: NDArray[np.float64], longest: int) -> None:
        self._of = [scores]
        for level in range(longest.bit_length() - 1):
            half, below = 1 << level, self._of[-1].copy()
            np.minimum(below[half:], self._of[-1][:-half], out=below[half:])
            self._of.append(below)

    def nearest(
        self, frames: NDArray[np.int64], direction: Literal[-1, 1], stops: np.ufunc
    ) -> NDArray[np.int64]:
        """The nearest position beside each frame whose score ``stops`` it: is less (or equal).

        In leaps of falling powers of two, each taken where the lowest score under it doesn't stop.
        """
        scores = self._of[0]
        found = frames + direction
        # About half of the frames stop at their neighbour.
        moving = np.flatnonzero(~stops(scores[found], scores[frames]))
        position, score = found[moving], scores[frames[moving]]
        for level in reversed(range(len(self._of))):
            end = position if direction < 0 else position + ((1 << level) - 1)
            free = ~stops(self._of[level].take(end, mode="clip"), score)
            np.add(position, direction << level, out=position, where=free)
        found[moving] = position
        return found


def _hits(
    line: Line,
    wanted: Spans,
    edges: NDArray[np.int64],
    runs: _Runs,
    right: NDArray[np.bool_],
    gtc: float,
) -> _Changes:
    """At which scores each reference event becomes a hit, or ceases to be one."""
    chosen = np.flatnonzero(right)
    onset, offset = edges[runs.first[chosen]], edges[runs.last[chosen]]
    low = np.searchsorted(wanted.offset, onset, "right")
    touched = np.searchsorted(wanted.onset, offset, "left") - low
    # Every right run with each event that it touches.
    event = np.repeat(low - np.cumsum(touched) + touched, touched) + np.arange(touched.sum())
    run = np.repeat(np.arange(len(chosen)), touched)
    shared = np.minimum(offset[run], wanted.offset[event]) - np.maximum(
        onset[run], wanted.onset[event]
    )
    # What it shares is there from the run's birth to its death.
    birth, death = runs.birth[chosen[run]], runs.death[chosen[run]]
    event, score = np.tile(event, 2), np.append(birth, death)
    order = np.lexsort((-score, event))
    event, score = event[order], score[order]
    # An event's sum ends at 0, since in the end, at -infinity, every run is gone.
    covered = np.cumsum(np.append(shared, -shared)[order])
    last = np.ones(len(event), np.bool_)
    last[:-1] = (event[1:] != event[:-1]) | (score[1:] != score[:-1])
    event, score, covered = event[last], score[last], covered[last]
    hit = reaches(covered, gtc, wanted.length[event]).astype(np.int64)
    by = np.diff(hit, prepend=0)
    changed = np.flatnonzero((by != 0) & (score > -np.inf))
    return _Changes(score[changed], line.clip_of(wanted.onset[event[changed]]), by[changed])


def _changes_over_points(
    line: Line,
    references: Sequence[Spans],
    own: int,
    found: Sequence[Spans],
    parameters: PsdsParameters,
) -> _ClassSteps:
    """What the events of one class hit at each operating point; point o has the score -o."""
    clips = len(line.starts)
    tp, fp, ct = [], [], []
    for point, spans in enumerate(found):
        hit, right = judge(references[own], spans, parameters.dtc, parameters.gtc)
        tp.append(_for_one_point(point, line.clip_of(references[own].onset[hit])))
        wrong = spans.where(~right)
        clip = line.clip_of(wrong.onset)
        fp.append(_for_one_point(point, clip))
        if parameters.cttc is None:
            continue
        for other, reference in enumerate(references):
            if other != own and len(reference.onset):
                crossed = reaches(reference.covered(wrong), parameters.cttc, wrong.length)
                ct.append(_for_one_point(point, other * clips + clip[crossed]))
    return _ClassSteps(clips, _joined(tp), _joined(fp), _joined(ct), len(references))


def _for_one_point(point: int, clip: NDArray[np.int64]) -> _Changes:
    """Counts of 1 that are gone at the next point."""
    score = np.repeat([-float(point), -float(point + 1)], len(clip))
    return _Changes(score, np.tile(clip, 2), np.repeat([1, -1], len(clip)))


def _joined(parts: Sequence[_Changes]) -> _Changes:
    """All changes as one."""
    return _Changes(
        np.concatenate([np.empty(0), *(part.score for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.clip for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.by for part in parts)]),
    )


def _present(line: Line, references: Sequence[Spans]) -> NDArray[np.int64]:
    """(N, M) the classes of the reference in each clip, then -1; M is the most of any clip."""
    there = np.array([line.per_clip(spans.onset) > 0 for spans in references], np.bool_).T
    order = np.argsort(~there, axis=1, kind="stable")
    present = np.where(np.take_along_axis(there, order, axis=1), order, -1)
    return present[:, : there.sum(axis=1).max(initial=0)]


def _check_clips(*sides: Mapping[str, object], durations: Mapping[str, float]) -> None:
    for side in sides:
        if strays := side.keys() - durations.keys():
            raise ValueError(f"every clip needs a duration; one has none: '{min(strays)}'")
