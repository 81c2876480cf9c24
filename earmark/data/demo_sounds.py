"""Synthetic isolated sounds, for a demo and tests without any download."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from earmark.data.scenes import Sound

Samples = NDArray[np.float64]

LOWEST_RATE_HZ = 8000


def demo_sound(label: str, rate_hz: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """One sound of a class: 0.6 to 4 s, with random pitch, speed and course of its level.

    Args:
        label: one of ``DEMO_CLASSES``.
        rate_hz: 8000 or more, so that every class stays below half of it.
        rng: what the sound is drawn from.

    Returns:
        (S,) with a peak of 0.5.
    """
    if rate_hz < LOWEST_RATE_HZ:
        raise ValueError(f"rate_hz must be at least {LOWEST_RATE_HZ}, got {rate_hz}")
    t = np.arange(round(rng.uniform(0.6, 4.0) * rate_hz)) / rate_hz
    samples = _MAKERS[label](t, rate_hz, rng)
    first_db, last_db = rng.uniform(-3.0, 3.0, 2)
    samples *= 10 ** (np.linspace(first_db, last_db, t.size) / 20)
    return np.asarray(0.5 * samples / np.abs(samples).max(), np.float32)


def demo_sounds(count_per_class: int, rate_hz: int, seed: int) -> list[Sound]:
    """Sounds of every class for ``mix_scene``; the first n don't depend on how many follow."""

    def make(label: str, index: int, number: int) -> NDArray[np.float32]:
        seeds = np.random.SeedSequence([seed, index, number])
        return demo_sound(label, rate_hz, np.random.default_rng(seeds))

    return [
        Sound(label, f"{label}_{number:03}", rate_hz, partial(make, label, index, number))
        for index, label in enumerate(DEMO_CLASSES)
        for number in range(count_per_class)
    ]


def _beep(t: Samples, rate_hz: int, rng: np.random.Generator) -> Samples:
    """A pure tone, switched on and off."""
    pitch_hz, period = rng.uniform(1800, 3000), rng.uniform(0.2, 0.5)
    on = rng.uniform(0.4, 0.6) * period
    since = t % period
    gate = np.clip(np.minimum(since, on - since) / 0.01, 0.0, 1.0)
    return np.asarray(gate * np.sin(2 * np.pi * pitch_hz * t))


def _bell(t: Samples, rate_hz: int, rng: np.random.Generator) -> Samples:
    """Struck once or more: inharmonic partials that die away, the higher ones sooner."""
    pitch_hz, decay_seconds = rng.uniform(600, 1100), rng.uniform(0.3, 0.8)
    since = t % rng.uniform(0.8, 2.0)
    ratios = (0.56, 0.92, 1.19, 1.71, 2.0, 2.74, 3.0)
    phases = rng.uniform(0, 2 * np.pi, len(ratios))
    partials = [
        np.exp(-since * ratio / decay_seconds)
        * np.sin(2 * np.pi * pitch_hz * ratio * since + phase)
        for ratio, phase in zip(ratios, phases, strict=True)
    ]
    return np.asarray(np.sum(partials, axis=0) * np.clip(since / 0.002, 0.0, 1.0))


def _engine(t: Samples, rate_hz: int, rng: np.random.Generator) -> Samples:
    """A low train of pulses whose rate trembles."""
    points = np.arange(0.0, t[-1] + 0.2, 0.1)
    trembling = np.interp(t, points, 1 + 0.04 * rng.standard_normal(points.size))
    phase = 2 * np.pi * np.cumsum(rng.uniform(40, 90) * trembling) / rate_hz
    return _harmonics(phase, [k**-1.2 for k in range(1, 9)], rng)


def _hammer(t: Samples, rate_hz: int, rng: np.random.Generator) -> Samples:
    """Blows: bursts of noise that die away."""
    since = t % (1 / rng.uniform(4.0, 9.0))
    return np.asarray(rng.standard_normal(t.size) * np.exp(-since / rng.uniform(0.008, 0.02)))


def _horn(t: Samples, rate_hz: int, rng: np.random.Generator) -> Samples:
    """Two tones a third or a fourth apart, both rich in harmonics."""
    low_hz, interval = rng.uniform(300, 450), rng.choice([1.2, 1.26, 1.335])
    weights = [1 / k for k in range(1, 7)]
    chord = _harmonics(2 * np.pi * low_hz * t, weights, rng)
    chord += _harmonics(2 * np.pi * low_hz * interval * t, weights, rng)
    return np.asarray(chord * np.clip(np.minimum(t / 0.03, (t[-1] - t) / 0.06), 0.0, 1.0))


def _siren(t: Samples, rate_hz: int, rng: np.random.Generator) -> Samples:
    """A tone with harmonics that rises and falls."""
    low_hz, high_hz = rng.uniform(500, 700), rng.uniform(1100, 1300)
    sweep = 0.5 - 0.5 * np.cos(2 * np.pi * (rng.uniform(0.5, 1.5) * t + rng.uniform()))
    phase = 2 * np.pi * np.cumsum(low_hz + (high_hz - low_hz) * sweep) / rate_hz
    return _harmonics(phase, [1.0, 0.4, 0.2], rng)


def _harmonics(phase: Samples, weights: list[float], rng: np.random.Generator) -> Samples:
    shifts = rng.uniform(0, 2 * np.pi, len(weights))
    waves = [
        weight * np.sin(k * phase + shift)
        for k, (weight, shift) in enumerate(zip(weights, shifts, strict=True), start=1)
    ]
    return np.asarray(np.sum(waves, axis=0))


_MAKERS: dict[str, Callable[[Samples, int, np.random.Generator], Samples]] = {
    "beep": _beep,
    "bell": _bell,
    "engine": _engine,
    "hammer": _hammer,
    "horn": _horn,
    "siren": _siren,
}
DEMO_CLASSES = tuple(_MAKERS)
