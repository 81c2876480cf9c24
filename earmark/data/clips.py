"""Features of the labelled clips: computed once, kept in one file, read batch by batch."""

import hashlib
import io
import json
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from earmark.audio import AudioError, read
from earmark.data.labels import Clip
from earmark.errors import UserError
from earmark.features import VERSION, FeatureExtractor, Normaliser, NormaliserFit
from earmark.writing import replacing, unfinished, writing

Samples = NDArray[np.float32]
FEATURES, INDEX, CONTENTS = "features.f16", "index.npz", "contents.json"
# No file system's clock is coarser: a file that is older than that can't change unnoticed.
_TICK_NS = 2_000_000_000

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
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

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """(N,) row of ``frames`` at which each clip starts."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]])

    @property
    def order(self) -> NDArray[np.int64]:
        """(N,) the clips by number, in the order in which they are read soonest."""
        return np.arange(len(self.lengths))

    def batch(self, numbers: NDArray[np.int64]) -> tuple[Samples, NDArray[np.int64] | None]:
        """Features (B, T, F) of clips by number, padded with zeros to the longest, and their
        lengths (B,), None if they are equal."""
        starts, lengths = self.starts[numbers], self.lengths[numbers]
        features = np.zeros((len(numbers), lengths.max(), self.frames.shape[1]), np.float32)
        for row, start, length in zip(features, starts.tolist(), lengths.tolist(), strict=True):
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

    They are found again only if the files' contents, the parts of them that are clips, the
    feature settings and ``max_clip_seconds`` are unchanged; names and times may change. Clips
    that can't be read are left out. Every core computes, and the result doesn't depend on how
    many there are; another process that asks for the same folder waits.

    Raises:
        AudioError: if no clip can be read.
        UserError: if a clip is longer than ``max_clip_seconds``, or if a file changes meanwhile.
    """
    with ExitStack() as held:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(folder / ".lock"))
        digests = content_digests(clips, folder / CONTENTS)
        key = content_key(clips, digests, extractor, max_clip_seconds)
        if not _is_of(folder, key, extractor.settings.mel_bands):
            _compute(clips, extractor, folder, key, max_clip_seconds, after_clip)
            now = content_digests(clips, folder / CONTENTS)
            if changed := [path for path in digests if now[path] != digests[path]]:
                (folder / INDEX).unlink()
                raise UserError("changed while it was read; start again", where=changed[0])
        return _found(clips, folder, key, extractor.settings.mel_bands)


def _found(clips: Sequence[Clip], folder: Path, key: str, bands: int) -> ClipFeatures:
    with np.load(folder / INDEX, allow_pickle=False) as index:
        lengths, readable = index["lengths"], index["readable"]
        unreadable = np.delete(np.arange(len(clips)), readable)
        failures = tuple(
            str(UserError(reason, where=clips[number].path))
            for number, reason in zip(unreadable.tolist(), index["reasons"].tolist(), strict=True)
        )
        if not len(lengths):
            raise AudioError(f"none of {len(clips)} clips can be read; {failures[0]}")
        return ClipFeatures(
            np.memmap(folder / FEATURES, np.float16, "r", shape=(int(lengths.sum()), bands)),
            lengths,
            Normaliser(index["mean"], index["deviation"]),
            readable,
            failures,
            key,
        )


def content_key(
    clips: Sequence[Clip],
    digests: dict[Path, str],
    extractor: FeatureExtractor,
    max_clip_seconds: float,
) -> str:
    """A digest of all that the features of ``clips`` depend on, the content of files first."""
    digest = hashlib.sha256(extractor.settings.model_dump_json().encode())
    digest.update(json.dumps([VERSION, max_clip_seconds]).encode())
    for clip in clips:
        part = [digests[clip.path], clip.start_seconds, clip.stop_seconds]
        digest.update(json.dumps(part).encode())
    return digest.hexdigest()


def content_digests(
    clips: Sequence[Clip], record: Path | None = None, threads: int | None = None
) -> dict[Path, str]:
    """A digest of the content of each file, which ``record`` keeps for the next time.

    A file's size, times and inode stand for its content where all of them are as they were: who
    writes into a file and restores its time changes the time of that change.
    """
    started_ns = time.time_ns()
    known = {} if record is None else _recorded(record)
    states = {path: _state(path) for path in dict.fromkeys(clip.path for clip in clips)}
    digests = {}
    for path, state in states.items():
        found = known.get(str(path))
        if found and found[1:] == state:
            digests[path] = str(found[0])
    unknown = [path for path in states if path not in digests]
    digests |= zip(unknown, _each(_digest, unknown, threads), strict=True)
    settled = {
        str(path): [digests[path], *state]
        for path, state in states.items()
        if state and max(state[1:3]) < started_ns - _TICK_NS
    }
    if record is not None and settled != known:
        _replace(record, json.dumps(settled).encode())
    return digests


