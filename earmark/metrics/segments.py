"""Segment-based scores of events: the DCASE standard, as sed_eval defines it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earmark.config import SEGMENT_SECONDS
from earmark.events import TIE_SECONDS, Event
from earmark.metrics.counts import Counts, ErrorScores, as_weights

MOST_SEGMENTS = 2**40
"""A clip must have fewer segments: 35 years of milliseconds, so that sums stay in 64 bits."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SegmentScores(ErrorScores):
    """What a detector got right, in segments of ``resolution_seconds``.

    Attributes:
        class_names: the K classes.
        resolution_seconds: length of a segment.
        counts: active segments per class; ``counts.f1`` and its like are the class values.
        substitutions: one class taken for another: min(FP, FN) of each segment, summed.
        deletions: misses beyond the substitutions.
        insertions: false alarms beyond the substitutions.
    """

    resolution_seconds: float


class SegmentEvidence:
    """Hits, false alarms and misses of every clip, to be scored in any draw of clips.

    An event is active in the segments from floor(onset / resolution) up to, not with,
    ceil(offset / resolution). Overlapping events of a class in a clip are one; events without
    length are set aside. No clip needs a duration: a segment in which nothing is active on
    either side changes no score.

    sed_eval 0.2.1 divides without a tolerance, so that 0.3 s begins in segment 2 of 0.1 s, and
    takes an event without length, unless it lies on an edge, for a segment.

    Args:
        reference: events of every clip that is scored; a clip without events has an empty list.
            Their order is the order of the clips.
        estimate: events of the same clips; one that is left out has none.
        class_names: the K classes, with every label on either side.
        resolution_seconds: length of a segment, above 0.

    Raises:
        ValueError: an estimated clip that isn't in the reference, a label that isn't a class, an
            event that starts before 0, ends before its start, or ends only after
            ``MOST_SEGMENTS``, or a resolution that isn't above 0.
    """

    def __init__(
        self,
        reference: Mapping[str, Sequence[Event]],
        estimate: Mapping[str, Sequence[Event]],
        class_names: Sequence[str],
        resolution_seconds: float = SEGMENT_SECONDS,
    ) -> None:
        if not resolution_seconds > 0:
            raise ValueError(f"resolution_seconds must be above 0, came as {resolution_seconds}")
        if strays := estimate.keys() - reference.keys():
            raise ValueError(f"an estimated clip isn't in the reference: '{min(strays)}'")
        clip_index = {clip: index for index, clip in enumerate(reference)}
        class_index = {name: index for index, name in enumerate(class_names)}
        truth = _runs(reference, clip_index, class_index, resolution_seconds)
        given = _runs(estimate, clip_index, class_index, resolution_seconds)

        # All clips on one axis, cut wherever an event starts or stops: between two cuts nothing
        # changes, so a piece stands for all of its segments and their number costs nothing.
        lengths = np.zeros(len(reference), np.int64)
        for clip, _, _, stop in (truth, given):
            np.maximum.at(lengths, clip, stop)
        starts = np.cumsum(lengths) - lengths
        placed = [
            (starts[clip] + first, starts[clip] + stop, label)
            for clip, label, first, stop in (truth, given)
        ]
        cuts = np.unique(np.concatenate([edge for run in placed for edge in run[:2]]))
        segments = np.diff(cuts)  # (P,) segments in each piece
        # Of the clips that start in one place the last has a length, the others none.
        clip_of = np.searchsorted(starts, cuts[:-1], side="right") - 1

        k = max(1, len(class_names))
        wanted, found = (_active_cells(cuts, k, *run) for run in placed)

        def per_clip(cells: NDArray[np.int64]) -> NDArray[np.int64]:
            count = np.zeros((len(reference), len(class_names)), np.int64)
            piece, label = np.divmod(cells, k)
            np.add.at(count, (clip_of[piece], label), segments[piece])
            return count

        def per_piece(cells: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.bincount(cells // k, minlength=len(segments))

        false_alarms = np.setdiff1d(found, wanted, assume_unique=True)
        misses = np.setdiff1d(wanted, found, assume_unique=True)
        hits = np.intersect1d(wanted, found, assume_unique=True)
        self._class_names = tuple(class_names)
        self._resolution_seconds = resolution_seconds
        self._counts = Counts(per_clip(hits), per_clip(false_alarms), per_clip(misses))
        self._substitutions = np.zeros(len(reference), np.int64)
        substituted = np.minimum(per_piece(false_alarms), per_piece(misses))
        np.add.at(self._substitutions, clip_of, segments * substituted)

    @property
    def clips(self) -> int:
        """N, how many clips there are."""
        return len(self._substitutions)

    def scores(self, weights: NDArray[np.int64] | None = None) -> SegmentScores:
        """The scores where clip n is there ``weights[n]`` times (N,); once where nothing is said.

        Raises:
            ValueError: weights that are not N whole numbers >= 0.
        """
        times = as_weights(weights, self.clips)
        counts = self._counts.drawn(times)
        substitutions = int(times @ self._substitutions)
        return SegmentScores(
            class_names=self._class_names,
            resolution_seconds=self._resolution_seconds,
            counts=counts,
            substitutions=substitutions,
            deletions=int(counts.fn.sum()) - substitutions,
            insertions=int(counts.fp.sum()) - substitutions,
        )


def segment_scores(
    reference: Mapping[str, Sequence[Event]],
    estimate: Mapping[str, Sequence[Event]],
    class_names: Sequence[str],
    resolution_seconds: float = SEGMENT_SECONDS,
) -> SegmentScores:
    """Scores of estimated events against the reference's, clip by clip.

    The arguments, what is active where, and the errors are those of ``SegmentEvidence``; keep
    one of these to score draws of clips.
    """
    return SegmentEvidence(reference, estimate, class_names, resolution_seconds).scores()


def touched_segments(
    onsets: NDArray[np.float64], offsets: NDArray[np.float64], resolution_seconds: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first segment in which each event is active, and the one after the last."""
    # A boundary next to a segment's lies on it: 0.3 / 0.1 is below 3.
    first = np.floor((onsets + TIE_SECONDS) / resolution_seconds).astype(np.int64)
    return first, np.ceil((offsets - TIE_SECONDS) / resolution_seconds).astype(np.int64)


def _runs(
    events_of: Mapping[str, Sequence[Event]],
    clip_index: Mapping[str, int],
    class_index: Mapping[str, int],
    resolution_seconds: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Clip, class, first segment and the one after the last, of every event with a length."""
    places: list[tuple[int, int]] = []
    times: list[tuple[float, float]] = []
    for name, events in events_of.items():
        for event in events:
            if event.label not in class_index:
                raise ValueError(f"the label '{event.label}' of clip '{name}' isn't a class")
            places.append((clip_index[name], class_index[event.label]))
            times.append((event.onset_seconds, event.offset_seconds))
    clip, label = np.array(places, np.int64).reshape(-1, 2).T
    onset, offset = np.array(times, np.float64).reshape(-1, 2).T
    # Written so that a NaN fails too.
    if not np.all((onset >= 0) & (offset >= onset) & (offset / resolution_seconds < MOST_SEGMENTS)):
        raise ValueError(
            "events must start at 0 or later, not end before they start, "
            f"and end before {MOST_SEGMENTS * resolution_seconds:g} s"
        )
    first, stop = touched_segments(onset, offset, resolution_seconds)
    sounds = (offset - onset > TIE_SECONDS) & (stop > first)
    return clip[sounds], label[sounds], first[sounds], stop[sounds]


def _active_cells(
    cuts: NDArray[np.int64],
    k: int,
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    label: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Sorted numbers piece * K + class of the pieces between cuts in which a class is active."""
    low, high = np.searchsorted(cuts, first), np.searchsorted(cuts, stop)
    lengths = high - low
    before = np.cumsum(lengths) - lengths
    piece = np.repeat(low - before, lengths) + np.arange(lengths.sum())
    return np.unique(piece * k + np.repeat(label, lengths))
