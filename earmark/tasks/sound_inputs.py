"""Sound as it happens: from a microphone, or from a file as if it were one."""

import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soxr
from numpy.typing import NDArray

from earmark.audio import AUDIO_SUFFIXES, blocks, probe
from earmark.errors import UserError
from earmark.tasks.progress import counted

Samples = NDArray[np.float32]

BLOCK_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 30
"""What may wait to be heard; of a machine that is further behind, sound is lost."""

DEAD_SECONDS = 10.0
"""An input that gives nothing for so long is gone."""

_JUMP_SECONDS = 0.5  # of an input's clock: more than it ever trembles by
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """What has sounded since the last of these.

    Attributes:
        samples: (S,), mono.
        ended: when its last sample sounded, by the clock.
        lost_seconds: what is missing before it.
    """

    samples: Samples
    ended: datetime
    lost_seconds: float = 0.0


class SoundInput(Protocol):
    """Where sound comes from."""

    name: str

    def sounds(self, step_seconds: float, stop: threading.Event) -> Iterator[Sound]:
        """Sound bit by bit: a step each, or all that has come where that is more.

        Ends with the sound there is, or soon after ``stop`` is set.
        """
        ...


def open_input(chosen: str, rate_hz: int) -> SoundInput:
    """A microphone by its number or a part of its name, "default" or a file, mono at a rate.

    Raises:
        UserError: there is no such thing, or it can't be used.
    """
    if not chosen.isdecimal() and Path(chosen).is_file():
        return FileInput(Path(chosen), rate_hz)
    if Path(chosen).suffix.lower() in AUDIO_SUFFIXES:
        raise UserError("there is no such file", where=chosen)
    return Microphone(chosen, rate_hz)


def inputs() -> str:
    """A line for each microphone and other input: its number, its name, its channels."""
    devices = [device for device in _sounddevice().query_devices() if device["max_input_channels"]]
    if not devices:
        raise UserError("this machine has no input; plug in a microphone, or give --input FILE")
    return "\n".join(
        f"{device['index']:3}  {device['name']}  {counted(device['max_input_channels'], 'channel')}"
        for device in devices
    )


class FileInput:
    """A recording that sounds now, at the speed at which it was recorded.

    Args:
        path: the recording.
        rate_hz: of its samples here.
        at_once: whether it is heard as fast as may be instead.
    """

    def __init__(self, path: Path, rate_hz: int, *, at_once: bool = False) -> None:
        probe(path)
        self.name = path.name
        self._path = path
        self._rate_hz = rate_hz
        self._at_once = at_once

    def sounds(self, step_seconds: float, stop: threading.Event) -> Iterator[Sound]:
        step = math.ceil(step_seconds * self._rate_hz)
        began, begun_at = time.monotonic(), datetime.now(UTC)
        held: list[Samples] = []
        position = count = 0

        def sound() -> Sound:
            ended = begun_at + timedelta(seconds=position / self._rate_hz)
            return Sound(np.concatenate(held), ended)

        for block in blocks(self._path, self._rate_hz, BLOCK_SECONDS):
            due = began + (position + len(block)) / self._rate_hz
            if count >= step and (self._at_once or time.monotonic() < due):
                yield sound()
                held, count = [], 0
            if not self._at_once:
                stop.wait(max(0.0, due - time.monotonic()))
            if stop.is_set():
                break
            held.append(block)
            position, count = position + len(block), count + len(block)
        if held:
            yield sound()


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """What a device gives at once, and what it lost before."""

    samples: Samples
    ended: datetime
    lost_seconds: float