def _recorded(record: Path) -> dict[str, list[str | int]]:
    if os.name == "nt":  # tells when a file was made, not when it was changed
        return {}
    try:
        known = json.loads(record.read_bytes())
        return {path: list(found) for path, found in known.items() if found}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _state(path: Path) -> list[int]:
    """Size, times of the last writing and the last change, and inode; of no file nothing."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _digest(path: Path) -> str:
    if not path.is_file():  # reading it as audio will say so
        return "no file"
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, _blake2b).hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


_blake2b = partial(hashlib.blake2b, digest_size=16)


def _is_of(folder: Path, key: str, bands: int) -> bool:
    """Whether the folder holds all features with this key, undamaged as far as sizes tell."""
    try:
        # Opened here: of a damaged archive numpy leaves the file open.
        with open(folder / INDEX, "rb") as file, np.load(file) as index:
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
    (folder / INDEX).unlink(missing_ok=True)
    fit = NormaliserFit(extractor.settings.mel_bands)
    lengths: list[int] = []
    readable: list[int] = []
    reasons: list[str] = []
    # Others may still read the file that was there: it is replaced, never written to.
    features_file = folder / FEATURES
    with (
        replacing(features_file, beside=unfinished(features_file), lasting=True) as part,
        open(part, "wb") as file,
        closing(features_of_each(clips, extractor, max_clip_seconds)) as computed,
    ):
        for number, features in enumerate(computed):
            after_clip()
            if isinstance(features, str):
                reasons.append(features)
                continue
            fit.add(features)
            file.write(features.astype(np.float16).tobytes())
            lengths.append(len(features))
            readable.append(number)
    normaliser = fit.result()
    index = io.BytesIO()
    np.savez(
        index,
        key=key,
        lengths=np.array(lengths, np.int64),
        readable=np.array(readable, np.int64),
        mean=normaliser.mean,
        deviation=normaliser.deviation,
        reasons=np.array(reasons, dtype=np.str_),
    )
    _replace(folder / INDEX, index.getvalue())


def features_of_each(
    clips: Iterable[Clip],
    extractor: FeatureExtractor,
    max_clip_seconds: float,
    threads: int | None = None,
) -> Generator[Samples | str]:
    """Features (T, F) of each clip in order, or why there are none.

    Every core computes, or as many as ``threads`` says.

    Raises:
        UserError: if a clip is longer than ``max_clip_seconds``.
    """
    work = partial(_of_clip, extractor=extractor, max_clip_seconds=max_clip_seconds)
    with _one_thread_each(), closing(_each(work, clips, threads)) as computed:
        yield from computed


def _of_clip(clip: Clip, extractor: FeatureExtractor, max_clip_seconds: float) -> Samples | str:
    """Features (T, F) of a clip, or why there are none."""
    rate_hz = extractor.settings.rate_hz
    start = clip.start_seconds or 0.0
    # A second more than is allowed shows a clip that is too long, without reading a day of it.
    longest = start + max_clip_seconds + 1.0
    stop = longest if clip.stop_seconds is None else min(clip.stop_seconds, longest)
    try:
        samples = read(clip.path, rate_hz, start, stop)
    except AudioError as error:
        return str(error).removeprefix(str(UserError("", where=clip.path)))
    if len(samples) > max_clip_seconds * rate_hz:
        raise UserError(
            f"a clip may last {max_clip_seconds:g} s, and this one is longer; label parts "
            "of it (columns onset and offset), or set training.max_clip_seconds",
            where=clip.path,
        )
    return extractor.of_clips([samples])[0]


def _each(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Generator[Result]:
    """``work(item)`` of each item in order, by one thread a core, a few of them ahead.

    Whoever stops early waits for those in work alone.
    """
    threads = threads or os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)
    try:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 4 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keeps torch from dividing among the cores what a thread of each core computes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _replace(file: Path, content: bytes) -> None:
    with replacing(file, beside=unfinished(file)) as part:
        part.write_bytes(content)
