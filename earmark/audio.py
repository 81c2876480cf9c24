"""Audio files in and out: mono float32 at the rate asked for, whole, in part or in blocks."""

import io
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from earmark.errors import UserError
from earmark.folders import files_below
from earmark.writing import replacing

logger = logging.getLogger("earmark")

AUDIO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("aac", "aif", "aifc", "aiff", "au", "caf", "flac", "m4a", "mka", "mp3", "oga", "ogg"),
        *("opus", "rf64", "w64", "wav", "wave", "webm", "wma"),
    )
)

HIGHEST_RATE_HZ = 10_000_000
_BLOCK_VALUES = 1 << 20
# Samples of the lower rate beyond which soxr's HQ filter no longer reaches.
_FILTER_REACH = 1000
# A lossy decoder needs this long after a seek until it gives what it gives without one.
_SEEK_LEAD_SECONDS = 0.5
# libsndfile misplaces a seek into an Ogg's last page by up to a block; a page holds no more.
_OGG_PAGE_FRAMES = 255 * 4096
# Containers may round time stamps to a millisecond; a lost packet leaves a longer hole. FFmpeg's
# time stamps in an Ogg's first page may be wrong by a block.
_HOLE_SECONDS, _OGG_HOLE_SECONDS = 0.01, 0.1
# Larger than any sample format's full scale: not audio, and its square must stay finite.
_LARGEST_SAMPLE = 2.0**31
# FFmpeg also knows playlists, which open further files; a recording never does.
_DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,mpegts,ogg,rf64,tta,w64,"
    "wav,wv,webm"
)


class AudioError(UserError):
    """A file from which no audio could be read, whatever the library said."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file holds, as its header states it."""

    rate_hz: int
    channels: int
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class _Format:
    """``frames`` is None where libsndfile can't be trusted with the file, and FFmpeg reads it."""

    rate_hz: int
    channels: int
    frames: int | None


