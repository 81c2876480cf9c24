"""Detection end to end, from a file to its events: speed, cores and memory.

    python -m benchmarks.detection --page BENCHMARKS.md

The peer is the straightforward pipeline: librosa reads the file whole and resamples it, librosa's
log mel, the plain network in float32 over the same windows, the means of those, runs above a
threshold. The recordings are made once, FLAC of 44.1 kHz: faint noise with bursts, so that a day
of it is about a gigabyte. The network has the paper's shape and weights that were never trained,
which changes no time; how far engines differ on a trained one stands under Inference. Each turn is
a process of its own, and is timed once modules are imported and the model is loaded.
"""

import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from benchmarks.floor import floor
from benchmarks.pages import made_on, options, parsed, tell
from benchmarks.plain import PAPER, work_of
from benchmarks.steps import CLASSES, plain_twin
from benchmarks.turns import apart
from earmark.config import Settings
from earmark.features import Normaliser
from earmark.inference.fusion import load_recogniser
from earmark.inference.stitching import WindowPlan
from earmark.model.bundle import TrainingSummary, describe, load, save
from earmark.model.precision import native_bfloat16
from earmark.recipes import systems
from earmark.tuning.rules import untuned

FILE_RATE_HZ = 44_100
WINDOW_SECONDS = 10
WINDOWS_AT_ONCE = 8
WARM_UP_SECONDS = 15
BURST_EVERY_SECONDS = 30
SEED = 2017
OUT = Path(tempfile.gettempdir()) / "earmark-benchmarks"
NAMES = tuple(f"class {k:02d}" for k in range(CLASSES))
QUICK = {"network": {"filters": 4, "recurrent_units": 4}}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Seconds of the recordings, and how many short files of how many seconds there are."""

    compared: int
    day: int
    files: int
    of_file: int


FULL_SIZES = Sizes(compared=3600, day=24 * 3600, files=10_000, of_file=1)
QUICK_SIZES = Sizes(compared=20, day=40, files=20, of_file=1)


@dataclass(frozen=True, slots=True)
class Run:
    """What a turn took.

    Attributes:
        seconds: from the file to the events.
        busy: the share of all cores' time.
        peak_bytes: the largest memory that the process had.
        events: how many were found.
    """

    seconds: float
    busy: float
    peak_bytes: int
    events: int


Work = Callable[[Path], int]
"""Gives the number of events in a recording, or a folder of them."""


def recording(out: Path, seconds: int) -> Path:
    """A FLAC file of so many seconds, made unless it is there."""
    path = out / f"{seconds}s.flac"
    if not path.exists():
        part = path.with_suffix(".part")
        with soundfile.SoundFile(part, "w", FILE_RATE_HZ, 1, format="FLAC") as file:
            for second in _seconds(np.random.default_rng(SEED), seconds):
                file.write(second)
        part.replace(path)
    return path


def files(out: Path, count: int, seconds: int) -> Path:
    """A folder of so many short FLAC files, made unless they are there."""
    folder = out / f"{count}x{seconds}s"
    folder.mkdir(exist_ok=True)
    for number in range(count):
        path = folder / f"{number:05d}.flac"
        if not path.exists():
            samples = np.concatenate(list(_seconds(np.random.default_rng(number), seconds)))
            soundfile.write(path, samples, FILE_RATE_HZ, format="FLAC")
    return folder


def _seconds(rng: np.random.Generator, count: int) -> Iterator[NDArray[np.int16]]:
    for second in range(count):
        samples = rng.integers(-1, 2, FILE_RATE_HZ).astype(np.int16)
        if second % BURST_EVERY_SECONDS == 0:
            samples *= np.int16(1000)
        yield samples


def model(out: Path, quick: bool) -> Path:
    """The folder of a model that was never trained."""
    folder = out / "model"
    (settings,) = systems(PAPER, QUICK if quick else {}).values()
    bands, clock = settings.features.mel_bands, settings.features.clock
    description = describe(
        NAMES,
        settings,
        untuned(CLASSES, settings.decoding),
        Normaliser(np.full(bands, -5.0), np.full(bands, 3.0)),
        clock.frame_count(WINDOW_SECONDS * clock.rate_hz),
        1,
        TrainingSummary(
            recipe=PAPER,
            seed=SEED,
            epochs=0,
            precision="float32",
            clips=0,
            clips_of_class=dict.fromkeys(NAMES, 0),
            weights="never trained",
            thresholds="untuned",
            tuned_on={},
            validation={},
            seconds=0.0,
        ),
        "none",
    )
    torch.manual_seed(SEED)
    save(folder, description, [description.network().state_dict()], "Never trained.\n")
    return folder


class Straightforward:
    """Librosa's features and the plain network, the whole recording at once."""

    def __init__(self, folder: Path) -> None:
        import librosa

        self._librosa = librosa
        bundle = load(folder)
        self._description = bundle.description
        self._settings: Settings = bundle.description.settings
        self._network = plain_twin(bundle.networks[0], self._settings).eval()

    def __call__(self, path: Path) -> int:
        probabilities = self.probabilities(path)
        thresholds = np.array([rule.threshold for rule in self._description.decoding])
        active = probabilities > thresholds
        starts = active & ~np.concatenate([np.zeros_like(active[:1]), active[:-1]])
        return int(starts.sum())

    def probabilities(self, path: Path) -> NDArray[np.float32]:
        """(T, K) of the whole recording."""
        features = self._features(path)
        plan = WindowPlan(self._description.window_frames, self._settings.stitching.overlap)
        windows = list(plan.finish(len(features)))
        length = windows[0][1] - windows[0][0]
        share = np.sin(np.pi * (np.arange(length) + 0.5) / length)[:, None] ** 2
        sums = np.zeros((len(features), CLASSES))
        shares = np.zeros((len(features), 1))
        for at in range(0, len(windows), WINDOWS_AT_ONCE):
            now = windows[at : at + WINDOWS_AT_ONCE]
            batch = torch.from_numpy(np.stack([features[start:stop] for start, stop in now]))
            with torch.no_grad():
                found = self._network(batch)[0].numpy()
            for (start, stop), of_window in zip(now, found, strict=True):
                sums[start:stop] += share * of_window
                shares[start:stop] += share
        return (sums / shares).astype(np.float32)

    def _features(self, path: Path) -> NDArray[np.float32]:
        how = self._settings.features
        samples, _ = self._librosa.load(path, sr=how.rate_hz)
        frames = how.clock.frame_count(len(samples))
        samples = np.pad(samples, (0, max(0, how.clock.samples_for(frames) - len(samples))))
        mel = self._librosa.feature.melspectrogram(
            y=samples,
            sr=how.rate_hz,
            n_fft=how.window_samples,
            hop_length=how.hop_samples,
            window=how.window,
            center=False,
            power=1.0,
            n_mels=how.mel_bands,
            fmin=how.low_hz,
            fmax=how.high_hz,
        )
        features: NDArray[np.float32] = np.log(mel + how.log_offset).T[:frames]
        return np.ascontiguousarray(features, np.float32)


