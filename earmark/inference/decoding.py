"""Frame probabilities -> events: tag gate, median filter, runs or boxes, gaps, shortest lengths.

No torch here.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from earmark.config import ClassDecoding
from earmark.events import TIE_SECONDS, Event, in_order
from earmark.inference.changepoints import BoxFinder
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock

Frames = NDArray[np.int64]
Candidates = tuple[Frames, Frames, NDArray[np.float64]]
"""First frames, frames after the last, and scores of what may become an event."""


def gate(
    probabilities: NDArray[np.float32],
    local_tags: NDArray[np.float32] | None,
    gate_thresholds: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Probabilities (T, K) with 0 where no window that covers the frame has the class's tag."""
    if local_tags is None:
        return probabilities
    return np.where(local_tags > gate_thresholds, probabilities, np.float32(0))


def median_half(rule: ClassDecoding, clock: FrameClock) -> int:
    """Frames on either side of the one that the median filter sets, of the odd number nearest."""
    # A little more, so that rounding decides nothing.
    return int(rule.median_seconds / float(clock.hop_seconds) / 2 + 1e-9)


def step_half(rule: ClassDecoding, clock: FrameClock) -> int:
    """Frames on either side of a step of the filter that finds boxes; 0 for runs of frames."""
    if not rule.step_seconds:
        return 0
    return max(1, round(rule.step_seconds / float(clock.hop_seconds) / 2))


def runs(active: NDArray[np.bool_]) -> tuple[Frames, Frames]:
    """First frames, and frames after the last, of each stretch of True in (T,).

    >>> starts, stops = runs(np.array([True, True, False, True]))
    >>> starts.tolist(), stops.tolist()
    ([0, 3], [2, 4])
    """
    steps = np.diff(active.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)


def _peaked_runs(probabilities: NDArray[np.float32], low_threshold: float) -> Candidates:
    # As float64 on both sides: rounded to float32, a threshold could meet a score.
    starts, stops = runs(probabilities > np.float64(low_threshold))
    if not len(starts):
        return starts, stops, np.zeros(0)
    bounds = np.column_stack([starts, stops]).ravel()
    # reduceat takes every second stretch as a run; the zero gives the last stop a place.
    peaks = np.maximum.reduceat(np.append(probabilities, np.float32(0)), bounds)[::2]
    return starts, stops, peaks.astype(np.float64)


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

    The frame probabilities of a class are set to 0 where the tag gate is closed, and then median
    filtered; beyond the recording's ends they go back as they came. What may become an event is a
    run of frames, with the largest of these probabilities as its score, or a box (``BoxFinder``).
    Those above the threshold are joined where gaps are short enough, the highest score holding,
    and the shortest go.

    The events do not depend on how the track is cut into blocks.

    Args:
        rules: one a class, in the order of ``class_names``.
        tag_gate: whether there is one.
    """

    def __init__(
        self, rules: Sequence[ClassDecoding], class_names: Sequence[str], *, tag_gate: bool
    ) -> None:
        self._rules = rules
        self._class_names = class_names
        self._gate_thresholds = np.array([rule.gate_threshold for rule in rules])
        self._tag_gate = tag_gate
        self._classes: list[_ClassDecoder] = []

    def push(self, track: ScoreTrack) -> list[Event]:
        """Events that are complete once this block is known, in order.

        The last block of a recording has ``end_seconds`` and closes every event.
        """
        if not self._classes:
            self._classes = [
                _ClassDecoder(rule, name, track.clock, track.start_frame)
                for rule, name in zip(self._rules, self._class_names, strict=True)
            ]
        gated = track.probabilities
        if self._tag_gate:
            gated = gate(gated, track.local_tags, self._gate_thresholds)
        return in_order(
            event
            for k, of_class in enumerate(self._classes)
            for event in of_class.push(gated[:, k], track.end_seconds)
        )


def decode(track: ScoreTrack, rules: Sequence[ClassDecoding], *, tag_gate: bool) -> list[Event]:
    """Events of a whole recording, in order; ``track`` must reach the recording's end."""
    if track.end_seconds is None:
        raise ValueError("decode needs a track that reaches the recording's end")
    return Decoder(rules, track.class_names, tag_gate=tag_gate).push(track)


def decided_scores(
    track: ScoreTrack, rules: Sequence[ClassDecoding], *, tag_gate: bool
) -> ScoreTrack:
    """A whole recording's track as its rules see it before any threshold: what PSDS is to score.

    Gated and median filtered; where a class's rule asks for boxes, with the box's score in each
    frame of a box and 0 elsewhere, so that runs above any threshold are the boxes above it.
    """
    shown = track.probabilities
    if tag_gate:
        shown = gate(shown, track.local_tags, np.array([rule.gate_threshold for rule in rules]))
    columns = []
    for k, rule in enumerate(rules):
        smooth = MedianFilter(median_half(rule, track.clock)).push(shown[:, k], last=True)
        if half := step_half(rule, track.clock):
            boxes = BoxFinder(half, rule.merge_ratio, rule.merge_difference)
            columns.append(spread(*boxes.push(smooth, last=True), len(smooth)))
        else:
            columns.append(smooth.astype(np.float64))
    return replace(track, probabilities=np.stack(columns, axis=1).astype(np.float32))


