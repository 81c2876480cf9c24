"""Pictures and peaks of long recordings: made once, the same as of the samples themselves."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from earmark.audio import read, write
from earmark.errors import UserError
from earmark.web import overview
from earmark.web.library import Recording
from earmark.web.overview import NotMade, Overviews

RATE = 4000


def shades(png: bytes) -> NDArray[np.uint8]:
    width, height = struct.unpack(">II", png[16:24])
    start = png.index(b"IDAT")
    (length,) = struct.unpack(">I", png[start - 4 : start])
    rows = np.frombuffer(zlib.decompress(png[start + 4 : start + 4 + length]), np.uint8)
    return rows.reshape(height, width + 1)[:, 1:]


@pytest.fixture
def looks() -> Iterator[Overviews]:
    looks = Overviews(RATE, 1e9)
    yield looks
    looks.close()


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """200 s of noise with a beep of 0.5 s every 10 s."""
    times = np.arange(200 * RATE) / RATE
    beeps = 0.5 * np.sin(2 * np.pi * 500 * times) * (times % 10 >= 9.5)
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(times))
    write(tmp_path / "a.wav", beeps + noise, RATE)
    return Recording("0" * 32, "a.wav", tmp_path / "a.wav", None, tmp_path / "kept")


def test_a_long_part_shows_what_short_ones_show(looks: Overviews, recording: Recording) -> None:
    long = shades(looks.spectrogram(recording, 0, 200, (400, 48)).png)
    band = long.sum(axis=1, dtype=int).argmax()
    loud = (long[band] > 140).reshape(20, 20)
    assert loud[:, 19].all()
    assert not loud[:, 2:18].any()
    short = shades(looks.spectrogram(recording, 100, 200, (200, 48)).png)
    assert (short[band] > 140).reshape(10, 20)[:, 19].all()
    difference = np.abs(long[:, 200:].astype(int) - short)
    assert np.median(difference) < 20  # the same levels


def test_coarse_columns(looks: Overviews, recording: Recording) -> None:
    few = shades(looks.spectrogram(recording, 0, 200, (20, 48)).png)
    band = few.sum(axis=1, dtype=int).argmax()
    assert (few[band] > 140).all()


def test_peaks_are_those_of_the_samples(looks: Overviews, recording: Recording) -> None:
    samples = read(recording.path, RATE)
    whole = np.array(looks.peaks(recording, 0, 200, 200)).reshape(200, 2)
    seconds = samples.reshape(200, RATE)
    np.testing.assert_allclose(whole[:, 0], seconds.min(axis=1), atol=1e-4)
    np.testing.assert_allclose(whole[:, 1], seconds.max(axis=1), atol=1e-4)
    part = np.array(looks.peaks(recording, 50, 60, 10)).reshape(10, 2)
    np.testing.assert_allclose(part, whole[50:60], atol=2e-4)
    beyond = looks.peaks(recording, 190, 210, 20)
    assert beyond[:20] == pytest.approx(whole[190:].ravel(), abs=2e-4)
    assert beyond[20:] == [0.0] * 20
    fine = np.array(looks.peaks(recording, 0, 0.001, 100))
    assert len(fine) == 200


def test_made_once(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Overviews(RATE, 1e9)
    picture = first.spectrogram(recording, 0, 200, (50, 20))
    first.close()
    monkeypatch.setattr(Overviews, "_make", None)
    second = Overviews(RATE, 1e9)
    assert second.spectrogram(recording, 0, 200, (50, 20)) == picture
    second.close()


def test_a_file_that_grew_is_read_anew(looks: Overviews, recording: Recording) -> None:
    few = np.array(looks.peaks(recording, 0, 300, 300)).reshape(300, 2)
    assert (few[:200] != 0).all()
    assert (few[200:] == 0).all()
    samples = read(recording.path, RATE)
    write(recording.path, np.concatenate([samples, samples[: 100 * RATE]]), RATE)
    more = np.array(looks.peaks(recording, 0, 300, 300)).reshape(300, 2)
    np.testing.assert_array_equal(more[:200], few[:200])
    assert (more[200:] != 0).all()
    assert shades(looks.spectrogram(recording, 0, 300, (300, 48)).png)[:, 299].any()


def test_what_is_not_made_yet(
    looks: Overviews, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    go = threading.Event()
    before = Overviews._write_columns

    def waiting(self: Overviews, *arguments: object) -> None:
        assert go.wait(20)
        before(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Overviews, "_write_columns", waiting)
    monkeypatch.setattr(overview, "WAIT_SECONDS", 0.02)
    with pytest.raises(NotMade):
        looks.spectrogram(recording, 0, 200, (50, 20))
    with pytest.raises(NotMade):
        looks.peaks(recording, 0, 200, 10)
    # Short ones are there at once, but in shades that are guessed.
    early = looks.spectrogram(recording, 0, 10, (50, 20))
    assert early.png
    assert not early.lasting
    go.set()
    monkeypatch.setattr(overview, "WAIT_SECONDS", 20)
    assert looks.spectrogram(recording, 0, 200, (50, 20)).lasting
    assert looks.spectrogram(recording, 0, 10, (50, 20)).png != early.png


def test_an_end_amid_the_work(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "WAIT_SECONDS", 0.0)
    looks = Overviews(RATE, 1e9)
    with pytest.raises(NotMade):
        looks.peaks(recording, 0, 200, 10)
    looks.forget(recording)
    assert not (recording.kept / "overview/overview.json").exists()
    looks.close()


def test_silence_and_too_short_a_sound(tmp_path: Path, looks: Overviews) -> None:
    for number, samples in enumerate((np.zeros(RATE), np.array([0.5]))):
        path = tmp_path / f"{number}.wav"
        write(path, samples, RATE)
        one = Recording(str(number), path.name, path, None, tmp_path / f"kept{number}")
        assert shades(looks.spectrogram(one, 0, 1, (30, 10)).png).shape == (10, 30)
        assert len(looks.peaks(one, 0, 1, 4)) == 8


def test_a_file_that_is_no_sound(tmp_path: Path, looks: Overviews) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    one = Recording("0" * 32, "a.wav", tmp_path / "a.wav", None, tmp_path / "kept")
    for _ in range(2):
        with pytest.raises(UserError, match=r"^a\.wav: can't be read"):
            looks.spectrogram(one, 0, 200, (10, 10))


def test_an_upload_that_is_longer_than_it_says(recording: Recording) -> None:
    sent = Recording("0", "a.wav", recording.path, None, recording.kept, uploaded=True)
    looks = Overviews(RATE, 100.0)
    with pytest.raises(UserError, match="lasts longer"):
        looks.peaks(sent, 0, 200, 10)
    looks.close()