def ours(folder: Path) -> Work:
    """What ``earmark detect`` does, with the engine that it chooses."""
    recogniser = load_recogniser(folder, "cpu", "auto")
    return lambda path: len(recogniser.detect(path))


def our_task(folder: Path) -> Work:
    """``earmark detect`` of a folder."""
    from earmark.tasks.detection import detect

    def work(path: Path) -> int:
        report = detect(path, model=folder, out=path.with_suffix(".csv"), device="cpu")
        return sum(len(events) for events in report.events.values())

    return work


def timed(kind: Callable[[Path], Work], folder: Path, warm_up: Path, path: Path) -> Run:
    """One turn in this process; what only the first recording costs is spent on ``warm_up``."""
    work = kind(folder)
    work(warm_up)
    started, busy = time.perf_counter(), time.process_time()
    events = work(path)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    # In KiB, but on macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Run(seconds, busy / seconds / _cores(), peak, events)


def difference(folder: Path, path: Path) -> float:
    """The largest between a probability of ours and the straightforward one."""
    found = load_recogniser(folder, "cpu", "auto").scores(path).probabilities
    expected = Straightforward(folder).probabilities(path)
    return float(np.abs(found - expected).max())


def least_seconds(folder: Path, seconds: int) -> float:
    """What the network's products alone take at the speed of a large matrix product."""
    bundle = load(folder)
    description = bundle.description
    plain = plain_twin(bundle.networks[0], description.settings)
    clock = description.settings.features.clock
    plan = WindowPlan(description.window_frames, description.settings.stitching.overlap)
    count = sum(1 for _ in plan.finish(clock.frame_count(seconds * clock.rate_hz)))
    work = work_of(plain, description.window_frames)
    native = native_bfloat16(torch.device("cpu"))
    precision, size = ("bfloat16", 2) if native else ("float32", 4)
    return floor().seconds(count * work.operations, count * work.numbers * size, precision)


