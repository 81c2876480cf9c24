"""What a recording looks like: its spectrogram and the peaks of its wave, of any part at once.

A short part is computed from the recording; a long one from columns of 0.1 s that are made once,
in a thread, and kept in files of uint8 and int16: 24 hours take 90 MB.
"""

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from earmark.audio import blocks, read
from earmark.config import FeatureSettings
from earmark.errors import UserError
from earmark.features import FeatureExtractor
from earmark.timeline import FrameClock
from earmark.web.jobs import Cancelled
from earmark.web.library import Recording
from earmark.web.png import png
from earmark.writing import writing

VERSION = 1
BANDS = 96
LIVE_SECONDS = 120.0
"""A part up to so long is computed from the recording itself."""

WAIT_SECONDS = 3.0
"""How long an answer waits for the columns of a part that is not made yet."""

_WINDOW_SECONDS, _HOP_SECONDS, _SHORTEST_HOP_SECONDS = 0.064, 0.02, 0.002
_FRAMES_A_COLUMN = 5
_COARSER = 32
# Values are steps of half a decibel from here on; a tone at full scale is near 0.
_LOWEST_DB, _STEPS_A_DB = -110.0, 2.0
_DB = 20 / np.log(10)
_AT_ONCE = threading.Semaphore(2)

Levels = tuple[int, int]


class NotMade(Exception):
    """What is asked for isn't made yet, but will be."""


class Picture(NamedTuple):
    """A PNG, and whether it stays as it is."""

    png: bytes
    lasting: bool


class _Making:
    """The columns of one recording while they are made, and afterwards."""

    def __init__(self, of: list[int]) -> None:
        self.of = of
        self.cancelled = threading.Event()
        self.future: Future[None] | None = None
        self.histogram = np.zeros(256, np.int64)


