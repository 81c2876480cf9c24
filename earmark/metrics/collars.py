"""Event-based scores: an event is found where its boundaries are met within a collar."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earmark.config import COLLAR_RATIO, COLLAR_SECONDS
from earmark.events import TIE_SECONDS, Event
from earmark.metrics.counts import Counts, ErrorScores, as_weights


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EventScores(ErrorScores):
    """What a detector got right, event by event.

    Attributes:
        class_names: the K classes.
        onset_collar_seconds: how far an onset may lie from the reference's.
        offset_collar_seconds: how far an offset may.
        offset_collar_ratio: the same as a share of the reference's length; the larger one holds.
        use_offset: whether offsets were looked at.
        counts: events per class; ``counts.f1`` and its like are the class values.
        substitutions: an unmatched event of the reference and an unmatched estimate of another
            class whose boundaries meet the collar.
        deletions: misses beyond the substitutions.
        insertions: false alarms beyond the substitutions.
    """

    onset_collar_seconds: float
    offset_collar_seconds: float
    offset_collar_ratio: float
    use_offset: bool


class EventEvidence:
    """Which events of every clip were found, to be scored in any draw of clips.

    An estimate meets a reference event of its class where the onsets differ by at most
    ``onset_collar_seconds`` and the offsets by at most the larger of ``offset_collar_seconds`` and
    ``offset_collar_ratio`` times the reference's length; a difference of exactly that counts. Of
    the pairs that meet, as many as possible are matched one to one. Overlapping events of a class
    stay apart; events without length are set aside.

    An unmatched reference, in list order, and the first unmatched estimate of its clip that meets
    it but for the class are a substitution. Where equally many pairs can be matched in several
    ways, which events stay unmatched follows list order too, so S, D and I may depend on it; the
    counts don't.

    Equal to sed_eval 0.2.1 with optimal matching, S included, but for four things: it lets
    rounding decide at exactly the collar, scores events without length, has NaN for an
    F1, precision or recall where a denominator is 0, and a huge number where an error rate has no
    reference. Its greedy matching may find fewer pairs.

    Args:
        reference: events of every clip that is scored; a clip without events has an empty list.
            Their order is the order of the clips.
        estimate: events of the same clips; one that is left out has none.
        class_names: the K classes, with every label on either side.
        onset_collar_seconds: at least 0.
        offset_collar_seconds: at least 0.
        offset_collar_ratio: at least 0.
        use_offset: whether offsets must be met too; without, their two collars play no part.

    Raises:
        ValueError: an estimated clip that isn't in the reference, a label that isn't a class, an
            event that starts before 0, ends before its start or never, or a collar below 0.
    """

    def __init__(
        self,
        reference: Mapping[str, Sequence[Event]],
        estimate: Mapping[str, Sequence[Event]],
        class_names: Sequence[str],
        onset_collar_seconds: float = COLLAR_SECONDS,
        offset_collar_seconds: float = COLLAR_SECONDS,
        offset_collar_ratio: float = COLLAR_RATIO,
        use_offset: bool = True,
    ) -> None:
        for name, value in (
            ("onset_collar_seconds", onset_collar_seconds),
            ("offset_collar_seconds", offset_collar_seconds),
            ("offset_collar_ratio", offset_collar_ratio),
        ):
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, came as {value}")
        if strays := estimate.keys() - reference.keys():
            raise ValueError(f"an estimated clip isn't in the reference: '{min(strays)}'")
        self._clips = len(reference)
        self._class_names = tuple(class_names)
        self._collars = (onset_collar_seconds, offset_collar_seconds, offset_collar_ratio)
        self._use_offset = use_offset

        clip_index = {clip: index for index, clip in enumerate(reference)}
        class_index = {name: index for index, name in enumerate(class_names)}
        self._wanted = _rows(reference, clip_index, class_index)
        self._found = _rows(estimate, clip_index, class_index)

        matched = maximum_matching(*self._pairs(self._wanted, self._found, same_class=True))
        self._hits = self._wanted.take(np.fromiter(matched.keys(), np.int64))
        missed = self._wanted.without(np.fromiter(matched.keys(), np.int64))
        wrong = self._found.without(np.fromiter(matched.values(), np.int64))
        replaced = _first_come(*self._pairs(missed, wrong, same_class=False))
        self._substituted_clips = missed.clip[replaced]

    @property
    def clips(self) -> int:
        """N, how many clips there are."""
        return self._clips

    def scores(self, weights: NDArray[np.int64] | None = None) -> EventScores:
        """The scores where clip n is there ``weights[n]`` times (N,); once where nothing is said.

        Raises:
            ValueError: weights that are not N whole numbers >= 0.
        """
        times = as_weights(weights, self.clips)

        def per_class(rows: "_Rows") -> NDArray[np.int64]:
            count = np.bincount(rows.label, times[rows.clip], minlength=len(self._class_names))
            return count.astype(np.int64)

        tp = per_class(self._hits)
        counts = Counts(tp, per_class(self._found) - tp, per_class(self._wanted) - tp)
        substitutions = int(times[self._substituted_clips].sum())
        onset, offset, ratio_of_offset = self._collars
        return EventScores(
            class_names=self._class_names,
            onset_collar_seconds=onset,
            offset_collar_seconds=offset,
            offset_collar_ratio=ratio_of_offset,
            use_offset=self._use_offset,
            counts=counts,
            substitutions=substitutions,
            deletions=int(counts.fn.sum()) - substitutions,
            insertions=int(counts.fp.sum()) - substitutions,
        )

    def _pairs(
        self, wanted: "_Rows", found: "_Rows", *, same_class: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows on both sides, in list order, of one clip whose boundaries meet the collars."""
        onset_collar, offset_collar, offset_ratio = self._collars
        # Sorted by clip, perhaps class, and onset, what may meet a row is a run of the other side.
        # Onsets go by their rank: whole numbers, so that the sort key is exact.
        onsets = np.unique(found.onset)
        stride = len(onsets) + 1
        wanted_group, found_group = (
            rows.clip * (len(self._class_names) if same_class else 1)
            + (rows.label if same_class else 0)
            for rows in (wanted, found)
        )
        keys = found_group * stride + np.searchsorted(onsets, found.onset)
        order = np.argsort(keys)
        keys = keys[order]
        reach = onset_collar + TIE_SECONDS
        first = np.searchsorted(onsets, wanted.onset - reach)
        stop = np.searchsorted(onsets, wanted.onset + reach, side="right")
        low = np.searchsorted(keys, wanted_group * stride + first)
        high = np.searchsorted(keys, wanted_group * stride + stop)
        lengths = high - low
        before = np.cumsum(lengths) - lengths
        row = np.repeat(np.arange(len(low)), lengths)
        other = order[np.repeat(low - before, lengths) + np.arange(len(row))]
        if self._use_offset:
            collar = np.maximum(offset_collar, offset_ratio * (wanted.offset - wanted.onset))
            apart = np.abs(wanted.offset[row] - found.offset[other])
            meets = apart <= collar[row] + TIE_SECONDS
            row, other = row[meets], other[meets]
        in_list_order = np.lexsort((other, row))
        return row[in_list_order], other[in_list_order]


