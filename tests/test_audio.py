"""Audio in and out: lengths, places and pitches of known signals, and files that are broken."""

import logging
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark import audio
from earmark.audio import AudioError
from earmark.errors import UserError

RATE = 44_100


def chirp(seconds: float, rate_hz: int = RATE) -> np.ndarray:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.3 * np.sin(2 * np.pi * (200 * t + 150 * t**2))).astype(np.float32)


def encode(path: Path, samples: np.ndarray, codec: str, vbr: bool = False) -> Path:
    with av.open(str(path), "w", options={"write_xing": "0"} if vbr else {}) as container:
        quality = {"flags": "+qscale", "global_quality": "236"} if vbr else {"b": "96000"}
        stream = container.add_stream(codec, rate=RATE, layout="mono", options=quality)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        target = stream.codec_context.format or "fltp"
        for part in av.AudioResampler(format=target, layout="mono").resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def make(folder: Path, suffix: str, samples: np.ndarray) -> Path:
    path = folder / f"sound{suffix}"
    codecs = {".mp3": "libmp3lame", ".m4a": "aac", ".mka": "flac"}
    if suffix in codecs:
        return encode(path, samples, codecs[suffix])
    soundfile.write(path, samples, RATE)
    return path


def tone_hz(samples: np.ndarray, rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(np.argmax(spectrum) * rate_hz / samples.size)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".m4a", ".mka"])
def test_whole_part_and_blocks_agree(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path, suffix, chirp(4.0))
    whole = audio.read(path, 16_000)
    assert whole.dtype == np.float32
    assert whole.size == pytest.approx(4 * 16_000, abs=600 if suffix == ".m4a" else 1)
    np.testing.assert_allclose(whole[8000:56_000], chirp(4.0, 16_000)[8000:56_000], atol=0.02)
    for start, stop in [(0.0, 0.01), (0.3, 1.7), (2.00003, 2.5), (3.7, 99.0)]:
        part = audio.read(path, 16_000, start, stop)
        expected = whole[round(start * 16_000) : round(stop * 16_000)]
        assert part.shape == expected.shape
        np.testing.assert_allclose(part, expected, atol=2e-5)
    own = audio.read(path, RATE)
    np.testing.assert_allclose(audio.read(path, RATE, 2.0, 2.5), own[88_200:110_250], atol=2e-5)
    np.testing.assert_array_equal(np.concatenate(list(audio.blocks(path, 16_000, 0.7))), whole)
    assert audio.duration_seconds(path) == pytest.approx(whole.size / 16_000, abs=0.04)


@settings(deadline=None, max_examples=25)
@given(
    rate_in=st.integers(50, 20_000),
    rate_out=st.integers(50, 20_000),
    count=st.integers(100, 30_000),
    start=st.floats(0, 1),
    length=st.floats(0, 1),
    block_seconds=st.floats(0.01, 5),
)
def test_any_rates(
    tmp_path_factory: pytest.TempPathFactory,
    rate_in: int,
    rate_out: int,
    count: int,
    start: float,
    length: float,
    block_seconds: float,
) -> None:
    path = tmp_path_factory.mktemp("rates") / "noise.wav"
    noise = np.random.default_rng(count).uniform(-0.5, 0.5, count).astype(np.float32)
    soundfile.write(path, noise, rate_in, subtype="FLOAT")
    if count * rate_out / rate_in < 0.5:
        with pytest.raises(AudioError, match="is empty"):
            audio.read(path, rate_out)
        return
    whole = audio.read(path, rate_out)
    assert abs(whole.size - count * rate_out / rate_in) <= 0.5
    np.testing.assert_array_equal(audio.resample(noise, rate_in, rate_out), whole)
    blocks = list(audio.blocks(path, rate_out, block_seconds))
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    assert {block.size for block in blocks[:-1]} <= {max(1, round(block_seconds * rate_out))}
    begin = start * count / rate_in
    expected = whole[round(begin * rate_out) : round((begin + length) * rate_out)]
    if expected.size:
        part = audio.read(path, rate_out, begin, begin + length)
        np.testing.assert_allclose(part, expected, atol=2e-5)