class Overviews:
    """The looks of recordings.

    Args:
        rate_hz: what lies above half of it is not shown.
        longest_seconds: of an upload, whatever its header says.
    """

    def __init__(self, rate_hz: int, longest_seconds: float) -> None:
        self._settings = _settings(rate_hz, _HOP_SECONDS)
        self._extractor = FeatureExtractor(self._settings)
        self._longest_seconds = longest_seconds
        self._pool = ThreadPoolExecutor(1, "overview")
        self._makings: dict[str, _Making] = {}
        self._lock = threading.Lock()

    @property
    def high_hz(self) -> float:
        """The highest frequency that is shown."""
        return self._settings.high_hz

    @property
    def clock(self) -> FrameClock:
        """When the columns sound."""
        return self._settings.clock.coarser(_FRAMES_A_COLUMN)

    def spectrogram(
        self, recording: Recording, start: float, end: float, size: tuple[int, int]
    ) -> Picture:
        """A PNG of the spectrogram between two times, low frequencies below.

        What lies beyond the recording is black. All parts of a recording have the same shades,
        once it was read to its end.

        Args:
            recording: what is shown.
            start: in seconds, and so ``end``.
            end: after the start.
            size: (width, height) in pixels.

        Raises:
            UserError: the recording can't be read, or starts past its end.
            NotMade: that part is not made yet.
        """
        making = self._made(recording)
        lasting = _finished(making)
        width = size[0]
        if end - start <= LIVE_SECONDS:
            hop = float(np.clip((end - start) / width, _SHORTEST_HOP_SECONDS, _HOP_SECONDS))
            settings = _settings(self._settings.rate_hz, hop)
            with _AT_ONCE:
                columns: NDArray[np.uint8 | np.int16] = self._live(recording, settings, start, end)
            # What was read begins before what is asked for.
            first = round(max(0.0, start - _WINDOW_SECONDS) * settings.rate_hz) / settings.rate_hz
            clock = settings.clock
            first += float(clock.lead_seconds)
        else:
            coarse = (end - start) / width > 2 * _COARSER * float(self.clock.hop_seconds)
            clock = self.clock.coarser(_COARSER if coarse else 1)
            table = self._table(recording, "coarse" if coarse else "bands", BANDS, np.uint8)
            first, step = float(clock.lead_seconds), float(clock.hop_seconds)
            if not _finished(making) and first + len(table) * step < end:
                raise NotMade
            begin = max(0, int((start - first) / step) - 1)
            columns = table[begin : int((end - first) / step) + 2]
            first += begin * step
        levels = _levels(making.histogram)
        step = float(clock.hop_seconds)
        return Picture(_drawn(columns, first, step, start, end, size, levels), lasting)

    def peaks(self, recording: Recording, start: float, end: float, points: int) -> list[float]:
        """The smallest and the largest sample of each of ``points`` equal parts, in turn.

        Beyond the recording both are 0.

        Raises:
            UserError: the recording can't be read, or starts past its end.
            NotMade: that part is not made yet.
        """
        rate = self._settings.rate_hz
        if end - start <= LIVE_SECONDS:
            with _AT_ONCE:
                samples = self._samples(recording, start, end)
            low, high, count = samples, samples, round((end - start) * rate)
        else:
            making = self._made(recording)
            table = self._table(recording, "peaks", 2, np.int16)
            step = _FRAMES_A_COLUMN * self._settings.hop_samples / rate
            begin, stop = int(start / step), int(np.ceil(end / step))
            if not _finished(making) and len(table) < stop:
                raise NotMade
            part = np.asarray(table[begin:stop], np.float32) / np.float32(32768)
            low, high, count = part[:, 0], part[:, 1], stop - begin
        if not len(low):
            return [0.0] * (2 * points)
        starts = np.arange(points) * max(count, 1) // points
        known = starts < len(low)
        values = np.zeros((points, 2))
        values[known, 0] = np.minimum.reduceat(low, starts[known])
        values[known, 1] = np.maximum.reduceat(high, starts[known])
        rounded: list[float] = np.round(values.clip(-1, 1), 4).ravel().tolist()
        return rounded

    def forget(self, recording: Recording) -> None:
        """Ends what is made for a recording."""
        with self._lock:
            making = self._makings.pop(recording.id, None)
        if making is not None:
            _end(making)

    def close(self) -> None:
        """Ends all that is made."""
        with self._lock:
            for making in self._makings.values():
                making.cancelled.set()
        self._pool.shutdown(cancel_futures=True)

    def _made(self, recording: Recording) -> _Making:
        """The columns of a recording, if need be as far as they are made in a few seconds."""
        of = self._for(recording)
        with self._lock:
            making = self._makings.get(recording.id)
            # Of a file that goes on growing, what was begun is ended first.
            if making is None or (making.of != of and _finished(making)):
                making = self._makings[recording.id] = _Making(of)
                if not self._read_kept(recording, making):
                    making.future = self._pool.submit(self._make, recording, making)
        if making.future is not None:
            try:
                making.future.result(WAIT_SECONDS)
            except NotYet:
                pass
            except Exception:
                with self._lock:  # the next one tries again
                    self._makings.pop(recording.id, None)
                raise
        return making

    def _read_kept(self, recording: Recording, making: _Making) -> bool:
        try:
            kept = json.loads((_folder(recording) / "overview.json").read_text(encoding="utf-8"))
            if kept["for"] != making.of:
                return False
            making.histogram = np.array(kept["histogram"], np.int64)
            return True
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _for(self, recording: Recording) -> list[int]:
        """What the columns depend on."""
        return [VERSION, self._settings.rate_hz, *recording.state()]

    def _make(self, recording: Recording, making: _Making) -> None:
        folder = _folder(recording)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            key = self._for(recording)
            with writing(folder):
                folder.mkdir(mode=0o700, parents=True)
            self._write_columns(recording, making, folder)
            text = json.dumps({"for": key, "histogram": making.histogram.tolist()})
            with writing(folder):
                (folder / "overview.json").write_text(text, encoding="utf-8")
        except UserError as error:
            raise recording.said(error) from error

    def _write_columns(self, recording: Recording, making: _Making, folder: Path) -> None:
        size = _FRAMES_A_COLUMN * self._settings.hop_samples
        longest = self._longest_seconds + 60 if recording.uploaded else np.inf
        samples = np.zeros(0, np.float32)
        frames = np.zeros((0, BANDS), np.uint8)
        columns = np.zeros((0, BANDS), np.uint8)
        with (
            open(folder / "bands", "wb", 0) as bands_file,
            open(folder / "coarse", "wb", 0) as coarse_file,
            open(folder / "peaks", "wb", 0) as peaks_file,
        ):

            def peaks(part: NDArray[np.float32]) -> None:
                starts = np.arange(0, len(part), size)
                both = [np.minimum.reduceat(part, starts), np.maximum.reduceat(part, starts)]
                whole = np.clip(np.rint(np.stack(both, axis=1) * 32768), -32768, 32767)
                with writing(folder):
                    peaks_file.write(whole.astype(np.int16).tobytes())

            def passed() -> Iterator[NDArray[np.float32]]:
                nonlocal samples
                total = 0
                for block in blocks(recording.file(), self._settings.rate_hz):
                    if making.cancelled.is_set():
                        raise Cancelled
                    total += len(block)
                    if total > longest * self._settings.rate_hz:
                        raise UserError("lasts longer than is allowed", where=recording.name)
                    samples = np.concatenate([samples, block])
                    whole = len(samples) // size * size
                    if whole:
                        peaks(samples[:whole])
                        samples = samples[whole:]
                    yield block

            def bands(*, last: bool) -> None:
                nonlocal frames, columns
                fine, frames = _grouped(frames, _FRAMES_A_COLUMN, last=last)
                making.histogram += np.bincount(fine.ravel(), minlength=256)
                coarse, columns = _grouped(np.concatenate([columns, fine]), _COARSER, last=last)
                with writing(folder):
                    bands_file.write(fine.tobytes())
                    coarse_file.write(coarse.tobytes())

            for features in self._extractor.stream(passed()):
                frames = np.concatenate([frames, _as_steps(features)])
                bands(last=False)
            bands(last=True)
            if len(samples):
                peaks(samples)

    def _table(
        self, recording: Recording, name: str, width: int, kind: type[np.uint8] | type[np.int16]
    ) -> NDArray[np.uint8 | np.int16]:
        """(T, width) what is in a file by now."""
        path = _folder(recording) / name
        rows = path.stat().st_size // (width * np.dtype(kind).itemsize) if path.exists() else 0
        if not rows:
            return np.zeros((0, width), kind)
        return np.memmap(path, kind, "r", shape=(rows, width))

    def _live(
        self, recording: Recording, settings: FeatureSettings, start: float, end: float
    ) -> NDArray[np.uint8]:
        samples = self._samples(recording, max(0.0, start - _WINDOW_SECONDS), end + _WINDOW_SECONDS)
        return _as_steps(FeatureExtractor(settings).of_clips([samples])[0])

    def _samples(self, recording: Recording, start: float, end: float) -> NDArray[np.float32]:
        try:
            return read(recording.file(), self._settings.rate_hz, start, end)
        except UserError as error:
            raise recording.said(error) from error