def read(
    path: Path, rate_hz: int, start_seconds: float = 0.0, stop_seconds: float | None = None
) -> NDArray[np.float32]:
    """Samples of a file or of a part of it, mono (mean of the channels), resampled.

    A part equals the same samples of the whole, and is read without the rest of the file. A stop
    past the end gives what there is. Damaged stretches are left out, or silent where the file
    says how long they were, so that what follows keeps its time; samples that are not finite
    become 0. Both are told to the logger ``earmark``.

    Returns:
        (S,); for a whole file of n samples S = round(n * rate_hz / its rate).

    Raises:
        AudioError: nothing can be read, or the part starts past the end.
    """
    if start_seconds < 0 or (stop_seconds is not None and stop_seconds < start_seconds):
        raise ValueError(f"need 0 <= start <= stop, got {start_seconds} and {stop_seconds}")
    _check_rate(rate_hz)
    with _reading(path):
        source = _format(path)
        start = round(start_seconds * rate_hz)
        stop = None if stop_seconds is None else round(stop_seconds * rate_hz)
        margin = math.ceil(_FILTER_REACH * max(1, source.rate_hz / rate_hz))
        # Only where the two rates' grids meet does a part's grid lie on that of the whole.
        common = math.gcd(source.rate_hz, rate_hz)
        period, period_out = source.rate_hz // common, rate_hz // common
        skipped = max(0, start * source.rate_hz // rate_hz - margin) // period
        first = skipped * period
        count = None if stop is None else -(-stop * source.rate_hz // rate_hz) + margin - first
        chunks = list(_resampled(path, source, rate_hz, first, count))
        samples = np.concatenate(chunks or [np.zeros(0, np.float32)])
        cut = skipped * period_out
        part = samples[start - cut : None if stop is None else stop - cut]
        if not part.size and stop != start:
            raise _nothing(path, rate_hz, start_seconds)
        return part


def blocks(path: Path, rate_hz: int, block_seconds: float = 30.0) -> Iterator[NDArray[np.float32]]:
    """The samples of ``read``, in consecutive blocks; memory doesn't grow with the length.

    Yields:
        (S,) with S = round(block_seconds * rate_hz), the last one shorter.

    Raises:
        AudioError: nothing can be read. A file that breaks later ends there, with a warning.
    """
    _check_rate(rate_hz)
    size = max(1, round(block_seconds * rate_hz))
    held: list[NDArray[np.float32]] = []
    count = 0
    empty = True
    with _reading(path):
        for chunk in _resampled(path, _format(path), rate_hz):
            held.append(chunk)
            count += chunk.size
            if count < size:
                continue
            joined = np.concatenate(held)
            for _ in range(count // size):
                yield joined[:size]
                joined = joined[size:]
            held, count, empty = [joined], joined.size, False
        if count:
            yield np.concatenate(held)
        elif empty:
            raise _nothing(path, rate_hz)


def channel_blocks(path: Path) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """A file as it is: its own rate, and blocks of each channel, whatever the samples are.

    Yields:
        The rate in Hz, always the same, and (n, C).

    Raises:
        AudioError: nothing can be read. A file that breaks later ends there, with a warning.
    """
    empty = True
    with _reading(path):
        source = _format(path)
        for block in _frames(path, source, source.rate_hz, 0, None):
            empty = False
            yield source.rate_hz, block
        if empty:
            raise _nothing(path, source.rate_hz)


def resample(
    samples: NDArray[np.float32], from_rate_hz: int, to_rate_hz: int
) -> NDArray[np.float32]:
    """Samples (S,) or (S, C) in memory as mono (S',) at another rate, as ``read`` does a file's."""
    _check_rate(from_rate_hz)
    _check_rate(to_rate_hz)
    mono = samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)
    if from_rate_hz == to_rate_hz or not mono.size:
        return mono
    return np.asarray(soxr.resample(mono, from_rate_hz, to_rate_hz, quality="HQ"), np.float32)


def probe(path: Path) -> AudioInfo:
    """Rate, channels and length of a file without decoding it.

    The length is exact where libsndfile reads the file (WAV, FLAC, Ogg, ...), and to some
    hundredths of a second elsewhere. An MP3 or bare AAC is walked through, as its header may lie.

    Raises:
        AudioError: it isn't audio, or it is empty.
    """
    with _reading(path):
        found = _format(path)
        if found.frames is not None:
            seconds = found.frames / found.rate_hz
        else:
            seconds = _ffmpeg_seconds(path, found.rate_hz)
        if not seconds:
            raise _nothing(path, found.rate_hz)
        return AudioInfo(found.rate_hz, found.channels, seconds)


def duration_seconds(path: Path) -> float:
    """How long a recording lasts; see ``probe``."""
    return probe(path).duration_seconds


def write(path: Path, samples: NDArray[np.floating[Any]], rate_hz: int) -> None:
    """Mono samples in [-1, 1) as a 16-bit FLAC or WAV file, by its suffix; whole or not at all.

    What lies beyond full scale is clipped. Multiples of 1/32768 come back exactly.
    """
    kind = {".flac": "FLAC", ".wav": "WAV"}.get(path.suffix.lower())
    if kind is None:
        raise UserError("audio is written as .flac or .wav: choose one", where=path)
    steps = np.clip(np.rint(np.asarray(samples, np.float64) * 32768), -32768, 32767)
    # Encoded in memory: of a full disk libsndfile tells no more than that it has failed.
    content = io.BytesIO()
    try:
        soundfile.write(content, steps.astype(np.int16), rate_hz, subtype="PCM_16", format=kind)
    except soundfile.SoundFileError as error:
        raise UserError(f"can't be written: {error}", where=path) from error
    with replacing(path) as part:
        part.write_bytes(content.getbuffer())


def _listed(folder: Path) -> list[tuple[str, Path]]:
    below = sorted(name for name in files_below(folder) if _suffix(name) in AUDIO_SUFFIXES)
    return [(name, folder / name) for name in below]


def find_recordings(
    paths: Sequence[Path], listed: Callable[[Path], list[tuple[str, Path]]] = _listed
) -> list[tuple[str, Path]]:
    """Every recording in files and folders, with the name that our tables give it.

    A file given by itself is named by its base name, whatever its suffix; one found in a folder
    by its path relative to that folder, with ``/``. Folders are searched to the bottom in sorted
    order; hidden entries and links back to a folder above are passed over. A file that is given
    again, by itself or in another folder, is taken once.

    Args:
        paths: files and folders.
        listed: what is found in a folder, where it isn't all of that.

    Raises:
        UserError: a path doesn't exist, a folder holds no audio or can't be searched, or two
            files have one name.
    """
    found: dict[str, Path] = {}
    taken: set[str] = set()
    for given in paths:
        if given.is_dir():
            named = listed(given)
            if not named:
                known = " ".join(sorted(AUDIO_SUFFIXES))
                raise UserError(f"the folder holds no audio ({known})", where=given)
        elif given.exists():
            named = [(given.name, given)]
        else:
            raise UserError("there is no such file or folder", where=given)
        for name, path in named:
            # Links to one file are recordings of their own.
            if (absolute := os.path.abspath(path)) in taken:
                continue
            taken.add(absolute)
            if name in found:
                raise UserError(
                    f"two recordings would be called '{name}': {found[name]} and {path}; "
                    "give the folder above them"
                )
            found[name] = path
    return list(found.items())


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """The one place where the libraries' many errors become ours."""
    try:
        if not path.exists():
            raise AudioError("there is no such file", where=path)
        if not path.is_file():
            raise AudioError("is no file, so it can't be read as audio", where=path)
        if path.stat().st_size == 0:
            raise AudioError("is empty: 0 bytes", where=path)
        yield
    except (AudioError, MemoryError):
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"can't be read as audio: {reason}", where=path) from error


def _check_rate(rate_hz: int) -> None:
    if not 1 <= rate_hz <= HIGHEST_RATE_HZ:
        raise ValueError(f"rate_hz must lie between 1 and {HIGHEST_RATE_HZ}, got {rate_hz}")


def _nothing(path: Path, rate_hz: int, start_seconds: float = 0.0) -> AudioError:
    if start_seconds:
        return AudioError(f"ends before the start asked for, {start_seconds} s", where=path)
    return AudioError(f"is empty: not one sample at {rate_hz} Hz", where=path)


def _format(path: Path) -> _Format:
    """Asks libsndfile, then FFmpeg."""
    found = None
    # libsndfile counts the frames of many an MP3 wrongly, and loses the rest without an error;
    # of a damaged one its decoder complains on stderr, so that it isn't even asked.
    if path.suffix.lower() != ".mp3":
        try:
            with soundfile.SoundFile(os.fsencode(path)) as file:
                if file.frames > 0 and not file.format.startswith("MP"):
                    found = _Format(file.samplerate, file.channels, file.frames)
                    _warn_if_cut(path, file.extra_info)
        except (soundfile.SoundFileError, TypeError):
            pass
    if found is None:
        with _container(path) as (_, stream):
            found = _Format(stream.rate or 0, stream.channels or 0, None)
    if not 1 <= found.rate_hz <= HIGHEST_RATE_HZ:
        raise AudioError(
            f"its sampling rate must lie between 1 and {HIGHEST_RATE_HZ} Hz, is {found.rate_hz}",
            where=path,
        )
    if found.channels < 1:
        raise AudioError("has no channel", where=path)
    return found


def _warn_if_cut(path: Path, header_log: str) -> None:
    """A WAV that ends before its header says so is read without an error by libsndfile."""
    said = re.search(r"^data : (\d+) \(should be (\d+)\)", header_log, re.MULTILINE)
    # Recorders and pipes write about 2**32 where they don't know the length.
    if said and int(said[2]) < int(said[1]) < 0xFFFF0000:
        logger.warning("%s: is cut: holds %s bytes of its %s of audio", path, said[2], said[1])


def _resampled(
    path: Path, source: _Format, rate_hz: int, first: int = 0, count: int | None = None
) -> Iterator[NDArray[np.float32]]:
    """(S,) chunks of ``count`` frames (to the end if None) from frame ``first`` on."""
    mono = _mono(path, _frames(path, source, rate_hz, first, count), source.rate_hz, first, count)
    if source.rate_hz == rate_hz:
        yield from mono
        return
    stream = soxr.ResampleStream(source.rate_hz, rate_hz, 1, dtype="float32", quality="HQ")
    for chunk in mono:
        yield stream.resample_chunk(chunk)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _mono(
    path: Path, frames: Iterator[NDArray[np.float32]], rate_hz: int, at: int, count: int | None
) -> Iterator[NDArray[np.float32]]:
    """(n,) means of (n, C) blocks, finite, ``count`` of them in all."""
    told = False
    left = math.inf if count is None else count
    for block in frames:
        if left <= 0:
            return
        if block.shape[0] > left:
            block = block[: int(left)]
        # NaN compares false, so that this is one pass over sound samples.
        if block.size and not np.abs(block).max() <= _LARGEST_SAMPLE:
            if not told:
                message = "%s: samples near %.3f s are not finite; such are read as 0"
                logger.warning(message, path, at / rate_hz)
                told = True
            block = np.where(np.abs(block) <= _LARGEST_SAMPLE, block, np.float32(0))
        at += block.shape[0]
        left -= block.shape[0]
        yield np.ascontiguousarray(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))


