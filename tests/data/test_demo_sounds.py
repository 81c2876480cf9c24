"""Demo sounds: their spectra and rhythms are what their names say."""

import numpy as np
import pytest

from earmark.data.demo_sounds import DEMO_CLASSES, demo_sound, demo_sounds
from earmark.data.scenes import SceneSettings, mix_scene, scene_rng

RATE = 16_000


def share(samples: np.ndarray, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(samples.size, 1 / RATE)
    return float(power[(hz >= low_hz) & (hz < high_hz)].sum() / power.sum())


def peak_hz(samples: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * RATE / samples.size)


def draws(label: str) -> list[np.ndarray]:
    return [demo_sound(label, RATE, np.random.default_rng(seed)) for seed in range(8)]


@pytest.mark.parametrize("label", DEMO_CLASSES)
def test_every_sound_is_sound(label: str) -> None:
    drawn = draws(label)
    for samples in drawn:
        assert samples.dtype == np.float32
        assert 0.6 * RATE - 1 <= samples.size <= 4 * RATE + 1
        assert np.abs(samples).max() == pytest.approx(0.5, abs=1e-6)
        assert abs(samples.mean()) < 0.01
        assert share(samples, 20, 7500) > 0.9
    assert len({samples.size for samples in drawn}) == len(drawn)
    again = demo_sound(label, RATE, np.random.default_rng(3))
    np.testing.assert_array_equal(again, drawn[3])


def test_a_beep_is_at_its_pitch_and_pauses() -> None:
    for samples in draws("beep"):
        pitch_hz = peak_hz(samples)
        assert 1800 <= pitch_hz <= 3000
        assert share(samples, pitch_hz - 60, pitch_hz + 60) > 0.95
        assert 0.3 < np.mean(np.abs(samples) < 1e-6) < 0.7


def test_an_engine_is_low() -> None:
    for samples in draws("engine"):
        assert share(samples, 0, 800) > 0.99
        assert 35 < peak_hz(samples) < 200


def test_a_siren_moves_and_a_horn_does_not() -> None:
    def pitches(samples: np.ndarray) -> list[float]:
        frames = samples[: samples.size // 1024 * 1024].reshape(-1, 1024)[1:-1]
        return [peak_hz(frame * np.hanning(1024)) for frame in frames]

    for siren, horn in zip(draws("siren"), draws("horn"), strict=True):
        assert 450 < min(pitches(siren)) < max(pitches(siren)) < 1350
        assert np.ptp(pitches(siren)) > 200
        assert all(280 < hz < 650 for hz in pitches(horn))
        assert share(horn, 650, 4000) > 0.1, "rich in harmonics"


def test_a_bell_dies_away_and_a_hammer_is_noise() -> None:
    for samples in draws("bell"):
        struck, later = samples[: RATE // 10], samples[RATE // 2 : RATE * 6 // 10]
        assert np.mean(struck**2) > 4 * np.mean(later**2)
    for samples in draws("hammer"):
        assert min(share(samples, low, low + 1000) for low in range(0, 8000, 1000)) > 0.08
        envelope = np.abs(samples[: samples.size // 160 * 160]).reshape(-1, 160).max(axis=1)
        assert np.median(envelope) < 0.3 * envelope.max()


def test_a_demo_set_can_be_mixed() -> None:
    few, more = demo_sounds(2, RATE, seed=5), demo_sounds(3, RATE, seed=5)
    assert [sound.label for sound in few] == [label for label in DEMO_CLASSES for _ in range(2)]
    of_name = {sound.source: sound.samples for sound in more}
    assert len(of_name) == 3 * len(DEMO_CLASSES)
    for sound in few:
        np.testing.assert_array_equal(sound.samples, of_name[sound.source])
    scene = mix_scene(few, SceneSettings(), scene_rng(0, 0))
    assert set(scene.sources) <= set(of_name)
    other = demo_sounds(1, RATE, seed=6)[0].samples
    assert other.size != few[0].samples.size
    with pytest.raises(ValueError, match="at least 8000"):
        demo_sound("beep", 4000, np.random.default_rng(0))
