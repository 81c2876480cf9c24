"""One system at work, whatever computes it: windows of a recording -> one score track.

No torch here.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from earmark.audio import blocks, resample
from earmark.config import ClassCalibration, ClassDecoding, DecodingSettings
from earmark.errors import UserError
from earmark.inference.pipeline import Workers
from earmark.inference.recogniser import Recogniser, Samples
from earmark.inference.stitching import Stitched, Stitcher, WindowPlan
from earmark.scores import ScoreTrack
from earmark.spectra import FrontEnd
from earmark.timeline import FrameClock

WINDOWS_AT_ONCE = 8
BLOCK_SECONDS = 30


class Outputs(NamedTuple):
    """What M networks say of windows.

    Attributes:
        frames: (B, T, M * K) probabilities.
        weights: (B, T, M * K) of the frames. Those of attention over time have no bound: they lie
            beyond float32's exp, not float64's.
        clips: (B, K) probabilities, the mean over the networks.
    """

    frames: NDArray[np.float32]
    weights: NDArray[np.float64]
    clips: NDArray[np.float32]


class WindowedRecogniser(Recogniser):
    """The recogniser of one system: the mean of the networks of its epochs (paper, sec. 2.4).

    Args:
        class_names: the K classes.
        clock: when each frame of the networks' output sounds.
        rules: how the probabilities of each class become tags and events.
        decoding: what the rules follow.
        window_frames: of the longest training clip, before pooling.
        overlap: the share of a window that the next one covers too.
        localisation: how a clip's probability follows from its frames.
        members: M networks.
        front_end: what the networks are given of samples.
        engine: what they say of windows (B, T, F); several threads call it at once.
        calibration: of each class; without, its probabilities stay as they are.
    """

    def __init__(
        self,
        class_names: tuple[str, ...],
        clock: FrameClock,
        rules: Sequence[ClassDecoding],
        decoding: DecodingSettings,
        *,
        window_frames: int,
        overlap: float,
        localisation: str,
        members: int,
        front_end: FrontEnd,
        engine: Callable[[NDArray[np.float32]], Outputs],
        calibration: Sequence[ClassCalibration] = (),
    ) -> None:
        features = front_end.settings
        super().__init__(
            class_names,
            clock,
            rules,
            decoding,
            features,
            window_frames * float(features.clock.hop_seconds),
            rate_hz=features.rate_hz,
            votes=localisation == "vote",
            calibration=calibration,
        )
        self.engine = engine
        self._window_frames = window_frames
        self._overlap = overlap
        self._localisation = localisation
        self._members = members
        self._front_end = front_end

    @property
    def workers(self) -> Workers:
        """The threads that work."""
        raise NotImplementedError

    def raw_blocks(
        self, recording: str | Path | Samples, *, rate_hz: int | None = None
    ) -> Iterator[ScoreTrack]:
        rate = self.rate_hz
        if isinstance(recording, str | Path):
            source: Iterable[Samples] = blocks(Path(recording), rate)
        else:
            source = _in_blocks(resample(_checked(recording), rate_hz or rate, rate), rate)
        yield from self._tracks(source)

    def _tracks(self, source: Iterable[Samples]) -> Iterator[ScoreTrack]:
        columns = self._members * len(self.class_names)
        stitcher = Stitcher(columns, len(self.class_names))
        tags = _RecordingTags(self._localisation, columns)
        counted = _Counted(source)
        windows = 0
        clips: NDArray[np.float32] | None = None
        batches = self._batches(counted)
        ahead = 2 * self.workers.count
        for batch, (frames, weights, clips) in self.workers.in_order(self._of, batches, ahead):
            windows += len(batch.starts)
            done = stitcher.add_all(batch.starts, frames, weights, clips)
            if len(done.frames):
                tags.add(done)
                yield self._track(done)
        done = stitcher.finish()
        tags.add(done)
        assert clips is not None
        of_all = clips[0] if windows == 1 else self._over_members(tags.result())
        yield self._track(done, counted.samples / self.rate_hz, of_all)

    def _batches(self, counted: "_Counted") -> Generator["_Batch"]:
        """The windows of a recording, as many at once as are ready and equally long."""
        pooling = self.clock.pooling
        plan = WindowPlan(self._window_frames, self._overlap, pooling)
        features = np.zeros((0, self._front_end.width), np.float32)
        first = 0  # the frame of features[0]
        waiting: list[tuple[int, int]] = []

        def batch(windows: list[tuple[int, int]]) -> _Batch:
            rows = [features[start - first : stop - first] for start, stop in windows]
            return _Batch([start // pooling for start, _ in windows], np.stack(rows))

        for more in self._front_end.stream(counted):
            features = np.concatenate([features, more])
            waiting += plan.ready(first + len(features))
            while len(waiting) >= WINDOWS_AT_ONCE:
                now, waiting = waiting[:WINDOWS_AT_ONCE], waiting[WINDOWS_AT_ONCE:]
                yield batch(now)
            keep = waiting[0][0] if waiting else plan.needed_from
            features, first = features[keep - first :], keep
        if not counted.samples:
            raise UserError("a recording needs at least one sample, came with none")
        waiting += plan.finish(first + len(features))
        # Only the last window may be shorter, where it is the only one or ends amid a pooling.
        for _, alike in groupby(waiting, lambda window: window[1] - window[0]):
            yield batch(list(alike))

    def _of(self, batch: "_Batch") -> tuple["_Batch", Outputs]:
        return batch, self.engine(batch.features)

    def _track(
        self,
        done: Stitched,
        end_seconds: float | None = None,
        tags: NDArray[np.float32] | None = None,
    ) -> ScoreTrack:
        return ScoreTrack(
            self._over_members(done.frames),
            self.class_names,
            self.clock,
            done.start,
            end_seconds,
            done.local_tags,
            tags,
        )

    def _over_members(self, columns: NDArray[np.float64]) -> NDArray[np.float32]:
        """(..., members x K) -> (..., K): the mean of the members (paper, sec. 2.4)."""
        shape = (*columns.shape[:-1], self._members, len(self.class_names))
        mean: NDArray[np.float32] = columns.reshape(shape).mean(axis=-2).astype(np.float32)
        return mean


def _checked(recording: Samples) -> Samples:
    samples = np.asarray(recording)
    if samples.dtype.kind != "f" or samples.ndim not in (1, 2) or not np.isfinite(samples).all():
        raise UserError(
            "samples must be finite floats in [-1, 1], (S,) or (S, channels), "
            f"came as {samples.dtype} {samples.shape}; scale whole numbers by their largest"
        )
    return samples.astype(np.float32, copy=False)


def _in_blocks(samples: Samples, rate_hz: int) -> Iterator[Samples]:
    size = BLOCK_SECONDS * rate_hz
    return (samples[start : start + size] for start in range(0, len(samples), size))


class _Batch(NamedTuple):
    """Equally long windows: their first frames in the track, and their features (B, T, F)."""

    starts: list[int]
    features: NDArray[np.float32]


class _RecordingTags:
    """Eq. 4 over all frames of a recording that is never held whole."""

    def __init__(self, localisation: str, columns: int) -> None:
        self._largest_alone = localisation == "max"
        self._votes = localisation == "vote"
        self._sum = np.zeros(columns)
        self._weight = np.zeros(columns)

    def add(self, done: Stitched) -> None:
        if self._largest_alone:
            self._sum = np.maximum(self._sum, done.frames.max(axis=0, initial=0.0))
            self._weight[:] = 1.0
        else:
            frames = done.frames > 0.5 if self._votes else done.frames
            self._sum += (frames * done.weights).sum(axis=0)
            self._weight += done.weights.sum(axis=0)

    def result(self) -> NDArray[np.float64]:
        return self._sum / np.maximum(self._weight, np.finfo(np.float64).tiny)


class _Counted:
    """Passes blocks of samples on and counts them."""

    def __init__(self, source: Iterable[Samples]) -> None:
        self._source = source
        self.samples = 0

    def __iter__(self) -> Iterator[Samples]:
        for block in self._source:
            self.samples += len(block)
            yield block
