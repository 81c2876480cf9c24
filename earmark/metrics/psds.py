"""The polyphonic sound detection score (Bilen et al. 2020), exact (Ebbers et al. 2022)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.events import Event
from earmark.metrics.counts import Counts, as_weights, ratio
from earmark.metrics.intersections import (
    TICKS_PER_SECOND,
    IntersectionScores,
    Intervals,
    Line,
    Spans,
    check_part,
    judge,
    reaches,
)
from earmark.metrics.psds_frames import Frames
from earmark.metrics.psds_steps import Changes, ClassSteps, joined
from earmark.scores import ScoreTrack

SECONDS_PER_HOUR = 3600.0


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
        classes: Sequence[ClassSteps],
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
        frames = Frames(clips, tracks, class_names)
        line = Line(len(clips), [(wanted.clip, wanted.offset), (frames.clip, frames.edges)])
        references = list(line.spans(wanted, len(class_names)))
        classes = frames.changes(line, references, parameters.dtc, parameters.gtc, parameters.cttc)
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
            rates, hits = self._classes[k].roc(times, total_hours, price, asked.max_efpr_per_hour)
            curves[k] = PsdRoc(rates, hits / events[k])
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


def _changes_over_points(
    line: Line,
    references: Sequence[Spans],
    own: int,
    found: Sequence[Spans],
    parameters: PsdsParameters,
) -> ClassSteps:
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
    return ClassSteps(clips, joined(tp), joined(fp), joined(ct), len(references))


def _for_one_point(point: int, clip: NDArray[np.int64]) -> Changes:
    """Counts of 1 that are gone at the next point."""
    score = np.repeat([-float(point), -float(point + 1)], len(clip))
    return Changes(score, np.tile(clip, 2), np.repeat([1, -1], len(clip)))


def _check_clips(*sides: Mapping[str, object], durations: Mapping[str, float]) -> None:
    for side in sides:
        if strays := side.keys() - durations.keys():
            raise ValueError(f"every clip needs a duration; one has none: '{min(strays)}'")
