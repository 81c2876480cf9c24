"""Scenes: what is stated of them is true of their samples."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from earmark.audio import AudioError, read
from earmark.data.scenes import (
    Background,
    SceneSettings,
    Sound,
    class_probabilities,
    coloured_noise,
    mix_scene,
    scene_rng,
    sound_from_file,
)
from earmark.errors import UserError
from earmark.events import Event, union
from earmark.formats.durations import read_durations
from earmark.formats.labels import read_labels
from earmark.tasks.synthesis import synth

RATE = 8000


def tone(hz: float, seconds: float) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def sound(label: str, samples: np.ndarray) -> Sound:
    return Sound(label, f"{label}.wav", RATE, lambda: samples)


SOUNDS = [sound("a", tone(1000, 0.5)), sound("b", tone(2000, 3.0)), sound("c", tone(500, 9.0))]
SETTINGS = SceneSettings(rate_hz=RATE)


def power_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2)))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**40),
    index=st.integers(0, 10**6),
    duration=st.floats(4.5, 12),
    longest=st.floats(0.1, 5),
    events_max=st.integers(1, 8),
)
def test_every_scene_keeps_the_rules(
    seed: int, index: int, duration: float, longest: float, events_max: int
) -> None:
    wanted = SceneSettings(
        rate_hz=RATE, duration_seconds=duration, max_event_seconds=longest, events_max=events_max
    )
    scene = mix_scene(SOUNDS, wanted, scene_rng(seed, index))
    assert scene.samples.size == wanted.samples
    assert 1 <= len(scene.events) == len(scene.sources) <= events_max
    assert np.abs(scene.samples).max() < 1
    np.testing.assert_array_equal(scene.samples * 32768, np.rint(scene.samples * 32768))
    assert union(scene.events) == scene.events == union(scene.events, 1e-9), "apart in a class"
    full = {"a": 0.5, "b": 3.0, "c": 9.0}
    for mixed in scene.mixed:
        event = mixed.event
        expected = min(full[event.label], longest, duration)
        assert event.duration_seconds == pytest.approx(expected, abs=1.01 / RATE)
        assert 0 <= event.onset_seconds < event.offset_seconds <= scene.samples.size / RATE
        assert mixed.source == f"{event.label}.wav"
        assert 6 <= mixed.snr_db <= 30
    for second in np.array_split(scene.samples, 8):
        assert second.any(), "the background is never silent"


@pytest.mark.parametrize("background", ["white", "pink", "brown"])
def test_the_snr_is_that_of_the_samples(background: str) -> None:
    wanted = SceneSettings(
        rate_hz=RATE,
        events_max=1,
        background=background,
        background_db_min=-40,
        background_db_max=-40,
        snr_db_min=12,
        snr_db_max=12,
    )
    for index in range(5):
        # The same draws with another level of the event leave the same background.
        loud = mix_scene(SOUNDS[1:2], wanted, scene_rng(3, index))
        quiet = mix_scene(
            SOUNDS[1:2],
            wanted.model_copy(update={"snr_db_min": -60.0, "snr_db_max": -60.0}),
            scene_rng(3, index),
        )
        (event,) = loud.events
        assert [event] == quiet.events
        start, stop = round(event.onset_seconds * RATE), round(event.offset_seconds * RATE)
        difference = loud.samples - quiet.samples
        assert power_db(difference[start:stop]) - power_db(quiet.samples[start:stop]) == (
            pytest.approx(12, abs=0.1)
        )
        assert np.abs(difference[:start]).max(initial=0) <= 1 / 32768
        assert np.abs(difference[stop:]).max(initial=0) <= 1 / 32768
        assert power_db(quiet.samples) == pytest.approx(-40, abs=0.1)
        assert loud.mixed[0].snr_db == 12


def test_a_scene_is_scaled_only_if_it_would_clip() -> None:
    wanted = SceneSettings(
        rate_hz=RATE, events_max=1, background_db_min=-10, background_db_max=-10, snr_db_min=30
    )
    scene = mix_scene(SOUNDS, wanted, scene_rng(0, 0))
    assert np.abs(scene.samples).max() == pytest.approx(32767 / 32768, abs=1e-6)
    (event,) = scene.events
    inside = np.zeros(scene.samples.size, bool)
    inside[round(event.onset_seconds * RATE) : round(event.offset_seconds * RATE)] = True
    ratio_db = power_db(scene.samples[inside]) - power_db(scene.samples[~inside])
    assert ratio_db == pytest.approx(30, abs=2)


def test_an_excerpt_is_not_repeated_and_fades() -> None:
    ramp = np.linspace(0.1, 0.9, 6 * RATE, dtype=np.float32)
    wanted = SceneSettings(
        rate_hz=RATE, events_max=1, snr_db_min=50, snr_db_max=50, background_db_min=-60,
        background_db_max=-60, max_event_seconds=2,
    )  # fmt: skip
    firsts = set()
    for index in range(8):
        scene = mix_scene([sound("ramp", ramp)], wanted, scene_rng(1, index))
        (event,) = scene.events
        start, stop = round(event.onset_seconds * RATE), round(event.offset_seconds * RATE)
        inner = scene.samples[start + 40 : stop - 40]
        assert np.polyfit(np.arange(inner.size), inner, 1)[0] > 0
        assert np.all(np.diff(inner[::200]) > -0.01), "one stretch of the ramp"
        assert abs(scene.samples[start]) < 0.2 * abs(scene.samples[start + 60])
        assert abs(scene.samples[stop - 1]) < 0.2 * abs(scene.samples[stop - 60])
        firsts.add(round(float(inner[0] / inner[-1]), 2))
    assert len(firsts) > 3, "excerpts start at random places"


def test_a_seed_gives_a_scene() -> None:
    first = mix_scene(SOUNDS, SETTINGS, scene_rng(7, 3))
    again = mix_scene(SOUNDS, SETTINGS, scene_rng(7, 3))
    np.testing.assert_array_equal(first.samples, again.samples)
    assert first.mixed == again.mixed
    for other in (scene_rng(7, 4), scene_rng(8, 3)):
        assert not np.array_equal(first.samples, mix_scene(SOUNDS, SETTINGS, other).samples)
    # A golden scene: a change of any draw makes every published data set another one.
    steps = np.rint(first.samples[:: RATE // 2] * 32768).astype(int).tolist()
    assert steps[:6] == [402, 496, -402, 668, -2817, 2827]
    assert [event.label for event in first.events] == ["b", "a", "c", "a"]
    assert [event.onset_seconds for event in first.events] == [1.732625, 2.38075, 5.71075, 7.181]


def test_classes_come_as_often_as_asked() -> None:
    names = [f"{number}" for number in range(5)]
    shares = class_probabilities(names, SceneSettings(class_ratio=8))
    assert shares[0] / shares[-1] == pytest.approx(8)
    np.testing.assert_allclose(shares[1:] / shares[:-1], 8 ** -(1 / 4))
    assert class_probabilities(["x"], SceneSettings(class_ratio=8)) == pytest.approx([1])
    weighted = class_probabilities(["x", "y", "z"], SceneSettings(class_weights={"x": 4, "z": 0}))
    assert weighted == pytest.approx([0.8, 0.2, 0])
    wanted = SETTINGS.model_copy(
        update={"class_weights": {"a": 3.0, "c": 0.0}, "max_event_seconds": 0.1, "events_max": 9}
    )
    counts: Counter[str] = Counter()
    for index in range(80):
        counts.update(e.label for e in mix_scene(SOUNDS, wanted, scene_rng(0, index)).events)
    assert counts["c"] == 0
    assert counts["a"] / counts["b"] == pytest.approx(3, rel=0.3)
    with pytest.raises(UserError, match="'q' is weighted"):
        class_probabilities(names, SceneSettings(class_weights={"q": 1}))
    with pytest.raises(UserError, match="weight above 0"):
        class_probabilities(["x"], SceneSettings(class_weights={"x": 0}))


@pytest.mark.parametrize(("colour", "slope"), [("white", 0), ("pink", -3.01), ("brown", -6.02)])
def test_noise_has_its_colour(colour: str, slope: float) -> None:
    noise = coloured_noise(2**17, colour, RATE, np.random.default_rng(0))
    assert np.mean(noise) == pytest.approx(0, abs=1e-9)
    assert np.mean(noise**2) == pytest.approx(1)
    power = np.abs(np.fft.rfft(noise)) ** 2
    hz = np.fft.rfftfreq(noise.size, 1 / RATE)
    octaves = [power[(hz >= low) & (hz < 2 * low)].mean() for low in (50, 100, 200, 400, 800, 1600)]
    assert np.diff(10 * np.log10(octaves)) == pytest.approx(slope, abs=0.6)


def test_what_can_not_be_mixed() -> None:
    crowded = SceneSettings(rate_hz=RATE, events_min=4, max_event_seconds=4)
    with pytest.raises(UserError, match="don't hold 4 events"):
        mix_scene(SOUNDS[2:], crowded, scene_rng(0, 0))
    dropped = [
        len(
            mix_scene(
                SOUNDS[2:], crowded.model_copy(update={"events_min": 1}), scene_rng(0, i)
            ).events
        )
        for i in range(20)
    ]
    assert set(dropped) <= {1, 2}, "events without a place are dropped"
    with pytest.raises(UserError, match=r"at least 0\.05 s"):
        mix_scene([sound("short", tone(500, 0.01))], SETTINGS, scene_rng(0, 0))
    with pytest.raises(UserError, match="is silent"):
        mix_scene([sound("mute", np.zeros(RATE, np.float32))], SETTINGS, scene_rng(0, 0))
    with pytest.raises(UserError, match="at least one sound"):
        mix_scene([], SETTINGS, scene_rng(0, 0))
    with pytest.raises(ValueError, match="must be at"):
        mix_scene([replace(SOUNDS[0], rate_hz=16_000)], SETTINGS, scene_rng(0, 0))
    for wrong in (
        {"events_min": 5},
        {"snr_db_min": 31},
        {"background_db_min": -20},
        {"min_event_seconds": 5},
        {"min_event_seconds": 1e-6},
        {"class_weights": {"a": -1}},
        {"class_weights": {"a": 2}, "class_ratio": 2},
        {"snr": 3},
    ):
        with pytest.raises(ValidationError):
            SceneSettings.model_validate(wrong)


def test_recorded_backgrounds(tmp_path: Path) -> None:
    street = np.concatenate([tone(300, 6.0), np.zeros(20 * RATE, np.float32)])
    soundfile.write(tmp_path / "street.wav", street, RATE)
    recording = Background(tmp_path / "street.wav", "street.wav", 26.0)
    wanted = SceneSettings(rate_hz=RATE, duration_seconds=5, events_min=0, events_max=0)
    levels = set()
    for index in range(12):
        scene = mix_scene(SOUNDS, wanted, scene_rng(0, index), [recording])
        assert scene.background == "street.wav"
        assert scene.samples.size == 5 * RATE
        assert all(part.any() for part in np.array_split(scene.samples, 20))
        levels.add(round(power_db(scene.samples) / 20))
    assert len(levels) > 1, "parts with the tone and parts of its silence"
    exact = Background(tmp_path / "street.wav", "street.wav", 26.0)
    whole = wanted.model_copy(update={"duration_seconds": 26.0})
    assert mix_scene(SOUNDS, whole, scene_rng(0, 0), [exact]).samples.size == 26 * RATE
    longer = wanted.model_copy(update={"duration_seconds": 27.0})
    with pytest.raises(UserError, match="must last a scene"):
        mix_scene(SOUNDS, longer, scene_rng(0, 0), [exact])


def test_a_sound_is_read_once_and_only_where_it_is_active(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.concatenate([np.zeros(RATE), tone(900, 1.0)]), RATE)
    active = sound_from_file(path, "a", "a.wav", RATE, 1.0, 1.5)
    assert active.samples.size == RATE // 2
    assert power_db(active.samples) == pytest.approx(-9.03, abs=0.1)
    path.unlink()
    assert active.samples.any()
    with pytest.raises(AudioError):
        _ = sound_from_file(path, "a", "a.wav", RATE).samples


@pytest.fixture
def isolated(tmp_path: Path) -> Path:
    """A folder of sounds and a table of them."""
    rows = ["file,class,fold,active_start_s,active_end_s"]
    for fold in (1, 2):
        for label, hz in (("high, shrill", 2000), ("low", 300)):
            name = f"{hz}-{fold}.wav"
            (tmp_path / "sounds" / "deep").mkdir(parents=True, exist_ok=True)
            padded = np.concatenate([np.zeros(RATE), tone(hz, 0.5), np.zeros(RATE)])
            soundfile.write(tmp_path / "sounds" / "deep" / name, padded, RATE)
            rows.append(f'{name},"{label}",{fold},1.0,1.5')
    (tmp_path / "sounds.csv").write_text("\n".join([*rows, "2000-1.wav,low,1,1.0,1.01"]) + "\n")
    return tmp_path


def test_synth_writes_a_data_set(isolated: Path) -> None:
    table, audio, out = isolated / "sounds.csv", isolated / "sounds", isolated / "out"
    report = synth(
        table, audio=audio, out=out, scenes=6, seed=2, folds="1", duration_seconds=3.0, rate_hz=RATE
    )
    names = [f"out_{index:05}.flac" for index in range(6)]
    assert sorted(path.name for path in (out / "audio").iterdir()) == names
    assert (report.sounds, report.too_short) == (2, ("2000-1.wav",))
    weak, strong = read_labels(out / "weak.tsv"), read_labels(out / "strong.tsv")
    assert [row.filename for row in weak.rows] == [row.filename for row in strong.rows] == names
    assert [row.labels for row in weak.rows] == [row.labels for row in strong.rows]
    assert read_durations(out / "durations.tsv") == dict.fromkeys(names, 3.0)
    events = [event for row in strong.rows for event in row.events or ()]
    assert report.events == Counter(event.label for event in events)
    assert all(e.duration_seconds == pytest.approx(0.5, abs=1e-5) for e in events)
    origin = [line.split("\t") for line in (out / "sources.tsv").read_text().splitlines()]
    assert origin[0] == [
        *("filename", "source", "onset", "offset", "event_label", "snr_db", "background")
    ]
    assert [row[1] for row in origin[1:]] == [
        "300-1.wav" if event.label == "low" else "2000-1.wav" for event in events
    ]
    first: Event = (strong.rows[0].events or ())[0]
    hz = 300 if first.label == "low" else 2000
    part = read(out / "audio" / names[0], RATE, first.onset_seconds, first.offset_seconds)
    turned = np.exp(-2j * np.pi * hz * np.arange(part.size) / RATE)
    assert abs(np.mean(part * turned)) > 0.5 * np.sqrt(np.mean(part**2)) / np.sqrt(2)

    more = isolated / "more"
    synth(
        table,
        audio=audio,
        out=more,
        scenes=8,
        seed=2,
        folds=" 1",
        duration_seconds=3.0,
        rate_hz=RATE,
    )
    for name in names:
        other = name.replace("out", "more")
        assert (more / "audio" / other).read_bytes() == (out / "audio" / name).read_bytes()


def test_synth_refuses(isolated: Path) -> None:
    table, audio, out = isolated / "sounds.csv", isolated / "sounds", isolated / "out"
    rows = table.read_text()
    with pytest.raises(UserError, match="no sound is of fold '9'; there are: 1, 2"):
        synth(table, audio=audio, out=out, scenes=1, folds="1,9")
    with pytest.raises(UserError, match="need --scenes >= 1"):
        synth(table, audio=audio, out=out, scenes=0)
    for complaint, how in (
        ("--snr-db needs its lower end first", {"snr_db": (9.0, 3.0)}),
        ("--snr-db: input should be", {"snr_db": (9.0, 300.0)}),
        ("--min-event-seconds may exceed neither --max-event-seconds", {"min_event_seconds": 9.0}),
        ("--background: input should be 'white'", {"background": "blue"}),
    ):
        with pytest.raises(UserError, match=f"^{complaint}"):
            synth(table, audio=audio, out=out, scenes=1, **how)
    table.write_text("filename,event_label\n")
    with pytest.raises(UserError, match="--folds needs a column 'fold' or 'group'"):
        synth(table, audio=audio, out=out, scenes=1, folds="1")
    table.write_text(rows)
    with pytest.raises(UserError, match=r"every sound of class 'high, shrill' is shorter"):
        synth(table, audio=audio, out=out, scenes=1, min_event_seconds=1.0)
    with pytest.raises(UserError, match="background must last a scene"):
        synth(table, audio=audio, out=out, scenes=1, background_audio=audio)
    table.write_text(rows + "gone.wav,low,1,,\n")
    with pytest.raises(UserError, match=r"sounds.csv, line 7: 'gone.wav' is not in"):
        synth(table, audio=audio, out=out, scenes=1)
    table.write_text(rows)
    assert not out.exists(), "nothing is written before everything is checked"
    out.mkdir()
    (out / "mine.txt").touch()
    with pytest.raises(UserError, match="empty folder"):
        synth(table, audio=audio, out=out, scenes=1)
    report = synth(
        table,
        audio=audio,
        out=isolated / "street",
        scenes=1,
        rate_hz=RATE,
        duration_seconds=2.0,
        background_audio=audio,
        background="white",
    )
    assert report.scenes == 1
    assert "deep/" in (isolated / "street" / "sources.tsv").read_text()


def test_class_weights_are_written_as_assignments(isolated: Path) -> None:
    table, audio = isolated / "sounds.csv", isolated / "sounds"
    words = {"audio": audio, "scenes": 8, "rate_hz": RATE, "duration_seconds": 3.0}
    weights = ["low=0", "high, shrill=2"]
    report = synth(table, out=isolated / "w", class_weights=weights, **words)
    assert report.events["low"] == 0 < report.events["high, shrill"]
    for wrong in ("low", "low=much", "=2"):
        with pytest.raises(UserError, match="takes class=weight"):
            synth(table, out=isolated / "x", class_weights=[wrong], **words)


def test_synth_that_fails_half_way_leaves_nothing(isolated: Path) -> None:
    table, audio, out = isolated / "sounds.csv", isolated / "sounds", isolated / "none"
    words = {"audio": audio, "out": out, "scenes": 3, "rate_hz": RATE}
    with pytest.raises(UserError, match="don't hold"):
        synth(table, events=(300, 400), **words)
    assert not out.exists()
    assert synth(table, **words).scenes == 3
