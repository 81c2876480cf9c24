"""Features of the labelled clips: computed once, kept in one file, read batch by batch."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from earmark.audio import AudioError, read
from earmark.data.labels import Clip
from earmark.errors import UserError
from earmark.features import FeatureExtractor, Normaliser, NormaliserFit

Samples = NDArray[np.float32]
CLIPS_AT_ONCE = 16
FEATURES = "features.f16"


@dataclass(frozen=True, slots=True, eq=False)
class ClipFeatures:
    """Features of clips in a memory-mapped file, and what was learnt while they were computed.

    Attributes:
        frames: (sum of lengths, F) float16, clip after clip.
        lengths: (N,) frames of each clip.
        normaliser: fitted on all these frames.
        readable: (N,) positions in the given clips that could be read.
        failures: one line for each clip that could not.
        key: what they were computed from, as a digest.
    """

    frames: NDArray[np.float16]
    lengths: NDArray[np.int64]
    normaliser: Normaliser
    readable: NDArray[np.int64]
    failures: tuple[str, ...]
    key: str

    @property
    def starts(self) -> NDArray[np.int64]:
        """(N,) row of ``frames`` at which each clip starts."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]])

    def batch(self, numbers: NDArray[np.int64]) -> tuple[Samples, NDArray[np.int64] | None]:
        """Features (B, T, F) of clips by number, padded with zeros to the longest, and their
        lengths (B,), None if they are equal."""
        starts, lengths = self.starts[numbers], self.lengths[numbers]
        features = np.zeros((len(numbers), lengths.max(), self.frames.shape[1]), np.float32)
        for row, start, length in zip(features, starts, lengths, strict=True):
            row[:length] = self.frames[start : start + length]
        return features, None if (lengths == lengths[0]).all() else lengths


def clip_features(
    clips: Sequence[Clip],
    extractor: FeatureExtractor,
    folder: Path,
    *,
    max_clip_seconds: float,
    after_clip: Callable[[], None] = lambda: None,
) -> ClipFeatures:
    """Features of ``clips``, computed into ``folder`` or found there from an earlier call.

    They are found again only if the files' names, sizes and times, the parts of them that are
    clips, the feature settings and ``max_clip_seconds`` are unchanged. Clips that can't be read
    are left out.

    Raises:
        AudioError: if no clip can be read.
        UserError: if a clip is longer than ``max_clip_seconds``.
    """
    key = _key(clips, extractor, max_clip_seconds)
    if not _is_of(folder, key, extractor.settings.mel_bands):
        _compute(clips, extractor, folder, key, max_clip_seconds, after_clip)
    with np.load(folder / "index.npz", allow_pickle=False) as index:
        lengths = index["lengths"]
        if not len(lengths):
            raise AudioError(f"none of {len(clips)} clips can be read; {index['failures'][0]}")
        shape = (int(lengths.sum()), extractor.settings.mel_bands)
        return ClipFeatures(
            np.memmap(folder / FEATURES, np.float16, "r", shape=shape),
            lengths,
            Normaliser(index["mean"], index["deviation"]),
            index["readable"],
            tuple(index["failures"].tolist()),
            key,
        )


def _key(clips: Sequence[Clip], extractor: FeatureExtractor, max_clip_seconds: float) -> str:
    digest = hashlib.sha256(extractor.settings.model_dump_json().encode())
    digest.update(json.dumps(max_clip_seconds).encode())
    for clip in clips:
        status = clip.path.stat()
        part = [clip.filename, clip.start_seconds, clip.stop_seconds]
        digest.update(json.dumps([*part, status.st_size, status.st_mtime_ns]).encode())
    return digest.hexdigest()


def _is_of(folder: Path, key: str, bands: int) -> bool:
    """Whether the folder holds all features with this key, undamaged as far as sizes tell."""
    try:
        # Opened here: of a damaged archive numpy leaves the file open.
        with open(folder / "index.npz", "rb") as file, np.load(file) as index:
            size = int(index["lengths"].sum()) * bands * np.dtype(np.float16).itemsize
            return bool(index["key"] == key) and (folder / FEATURES).stat().st_size == size
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, BadZipFile):
        return False


def _compute(
    clips: Sequence[Clip],
    extractor: FeatureExtractor,
    folder: Path,
    key: str,
    max_clip_seconds: float,
    after_clip: Callable[[], None],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.npz").unlink(missing_ok=True)
    fit = NormaliserFit(extractor.settings.mel_bands)
    lengths: list[int] = []
    readable: list[int] = []
    failures: list[str] = []
    rate_hz = extractor.settings.rate_hz
    waiting: list[Samples] = []
    with open(folder / FEATURES, "wb") as file:

        def compute() -> None:
            for features in extractor.of_clips(waiting):
                fit.add(features)
                file.write(features.astype(np.float16).tobytes())
                lengths.append(len(features))
            waiting.clear()

        for number, samples in enumerate(_read_ahead(clips, rate_hz, max_clip_seconds)):
            after_clip()
            if isinstance(samples, AudioError):
                failures.append(str(samples))
                continue
            if len(samples) > max_clip_seconds * rate_hz:
                raise UserError(
                    f"a clip may last {max_clip_seconds:g} s, and this one is longer; label parts "
                    "of it (columns onset and offset), or set training.max_clip_seconds",
                    where=clips[number].path,
                )
            waiting.append(samples)
            readable.append(number)
            if len(waiting) == CLIPS_AT_ONCE:
                compute()
        if waiting:
            compute()
    normaliser = fit.result()
    partial = folder / "partial.npz"
    np.savez(
        partial,
        key=key,
        lengths=np.array(lengths, np.int64),
        readable=np.array(readable, np.int64),
        mean=normaliser.mean,
        deviation=normaliser.deviation,
        failures=np.array(failures, dtype=np.str_),
    )
    os.replace(partial, folder / "index.npz")


def _read_ahead(
    clips: Sequence[Clip], rate_hz: int, max_clip_seconds: float
) -> Iterator[Samples | AudioError]:
    """Samples of each clip, or why there are none, decoded by one thread a core."""
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Samples | AudioError]] = deque()
        for clip in clips:
            waiting.append(pool.submit(_read, clip, rate_hz, max_clip_seconds))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(clip: Clip, rate_hz: int, max_clip_seconds: float) -> Samples | AudioError:
    start = clip.start_seconds or 0.0
    # A second more than is allowed shows a clip that is too long, without reading a day of it.
    longest = start + max_clip_seconds + 1.0
    stop = longest if clip.stop_seconds is None else min(clip.stop_seconds, longest)
    try:
        return read(clip.path, rate_hz, start, stop)
    except AudioError as error:
        return error
