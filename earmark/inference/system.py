"""One system at work: windows of a recording -> its networks -> one score track."""

import threading
from collections.abc import Generator, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from earmark.audio import blocks, resample
from earmark.errors import UserError
from earmark.features import FeatureExtractor
from earmark.inference.engines import Outputs, choose_engine
from earmark.inference.pipeline import Workers
from earmark.inference.recogniser import Recogniser, Samples
from earmark.inference.stitching import Stitched, Stitcher, WindowPlan
from earmark.model.bundle import Bundle
from earmark.scores import ScoreTrack

WINDOWS_AT_ONCE = 8
BLOCK_SECONDS = 30


def _one_thread() -> None:
    """Lets this thread of several work alone; threads that come later are as they were."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # Which also set what new threads begin with, in this thread or any other.
    restoring = threading.Thread(target=torch.set_num_threads, args=(before,))
    restoring.start()
    restoring.join()


WORKERS = Workers(torch.get_num_threads(), _one_thread)
AHEAD = 2 * WORKERS.count  # batches of a recording


class SystemRecogniser(Recogniser):
    """The recogniser of one system: the mean of the networks of its epochs (paper, sec. 2.4).

    Args:
        model: the system.
        device: where features and networks are computed.
        precision: float32, bfloat16, or auto for what is quickest; see ``choose_engine``.
    """

    def __init__(
        self, model: Bundle, device: str | torch.device = "cpu", precision: str = "float32"
    ) -> None:
        self.description = model.description
        settings = self.description.settings
        hop_seconds = float(settings.features.clock.hop_seconds)
        super().__init__(
            self.description.class_names,
            settings.clock,
            self.description.decoding,
            settings.decoding,
            settings.features,
            self.description.window_frames * hop_seconds,
            rate_hz=settings.features.rate_hz,
            votes=settings.network.localisation == "vote",
        )
        self.device = torch.device(device)
        self._members = len(model.networks)
        self.engine = choose_engine(model.networks, self.device, precision, WORKERS.count)
        self._extractor = FeatureExtractor(settings.features, self.device)

    def blocks(
        self, recording: str | Path | Samples, *, rate_hz: int | None = None
    ) -> Iterator[ScoreTrack]:
        rate = self._extractor.settings.rate_hz
        if isinstance(recording, str | Path):
            source: Iterable[Samples] = blocks(Path(recording), rate)
        else:
            source = _in_blocks(resample(_checked(recording), rate_hz or rate, rate), rate)
        yield from self._tracks(source)

    def _tracks(self, source: Iterable[Samples]) -> Iterator[ScoreTrack]:
        settings = self.description.settings
        columns = self._members * len(self.class_names)
        stitcher = Stitcher(columns, len(self.class_names))
        tags = _RecordingTags(settings.network.localisation, columns)
        counted = _Counted(source)
        windows = 0
        clips: NDArray[np.float32] | None = None
        batches = self._batches(counted)
        for batch, (frames, weights, clips) in WORKERS.in_order(self._of, batches, AHEAD):
            windows += len(batch.starts)
            done = stitcher.add_all(batch.starts, frames, weights, clips)
            if len(done.frames):
                tags.add(done)
                yield self._track(done)
        done = stitcher.finish()
        tags.add(done)
        assert clips is not None
        of_all = clips[0] if windows == 1 else self._over_members(tags.result())
        end_seconds = counted.samples / settings.features.rate_hz
        yield self._track(done, end_seconds, of_all)

    def _batches(self, counted: "_Counted") -> Generator["_Batch"]:
        """The windows of a recording, as many at once as are ready and equally long."""
        settings = self.description.settings
        pooling = settings.network.total_time_pooling
        plan = WindowPlan(self.description.window_frames, settings.stitching.overlap, pooling)
        features = np.zeros((0, settings.features.mel_bands), np.float32)
        first = 0  # the frame of features[0]
        waiting: list[tuple[int, int]] = []

        def batch(windows: list[tuple[int, int]]) -> _Batch:
            rows = [features[start - first : stop - first] for start, stop in windows]
            return _Batch([start // pooling for start, _ in windows], np.stack(rows))

        for more in self._extractor.stream(counted):
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
            self.description.settings.clock,
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