def test_channels_are_averaged_and_nothing_aliases(tmp_path: Path) -> None:
    t = np.arange(2 * 48_000) / 48_000
    left, right = 0.5 * np.sin(2 * np.pi * 1000 * t), 0.5 * np.sin(2 * np.pi * 11_000 * t)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 48_000, subtype="FLOAT")
    samples = audio.read(tmp_path / "a.wav", 16_000)
    assert tone_hz(samples, 16_000) == pytest.approx(1000, abs=1)
    inner = samples[1000:-1000].astype(np.float64)
    assert np.sqrt(np.mean(inner**2)) == pytest.approx(0.25 / np.sqrt(2), rel=1e-4)
    many = np.tile(left[:, None], (1, 40))
    soundfile.write(tmp_path / "many.wav", many, 48_000, subtype="FLOAT")
    assert audio.probe(tmp_path / "many.wav") == audio.AudioInfo(48_000, 40, 2.0)
    np.testing.assert_allclose(audio.read(tmp_path / "many.wav", 48_000), left, atol=1e-6)


def test_blocks_hold_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "_BLOCK_VALUES", 1000)
    path = make(tmp_path, ".wav", chirp(1.0))
    asked: list[int] = []
    original = soundfile.SoundFile.read

    def spy(self, frames=-1, *args, **kwargs):
        asked.append(frames)
        return original(self, frames, *args, **kwargs)

    monkeypatch.setattr(soundfile.SoundFile, "read", spy)
    assert sum(block.size for block in audio.blocks(path, 8000, 0.1)) == 8000
    assert max(asked) <= 1000
    asked.clear()
    audio.read(path, RATE, 0.5, 0.51)
    assert sum(asked) < 6000, "a part is read without the rest"


def test_a_part_past_the_end(tmp_path: Path) -> None:
    for suffix in (".wav", ".mp3"):
        path = make(tmp_path, suffix, chirp(1.0))
        assert audio.read(path, 8000, 0.75, 5.0).size == 2000
        for start in (1.001, 30.0):
            with pytest.raises(AudioError, match="ends before the start"):
                audio.read(path, 8000, start, start + 5)
        assert audio.read(path, 8000, 0.5, 0.5).size == 0
    with pytest.raises(ValueError, match="start <= stop"):
        audio.read(path, 8000, 2.0, 1.0)
    with pytest.raises(ValueError, match="rate_hz"):
        audio.read(path, 0)


def test_what_is_no_audio(tmp_path: Path) -> None:
    (tmp_path / "void.wav").touch()
    (tmp_path / "text.mp3").write_text("not a sound\n" * 50)
    (tmp_path / "random.flac").write_bytes(np.random.default_rng(0).bytes(4000))
    (tmp_path / "list.wav").write_text("ffconcat version 1.0\nfile sound.wav\n")
    make(tmp_path, ".wav", chirp(0.1))
    soundfile.write(tmp_path / "header.wav", np.zeros((0, 1)), 8000)
    with av.open(str(tmp_path / "silent.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        container.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux(stream.encode(None))
    wrong = {
        "missing.wav": "no such file",
        ".": "is no file",
        "void.wav": "is empty",
        "header.wav": "is empty",
        "text.mp3": "can't be read",
        "random.flac": "can't be read|sampling rate",
        "list.wav": "can't be read",
        "silent.mkv": "no audio stream",
    }
    for name, reason in wrong.items():
        for use in (
            lambda path: audio.read(path, 8000),
            lambda path: list(audio.blocks(path, 8000)),
            audio.probe,
        ):
            with pytest.raises(AudioError, match=reason):
                use(tmp_path / name)


@pytest.mark.parametrize("rate_hz", [20_000_000, 2_000_000_000])
def test_a_rate_beyond_reason(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(10), rate_hz)
    with pytest.raises(AudioError, match="sampling rate"):
        audio.read(tmp_path / "a.wav", 16_000)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_samples_that_are_no_numbers_are_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: float
) -> None:
    clean = chirp(1.0)
    spoiled = np.stack([clean, clean], axis=1)
    spoiled[10_000:10_010, 0] = bad
    soundfile.write(tmp_path / "a.wav", spoiled, RATE, subtype="FLOAT")
    with caplog.at_level(logging.WARNING, "earmark"):
        samples = audio.read(tmp_path / "a.wav", RATE)
    assert "not finite" in caplog.text
    expected = clean.copy()
    expected[10_000:10_010] /= 2
    np.testing.assert_allclose(samples, expected, atol=1e-7)


def test_a_hole_in_a_flac_keeps_the_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make(tmp_path, ".flac", chirp(4.0))
    sound = audio.read(path, 16_000)
    raw = path.read_bytes()
    half = len(raw) // 2
    path.write_bytes(raw[:half] + raw[half + 5000 :])
    with caplog.at_level(logging.WARNING, "earmark"):
        damaged = audio.read(path, 16_000)
    assert "damaged" in caplog.text
    assert damaged.size == sound.size
    assert np.any(np.abs(damaged - sound) > 0.05)
    np.testing.assert_allclose(damaged[:24_000], sound[:24_000], atol=1e-6)
    np.testing.assert_allclose(damaged[-16_000:], sound[-16_000:], atol=1e-6)
    np.testing.assert_allclose(audio.read(path, 16_000, 3.2, 3.7), sound[51_200:59_200], atol=1e-6)
    np.testing.assert_array_equal(np.concatenate(list(audio.blocks(path, 16_000, 0.3))), damaged)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
def test_a_cut_file_gives_what_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
    path = make(tmp_path, suffix, noise)
    sound = audio.read(path, 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING, "earmark"):
        rest = audio.read(path, 16_000)
    assert 0.25 * sound.size < rest.size < 0.9 * sound.size
    np.testing.assert_allclose(rest[:16_000], sound[:16_000], atol=1e-6)
    if suffix in (".wav", ".flac"):
        assert len(caplog.records) >= 1


def test_a_recorder_that_died_left_no_length(tmp_path: Path) -> None:
    path = make(tmp_path, ".wav", chirp(2.0))
    sound = audio.read(path, 16_000)
    raw = bytearray(path.read_bytes())
    raw[4:8] = raw[40:44] = struct.pack("<I", 0)
    path.write_bytes(raw)
    np.testing.assert_allclose(audio.read(path, 16_000), sound, atol=1e-6)
    assert audio.duration_seconds(path) == pytest.approx(2.0, abs=0.01)


def test_an_mp3_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 8 * RATE).astype(np.float32)
    sound = np.concatenate([noise, np.zeros(16 * RATE, np.float32)])
    path = encode(tmp_path / "vbr.mp3", sound, "libmp3lame", vbr=True)
    lie = tmp_path / "lie.wav"
    lie.write_bytes(path.read_bytes())
    assert soundfile.info(lie).duration < 22, "libsndfile's guess, which is why it isn't asked"
    for name in (path, lie):
        assert audio.read(name, 16_000).size == pytest.approx(24 * 16_000, abs=0.1 * 16_000)
        assert audio.duration_seconds(name) == pytest.approx(24, abs=0.1)


