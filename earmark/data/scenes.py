"""Scenes mixed from isolated sounds over a background, whose events are known exactly."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from earmark.audio import read
from earmark.config import Section
from earmark.errors import UserError
from earmark.events import Event

Colour = Literal["white", "pink", "brown"]

# Power falls as 1 / frequency ** exponent.
_EXPONENTS: dict[Colour, int] = {"white": 0, "pink": 1, "brown": 2}
# Below what people hear the spectrum is flat, or most of brown noise would be inaudible.
_FLAT_BELOW_HZ = 20.0
_FADE_SECONDS = 0.005
_TRIES = 20
# Recorded backgrounds may hold digital silence, which would give a scene away.
_FLOOR_BELOW_RECORDING_DB = 40.0


class SceneSettings(Section):
    """What scenes are like. Ranges are drawn from uniformly, both ends included.

    ``class_weights`` says how often events of a class are drawn, relative to 1 for a class that
    it doesn't name; ``class_ratio`` does so in equal steps instead, the first class in sorted
    order that many times as often as the last. ``background_db`` is an RMS re full scale.
    """

    duration_seconds: float = Field(10.0, gt=0, le=3600)
    rate_hz: int = Field(16_000, ge=100, le=400_000)
    events_min: int = Field(1, ge=0)
    events_max: int = Field(4, ge=0)
    snr_db_min: float = Field(6.0, ge=-60, le=60)
    snr_db_max: float = Field(30.0, ge=-60, le=60)
    min_event_seconds: float = Field(0.05, gt=0)
    max_event_seconds: float = Field(4.0, gt=0)
    class_weights: Mapping[str, float] = Field(default_factory=dict)
    class_ratio: float = Field(1.0, ge=1, le=1e6)
    background: Literal["white", "pink", "brown", "mixed"] = "mixed"
    background_db_min: float = Field(-50.0, ge=-70, le=0)
    background_db_max: float = Field(-30.0, ge=-70, le=0)

    @model_validator(mode="after")
    def _fits(self) -> "SceneSettings":
        for name in ("events", "snr_db", "background_db"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if low > high:
                raise ValueError(f"{name} needs its lower end first, came as {low} to {high}")
        if self.min_event_seconds > min(self.max_event_seconds, self.duration_seconds):
            raise ValueError("min_event_seconds may exceed neither max_event_seconds nor a scene")
        if round(self.min_event_seconds * self.rate_hz) < 1:
            raise ValueError("min_event_seconds must last a sample")
        if not all(0 <= weight < np.inf for weight in self.class_weights.values()):
            raise ValueError("class_weights must be finite and at least 0")
        if self.class_weights and self.class_ratio != 1:
            raise ValueError("class_weights and class_ratio exclude each other")
        return self

    @property
    def samples(self) -> int:
        """Samples of a scene."""
        return round(self.duration_seconds * self.rate_hz)


@dataclass(frozen=True, eq=False)
class Sound:
    """One isolated sound of a class, active throughout; loaded when first used, then kept.

    Attributes:
        label: its class.
        source: what it is called in tables.
        rate_hz: the rate of what ``load`` gives.
        load: gives the (S,) samples.
    """

    label: str
    source: str
    rate_hz: int
    load: Callable[[], NDArray[np.float32]] = field(repr=False)

    @cached_property
    def samples(self) -> NDArray[np.float32]:
        """(S,)"""
        return self.load()


def sound_from_file(
    path: Path,
    label: str,
    source: str,
    rate_hz: int,
    start_seconds: float = 0.0,
    stop_seconds: float | None = None,
) -> Sound:
    """The active part of a recording of one sound."""
    return Sound(label, source, rate_hz, lambda: read(path, rate_hz, start_seconds, stop_seconds))


@dataclass(frozen=True, slots=True)
class Background:
    """A recording from which backgrounds are cut."""

    path: Path
    name: str
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class MixedEvent:
    """An event of a scene, and the sound that it is an excerpt of."""

    event: Event
    source: str
    snr_db: float


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A mixture and what is in it.

    Attributes:
        samples: (S,) in [-1, 1), multiples of 1/32768, so that a 16-bit file keeps them.
        mixed: its events by onset, with where they come from.
        background: the noise's colour, or the recording's name.
    """

    samples: NDArray[np.float32]
    mixed: tuple[MixedEvent, ...]
    background: str

    @property
    def events(self) -> list[Event]:
        """By onset."""
        return [mixed.event for mixed in self.mixed]

    @property
    def sources(self) -> list[str]:
        """The sounds of ``events``."""
        return [mixed.source for mixed in self.mixed]


