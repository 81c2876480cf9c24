"""One system at work: windows of a recording -> its networks -> one score track."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from earmark.audio import blocks, resample
from earmark.errors import UserError
from earmark.features import FeatureExtractor
from earmark.inference.recogniser import Recogniser, Samples
from earmark.inference.stitching import Stitched, Stitcher, WindowPlan
from earmark.model.bundle import Bundle
from earmark.scores import ScoreTrack

WINDOWS_AT_ONCE = 8
BLOCK_SECONDS = 30


class SystemRecogniser(Recogniser):
    """The recogniser of one system: the mean of the networks of its epochs (paper, sec. 2.4)."""

    def __init__(self, model: Bundle, device: str | torch.device = "cpu") -> None:
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
        self._networks = [network.to(self.device) for network in model.networks]
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
        pooling = settings.network.total_time_pooling
        plan = WindowPlan(self.description.window_frames, settings.stitching.overlap, pooling)
        columns = len(self._networks) * len(self.class_names)
        stitcher = Stitcher(columns, len(self.class_names))
        tags = _RecordingTags(settings.network.localisation, columns)
        counted = _Counted(source)
        features = np.zeros((0, settings.features.mel_bands), np.float32)
        first = 0  # the frame of features[0]
        clip_of_only_window: Samples | None = None
        waiting: list[tuple[int, int]] = []
        for more in self._extractor.stream(counted):
            features = np.concatenate([features, more])
            waiting += plan.ready(first + len(features))
            while len(waiting) >= WINDOWS_AT_ONCE:
                now, waiting = waiting[:WINDOWS_AT_ONCE], waiting[WINDOWS_AT_ONCE:]
                for done, _ in self._add(stitcher, now, features, first):
                    if len(done.frames):
                        tags.add(done)
                        yield self._track(done)
            keep = waiting[0][0] if waiting else plan.needed_from
            features, first = features[keep - first :], keep
        if not counted.samples:
            raise UserError("a recording needs at least one sample, came with none")
        waiting += plan.finish(first + len(features))
        for done, clip in self._add(stitcher, waiting, features, first):
            clip_of_only_window = clip
            if len(done.frames):
                tags.add(done)
                yield self._track(done)
        only = waiting == [(0, first + len(features))]
        done = stitcher.finish()
        tags.add(done)
        classes = clip_of_only_window if only else self._over_members(tags.result())
        end_seconds = counted.samples / settings.features.rate_hz
        yield self._track(done, end_seconds, classes)

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
        shape = (*columns.shape[:-1], len(self._networks), len(self.class_names))
        mean: NDArray[np.float32] = columns.reshape(shape).mean(axis=-2).astype(np.float32)
        return mean

    def _add(
        self,
        stitcher: Stitcher,
        windows: list[tuple[int, int]],
        features: NDArray[np.float32],
        first: int,
    ) -> Iterator[tuple[Stitched, NDArray[np.float32]]]:
        """Runs the networks over windows; gives what became final, and each window's clip."""
        pooling = self.description.settings.network.total_time_pooling
        groups: dict[int, list[int]] = {}
        for start, stop in windows:
            groups.setdefault(stop - start, []).append(start)
        for length, starts in groups.items():
            batch = np.stack([features[s - first : s - first + length] for s in starts])
            frames, weights, clips = self._run(torch.from_numpy(batch).to(self.device))
            for row, start in enumerate(starts):
                done = stitcher.add(start // pooling, frames[row], weights[row], clips[row])
                yield done, clips[row]

    @torch.inference_mode()
    def _run(
        self, features: torch.Tensor
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]]:
        """Frames and weights (B, T, members x K) and clips (B, K) of windows (B, T, F)."""
        outputs = [network(features) for network in self._networks]
        frames = torch.cat([output.frame_probabilities for output in outputs], dim=2)
        # Weights of attention over time have no bound: beyond float32's exp, not float64's.
        weights = torch.cat([output.log_weights.cpu().double().exp() for output in outputs], dim=2)
        clips = torch.stack([output.clip_probabilities for output in outputs]).mean(dim=0)
        return frames.cpu().numpy(), weights.numpy(), clips.cpu().numpy()


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
