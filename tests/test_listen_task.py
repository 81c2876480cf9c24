"""Listening as a user meets it: a file or a microphone, lines and rows, losses and Ctrl-C."""

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import Scenes
from loudness import RATE, Loudness, rule, spoken

from earmark.audio import read, write
from earmark.cli import AFTER_INTERRUPTION, main
from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.events import read_events
from earmark.inference.live import STEP_SECONDS
from earmark.tasks import sound_inputs
from earmark.tasks.listening import Heard, happenings, listen
from earmark.tasks.sound_inputs import FileInput, Microphone, Sound, inputs, open_input


@pytest.fixture(scope="module")
def recording(held_out: Scenes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("street") / "street.wav"
    samples = [read(clip, 8000) for clip in sorted(held_out.audio.iterdir())[:5]]
    write(path, np.concatenate(samples), 8000)
    return path


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files sound as fast as may be."""

    def opened(chosen: str, rate_hz: int) -> FileInput:
        return FileInput(Path(chosen), rate_hz, at_once=True)

    monkeypatch.setattr(sound_inputs, "open_input", opened)


def test_lines_rows_and_records_say_the_same(
    model: Path,
    recording: Path,
    at_once: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "new" / "heard.csv"
    words = ["listen", "--model", str(model), "--input", str(recording), "--device", "cpu"]
    assert main([*words, "--out", str(out)]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) >= 4
    assert main([*words, "--format", "jsonl"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = out.read_text().splitlines()
    assert rows[0] == "filename,onset,offset,event_label,score,start_time"
    began = set()
    for line, row, record in zip(lines, rows[1:], records, strict=True):
        cells = dict(zip(rows[0].split(","), row.split(","), strict=True))
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d  [a-z]+  \d+\.\d s  [01]\.\d\d", line)
        started = datetime.fromisoformat(cells["start_time"])
        assert started.utcoffset() == started.astimezone().utcoffset()
        at = datetime.combine(started.date(), datetime.strptime(line[:10], "%H:%M:%S.%f").time())
        assert abs(at - started.replace(tzinfo=None)) <= timedelta(seconds=0.0501)
        began.add(round((started.timestamp() - float(cells["onset"])), 2))
        seconds = float(cells["offset"]) - float(cells["onset"])
        assert line[12:].split("  ")[:2] == [cells["event_label"], f"{seconds:.1f} s"]
        assert float(cells["score"]) == record["score"]
        for name in ("filename", "event_label"):
            assert cells[name] == record[name]
        assert (float(cells["onset"]), float(cells["offset"])) == pytest.approx(
            (record["onset"], record["offset"]), abs=1e-6
        )
    assert len(began) <= 2  # one beginning, whatever a millisecond rounds it to
    assert len(read_events(out)["street.wav"]) == len(lines)
    assert said.err.splitlines()[-1].startswith(f"heard 10 s: {len(lines)} events (")
    assert main([*words, "--out", str(out)]) == 2
    assert "give another --out" in capsys.readouterr().err


def test_it_listens_no_longer_than_it_should(model: Path, recording: Path, at_once: None) -> None:
    report = listen(model=model, input=str(recording), seconds=3.1, device="cpu")
    assert isinstance(report, Heard)
    assert report.seconds == pytest.approx(3.1)


def test_ctrl_c_ends_it_with_all_that_was_heard(
    model: Path,
    recording: Path,
    at_once: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from earmark.inference.live import LiveDetector

    before = LiveDetector.push

    def pressing(self: LiveDetector, samples: np.ndarray) -> list:
        if self.heard_seconds >= 5.0:
            signal.raise_signal(signal.SIGINT)
        return before(self, samples)

    monkeypatch.setattr(LiveDetector, "push", pressing)
    handler = signal.getsignal(signal.SIGINT)
    out = tmp_path / "heard.csv"
    words = ["listen", "--model", str(model), "--input", str(recording), "--out", str(out)]
    assert main([*words, "--device", "cpu"]) == 130
    assert signal.getsignal(signal.SIGINT) is handler
    said = capsys.readouterr()
    *_, summary, last = said.err.splitlines()
    assert summary.startswith("heard 5 s: ")
    assert last == f"earmark: interrupted; {AFTER_INTERRUPTION['listen']}"
    lasting = max(event.offset_seconds for event in read_events(out)["street.wav"])
    assert 4.0 < lasting <= 5.6
    assert len(said.out.splitlines()) == len(out.read_text().splitlines()) - 1


def test_an_output_that_takes_nothing(
    model: Path,
    recording: Path,
    at_once: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with open(tmp_path / "closed", "w") as closed:

        def refuse(text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

        pipe = SimpleNamespace(write=refuse, flush=lambda: None, fileno=closed.fileno)
        monkeypatch.setattr(sys, "stdout", pipe)
        words = ["listen", "--model", str(model), "--input", str(recording), "--device", "cpu"]
        assert main(words) == 2
        assert "stdout: can't be written: Broken pipe" in capsys.readouterr().err
        os.write(closed.fileno(), b"x")  # to nowhere by now
    assert not (tmp_path / "closed").read_bytes()


class Clock:
    """Time that passes when somebody waits or works; stands for ``time`` and a stop."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def is_set(self) -> bool:
        return False


@pytest.mark.parametrize("working_seconds", [0.05, 0.6])
def test_a_file_sounds_at_its_own_speed_however_long_a_window_takes(
    working_seconds: float, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(sound_inputs, "time", clock)
    heard = 0.0
    sizes = []
    for sound in FileInput(recording, 8000).sounds(STEP_SECONDS, clock):
        sizes.append(len(sound.samples) / 8000)
        heard += sizes[-1]
        assert heard <= clock.now - 100.0 + 1e-6  # nothing before it has sounded
        assert min(clock.now - 100.0, 10.0) - heard < 0.06  # and all that has
        clock.now += working_seconds
    assert heard == pytest.approx(10.0)
    assert np.median(sizes) == pytest.approx(max(STEP_SECONDS, working_seconds), abs=0.06)


class Chunks:
    """An input that gives what it was made of."""

    name = "chunks"

    def __init__(self, sounds: Sequence[Sound]) -> None:
        self.chunks = sounds

    def sounds(self, step_seconds: float, stop: threading.Event) -> Iterator[Sound]:
        yield from self.chunks


MIDNIGHT = datetime(2025, 1, 31, tzinfo=UTC)


def in_chunks(
    samples: np.ndarray, rate_hz: int, seconds: float, lost: dict[int, float] | None = None
) -> list[Sound]:
    """Samples from midnight on; before some chunks sound was lost."""
    found, at, size = [], 0.0, round(seconds * rate_hz)
    for number, first in enumerate(range(0, len(samples), size)):
        missing = (lost or {}).get(number, 0.0)
        chunk = samples[first : first + size]
        at += missing + len(chunk) / rate_hz
        found.append(Sound(chunk, MIDNIGHT + timedelta(seconds=at), missing))
    return found


def heard_in(chunks: list[Sound]) -> tuple[list[tuple[Event, datetime]], Heard]:
    recogniser = Loudness([rule(), rule(threshold=1.0)])
    heard = Heard()
    return list(happenings(recogniser, Chunks(chunks), threading.Event(), heard)), heard


def test_a_machine_that_is_late_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    for seconds, told in ((0.25, 0), (0.8, 1)):
        heard_in(in_chunks(spoken(np.zeros(100)), RATE, seconds))
        assert capsys.readouterr().err.count("slower than a window in 0.25 s") == told


@pytest.mark.parametrize("lost_seconds", [0.5, 40.0])
def test_times_stay_right_when_sound_is_lost(
    lost_seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    # A second each from 2 s and 7 s on, and one from 4.5 s on, of which half a second is heard
    # before sound is lost, and half after it.
    levels = [0] * 20 + [1] * 10 + [0] * 15 + [1] * 10 + [0] * 15 + [1] * 10 + [0] * 20
    found, heard = heard_in(in_chunks(spoken(levels), RATE, 0.25, {20: lost_seconds}))
    assert (heard.gaps, heard.lost_seconds) == (1, lost_seconds)
    assert heard.seconds == pytest.approx(10 + lost_seconds)
    assert heard.summary().endswith(f"; {lost_seconds:.1f} s were lost in 1 gap")
    assert f"00:00:05: {lost_seconds:.2f} s were lost" in capsys.readouterr().err.replace(
        f"{(MIDNIGHT + timedelta(seconds=5)).astimezone():%H:%M:%S}", "00:00:05"
    )
    times = [(event.onset_seconds, event.offset_seconds) for event, _ in found]
    late = lost_seconds
    expected = [(2, 3), (4.5, 5), (5 + late, 5.5 + late), (7 + late, 8 + late)]
    assert np.allclose(times, expected, atol=0.101 if late < 1 else 1e-6)
    for event, started in found:
        assert (started - MIDNIGHT).total_seconds() == pytest.approx(event.onset_seconds, abs=1e-4)


# A sounddevice that has one microphone, at its own speed.


class PortAudioError(Exception):
    pass


class Stream:
    """Gives the blocks that a test has prepared, from a thread of its own as PortAudio does."""

    blocks: Sequence[tuple[np.ndarray, float, bool]] = ()
    given: dict = {}  # noqa: RUF012

    def __init__(self, **given: object) -> None:
        type(self).given = given

    def __enter__(self) -> None:
        def work() -> None:
            for samples, begins, overflow in self.blocks:
                at = SimpleNamespace(inputBufferAdcTime=begins, currentTime=begins + 0.05)
                status = SimpleNamespace(input_overflow=overflow)
                self.given["callback"](samples, len(samples), at, status)

        self.thread = threading.Thread(target=work)
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.thread.join()


def query_devices(device: object = None, kind: str | None = None) -> object:
    all_of_them = [
        {"index": 0, "name": "Speakers", "max_input_channels": 0, "default_samplerate": 44100.0},
        {"index": 1, "name": "USB Mic", "max_input_channels": 2, "default_samplerate": 16000.0},
    ]
    if device is None and kind is None:
        return all_of_them
    if device in (None, 1) or (isinstance(device, str) and device.lower() in "usb mic"):
        return all_of_them[1]
    raise ValueError(f"No input device matching {device!r}")


def only_its_own(*, samplerate: int, channels: int, **_: object) -> None:
    if (samplerate, channels) != (16000, 2):
        raise PortAudioError("Invalid sample rate")


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    module = SimpleNamespace(
        PortAudioError=PortAudioError,
        InputStream=Stream,
        query_devices=query_devices,
        check_input_settings=lambda **_: None,
    )
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def heard_from(microphone: Microphone, seconds: float) -> list[Sound]:
    """What comes until there are so many seconds; more must follow, for steps come whole."""
    stop = threading.Event()
    found = []
    for sound in microphone.sounds(STEP_SECONDS, stop):
        found.append(sound)
        if sum(len(s.samples) for s in found) >= round(seconds * 8000):
            stop.set()
    return found


def test_a_microphone_gives_what_it_hears(portaudio: SimpleNamespace) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 10000).astype(np.float32)
    blocks = [(samples[n : n + 400, None], 5.0 + n / 8000, False) for n in range(0, 10000, 400)]
    portaudio.InputStream.blocks = blocks
    microphone = open_input("default", 8000)
    assert microphone.name == "USB Mic"
    found = heard_from(microphone, 1.0)
    assert Stream.given["samplerate"] == 8000
    assert Stream.given["channels"] == 1
    heard = np.concatenate([sound.samples for sound in found])
    assert np.array_equal(heard, samples[: len(heard)])
    assert not any(sound.lost_seconds for sound in found)
    age = (datetime.now(UTC) - found[-1].ended).total_seconds()
    assert 0 <= age < 60


def test_a_microphone_at_its_own_rate_is_resampled(portaudio: SimpleNamespace) -> None:
    portaudio.check_input_settings = only_its_own
    at = np.arange(48000) / 16000
    tone = np.sin(2 * np.pi * 440 * at).astype(np.float32)
    both = np.stack([tone, np.zeros_like(tone)], axis=1)
    portaudio.InputStream.blocks = [
        (both[n : n + 800], 5.0 + n / 16000, False) for n in range(0, 48000, 800)
    ]
    found = heard_from(open_input("1", 8000), 1.8)
    samples = np.concatenate([sound.samples for sound in found])[:14000]
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(14000) / 8000)
    assert np.abs(samples - expected)[1000:].max() < 0.01


def test_what_a_microphone_lost_is_known(portaudio: SimpleNamespace) -> None:
    block = np.zeros((400, 1), np.float32)
    begins = [5.0, 5.05, 5.4, 5.45]  # 0.3 s are missing
    portaudio.InputStream.blocks = [
        (block, begin, begin == 5.4) for begin in [*begins, *np.arange(5.5, 7.0, 0.05)]
    ]
    found = heard_from(open_input("usb", 8000), 1.0)
    assert [sound.lost_seconds for sound in found if sound.lost_seconds] == [pytest.approx(0.3)]
    # What waits too long is lost, and counted.
    few = Microphone("usb", 8000)
    few._waiting.maxsize = 3
    portaudio.InputStream.blocks = [(block, 5 + n * 0.05, False) for n in range(10)]
    with Stream(callback=few._hear):
        pass
    few._hear(
        block,
        400,
        SimpleNamespace(inputBufferAdcTime=5.5, currentTime=5.6),
        SimpleNamespace(input_overflow=False),
    )
    waiting = [few._waiting.get_nowait() for _ in range(3)]
    assert [block.lost_seconds for block in waiting] == [0, 0, 0]
    few._hear(
        block,
        400,
        SimpleNamespace(inputBufferAdcTime=5.55, currentTime=5.6),
        SimpleNamespace(input_overflow=False),
    )
    assert few._waiting.get_nowait().lost_seconds == pytest.approx(8 * 0.05)


def test_a_microphone_that_goes(
    portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    portaudio.InputStream.blocks = [(np.zeros((400, 1), np.float32), 5.0, False)]
    monkeypatch.setattr(sound_inputs, "DEAD_SECONDS", 0.2)
    with pytest.raises(UserError, match="gives no sound any more"):
        list(open_input("default", 8000).sounds(0.25, threading.Event()))


def test_inputs_are_listed_and_chosen(
    portaudio: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["listen", "--list-inputs"]) == 0
    assert capsys.readouterr().out == "  1  USB Mic  2 channels\n"
    for wrong in ("0", "headset"):
        with pytest.raises(UserError, match=f"came as '{wrong}' .*--list-inputs"):
            open_input(wrong, 8000)
    with pytest.raises(UserError, match=r"nowhere\.wav: there is no such file"):
        open_input("nowhere.wav", 8000)
    portaudio.query_devices = lambda: []
    with pytest.raises(UserError, match="no input"):
        inputs()


def test_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recording: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UserError, match=r"pip install 'earmark\[listen\]'"):
        inputs()

    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(UserError, match=r"PortAudio .*apt install libportaudio2"):
        inputs()
    assert main(["listen"]) == 2
    assert "PortAudio" in capsys.readouterr().err
    assert main(["listen", "--model", "m", "--seconds", "0"]) == 2
    assert "--seconds must be above 0" in capsys.readouterr().err


def test_a_broken_file_is_said_before_listening(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    words = ["listen", "--model", str(model), "--input", str(tmp_path / "broken.wav")]
    assert main(words) == 2
    assert "can't be read as audio" in capsys.readouterr().err
