"""What a recording holds, heard once: its length, digest, silence, clipping and damage."""

import hashlib
import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.audio import channel_blocks, logger
from earmark.errors import UserError

FULL_SCALE, CLIPPED_RUN = 0.9999, 3
"""A sample is clipped if it is this large, and at least so many in a row are."""

SILENT_SWING = 2e-4
"""Silent is what swings no further, from its lowest to its highest sample: a peak of -80 dB."""

PADDING_SECONDS = 0.5
"""So long a stretch of samples that are all alike was not recorded."""

_CELL_SECONDS = 0.1
# Larger than any sample format's full scale: not audio, and sums must stay finite.
_LARGEST_SAMPLE = 2.0**31


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What a recording holds.

    Attributes:
        rate_hz, channels: as the file has them.
        seconds: its length, counted.
        digest: of the mean of the channels, sample by sample; equal ones are the same recording,
            whatever the file formats are, as long as these keep every sample.
        clipped: the share of the samples that are clipped.
        offset: the mean of the samples.
        lows, highs: the smallest and largest sample of every tenth of a second.
        infinite: how many samples are no finite numbers.
        damage: what the decoder complained of.
    """

    rate_hz: int
    channels: int
    seconds: float
    digest: str
    clipped: float
    offset: float
    lows: NDArray[np.float32]
    highs: NDArray[np.float32]
    infinite: int
    damage: tuple[str, ...]

    def silent(self, start_seconds: float = 0.0, stop_seconds: float = math.inf) -> bool:
        """Whether nothing can be heard in a part, or in all of it."""
        lows, highs = self._cells(start_seconds, stop_seconds)
        return bool(len(lows)) and float(highs.max() - lows.min()) < SILENT_SWING

    def padded(self, start_seconds: float = 0.0, stop_seconds: float = math.inf) -> bool:
        """Whether a part, or all of it, holds a stretch of digital silence."""
        lows, highs = self._cells(start_seconds, stop_seconds)
        # Where it changes, with an end on both sides; runs of silence are between two places.
        edges = np.flatnonzero(np.concatenate([[True], lows != highs, [True]]))
        return bool(np.diff(edges).max() - 1 >= round(PADDING_SECONDS / _CELL_SECONDS))

    def _cells(
        self, start_seconds: float, stop_seconds: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        cell = _cell(self.rate_hz) / self.rate_hz
        first = int(start_seconds / cell)
        last = math.ceil(min(stop_seconds, self.seconds) / cell)
        return self.lows[first:last], self.highs[first:last]


def listen(path: Path, reached: Callable[[float], None] = lambda seconds: None) -> Heard:
    """Reads a recording once, in blocks.

    Args:
        path: the recording.
        reached: is told how many seconds are read, after each block.

    Raises:
        AudioError: nothing can be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    rest = np.zeros(0, np.float32)
    lows, highs = [], []
    rate_hz = channels = samples = clipped = infinite = 0
    total = 0.0
    with _complaints(path) as damage:
        for rate_hz, block in channel_blocks(path):
            channels = max(channels, block.shape[1])
            # NaN compares false.
            if not (peak := np.abs(block).max()) <= _LARGEST_SAMPLE:
                finite = np.abs(block) <= _LARGEST_SAMPLE
                infinite += block.size - int(np.count_nonzero(finite))
                block = np.where(finite, block, np.float32(0))
            if not peak < FULL_SCALE:
                clipped += _clipped(block)
            mono = _mono(block)
            samples += len(mono)
            total += float(mono.sum(dtype=np.float64))
            digest.update(mono.data)
            size = _cell(rate_hz)
            held = np.concatenate([rest, mono]) if len(rest) else mono
            whole = len(held) // size * size
            cells = held[:whole].reshape(-1, size)
            lows.append(cells.min(axis=1))
            highs.append(cells.max(axis=1))
            rest = held[whole:].copy()
            reached(samples / rate_hz)
    digest.update(str(rate_hz).encode())
    if len(rest):
        lows.append(rest.min(keepdims=True))
        highs.append(rest.max(keepdims=True))
    return Heard(
        rate_hz,
        channels,
        samples / rate_hz,
        digest.hexdigest(),
        clipped / samples,
        total / samples,
        np.concatenate(lows),
        np.concatenate(highs),
        infinite,
        tuple(damage),
    )


def _cell(rate_hz: int) -> int:
    return max(1, round(_CELL_SECONDS * rate_hz))


def _mono(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) means of (n, C), exact where the channels are equal, and never -0."""
    mixed: NDArray[np.float32] = block[:, 0] + np.float32(0)
    for channel in range(1, block.shape[1]):
        mixed += block[:, channel]
    mixed *= np.float32(1 / block.shape[1])
    return mixed


def _clipped(block: NDArray[np.float32]) -> int:
    """How many of the samples (n, C), the mean over the channels, are clipped."""
    full = np.abs(block) >= FULL_SCALE
    if len(full) < CLIPPED_RUN:
        return 0
    ends = len(full) - CLIPPED_RUN + 1
    runs = np.logical_and.reduce([full[shift : shift + ends] for shift in range(CLIPPED_RUN)])
    within = np.zeros_like(full)
    for shift in range(CLIPPED_RUN):
        within[shift : shift + ends] |= runs
    channels: int = block.shape[1]
    return int(np.count_nonzero(within)) // channels


@contextmanager
def _complaints(path: Path) -> Iterator[list[str]]:
    """What the decoder says of a file in this thread meanwhile."""
    heard: list[str] = []
    thread = threading.get_ident()
    prefix = str(UserError("", where=path))

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                heard.append(record.getMessage().removeprefix(prefix).strip())

    listener = Listener(logging.WARNING)
    logger.addHandler(listener)
    try:
        yield heard
    finally:
        logger.removeHandler(listener)
