"""A model and a microphone in; events as they happen out."""

import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from earmark.config import Precision
from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.recorded import FIELDS, START_TIME, score_text
from earmark.formats.strong import event_cells
from earmark.formats.tables import COMMA, row_text, write_table
from earmark.model.hub import BUNDLED
from earmark.tasks.progress import counted, lasting, say
from earmark.tasks.recordings import in_made_folder
from earmark.writing import append, writing

if TYPE_CHECKING:
    from earmark.inference.live import LiveDetector
    from earmark.inference.recogniser import Recogniser
    from earmark.tasks.sound_inputs import Sound, SoundInput

BRIDGED_SECONDS = 1.0
"""Lost sound of at most this length is silence; beyond it, listening starts anew."""

LATE_STEPS = 1.5
"""A machine is late that has so many steps of sound to hear at once, and then again."""

_WARM_UP_SECONDS = 3.0


@dataclass(slots=True)
class Heard:
    """What was heard, and what was missed.

    Attributes:
        seconds: of sound.
        events: how many there were of each class.
        lost_seconds: that never came, or came while nobody could listen.
        gaps: how many these were.
    """

    seconds: float = 0.0
    events: Counter[str] = field(default_factory=Counter)
    lost_seconds: float = 0.0
    gaps: int = 0

    def summary(self) -> str:
        """All of it in a line."""
        of_classes = ", ".join(f"{label} {number}" for label, number in sorted(self.events.items()))
        found = counted(self.events.total(), "event")
        line = f"heard {lasting(self.seconds)}: {found}{of_classes and f' ({of_classes})'}"
        if self.gaps:
            line += f"; {self.lost_seconds:.1f} s were lost in {counted(self.gaps, 'gap')}"
        return line


def listen(
    *,
    model: Path = BUNDLED,
    input: str = "default",
    list_inputs: bool = False,
    out: Path | None = None,
    seconds: float | None = None,
    format: Literal["text", "jsonl"] = "text",
    device: str = "auto",
    precision: Precision = "auto",
) -> Heard | str:
    """Says what sounds, as it happens: from a microphone, a line as each event ends.

    A line comes within a second of an event's end, and of what the model's rules wait for beyond,
    such as the gaps that they bridge. Ctrl-C ends it, with all that has sounded till then.

    Args:
        model: a model folder; without, the model in the box.
        input: the number of a microphone or a part of its name, or an audio file, which sounds as
            if it were recorded now.
        list_inputs: lists the microphones instead, and other inputs.
        out: a CSV file for the events, too, row by row as they end; it may not exist yet.
        seconds: how long to listen; without, until the end of the file, or Ctrl-C.
        format: of the lines: text, or jsonl for programs.
        device: auto, cpu, cuda or mps.
        precision: of the networks: float32 (the reference), bfloat16, or auto for the fastest here.

    Raises:
        UserError: no such model or input, or something can't be written.
        KeyboardInterrupt: it was ended by Ctrl-C, after all is told.
    """
    from earmark.tasks.sound_inputs import inputs, open_input

    if list_inputs:
        return inputs()
    if seconds is not None and not seconds > 0:
        raise UserError(f"--seconds must be above 0, came as {seconds:g}")
    if out is not None and (out.suffix != ".csv" or out.exists()):
        raise UserError("events go to a new file ending in .csv; give another --out", where=out)
    from earmark.inference.fusion import load_recogniser
    from earmark.training.devices import choose_device

    recogniser = load_recogniser(model, choose_device(device).type, precision)
    source = open_input(input, recogniser.rate_hz)
    heard = Heard()
    with ExitStack() as held:
        tellers = [_json_line if format == "jsonl" else _text_line]
        row = None if out is None else held.enter_context(_table(out))
        stop = held.enter_context(_until_interrupted())
        for event, started in happenings(recogniser, source, stop, heard, seconds):
            for line in tellers:
                _print(line(source.name, event, started))
            if row is not None:
                row(source.name, event, started)
    say(heard.summary())
    if stop.is_set():
        raise KeyboardInterrupt
    return heard