class Microphone:
    """An input of this machine, by PortAudio.

    It is opened with one channel at the rate that is asked for where it can that, else with its
    own rate and all of its channels, of which the mean is taken.
    """

    def __init__(self, chosen: str, rate_hz: int) -> None:
        portaudio = _sounddevice()
        device = None if chosen == "default" else int(chosen) if chosen.isdecimal() else chosen
        try:
            found = portaudio.query_devices(device, "input")
        except (ValueError, portaudio.PortAudioError) as error:
            raise UserError(
                f"--input must be a file, or the number or name of an input, came as '{chosen}' "
                f"({error}); --list-inputs lists them"
            ) from error
        self.name = str(found["name"])
        self._portaudio = portaudio
        self._rate_hz = rate_hz
        self._settings: dict[str, Any] = {"device": found["index"], "dtype": "float32"}
        wanted = {"channels": 1, "samplerate": rate_hz}
        try:
            portaudio.check_input_settings(**self._settings, **wanted)
        except (ValueError, portaudio.PortAudioError):
            own = round(found["default_samplerate"])
            wanted = {"channels": found["max_input_channels"], "samplerate": own}
        self._settings |= wanted
        self._own_rate_hz = wanted["samplerate"]
        self._waiting: queue.Queue[_Block] = queue.Queue(int(LONGEST_WAIT_SECONDS / BLOCK_SECONDS))
        self._lost_seconds = 0.0  # before the next block
        self._next_begins: float | None = None  # by the input's clock

    def sounds(self, step_seconds: float, stop: threading.Event) -> Iterator[Sound]:
        try:
            with self._portaudio.InputStream(
                **self._settings,
                blocksize=round(BLOCK_SECONDS * self._own_rate_hz),
                callback=self._hear,
            ):
                yield from self._at_rate(self._collected(step_seconds, stop))
        except self._portaudio.PortAudioError as error:
            raise UserError(
                f"input '{self.name}' can't be listened to: {error}; is another program using it? "
                "--list-inputs lists others"
            ) from error

    def _hear(self, samples: Samples, count: int, at: Any, status: Any) -> None:
        """Takes a block (count, channels) from the device; another thread calls it."""
        seconds = count / self._own_rate_hz
        begins = at.inputBufferAdcTime or time.monotonic() - seconds  # 0 where nobody knows
        waited = max(0.0, at.currentTime - begins - seconds) if at.inputBufferAdcTime else 0.0
        ended = datetime.now(UTC) - timedelta(seconds=waited)
        if self._next_begins is not None:
            late = begins - self._next_begins
            if late > _JUMP_SECONDS or (status.input_overflow and late > 0):
                self._lost_seconds += late
        self._next_begins = begins + seconds
        block = _Block(samples.mean(axis=1, dtype=np.float32), ended, self._lost_seconds)
        try:
            self._waiting.put_nowait(block)
            self._lost_seconds = 0.0
        except queue.Full:
            self._lost_seconds += seconds

    def _collected(self, step_seconds: float, stop: threading.Event) -> Iterator[Sound]:
        """The blocks of a step, and what waits beside them; only the first one may lack some."""
        step = math.ceil(step_seconds * self._own_rate_hz)
        held: list[_Block] = []
        count = 0
        heard = time.monotonic()
        while not stop.is_set():
            try:
                block = self._waiting.get(block=count < step, timeout=_POLL_SECONDS)
            except queue.Empty:
                if count >= step:
                    yield _joined(held)
                    held, count = [], 0
                elif time.monotonic() - heard > DEAD_SECONDS:
                    raise UserError(
                        f"input '{self.name}' gives no sound any more; is it still plugged in?"
                    ) from None
                continue
            heard = time.monotonic()
            if held and block.lost_seconds:
                yield _joined(held)
                held, count = [], 0
            held.append(block)
            count += len(block.samples)
        if held:
            yield _joined(held)

    def _at_rate(self, sounds: Iterator[Sound]) -> Iterator[Sound]:
        if self._own_rate_hz == self._rate_hz:
            yield from sounds
            return
        stream = soxr.ResampleStream(
            self._own_rate_hz, self._rate_hz, 1, dtype="float32", quality="HQ"
        )
        for sound in sounds:
            samples = stream.resample_chunk(sound.samples)
            yield Sound(samples, sound.ended, sound.lost_seconds)


def _joined(held: list[_Block]) -> Sound:
    samples = np.concatenate([block.samples for block in held])
    return Sound(samples, held[-1].ended, held[0].lost_seconds)


def _sounddevice() -> Any:
    """The library, which loads PortAudio when it is imported."""
    try:
        import sounddevice
    except ImportError as error:
        raise UserError("microphones need sounddevice: pip install 'earmark[listen]'") from error
    except OSError as error:
        raise UserError(
            f"microphones need PortAudio, and it can't be loaded ({error}); install it (Debian, "
            "Ubuntu: apt install libportaudio2)"
        ) from error
    return sounddevice
