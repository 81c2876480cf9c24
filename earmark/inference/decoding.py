"""Frame probabilities -> events: thresholds, gaps, shortest lengths, tag gate. No torch here."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from earmark.config import ClassDecoding
from earmark.events import TIE_SECONDS, Event, in_order
from earmark.scores import ScoreTrack

Frames = NDArray[np.int64]


def gate(
    probabilities: NDArray[np.float32],
    local_tags: NDArray[np.float32] | None,
    tag_thresholds: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Probabilities (T, K) with 0 where no window that covers the frame has the class's tag."""
    if local_tags is None:
        return probabilities
    return np.where(local_tags > tag_thresholds, probabilities, np.float32(0))


def runs(active: NDArray[np.bool_]) -> tuple[Frames, Frames]:
    """First frames, and frames after the last, of each stretch of True in (T,).

    >>> starts, stops = runs(np.array([True, True, False, True]))
    >>> starts.tolist(), stops.tolist()
    ([0, 3], [2, 4])
    """
    steps = np.diff(active.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)


def confirmed_runs(
    probabilities: NDArray[np.float32], low_threshold: float, threshold: float
) -> tuple[Frames, Frames, NDArray[np.float32]]:
    """Runs above the low threshold that rise above the threshold somewhere, with their peaks."""
    starts, stops, peaks = _peaked_runs(probabilities, low_threshold)
    kept = peaks > np.float64(threshold)
    return starts[kept], stops[kept], peaks[kept]


def _peaked_runs(
    probabilities: NDArray[np.float32], low_threshold: float
) -> tuple[Frames, Frames, NDArray[np.float32]]:
    # As float64 on both sides: rounded to float32, a threshold could meet a score.
    starts, stops = runs(probabilities > np.float64(low_threshold))
    if not len(starts):
        return starts, stops, np.zeros(0, np.float32)
    bounds = np.column_stack([starts, stops]).ravel()
    # reduceat takes every second stretch as a run; the zero gives the last stop a place.
    peaks = np.maximum.reduceat(np.append(probabilities, np.float32(0)), bounds)[::2]
    return starts, stops, peaks


def join(
    onsets: NDArray[np.float64], offsets: NDArray[np.float64], max_gap: float
) -> tuple[Frames, Frames]:
    """First and last run of each group of runs that gaps of at most ``max_gap`` join."""
    if not len(onsets):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    breaks = np.flatnonzero(onsets[1:] - offsets[:-1] > max_gap + TIE_SECONDS)
    return np.append(0, breaks + 1), np.append(breaks, len(onsets) - 1)


class Decoder:
    """Turns the score track of a recording, whole or in consecutive blocks, into events.

    The events do not depend on how the track is cut into blocks. An event's score is its
    largest frame probability.

    Args:
        rules: one a class, in the order of ``class_names``.
        tag_gate: whether a class needs the tag around a frame to sound in it.
    """

    def __init__(
        self, rules: Sequence[ClassDecoding], class_names: Sequence[str], *, tag_gate: bool
    ) -> None:
        self._rules = rules
        self._class_names = class_names
        self._tag_thresholds = np.array([rule.tag_threshold for rule in rules])
        self._tag_gate = tag_gate
        # Per class: first frame and peak of a run that the block's end may have cut, and a
        # joined event that the next run may still lengthen.
        self._cut: list[tuple[int, np.float32] | None] = [None for _ in rules]
        self._held: list[Event | None] = [None for _ in rules]

    def push(self, track: ScoreTrack) -> list[Event]:
        """Events that are complete once this block is known, in order.

        The last block of a recording has ``end_seconds`` and closes every event.
        """
        gated = track.probabilities
        if self._tag_gate:
            gated = gate(gated, track.local_tags, self._tag_thresholds)
        done: list[Event] = []
        for k, rule in enumerate(self._rules):
            done += self._push_class(k, rule, gated[:, k], track)
        return in_order(done)

    def _push_class(
        self, k: int, rule: ClassDecoding, column: NDArray[np.float32], track: ScoreTrack
    ) -> list[Event]:
        frame = track.start_frame
        end = frame + len(column)
        end_seconds = track.end_seconds
        last = end_seconds is not None
        starts, stops, peaks = _peaked_runs(column, rule.low_threshold)
        starts, stops = starts + frame, stops + frame
        cut = self._cut[k]
        if cut is not None:
            if not len(starts) or starts[0] > frame:
                starts, stops = np.append(frame, starts), np.append(frame, stops)
                peaks = np.append(cut[1], peaks)
            starts[0], peaks[0] = cut[0], max(cut[1], peaks[0])
        open_ended = not last and len(stops) > 0 and stops[-1] == end
        self._cut[k] = (int(starts[-1]), peaks[-1]) if open_ended else None
        kept = peaks > np.float64(rule.threshold)
        if open_ended:
            kept[-1] = False
        onsets = [track.clock.start_seconds(int(start)) for start in starts[kept]]
        offsets = [track.clock.start_seconds(int(stop)) for stop in stops[kept]]
        if end_seconds is not None and offsets and stops[kept][-1] == end:
            offsets[-1] = end_seconds
        return self._join(k, rule, np.array(onsets), np.array(offsets), peaks[kept], last)

    def _join(
        self,
        k: int,
        rule: ClassDecoding,
        onsets: NDArray[np.float64],
        offsets: NDArray[np.float64],
        peaks: NDArray[np.float32],
        last: bool,
    ) -> list[Event]:
        held = self._held[k]
        if held is not None:
            onsets = np.append(held.onset_seconds, onsets)
            offsets = np.append(held.offset_seconds, offsets)
            peaks = np.append(np.float32(held.score or 0), peaks)
        label = self._class_names[k]
        joined = [
            Event(float(onsets[a]), float(offsets[b]), label, float(peaks[a : b + 1].max()))
            for a, b in zip(*join(onsets, offsets, rule.max_gap_seconds), strict=True)
        ]
        self._held[k] = None if last or not joined else joined.pop()
        shortest = rule.min_event_seconds - TIE_SECONDS
        return [event for event in joined if event.duration_seconds >= shortest]


def decode(track: ScoreTrack, rules: Sequence[ClassDecoding], *, tag_gate: bool) -> list[Event]:
    """Events of a whole recording, in order; ``track`` must reach the recording's end."""
    if track.end_seconds is None:
        raise ValueError("decode needs a track that reaches the recording's end")
    return Decoder(rules, track.class_names, tag_gate=tag_gate).push(track)