def _frames(
    path: Path, source: _Format, rate_hz: int, first: int, count: int | None
) -> Iterator[NDArray[np.float32]]:
    """(n, C) blocks from frame ``first`` on; FFmpeg takes over where libsndfile fails."""
    if source.frames is None:
        yield from _ffmpeg_frames(path, source.rate_hz, first)
        return
    if first >= source.frames:
        return
    at = first
    size = min(_BLOCK_VALUES // source.channels, _BLOCK_VALUES * source.rate_hz // rate_hz)
    size = max(1, size if count is None else min(size, count))
    trouble = "ends early"
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            landing = first
            if file.format == "OGG":
                landing = max(0, min(first, file.frames - _OGG_PAGE_FRAMES))
            file.seek(landing)
            for passed in range(landing, first, size):
                file.read(min(size, first - passed), dtype="float32")
            while (block := file.read(size, dtype="float32", always_2d=True)).size:
                at += block.shape[0]
                yield block
    except soundfile.SoundFileError as error:
        trouble = str(error)
    if at >= source.frames:
        return
    logger.warning(
        "%s: damaged at %.3f s of %.3f s (%s); what can be decoded behind it is read",
        path,
        at / source.rate_hz,
        source.frames / source.rate_hz,
        trouble,
    )
    try:
        yield from _ffmpeg_frames(path, source.rate_hz, at)
    except av.FFmpegError:
        if at == 0:
            raise


@contextmanager
def _container(path: Path) -> Iterator[tuple[Any, Any]]:
    """FFmpeg's container and its first audio stream."""
    # Without "file:" a name such as "concat:a|b" would be taken for an address.
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}
    with av.open(f"file:{path}", options=options, metadata_errors="ignore") as container:
        if not container.streams.audio:
            raise AudioError("holds no audio stream", where=path)
        yield container, container.streams.audio[0]


