"""Which class is predicted where which is true, though several may be true at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.config import SEGMENT_SECONDS
from earmark.events import TIE_SECONDS, Event
from earmark.metrics.segments import touched_segments


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """In how much of each true class each class was predicted.

    What is counted are clips, or segments of them. Row k is of those in which class k is true:
    its own column counts where it was found, another column where that class was predicted though
    it isn't true there. The last row is of those in which no class is true.

    Attributes:
        class_names: the K classes.
        counts: (K + 1, K).
        totals: (K + 1,) how many clips or segments a row is of; the last is NaN where that isn't
            known, as for segments of clips without durations.
    """

    class_names: tuple[str, ...]
    counts: NDArray[np.int64]
    totals: NDArray[np.float64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """(K + 1, K) ``counts`` as parts of the row's total; NaN where that is 0 or unknown."""
        totals = np.where(self.totals > 0, self.totals, np.nan)
        return np.asarray(self.counts / totals[:, None])


def tag_confusion(reference: ArrayLike, given: ArrayLike, class_names: Sequence[str]) -> Confusion:
    """Of clips: tables (N, K) of what is true and of what was predicted."""
    truth, found = np.asarray(reference, np.bool_), np.asarray(given, np.bool_)
    counts, totals = _counted(truth, found, np.ones(len(truth), np.int64))
    return Confusion(tuple(class_names), counts, totals.astype(np.float64))


def event_confusion(
    reference: Mapping[str, Sequence[Event]],
    estimate: Mapping[str, Sequence[Event]],
    class_names: Sequence[str],
    resolution_seconds: float = SEGMENT_SECONDS,
    durations_seconds: Mapping[str, float] | None = None,
) -> Confusion:
    """Of segments, in which events are active as ``metrics.segments`` has it.

    Args:
        reference: events of every clip that is scored.
        estimate: events of the same clips; one that is left out has none.
        class_names: the K classes, with every label on either side.
        resolution_seconds: length of a segment.
        durations_seconds: of every clip, where known.
    """
    index = {name: k for k, name in enumerate(class_names)}
    counts = np.zeros((len(index) + 1, len(index)), np.int64)
    totals = np.zeros(len(index) + 1)
    for clip, events in reference.items():
        sides = [
            _runs(side, index, resolution_seconds) for side in (events, estimate.get(clip, ()))
        ]
        # Between two cuts nothing changes, so that a piece stands for all of its segments.
        cuts = np.unique(
            np.concatenate([edge for first, stop, _ in sides for edge in (first, stop)])
        )
        truth, found = (_active(cuts, len(index), *side) for side in sides)
        of_clip, of_rows = _counted(truth, found, np.diff(cuts))
        if durations_seconds is None:
            of_rows[-1] = 0
        else:
            # Silence at the ends is in no piece.
            whole = np.ceil((durations_seconds[clip] - TIE_SECONDS) / resolution_seconds)
            sounding = np.diff(cuts)[truth.any(axis=1)].sum()
            of_rows[-1] = max(int(whole), int(cuts[-1]) if len(cuts) else 0) - sounding
        counts += of_clip
        totals += of_rows
    if durations_seconds is None:
        totals[-1] = np.nan
    return Confusion(tuple(class_names), counts, totals)


def _counted(
    truth: NDArray[np.bool_], found: NDArray[np.bool_], times: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts and totals of rows (P, K) that stand for ``times`` (P,) clips or segments each."""
    nothing = ~truth.any(axis=1, keepdims=True)
    rows = np.concatenate([truth, nothing], axis=1) * times[:, None]
    counts = rows.T @ (found & ~truth).astype(np.int64)
    np.fill_diagonal(counts, times @ (truth & found))
    return counts, rows.sum(axis=0)


def _runs(
    events: Sequence[Event], index: Mapping[str, int], resolution_seconds: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int]]:
    """First segment, the one after the last, and class, of every event with a length."""
    sounding = [event for event in events if event.duration_seconds > TIE_SECONDS]
    onset = np.array([event.onset_seconds for event in sounding], np.float64)
    offset = np.array([event.offset_seconds for event in sounding], np.float64)
    return *touched_segments(onset, offset, resolution_seconds), [index[e.label] for e in sounding]


def _active(
    cuts: NDArray[np.int64],
    classes: int,
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    label: Sequence[int],
) -> NDArray[np.bool_]:
    """(P, K) whether a class is active in the pieces between cuts."""
    active = np.zeros((max(0, len(cuts) - 1), classes), np.bool_)
    low, high = np.searchsorted(cuts, first).tolist(), np.searchsorted(cuts, stop).tolist()
    for begin, end, k in zip(low, high, label, strict=True):
        active[begin:end, k] = True
    return active
