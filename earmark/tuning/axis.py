"""All validation recordings on one axis, where rules are tried."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from earmark.config import TuningSettings
from earmark.events import Event
from earmark.inference.changepoints import as_boxes, as_ticks, means, merge, steps, turning_points
from earmark.inference.decoding import join, spread
from earmark.metrics.segments import touched_segments
from earmark.scores import ScoreTrack

Times = NDArray[np.float64]


class Axis:
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


def _one_after_another(tables: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Tables (T, K) in one (F, K), a row of 0 after each."""
    return np.concatenate([np.pad(table, ((0, 1), (0, 0))) for table in tables])