def section(command: str, out: Path, sizes: Sizes, rounds: int, quick: bool) -> str:
    """Measures, and says what came of it."""
    turn: Callable[..., Any] = _here if quick else apart
    out.mkdir(parents=True, exist_ok=True)
    print("making recordings ...", file=sys.stderr, flush=True)
    folder = model(out, quick)
    warm_up = recording(out, WARM_UP_SECONDS)
    compared = recording(out, sizes.compared)
    pairs = []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} ...", file=sys.stderr, flush=True)
        turns = (ours, Straightforward)
        pairs.append([turn(partial(timed, kind, folder, warm_up, compared)) for kind in turns])
    our_runs, plain_runs = zip(*pairs, strict=True)
    ratio = statistics.median(plain.seconds / own.seconds for own, plain in pairs)
    differing = turn(partial(difference, folder, compared))
    least = turn(partial(least_seconds, folder, sizes.compared))

    several = sizes.files * sizes.of_file
    rows = [
        _row(f"one of {_length(sizes.compared)}", sizes.compared, our_runs),
        _row("the same, straightforward", sizes.compared, plain_runs),
    ]
    once = []
    for what, kind, seconds, make in (
        (f"one of {_length(sizes.day)}", ours, sizes.day, recording),
        (f"one of {_length(several)}", ours, several, recording),
        (f"{sizes.files} of {sizes.of_file} s", our_task, several, None),
    ):
        print(f"{what} ...", file=sys.stderr, flush=True)
        path = files(out, sizes.files, sizes.of_file) if make is None else make(out, seconds)
        once.append(turn(partial(timed, kind, folder, warm_up, path)))
        rows.append(_row(what, seconds, once[-1:]))
    of_day, _, of_files = once
    growth = of_day.peak_bytes / max(run.peak_bytes for run in our_runs) - 1
    median = statistics.median(run.seconds for run in our_runs)
    lines = [
        f"`{command}`; {made_on()}; torch {torch.__version__}.",
        "",
        f"Recordings: FLAC of 44.1 kHz. Those of the first two rows: medians of {rounds} rounds, "
        "in each of which both took their turn; the others once. Busy is the share of the time "
        "of all cores.",
        "",
        "| recordings | seconds | times real time | busy | peak memory, MB |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"- Ours is {ratio:.1f} times as fast as the straightforward pipeline (median of the "
        f"rounds' ratios); largest difference of a frame's probability: {differing:.1g}.",
        f"- The network's products alone would take {least:.3g} s at the speed of a large matrix "
        f"product: ours is at {median / least:.1f} times that floor.",
        f"- Peak memory of {_length(sizes.day)} against {_length(sizes.compared)}: {growth:+.1%}.",
        f"- Of {sizes.files} files each took {1000 * of_files.seconds / sizes.files:.1f} ms, "
        "loading the model included.",
    ]
    return "\n".join(lines)


def _here(work: Callable[[], Any]) -> Any:
    return work()


def _row(what: str, seconds: int, runs: Sequence[Run]) -> str:
    taken = statistics.median(run.seconds for run in runs)
    busy = statistics.median(run.busy for run in runs)
    peak = max(run.peak_bytes for run in runs) / 1e6
    return f"| {what} | {taken:.2f} | {seconds / taken:.0f} | {busy:.0%} | {peak:.0f} |"


def _length(seconds: int) -> str:
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds % unit == 0:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(argv: Sequence[str] | None = None) -> None:
    parser = options("detection", __doc__)
    parser.add_argument("--out", type=Path, default=OUT, help=f"a folder for the recordings; {OUT}")
    parser.add_argument("--minutes", type=int, help="of the recording for the comparison")
    arguments = parsed("detection", parser, argv)
    sizes = QUICK_SIZES if arguments.quick else FULL_SIZES
    if arguments.minutes:
        sizes = Sizes(60 * arguments.minutes, sizes.day, sizes.files, sizes.of_file)
    given = (arguments.command, arguments.out, sizes, arguments.rounds, arguments.quick)
    tell(arguments.page, "detection", section(*given))


if __name__ == "__main__":
    main()