def scene_rng(seed: int, index: int) -> np.random.Generator:
    """The randomness of one scene: it doesn't depend on how many others are made."""
    return np.random.default_rng(np.random.SeedSequence([seed, index]))


def mix_scene(
    sounds: Sequence[Sound],
    settings: SceneSettings,
    rng: np.random.Generator,
    backgrounds: Sequence[Background] = (),
) -> Scene:
    """A scene of random events over noise, or over a part of a recording.

    An event is an excerpt of one sound, of a random place in it where it is longer than
    ``max_event_seconds``, else the whole of it; it is never padded or repeated, and fades in and
    out in 5 ms. Its interval is the excerpt. Its RMS stands at the drawn SNR to the background's
    over the same samples. Events of one class neither overlap nor touch: one that finds no place
    in 20 draws is dropped, as long as ``events_min`` remain. A mixture that would clip is scaled
    down as a whole. The background is never silent: a recorded one has noise 40 dB below it.

    The same arguments give the same scene; numpy alone computes it, in double precision.

    Raises:
        UserError: ``events_min`` events find no place, a sound is too short or silent, a class
            is weighted that no sound has, or a background is shorter than the scene.
    """
    if not sounds:
        raise UserError("scenes need at least one sound")
    if any(sound.rate_hz != settings.rate_hz for sound in sounds):
        raise ValueError(f"every sound must be at the scenes' {settings.rate_hz} Hz")
    mixture, background = _draw_background(settings, rng, backgrounds)
    quiet = mixture.copy()
    of_class: dict[str, list[Sound]] = {}
    for sound in sounds:
        of_class.setdefault(sound.label, []).append(sound)
    labels = sorted(of_class)
    cumulative = np.cumsum(class_probabilities(labels, settings))

    mixed: list[MixedEvent] = []
    taken: dict[str, list[tuple[int, int]]] = {label: [] for label in labels}
    wanted = int(rng.integers(settings.events_min, settings.events_max + 1))
    for draw in range(wanted + _TRIES):
        if draw >= wanted and len(mixed) >= settings.events_min:
            break
        place = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        label = labels[min(place, len(labels) - 1)]
        sound = of_class[label][int(rng.integers(len(of_class[label])))]
        excerpt = _draw_excerpt(sound, settings, rng)
        start = _draw_start(excerpt.size, settings.samples, taken[label], rng)
        if start is None:
            continue
        stop = start + excerpt.size
        snr_db = float(rng.uniform(settings.snr_db_min, settings.snr_db_max))
        gain = _rms(quiet[start:stop]) / _rms(excerpt) * 10 ** (snr_db / 20)
        mixture[start:stop] += gain * excerpt
        taken[label].append((start, stop))
        event = Event(start / settings.rate_hz, stop / settings.rate_hz, label)
        mixed.append(MixedEvent(event, sound.source, snr_db))
    if len(mixed) < settings.events_min:
        raise UserError(
            f"scenes of {settings.duration_seconds:g} s don't hold {settings.events_min} events "
            "without two of a class overlapping; lower the least number of events, or their "
            "longest duration"
        )
    mixed.sort(key=lambda item: (item.event.onset_seconds, item.event.label))
    return Scene(_as_16_bit(mixture), tuple(mixed), background)


def class_probabilities(labels: Sequence[str], settings: SceneSettings) -> NDArray[np.float64]:
    """(K,) how often an event is of each of the sorted classes."""
    for label in settings.class_weights:
        if label not in labels:
            raise UserError(f"class '{label}' is weighted, but the sounds are {', '.join(labels)}")
    if settings.class_weights:
        weights = np.array([settings.class_weights.get(label, 1.0) for label in labels])
    else:
        weights = settings.class_ratio ** -np.linspace(0.0, 1.0, len(labels))
    if not weights.any():
        raise UserError("at least one class needs a weight above 0")
    return np.asarray(weights / weights.sum())


