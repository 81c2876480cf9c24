"""What is heard in recordings, and what their names tell."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.audio import AudioError, read
from earmark.data.check.classes import _one_letter_apart
from earmark.data.check.hearing import CLIPPED_RUN, FULL_SCALE, _clipped, listen
from earmark.data.check.parts import _source
from earmark.formats.label_table import LabelTable

RATE_HZ = 8000


def noise(seconds, seed=0, level=0.1, channels=1):
    samples = level * np.random.default_rng(seed).standard_normal(
        (round(seconds * RATE_HZ), channels)
    )
    return np.round(samples * 32768) / 32768


def heard(path, samples, **how):
    soundfile.write(path, samples, RATE_HZ, **how)
    return listen(path)


def test_the_same_samples_are_the_same_recording_in_any_file(tmp_path):
    mono = noise(1.03)
    one = heard(tmp_path / "a.wav", mono)
    assert heard(tmp_path / "b.flac", mono).digest == one.digest
    assert heard(tmp_path / "c.wav", np.repeat(mono, 2, axis=1)).digest == one.digest
    assert heard(tmp_path / "d.wav", mono, subtype="FLOAT").digest == one.digest
    changed = mono.copy()
    changed[-1] += 1 / 32768
    assert heard(tmp_path / "e.wav", changed).digest != one.digest
    assert heard(tmp_path / "f.wav", mono[:-1]).digest != one.digest
    soundfile.write(tmp_path / "g.wav", mono, 2 * RATE_HZ)
    assert listen(tmp_path / "g.wav").digest != one.digest


def test_blocks_change_nothing(tmp_path, monkeypatch):
    samples = noise(1.27, channels=2) + 0.02
    whole = heard(tmp_path / "a.wav", samples)
    monkeypatch.setattr("earmark.audio._BLOCK_VALUES", 2 * 777)
    cut = listen(tmp_path / "a.wav")
    assert cut.digest == whole.digest
    assert cut.seconds == whole.seconds == pytest.approx(1.27, abs=1 / RATE_HZ)
    assert cut.offset == pytest.approx(whole.offset) == pytest.approx(0.02, abs=0.003)
    for one, other in ((cut.lows, whole.lows), (cut.highs, whole.highs)):
        np.testing.assert_array_equal(one, other)
    mono = read(tmp_path / "a.wav", RATE_HZ)
    cells = [mono[start : start + 800] for start in range(0, len(mono), 800)]
    np.testing.assert_allclose(whole.lows, [cell.min() for cell in cells], rtol=1e-6)
    np.testing.assert_allclose(whole.highs, [cell.max() for cell in cells], rtol=1e-6)


def test_silence_is_told_part_by_part(tmp_path):
    samples = np.concatenate([noise(1.0), np.full((RATE_HZ, 1), 0.25), noise(1.0)])
    found = heard(tmp_path / "a.wav", samples)
    assert found.silent(1.0, 2.0)
    assert not found.silent(0.5, 2.0)
    assert not found.silent()
    assert not found.silent(7.0, 8.0), "of what isn't there nothing is said"
    assert heard(tmp_path / "b.wav", np.zeros(RATE_HZ)).silent()
    assert heard(tmp_path / "c.wav", noise(1.0, level=1e-5)).silent()
    assert not heard(tmp_path / "d.wav", noise(1.0, level=1e-3)).silent()


def test_a_stretch_without_any_change_is_padding(tmp_path):
    sound, gap = noise(1.0), np.full((RATE_HZ // 2, 1), 0.25)
    found = heard(tmp_path / "a.wav", np.concatenate([sound, gap, sound]))
    assert found.padded()
    assert found.padded(1.0, 1.5)
    assert not found.padded(0.0, 1.4)
    assert not found.padded(7.0, 8.0), "of what isn't there nothing is said"
    for name, end in (("b", np.zeros((2 * RATE_HZ, 1))), ("c", np.zeros((RATE_HZ // 4, 1)))):
        assert heard(tmp_path / f"{name}.wav", np.concatenate([sound, end])).padded() == (
            len(end) >= RATE_HZ // 2
        )
    faint = noise(1.0, level=4e-5)
    assert not heard(tmp_path / "d.wav", faint).padded()


def slow_clipped(channel):
    count = run = 0
    for sample in [*channel, 0.0]:
        if abs(sample) >= FULL_SCALE:
            run += 1
            continue
        count += run if run >= CLIPPED_RUN else 0
        run = 0
    return count


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([0.0, 0.9, 1.0, -1.0, 1.2]), min_size=1, max_size=30))
def test_clipped_samples_are_those_of_runs(values):
    block = np.array(values, np.float32)[:, None]
    assert _clipped(block) == slow_clipped(values)


def test_a_clipped_tone_and_a_loud_one(tmp_path):
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ)
    assert heard(tmp_path / "a.wav", np.clip(3 * tone, -1, 1)).clipped > 0.5
    assert heard(tmp_path / "b.wav", tone).clipped == 0


def test_what_is_no_number_is_counted(tmp_path):
    samples = noise(0.5)
    samples[3], samples[5], samples[7] = np.nan, np.inf, 1e38
    found = heard(tmp_path / "a.wav", samples, subtype="FLOAT")
    assert found.infinite == 3
    assert np.isfinite([found.offset, found.lows.min(), found.highs.max()]).all()


def test_the_decoders_complaints_are_kept_and_not_printed(tmp_path, capfd):
    heard(tmp_path / "a.wav", noise(1.0))
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[: len(content) // 2])
    found = listen(tmp_path / "a.wav")
    assert len(found.damage) == 1
    assert found.damage[0].startswith("is cut")
    assert capfd.readouterr() == ("", "")


def test_no_audio_is_an_error(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError):
        listen(tmp_path / "a.wav")


def slow_one_letter_apart(one, other):
    short, long = sorted((one, other), key=len)
    if len(long) < 5 or len(long) - len(short) > 1 or one == other:
        return False
    if len(short) == len(long):
        wrong = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
        return len(wrong) == 1 and not any(letter.isdigit() for letter in wrong[0])
    return any(
        long[:place] + long[place + 1 :] == short and not long[place].isdigit()
        for place in range(len(long))
    )


@settings(deadline=None, max_examples=100)
@given(st.sets(st.text("ab1", min_size=3, max_size=6), max_size=12))
def test_names_a_letter_apart_are_found(names):
    expected = {
        (one, other)
        for one in names
        for other in names
        if one < other
        if slow_one_letter_apart(one, other)
    }
    assert set(_one_letter_apart(dict.fromkeys(names))) == expected


@pytest.mark.parametrize(
    ("filename", "source"),
    [
        ("a/rec01_003.wav", "rec01"),
        ("1-100032-A-0.wav", "1-100032"),
        ("1-17092-B-12.wav", "1-17092"),
        ("Y-0RWZT-miFs_420.000_430.000.wav", "Y-0RWZT-miFs"),
        ("clips_00012.wav", None),
        ("siren_12.wav", None),
        ("20240501_120000.wav", "20240501-120000"),
    ],
)
def test_a_source_is_what_is_left_of_a_name_without_its_part(filename, source):
    assert _source(filename, LabelTable(Path("x"), (), ())) == source
