"""How fast cached features reach training, and what it takes to compute them from audio.

    python -m benchmarks.data --page BENCHMARKS.md

Batches of a made set of features are drawn at random, with the set in the machine's memory and
with none of it there, beside plain numpy on the same file, and beside the training step that they
feed. Then made recordings become features: with every core, and one after another by one.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.floor import Floor, floor
from benchmarks.pages import made_on, options, parsed, tell
from benchmarks.steps import Contender, settings_of, sizes_of, turn
from benchmarks.turns import apart
from earmark.audio import read, write
from earmark.config import FeatureSettings
from earmark.data.clips import CONTENTS, ClipFeatures, clip_features
from earmark.data.labels import Clip
from earmark.features import FeatureExtractor, Normaliser

SETTINGS = FeatureSettings()
CLIP_SECONDS = 10
FRAMES, BANDS = SETTINGS.clock.frame_count(CLIP_SECONDS * SETTINGS.rate_hz), SETTINGS.mel_bands
BATCH = 44
SEED = 2017
RECIPE = "gated-crnn-logmel"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Clips of cached features, batches of them in a round, and recordings that are read."""

    clips: int
    batches: int
    recordings: int


FULL, QUICK = Sizes(20_000, 100, 200), Sizes(100, 2, 8)


# -- batches of cached features


def made_features(file: Path, clips: int) -> None:
    """Features of so many clips, written out to the disk."""
    rng = np.random.default_rng(SEED)
    with open(file, "wb") as out:
        for _ in range(clips):
            out.write(rng.standard_normal((FRAMES, BANDS), np.float32).astype(np.float16).tobytes())
        out.flush()
        os.fsync(out.fileno())


def opened(file: Path, clips: int) -> ClipFeatures:
    """The features in a file, as ``clip_features`` gives them."""
    frames = np.memmap(file, np.float16, "r", shape=(clips * FRAMES, BANDS))
    lengths = np.full(clips, FRAMES, np.int64)
    normal = Normaliser(np.zeros(BANDS), np.ones(BANDS))
    return ClipFeatures(frames, lengths, normal, np.arange(clips), (), "")


def plain_batch(features: ClipFeatures, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """The batch of equally long clips as anyone would write it."""
    frames = features.frames.reshape(-1, FRAMES, BANDS)
    return np.stack([frames[number] for number in numbers]).astype(np.float32)


def _forgotten(file: Path) -> None:
    """Takes a file that nobody has mapped out of the machine's memory, where that is possible."""
    with open(file, "rb") as found:
        os.posix_fadvise(found.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@dataclass(frozen=True, slots=True)
class Reading:
    """Medians in clips/s of ours and of plain numpy, and how far the batches lie apart."""

    where: str
    ours: float
    plain: float
    largest_difference: float


def read_batches(file: Path, sizes: Sizes, rounds: int, *, cold: bool) -> Reading:
    """Reads random batches; ours and plain numpy take turns."""
    rng = np.random.default_rng(SEED)
    ways: tuple[Callable[[ClipFeatures, NDArray[np.int64]], NDArray[np.float32]], ...] = (
        lambda features, numbers: features.batch(numbers)[0],
        plain_batch,
    )
    speeds: tuple[list[float], list[float]] = ([], [])
    difference = 0.0
    # A process that has just started asks for its first memory: the first round isn't timed.
    for number in range(-1, rounds):
        drawn = rng.integers(0, sizes.clips, (sizes.batches, BATCH))
        last = []
        for way, found in zip(ways, speeds, strict=True):
            if cold:
                _forgotten(file)
            else:
                file.read_bytes()
            features = opened(file, sizes.clips)
            started = time.perf_counter()
            for numbers in drawn:
                batch = way(features, numbers)
            if number >= 0:
                found.append(drawn.size / (time.perf_counter() - started))
            last.append(batch)
            del features
        difference = max(difference, float(np.abs(last[0] - last[1]).max()))
    where = "on the disk" if cold else "in memory"
    ours, plain = map(statistics.median, speeds)
    return Reading(where, ours, plain, difference)


def _reading_row(reading: Reading, reached: Floor) -> str:
    # Two bytes a number are read, four written.
    least = reached.seconds(0, 6 * FRAMES * BANDS, "float32")
    return (
        f"| {reading.where} | {reading.ours:.0f} | {reading.plain:.0f} | "
        f"{reading.ours / reading.plain:.1f} | {reading.largest_difference:.1e} | "
        f"{100 * least * reading.ours:.0f} |"
    )


def eaten(recipe: str, device: str, rounds: int, *, quick: bool) -> float:
    """The median of the clips/s of our training step, each time in a process of its own."""
    sizes = sizes_of(settings_of(recipe), quick=quick)
    step = partial(turn, Contender(recipe, ours=True), sizes, device)
    return sizes.clips / statistics.median(apart(step).step_seconds for _ in range(rounds))


# -- features from audio


def made_recordings(folder: Path, count: int) -> list[Clip]:
    """FLAC files of tones in noise."""
    rng = np.random.default_rng(SEED)
    t = np.arange(CLIP_SECONDS * SETTINGS.rate_hz) / SETTINGS.rate_hz
    clips = []
    for number in range(count):
        path = folder / f"{number}.flac"
        tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 7000) * t)
        write(path, tone + 0.01 * rng.standard_normal(len(t)), SETTINGS.rate_hz)
        os.utime(path, ns=(0, 0))
        clips.append(Clip(path, path.name, None, None, frozenset(), None, None))
    return clips