def coloured_noise(
    samples: int, colour: Colour, rate_hz: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(S,) Gaussian noise without a mean, of RMS 1; from 20 Hz on its power falls by 0 (white),
    3 (pink) or 6 dB (brown) an octave."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequencies_hz = np.maximum(np.fft.rfftfreq(samples, 1 / rate_hz), _FLAT_BELOW_HZ)
    spectrum *= frequencies_hz ** (-_EXPONENTS[colour] / 2)
    if samples > 1:
        spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, samples)
    return np.asarray(noise / _rms(noise))


def _draw_background(
    settings: SceneSettings, rng: np.random.Generator, backgrounds: Sequence[Background]
) -> tuple[NDArray[np.float64], str]:
    colours = list(_EXPONENTS)
    drawn = colours[int(rng.integers(len(colours)))]
    colour = drawn if settings.background == "mixed" else settings.background
    level = 10 ** (rng.uniform(settings.background_db_min, settings.background_db_max) / 20)
    noise = level * coloured_noise(settings.samples, colour, settings.rate_hz, rng)
    if not backgrounds:
        return noise, colour
    chosen = backgrounds[int(rng.integers(len(backgrounds)))]
    # Two samples more, as the part's ends may both be rounded inwards.
    length_seconds = settings.duration_seconds + 2 / settings.rate_hz
    start = rng.uniform(0.0, max(0.0, chosen.duration_seconds - length_seconds))
    part = read(chosen.path, settings.rate_hz, start, start + length_seconds)
    if part.size < settings.samples:
        raise UserError(
            f"a background must last a scene, {settings.duration_seconds:g} s, and gives "
            f"{part.size / settings.rate_hz:g} s; remove it or shorten the scenes",
            where=chosen.path,
        )
    recorded = part[: settings.samples].astype(np.float64)
    loudness = _rms(recorded)
    floor = noise * 10 ** (-_FLOOR_BELOW_RECORDING_DB / 20)
    return floor + (level / loudness * recorded if loudness else 0.0), chosen.name


def _draw_excerpt(
    sound: Sound, settings: SceneSettings, rng: np.random.Generator
) -> NDArray[np.float64]:
    if sound.samples.size < round(settings.min_event_seconds * settings.rate_hz):
        raise UserError(
            f"sound '{sound.source}' must last at least {settings.min_event_seconds:g} s, lasts "
            f"{sound.samples.size / settings.rate_hz:g} s; remove it or lower the limit"
        )
    longest = min(settings.max_event_seconds, settings.duration_seconds) * settings.rate_hz
    size = min(sound.samples.size, round(longest))
    for _ in range(_TRIES):
        start = int(rng.integers(sound.samples.size - size + 1))
        excerpt = sound.samples[start : start + size].astype(np.float64)
        fade = min(round(_FADE_SECONDS * settings.rate_hz), size // 4)
        rise = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / max(fade, 1)) ** 2
        excerpt[:fade] *= rise
        excerpt[size - fade :] *= rise[::-1]
        if excerpt.any():
            return excerpt
    raise UserError(
        f"sound '{sound.source}' is silent; remove it, or say where in the file it is active"
    )


def _draw_start(
    size: int, samples: int, taken: Sequence[tuple[int, int]], rng: np.random.Generator
) -> int | None:
    """Where an excerpt neither overlaps nor touches one of its class, if a try finds it."""
    for _ in range(_TRIES):
        start = int(rng.integers(samples - size + 1))
        if all(start + size < begin or end < start for begin, end in taken):
            return start
    return None


def _rms(samples: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def _as_16_bit(mixture: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scaled down if it would clip, rounded to what a 16-bit file holds."""
    steps = mixture * 32768
    peak = float(np.abs(steps).max())
    if peak > 32767:
        steps *= 32767 / peak
    return (np.rint(steps) / 32768).astype(np.float32)
