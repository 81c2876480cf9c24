"""Intersection-based scores of events: hits by the time that is shared (Bilen et al. 2020)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.events import TIE_SECONDS, Event
from earmark.metrics.counts import Counts, as_weights, mean_over_classes

TICKS_PER_SECOND = 10**10
"""Times are whole ticks in here, so that sums of them are exact."""

TIE_TICKS = round(TIE_SECONDS * TICKS_PER_SECOND)
MOST_SECONDS = 2**61 // TICKS_PER_SECOND
"""All clips together must last less, seven years, so that ticks stay in 64 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class IntersectionScores:
    """What a detector got right, by shared time.

    Attributes:
        class_names: the K classes.
        dtc: part of an estimated event that must be covered by the reference.
        gtc: part of a reference event that such estimates must cover.
        counts: per class: reference events that were hit, estimated events that miss ``dtc``, and
            reference events that weren't hit; ``counts.recall`` is the class values.
    """

    class_names: tuple[str, ...]
    dtc: float
    gtc: float
    counts: Counts

    @property
    def overall(self) -> Counts:
        """Counts pooled over the classes: ``overall.f1``, ``.precision``, ``.recall``."""
        return self.counts.pooled()

    @property
    def macro_f1(self) -> float:
        """Mean of the class values, 0 for a class with nothing on either side.

        sed_scores_eval 0.0.4 refuses a class without reference events, psds_eval 0.5.3 leaves it
        out.
        """
        return mean_over_classes(self.counts.f1)


class IntersectionEvidence:
    """What is known of every clip: its hits, false alarms and reference events in each class.

    Arguments and errors as in ``intersection_scores``.
    """

    def __init__(
        self,
        reference: Mapping[str, Sequence[Event]],
        estimate: Mapping[str, Sequence[Event]],
        class_names: Sequence[str],
        dtc: float,
        gtc: float,
    ) -> None:
        check_part("dtc", dtc)
        check_part("gtc", gtc)
        if strays := estimate.keys() - reference.keys():
            raise ValueError(f"an estimated clip isn't in the reference: '{min(strays)}'")
        self.clips = len(reference)
        self._named = tuple(class_names), dtc, gtc
        wanted = Intervals.read(reference, list(reference), class_names)
        found = Intervals.read(estimate, list(reference), class_names)
        line = Line(self.clips, [(side.clip, side.offset) for side in (wanted, found)])
        shape = (self.clips, len(class_names))
        self._tp, self._fp, self._n = (np.zeros(shape, np.int64) for _ in range(3))
        sides = zip(line.spans(wanted, shape[1]), line.spans(found, shape[1]), strict=True)
        for k, (truth, given) in enumerate(sides):
            hit, right = judge(truth, given, dtc, gtc)
            self._tp[:, k] = line.per_clip(truth.onset[hit])
            self._fp[:, k] = line.per_clip(given.onset[~right])
            self._n[:, k] = line.per_clip(truth.onset)

    def scores(self, weights: ArrayLike | None = None) -> IntersectionScores:
        """The scores where clip n occurs ``weights[n]`` times (N,), once by default."""
        times = as_weights(weights, self.clips)
        tp, fp, n = (times @ table for table in (self._tp, self._fp, self._n))
        return IntersectionScores(*self._named, counts=Counts(tp, fp, n - tp))