def _folder(recording: Recording) -> Path:
    return recording.kept / "overview"


def _finished(making: _Making) -> bool:
    return making.future is None or making.future.done()


def _end(making: _Making) -> None:
    making.cancelled.set()
    if making.future is not None and not making.future.cancel():
        making.future.exception()  # waits for its end


def _settings(rate_hz: int, hop_seconds: float) -> FeatureSettings:
    window = max(2, round(rate_hz * _WINDOW_SECONDS))
    hop = min(window, max(1, round(rate_hz * hop_seconds)))
    return FeatureSettings(
        rate_hz=rate_hz,
        window_samples=window,
        hop_samples=hop,
        window="hann",
        mel_bands=BANDS,
        high_hz=rate_hz / 2,
        log_offset=1e-8,
    )


def _as_steps(features: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Natural logarithms of magnitudes as steps of half a decibel."""
    steps: NDArray[np.float64] = (features * _DB - _LOWEST_DB) * _STEPS_A_DB
    return steps.clip(0, 255).astype(np.uint8)


def _grouped(
    rows: NDArray[np.uint8], size: int, *, last: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The maxima of groups of rows, and the rows that are left for the next group."""
    whole = len(rows) if last else len(rows) // size * size
    if not whole:
        return rows[:0], rows
    return np.maximum.reduceat(rows[:whole], np.arange(0, whole, size), axis=0), rows[whole:]


def _levels(histogram: NDArray[np.int64]) -> Levels:
    """What is drawn black and what white, of a count of each value."""
    heard = histogram.copy()
    heard[0] = 0  # digital silence says nothing of the noise floor
    if not heard.sum():
        return 0, 255
    share = np.cumsum(heard) / heard.sum()
    high = int(np.searchsorted(share, 0.999)) + 6
    low = int(np.searchsorted(share, 0.1))
    return int(np.clip(low, high - 160, high - 60)), high


def _drawn(
    columns: NDArray[np.uint8 | np.int16],
    first: float,
    step: float,
    start: float,
    end: float,
    size: tuple[int, int],
    levels: Levels,
) -> bytes:
    """Columns (T, F), the first of which is about ``first``, ``step`` apart, as a PNG."""
    width, height = size
    shades = np.zeros((height, width), np.float32)
    edges = start + (end - start) / width * np.arange(width)
    starts = np.floor((edges - first) / step).astype(np.int64).clip(0)
    known = int(np.searchsorted(starts, len(columns)))
    if known:
        last = int(np.ceil((end - first) / step))
        part = np.asarray(columns[: max(last, starts[known - 1] + 1)])
        values = np.maximum.reduceat(part, starts[:known], axis=0).astype(np.float32)
        low, high = levels
        values = ((values - low) * (255 / max(1, high - low))).clip(0, 255)
        # A pixel's row lies between the centres of two bands.
        place = ((np.arange(height) + 0.5) / height * BANDS - 0.5).clip(0, BANDS - 1)
        below = np.minimum(place.astype(np.int64), BANDS - 2)
        share = (place - below).astype(np.float32)[:, None]
        table = values.T
        shades[:, :known] = table[below] * (1 - share) + table[below + 1] * share
    return png(shades[::-1].astype(np.uint8))