def event_scores(
    reference: Mapping[str, Sequence[Event]],
    estimate: Mapping[str, Sequence[Event]],
    class_names: Sequence[str],
    onset_collar_seconds: float = COLLAR_SECONDS,
    offset_collar_seconds: float = COLLAR_SECONDS,
    offset_collar_ratio: float = COLLAR_RATIO,
    use_offset: bool = True,
) -> EventScores:
    """Scores of estimated events against the reference's, clip by clip.

    The arguments, what meets what, and the errors are those of ``EventEvidence``; keep one of
    these to score draws of clips.
    """
    return EventEvidence(
        reference,
        estimate,
        class_names,
        onset_collar_seconds,
        offset_collar_seconds,
        offset_collar_ratio,
        use_offset,
    ).scores()


def maximum_matching(left: NDArray[np.int64], right: NDArray[np.int64]) -> dict[int, int]:
    """The most pairs in which no number occurs twice on a side: Hopcroft and Karp (1973).

    Several matchings may be that large. Here each of the right, in order of its first pair, takes
    the first of the left that is free; then alternating paths, the shortest ones first, add one
    pair each and leave nobody unmatched who was matched. sed_eval 0.2.1 goes the same way, so
    the same events stay unmatched: scipy's matching is as large, but now and then leaves others.

    Args:
        left: (P,) one side of each pair, the pairs in order.
        right: (P,) the other side.

    Returns:
        The matched of the left, and with whom of the right.
    """
    options: dict[int, list[int]] = {}
    for mine, yours in zip(left.tolist(), right.tolist(), strict=True):
        options.setdefault(yours, []).append(mine)
    partner: dict[int, int] = {}
    for yours, choices in options.items():
        free = next((mine for mine in choices if mine not in partner), None)
        if free is not None:
            partner[free] = yours

    while True:
        # Layers of alternating paths from everyone unmatched on the right, up to the first layer
        # that has someone unmatched on the left.
        matched = set(partner.values())
        layer = [yours for yours in options if yours not in matched]
        held: dict[int, int | None] = dict.fromkeys(layer)  # of the right, whom they would give up
        suitors: dict[int, list[int]] = {}  # of the left, who of the layer before could take them
        ends: list[int] = []
        while layer and not ends:
            reached: dict[int, list[int]] = {}
            for yours in layer:
                for mine in options[yours]:
                    if mine not in suitors:
                        reached.setdefault(mine, []).append(yours)
            suitors |= reached
            ends = [mine for mine in reached if mine not in partner]
            givers = {partner[mine]: mine for mine in reached if mine in partner}
            held |= givers
            layer = list(givers)
        if not ends:
            return partner

        # Back along paths that share nobody. Whoever of the right was tried leaves ``held``.
        for end in ends:
            path, takers = [end], list[int]()
            while path:
                taker = next((yours for yours in suitors[path[-1]] if yours in held), None)
                if taker is None:
                    path.pop()
                    del takers[-1:]
                    continue
                takers.append(taker)
                given_up = held.pop(taker)
                if given_up is None:
                    partner.update(zip(path, takers, strict=True))
                    break
                path.append(given_up)