def happenings(
    recogniser: "Recogniser",
    source: "SoundInput",
    stop: threading.Event,
    heard: Heard,
    seconds: float | None = None,
) -> Iterator[tuple[Event, datetime]]:
    """Events and when they began by the clock, each soon after its end.

    Args:
        recogniser: of any kind.
        source: of sound at its rate.
        stop: ends it, when it is set.
        heard: what is counted in on the way.
        seconds: how long it lasts at most.
    """
    from earmark.inference.live import STEP_SECONDS, LiveDetector

    rate_hz = recogniser.rate_hz
    detector = LiveDetector(recogniser)
    say(f"listening to {source.name}; {_promise(detector)}")
    late = _Lateness(STEP_SECONDS)
    ended = None

    def dated(events: list[Event], at: datetime) -> Iterator[tuple[Event, datetime]]:
        for event in events:
            heard.events[event.label] += 1
            yield event, at - timedelta(seconds=detector.heard_seconds - event.onset_seconds)

    for sound in source.sounds(STEP_SECONDS, stop):
        if sound.lost_seconds:
            _note_loss(sound, heard)
            if sound.lost_seconds <= BRIDGED_SECONDS:
                silence = np.zeros(round(sound.lost_seconds * rate_hz), np.float32)
                began = sound.ended - timedelta(seconds=len(sound.samples) / rate_hz)
                yield from dated(detector.push(silence), began)
            else:
                yield from dated(detector.finish(), ended or sound.ended)
                begins = detector.heard_seconds + sound.lost_seconds
                detector = LiveDetector(recogniser, start_seconds=begins)
        samples, ended = sound.samples, sound.ended
        if seconds is not None:
            left = max(0, round((seconds - detector.heard_seconds) * rate_hz))
            ended -= timedelta(seconds=max(0, len(samples) - left) / rate_hz)
            samples = samples[:left]
        late.note(len(samples) / rate_hz, detector.heard_seconds)
        yield from dated(detector.push(samples), ended)
        heard.seconds = detector.heard_seconds
        if seconds is not None and detector.heard_seconds >= seconds - 0.5 / rate_hz:
            break
    if ended is not None:
        yield from dated(detector.finish(), ended)


class _Lateness:
    """Says once that the machine can't keep up."""

    def __init__(self, step_seconds: float) -> None:
        self._step_seconds = step_seconds
        self._told = False
        self._before = False

    def note(self, waited_seconds: float, heard_seconds: float) -> None:
        late = waited_seconds > LATE_STEPS * self._step_seconds
        if late and self._before and not self._told and heard_seconds > _WARM_UP_SECONDS:
            self._told = True
            say(
                f"this machine is slower than a window in {self._step_seconds:g} s: it listens "
                f"every {waited_seconds:.1f} s instead, and events come that much later"
            )
        self._before = late


def _note_loss(sound: "Sound", heard: Heard) -> None:
    heard.gaps += 1
    heard.lost_seconds += sound.lost_seconds
    began = sound.ended - timedelta(seconds=sound.lost_seconds)
    # Of a machine that loses some all the time, few lines say so.
    if heard.gaps & (heard.gaps - 1) == 0:
        say(
            f"{began.astimezone():%H:%M:%S}: {sound.lost_seconds:.2f} s were lost, as they came "
            f"faster than they could be heard (gap {heard.gaps})"
        )


def _promise(detector: "LiveDetector") -> str:
    """How soon events are printed, in words."""
    delays = detector.delay_seconds
    low, high = min(delays.values()), max(delays.values())
    if high - low < 0.05:
        return f"events are printed within {high:.1f} s of their end"
    slowest = max(delays, key=lambda label: delays[label])
    return (
        f"events are printed within {low:.1f} to {high:.1f} s of their end, as the rules of their "
        f"classes ask ({slowest} comes last)"
    )


def _text_line(name: str, event: Event, started: datetime) -> str:
    """``12:03:04.2  siren  3.2 s  0.93``: when it began, what it is, how long, how sure."""
    rounded = (started + timedelta(milliseconds=50)).astimezone()
    at = f"{rounded:%H:%M:%S}.{rounded.microsecond // 100_000}"
    return f"{at}  {event.label}  {event.duration_seconds:.1f} s  {event.score:.2f}"


def _json_line(name: str, event: Event, started: datetime) -> str:
    values = [name, round(event.onset_seconds, 6), round(event.offset_seconds, 6), event.label]
    values.append(None if event.score is None else round(event.score, 4))
    record = dict(zip(FIELDS, values, strict=True)) | {START_TIME: _iso(started)}
    return json.dumps(record, ensure_ascii=False)


def _iso(started: datetime) -> str:
    """Local time with its offset, to a millisecond."""
    return started.astimezone().isoformat(timespec="milliseconds")


@contextmanager
def _table(path: Path) -> Iterator[Callable[[str, Event, datetime], None]]:
    """Writes a row a call, each at once and whole: what was heard stays, however it ends."""
    write_table(in_made_folder(path), [[*FIELDS, START_TIME]], COMMA)
    with writing(path), open(path, "ab", buffering=0) as file:

        def write(cells: list[str]) -> None:
            with writing(path):
                append(file, row_text(cells, COMMA).encode())

        yield lambda name, event, started: write(
            [name, *event_cells(event), score_text(event), _iso(started)]
        )


def _print(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError as error:
        # Python would try again at its end, and complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        raise UserError(f"stdout: can't be written: {error.strerror}") from error


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """What Ctrl-C sets in the block, where it is the main thread's; a second one interrupts."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def end(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