def _decoded(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """FFmpeg's frames, without the packets that can't be decoded."""
    packets = container.demux(stream)
    told = False
    at = 0.0
    while True:
        frames: Sequence[Any] = ()
        packet = None
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        except av.FFmpegError as error:
            if not told:
                message = "%s: damaged behind %.3f s (%s); what can be decoded is read"
                logger.warning(message, path, at, error.strerror)
                told = True
            if packet is None:
                return
        for frame in frames:
            at = frame.time or at
            yield frame


def _ffmpeg_frames(
    path: Path, rate_hz: int, first: int, seek: bool = True
) -> Iterator[NDArray[np.float32]]:
    """(n, C) blocks from frame ``first`` on, placed by their time stamps; holes are zeros."""
    with _container(path) as (container, stream):
        frames = _decoded(path, container, stream)
        head = next(frames, None)
        if head is None:
            return
        tick = stream.time_base
        begin = stream.start_time or 0
        hole_seconds = _OGG_HOLE_SECONDS if container.format.name == "ogg" else _HOLE_SECONDS
        if head.pts is not None and abs(head.pts - begin) * tick < hole_seconds:
            begin = head.pts  # priming samples: the stream's start may lie inside of them

        lead = math.ceil(_SEEK_LEAD_SECONDS * rate_hz)
        landing = 0
        # A coarser tick than a sample couldn't say where exactly a seek has landed.
        seek = seek and first > lead and tick * rate_hz <= 1
        if seek:
            try:
                container.seek(begin + int((first - lead) / (tick * rate_hz)), stream=stream)
                frames = _decoded(path, container, stream)
                head = next(frames, None)
            except av.FFmpegError:
                head = None
            landing = -1
            if head is not None and head.pts is not None:
                landing = round((head.pts - begin) * tick * rate_hz)
        if not 0 <= landing <= first:
            yield from _ffmpeg_frames(path, rate_hz, first, seek=False)
            return

        at = landing
        length = stream.duration * tick if stream.duration else (container.duration or 0) / 1e6
        for frame in chain([head], frames):
            if frame.sample_rate != rate_hz:
                continue  # a damaged header; its time is left as a hole
            place = at
            if frame.pts is not None:
                place = round((frame.pts - begin) * tick * rate_hz)
            if hole_seconds * rate_hz < place - at and place <= length * rate_hz:
                for hole in range(max(at, first), place, _BLOCK_VALUES):
                    yield np.zeros((min(place - hole, _BLOCK_VALUES), 1), np.float32)
                at = place
            samples = _float_samples(frame)
            at += samples.shape[0]
            if at > first:
                yield samples[max(0, first - (at - samples.shape[0])) :]


def _float_samples(frame: Any) -> NDArray[np.float32]:
    """(n, C) samples of one of FFmpeg's frames; integers scaled to [-1, 1)."""
    raw = frame.to_ndarray()
    samples = raw.T if frame.format.is_planar else raw.reshape(frame.samples, -1)
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(samples, np.float32)
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    offset = half if samples.dtype.kind == "u" else 0.0
    return np.asarray((samples - offset) / half, np.float32)


def _ffmpeg_seconds(path: Path, rate_hz: int) -> float:
    with _container(path) as (container, stream):
        stated = float(stream.duration * stream.time_base) if stream.duration else 0.0
        stated = stated or (container.duration or 0) / 1e6
        if stated and container.format.name not in ("mp3", "aac"):
            return stated
        walked = sum(packet.duration or 0 for packet in container.demux(stream))
        seconds = float(walked * stream.time_base)
        # The header knows the padding, the packets know whether the header is right.
        return stated if abs(stated - seconds) < 0.1 else seconds