def spread(
    starts: Frames, stops: Frames, scores: NDArray[np.float64], frames: int
) -> NDArray[np.float64]:
    """(frames,) each candidate's score in its frames, 0 elsewhere; none may overlap or touch."""
    table = np.zeros(frames)
    lengths = stops - starts
    before = np.cumsum(lengths) - lengths
    table[np.repeat(starts - before, lengths) + np.arange(lengths.sum())] = np.repeat(
        scores, lengths
    )
    return table


class MedianFilter:
    """The median of each frame and ``half`` on either side, of scores in consecutive blocks.

    Beyond the recording's ends the scores go back as they came: ... b a | a b c ... y z | z y ...
    """

    def __init__(self, half: int) -> None:
        self._half = half
        self._held = np.zeros(0, np.float32)
        self._begun = False

    def push(self, scores: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        """The medians that nothing can change now: ``half`` frames late, all with the last."""
        half = self._half
        held = np.concatenate([self._held, scores])
        begins = not self._begun and (len(held) >= half or last)
        if len(held):
            held = np.pad(held, (half * begins, half * last), "symmetric")
        self._begun |= begins
        if not self._begun or len(held) < 2 * half:
            self._held = held
            return np.zeros(0, np.float32)
        medians = held
        if half:
            # Scipy takes a while to load, and few rules filter.
            from scipy.ndimage import median_filter

            medians = median_filter(held, 2 * half + 1)[half : len(held) - half]
        self._held = held[len(medians) :]
        return np.asarray(medians)


class _RunFinder:
    """Runs of frames above the low threshold with their peaks, of blocks of scores."""

    def __init__(self, low_threshold: float, first_frame: int) -> None:
        self._low_threshold = low_threshold
        self._frame = first_frame
        self._cut: tuple[int, float] | None = None  # a run that the block's end may have cut

    @property
    def earliest(self) -> int:
        """The first frame at which a run may start that wasn't given yet."""
        return self._frame if self._cut is None else self._cut[0]

    def push(self, scores: NDArray[np.float32], *, last: bool) -> Candidates:
        """The runs that are complete now."""
        frame = self._frame
        self._frame = end = frame + len(scores)
        starts, stops, peaks = _peaked_runs(scores, self._low_threshold)
        starts, stops = starts + frame, stops + frame
        if self._cut is not None:
            start, peak = self._cut
            if not len(starts) or starts[0] > frame:
                starts, stops = np.append(frame, starts), np.append(frame, stops)
                peaks = np.append(peak, peaks)
            starts[0], peaks[0] = start, max(peak, peaks[0])
        done = len(starts)
        if not last and done and stops[-1] == end:
            done -= 1
        self._cut = (int(starts[-1]), float(peaks[-1])) if done < len(starts) else None
        return starts[:done], stops[:done], peaks[:done]


class _ClassDecoder:
    """What ``Decoder`` does for one class."""

    def __init__(
        self, rule: ClassDecoding, label: str, clock: FrameClock, first_frame: int
    ) -> None:
        self._rule = rule
        self._label = label
        self._clock = clock
        self._frame = first_frame
        self._filter = MedianFilter(median_half(rule, clock))
        half = step_half(rule, clock)
        self._finder = (
            BoxFinder(half, rule.merge_ratio, rule.merge_difference, first_frame=first_frame)
            if half
            else _RunFinder(rule.low_threshold, first_frame)
        )
        self._held: Event | None = None  # one that the next candidate may still lengthen

    def push(self, scores: NDArray[np.float32], end_seconds: float | None) -> list[Event]:
        self._frame += len(scores)
        last = end_seconds is not None
        smooth = self._filter.push(scores, last=last)
        starts, stops, peaks = self._finder.push(smooth, last=last)
        kept = peaks > self._rule.threshold
        starts, stops, peaks = starts[kept], stops[kept], peaks[kept]
        onsets = np.array([self._clock.start_seconds(start) for start in starts.tolist()])
        offsets = np.array([self._clock.start_seconds(stop) for stop in stops.tolist()])
        if end_seconds is not None and len(stops) and stops[-1] == self._frame:
            offsets[-1] = end_seconds
        if (held := self._held) is not None:
            onsets = np.append(held.onset_seconds, onsets)
            offsets = np.append(held.offset_seconds, offsets)
            peaks = np.append(held.score or 0.0, peaks)
        joined = [
            Event(float(onsets[a]), float(offsets[b]), self._label, float(peaks[a : b + 1].max()))
            for a, b in zip(*join(onsets, offsets, self._rule.max_gap_seconds), strict=True)
        ]
        self._held = None if last or not joined else joined.pop()
        if self._held is not None and self._is_over(self._held):
            joined.append(self._held)
            self._held = None
        shortest = self._rule.min_event_seconds - TIE_SECONDS
        return [event for event in joined if event.duration_seconds >= shortest]

    def _is_over(self, event: Event) -> bool:
        """Whether whatever comes now is too far from an event to be joined with it."""
        gap = self._clock.start_seconds(self._finder.earliest) - event.offset_seconds
        return gap > self._rule.max_gap_seconds + TIE_SECONDS