def test_written_samples_come_back(tmp_path: Path) -> None:
    steps = np.random.default_rng(0).integers(-32_768, 32_768, 5000)
    for name in ("a.flac", "b.WAV"):
        audio.write(tmp_path / name, steps / 32_768, 16_000)
        np.testing.assert_array_equal(audio.read(tmp_path / name, 16_000), steps / 32_768)
        assert soundfile.info(tmp_path / name).subtype == "PCM_16"
    audio.write(tmp_path / "loud.wav", np.array([2.0, -2.0, 1.0]), 8000)
    assert audio.read(tmp_path / "loud.wav", 8000) == pytest.approx([1, -1, 1], abs=1e-4)
    with pytest.raises(UserError, match="choose one"):
        audio.write(tmp_path / "a.mp3", np.zeros(3), 16_000)
    with pytest.raises(UserError, match="can't be written"):
        audio.write(tmp_path / "none" / "a.wav", np.zeros(3), 16_000)
    assert {path.name for path in tmp_path.iterdir()} == {"a.flac", "b.WAV", "loud.wav"}


def test_recordings_are_found_and_named(tmp_path: Path) -> None:
    field = tmp_path / "field"
    for name in ("b/2.wav", "a.FLAC", "b/1.mp3", "notes.txt", "b/._1.mp3", ".hidden/3.wav"):
        (field / name).parent.mkdir(parents=True, exist_ok=True)
        (field / name).touch()
    (field / "b" / "circle").symlink_to(field)
    lone = tmp_path / "lone.xyz"
    lone.touch()
    assert audio.find_recordings([lone, field]) == [
        ("lone.xyz", lone),
        ("a.FLAC", field / "a.FLAC"),
        ("b/1.mp3", field / "b" / "1.mp3"),
        ("b/2.wav", field / "b" / "2.wav"),
    ]
    (field / "b" / "circle").unlink()
    assert audio.find_recordings([field, field / "b", field / ".." / "field" / "a.FLAC"]) == [
        *audio.find_recordings([field])
    ]
    (tmp_path / "1.mp3").touch()
    with pytest.raises(UserError, match=r"'1\.mp3'.*b/1\.mp3 and .*1\.mp3"):
        audio.find_recordings([field / "b", tmp_path / "1.mp3"])
    with pytest.raises(UserError, match="no such file or folder"):
        audio.find_recordings([tmp_path / "gone"])
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="holds no audio"):
        audio.find_recordings([field, tmp_path / "bare"])