def intersection_scores(
    reference: Mapping[str, Sequence[Event]],
    estimate: Mapping[str, Sequence[Event]],
    class_names: Sequence[str],
    dtc: float = 0.5,
    gtc: float = 0.5,
) -> IntersectionScores:
    """Scores of estimated events against the reference's, clip by clip.

    An estimated event is right if reference events of its class cover at least ``dtc`` of it,
    else a false alarm. A reference event is hit if right estimates of its class cover at least
    ``gtc`` of it. Events of a class that overlap or touch are one, on either side; events without
    length are set aside. What a clip's end cuts is taken as it is given.

    A part that is reached within 1e-9 s is reached, where sed_scores_eval 0.0.4 rounds to 1e-6 s
    and psds_eval 0.5.3 lets floating point decide.

    Args:
        reference: events of every clip that is scored; a clip without events has an empty list.
        estimate: events of the same clips; one that is left out has none.
        class_names: the K classes, with every label on either side.
        dtc: detection tolerance criterion, above 0 and at most 1.
        gtc: ground truth intersection criterion, likewise.

    Raises:
        ValueError: an estimated clip that isn't in the reference, a label that isn't a class, an
            event that starts before 0 or ends before its start, clips that together last
            ``MOST_SECONDS``, or a criterion outside its range.
    """
    return IntersectionEvidence(reference, estimate, class_names, dtc, gtc).scores()


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """Events as arrays (E,): the clip's number, the class's, onset and offset in ticks."""

    clip: NDArray[np.int64]
    label: NDArray[np.int64]
    onset: NDArray[np.int64]
    offset: NDArray[np.int64]

    @staticmethod
    def read(
        events_of: Mapping[str, Sequence[Event]], clips: Sequence[str], class_names: Sequence[str]
    ) -> "Intervals":
        """The events of ``clips`` that have a length; ValueError where they can't be scored."""
        class_index = {name: index for index, name in enumerate(class_names)}
        places: list[tuple[int, int]] = []
        times: list[tuple[float, float]] = []
        for index, name in enumerate(clips):
            for event in events_of.get(name, ()):
                if event.label not in class_index:
                    raise ValueError(f"the label '{event.label}' of clip '{name}' isn't a class")
                places.append((index, class_index[event.label]))
                times.append((event.onset_seconds, event.offset_seconds))
        clip, label = np.array(places, np.int64).reshape(-1, 2).T
        seconds = np.array(times, np.float64).reshape(-1, 2)
        # Written so that a NaN fails too.
        if not np.all((seconds[:, 0] >= 0) & (seconds[:, 1] >= seconds[:, 0])):
            raise ValueError("events must start at 0 or later and not end before they start")
        onset, offset = as_ticks(seconds).T
        sounds = offset - onset > TIE_TICKS
        return Intervals(clip[sounds], label[sounds], onset[sounds], offset[sounds])


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Disjoint intervals (E,) on the line, in order."""

    onset: NDArray[np.int64]
    offset: NDArray[np.int64]

    @staticmethod
    def union(onset: NDArray[np.int64], offset: NDArray[np.int64]) -> "Spans":
        """The spans that some interval covers."""
        order = np.argsort(onset)
        start, end = onset[order], np.maximum.accumulate(offset[order])
        breaks = np.flatnonzero(start[1:] > end[:-1] + TIE_TICKS) + 1
        first, stop = np.append(0, breaks), np.append(breaks, len(order))
        return Spans(start[first[: len(order)]], end[stop[: len(order)] - 1])

    @property
    def length(self) -> NDArray[np.int64]:
        """(E,) ticks of each."""
        return self.offset - self.onset

    def covered_before(self, ticks: NDArray[np.int64]) -> NDArray[np.int64]:
        """How much of the line these cover before each of ``ticks`` >= 0."""
        begun = np.searchsorted(self.onset, ticks, "right")
        total, end = np.append(0, np.cumsum(self.length)), np.append(0, self.offset)
        return np.asarray(total[begun] - np.maximum(end[begun] - ticks, 0))

    def covered(self, others: "Spans") -> NDArray[np.int64]:
        """How much of each of the others these cover."""
        return self.covered_before(others.offset) - self.covered_before(others.onset)

    def where(self, chosen: NDArray[np.bool_]) -> "Spans":
        return Spans(self.onset[chosen], self.offset[chosen])


class Line:
    """All clips one after the other on one line of ticks, so that no event meets another clip's.

    Args:
        clips: how many there are.
        ends: clips, and ticks that lie in each, of everything that will be on the line.
    """

    def __init__(
        self, clips: int, ends: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]
    ) -> None:
        lengths = np.zeros(clips, np.int64)
        for clip, ticks in ends:
            np.maximum.at(lengths, clip, ticks)
        # A gap, so that the events of neighbouring clips don't touch.
        lengths += 2 * TIE_TICKS
        if float(lengths.sum(dtype=np.float64)) >= MOST_SECONDS * TICKS_PER_SECOND:
            raise ValueError(f"all clips together must last less than {MOST_SECONDS} s")
        self.starts = np.cumsum(lengths) - lengths

    def spans(self, intervals: Intervals, classes: int) -> Iterator[Spans]:
        """The spans of one class after the other."""
        start = self.starts[intervals.clip]
        onset, offset = start + intervals.onset, start + intervals.offset
        for k in range(classes):
            of_class = intervals.label == k
            yield Spans.union(onset[of_class], offset[of_class])

    def clip_of(self, ticks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The clip in which each of ``ticks`` lies."""
        return np.searchsorted(self.starts, ticks, "right") - 1

    def per_clip(self, onsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) how many of the onsets lie in each clip."""
        return np.bincount(self.clip_of(onsets), minlength=len(self.starts))


def judge(
    wanted: Spans, found: Spans, dtc: float, gtc: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which spans of the reference are hit, and which estimated ones are right."""
    right = reaches(wanted.covered(found), dtc, found.length)
    return reaches(found.where(right).covered(wanted), gtc, wanted.length), right


def reaches(
    covered: NDArray[np.int64], part: float, length: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether at least this part of the length is covered; floating point decides nothing."""
    return np.asarray((covered > 0) & (covered >= part * length - TIE_TICKS))


def as_ticks(seconds: ArrayLike) -> NDArray[np.int64]:
    """Seconds >= 0 as whole ticks; ValueError where they are too many."""
    given = np.asarray(seconds, np.float64)
    if not np.all(given < MOST_SECONDS):
        raise ValueError(f"events must end before {MOST_SECONDS} s")
    return np.rint(given * TICKS_PER_SECOND).astype(np.int64)


def check_part(name: str, part: float) -> None:
    """ValueError unless 0 < part <= 1."""
    if not 0 < part <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1, came as {part}")