def _first_come(left: NDArray[np.int64], right: NDArray[np.int64]) -> list[int]:
    """The left of the pairs that are kept where each, in order, keeps who is free on both sides."""
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for mine, yours in zip(left.tolist(), right.tolist(), strict=True):
        if mine not in partner and yours not in taken:
            partner[mine] = yours
            taken.add(yours)
    return list(partner)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Events as columns (E,): indices of clip and class, and boundaries in seconds."""

    clip: NDArray[np.int64]
    label: NDArray[np.int64]
    onset: NDArray[np.float64]
    offset: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "_Rows":
        """These rows."""
        return _Rows(self.clip[rows], self.label[rows], self.onset[rows], self.offset[rows])

    def without(self, rows: NDArray[np.int64]) -> "_Rows":
        """All but these rows, in the same order."""
        kept = np.ones(len(self.clip), np.bool_)
        kept[rows] = False
        return self.take(kept)


def _rows(
    events_of: Mapping[str, Sequence[Event]],
    clip_index: Mapping[str, int],
    class_index: Mapping[str, int],
) -> _Rows:
    """Every event with a length."""
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
    if not np.all((onset >= 0) & (offset >= onset) & (offset < np.inf)):
        raise ValueError("events must start at 0 or later, not end before they start, and end")
    return _Rows(clip, label, onset, offset).take(offset - onset > TIE_SECONDS)