@dataclass(frozen=True, slots=True)
class Preparation:
    """Medians over the rounds.

    Attributes:
        ours, plain: clips/s from audio, with every core, and by one.
        cores: that were at work, of ours.
        hashed, known: clips/s of a later start, with all contents to hash, and with none.
        largest_difference: of the features; ours are kept as float16.
    """

    ours: float
    plain: float
    cores: float
    hashed: float
    known: float
    largest_difference: float


def prepared(folder: Path, count: int, rounds: int) -> Preparation:
    """Computes the features of made recordings, and finds them again."""
    audio, cache = folder / "audio", folder / "cache"
    audio.mkdir()
    clips = made_recordings(audio, count)
    time.sleep(2.5)  # files this new would be hashed again
    extractor = FeatureExtractor(SETTINGS)
    ours = partial(clip_features, clips, extractor, cache, max_clip_seconds=30.0)
    speeds: dict[str, list[float]] = {name: [] for name in ("ours", "plain", "hashed", "known")}
    cores = []
    difference = 0.0

    def timed(name: str, start: Callable[[], object]) -> float:
        started = time.perf_counter()
        start()
        seconds = time.perf_counter() - started
        speeds[name].append(count / seconds)
        return seconds

    for number in range(rounds):
        print(f"audio, round {number + 1} of {rounds} ...", file=sys.stderr, flush=True)
        for file in cache.glob("*"):
            file.unlink()
        used = time.process_time()
        seconds = timed("ours", ours)
        cores.append((time.process_time() - used) / seconds)
        timed("known", ours)
        (cache / CONTENTS).unlink()
        timed("hashed", ours)
        plain: list[NDArray[np.float32]] = []
        timed("plain", lambda to=plain: to.extend(one_by_one(clips, extractor)))  # type: ignore[misc]
        apart = ours().frames.astype(np.float32) - np.concatenate(plain)
        difference = max(difference, float(np.abs(apart).max()))
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    return Preparation(**medians, cores=statistics.median(cores), largest_difference=difference)


def one_by_one(clips: Sequence[Clip], extractor: FeatureExtractor) -> list[NDArray[np.float32]]:
    """Features of each clip, one after another on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = [extractor.of_clips([read(clip.path, SETTINGS.rate_hz)])[0] for clip in clips]
    torch.set_num_threads(before)
    return found


# -- telling


def section(command: str, rounds: int, quick: bool) -> str:
    """Measures, and says what came of it."""
    sizes = QUICK if quick else FULL
    reached = floor("cpu")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.f16"
        made_features(file, sizes.clips)
        readings = [read_batches(file, sizes, rounds, cold=cold) for cold in (False, True)]
        file.unlink()
        audio = prepared(Path(folder), sizes.recordings, rounds)
    megabytes = sizes.clips * FRAMES * BANDS * 2 / 1e6
    lines = [
        f"`{command}`; {made_on()}; torch {torch.__version__}. {reached}.",
        "",
        f"Random batches of {BATCH} of {sizes.clips} clips of {FRAMES} frames ({megabytes:.0f} MB)."
        f" Medians of {rounds} rounds in turns.",
        "",
        "| features lie | ours, clips/s | plain numpy, clips/s | times as fast | "
        "largest difference | ours, % of the floor's speed |",
        "|---|---|---|---|---|---|",
        *(_reading_row(reading, reached) for reading in readings),
        "",
        "| training | eats clips/s | features in memory come so many times as fast | on the disk |",
        "|---|---|---|---|",
    ]
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        print(f"{RECIPE}, {device} ...", file=sys.stderr, flush=True)
        speed = eaten(RECIPE, device, rounds, quick=quick)
        shares = " | ".join(f"{reading.ours / speed:.0f}" for reading in readings)
        lines.append(f"| {RECIPE}, {device} | {speed:.3g} | {shares} |")
    lines += [
        "",
        f"From {sizes.recordings} FLAC files of {CLIP_SECONDS} s, {audio.ours:.0f} clips/s become "
        f"features, {audio.ours / audio.plain:.1f} times as many as one after another on one "
        f"thread ({audio.plain:.0f}), with {audio.cores:.2f} of {os.cpu_count()} cores at work; "
        f"kept as float16 they differ by at most {audio.largest_difference:.1e}. A later start "
        f"finds them at {audio.hashed:.0f} clips/s if every file is hashed, and at "
        f"{audio.known:.0f} where none has changed.",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parsed("data", options("data", __doc__), argv)
    words = section(arguments.command, arguments.rounds, arguments.quick)
    tell(arguments.page, "data", words)


if __name__ == "__main__":
    main()
