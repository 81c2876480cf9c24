"""Speed of the features, against the field's own tools in the same run, and where results differ.

    python -m benchmarks.features --page BENCHMARKS.md

Noise made from a seed, as clips and as one long recording, becomes log mel bands with the settings
of the paper. All contenders have one thread; on a GPU the samples lie there already. Whether
processes or threads make better use of several cores is shown at the end.
"""

import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.floor import Floor, floor
from benchmarks.pages import made_on, options, parsed, tell
from earmark.config import FeatureSettings
from earmark.features import FeatureExtractor, mel_filters

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import librosa
    from nnAudio.features.mel import MelSpectrogram  # type: ignore[import-untyped]
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    from torchlibrosa.stft import LogmelFilterBank, Spectrogram  # type: ignore[import-untyped]

SETTINGS = FeatureSettings()
CLIP_SECONDS, CLIPS = 10, 32
HOUR_SECONDS, QUICK_SECONDS = 3600, 40
BLOCK_SECONDS = 30
SEED = 2017
SHARES = 8
PEERS = ("librosa", "torchlibrosa", "nnAudio", "torch")

Contender = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a comparison: medians in seconds, and how far the numbers lie apart."""

    what: str
    peer_name: str
    audio_seconds: float
    ours_seconds: float
    peer_seconds: float
    largest_difference: float


def noise(rows: int, seconds: float) -> Tensor:
    """Samples (B, S)."""
    size = (rows, round(seconds * SETTINGS.rate_hz))
    rng = np.random.default_rng(SEED)
    return torch.from_numpy(rng.standard_normal(size, np.float32)).mul_(0.1)


# -- what is compared: samples (B, S) -> log mel (B, T, F) of the whole windows


def ours(device: str, *, streamed: bool) -> Contender:
    """Our features; of a long recording in blocks, as detection takes them."""
    extractor = FeatureExtractor(SETTINGS, device)
    if not streamed:
        return extractor.windows if device != "cpu" else partial(_of_clips, extractor)

    def run(samples: Tensor) -> Tensor:
        blocks = samples[0].cpu().numpy()
        size = BLOCK_SECONDS * SETTINGS.rate_hz
        parts = extractor.stream(blocks[at : at + size] for at in range(0, len(blocks), size))
        return torch.from_numpy(np.concatenate(list(parts)))[None]

    return run


def _of_clips(extractor: FeatureExtractor, samples: Tensor) -> Tensor:
    return torch.from_numpy(np.stack(extractor.of_clips(list(samples.numpy()))))


def peers(device: str) -> dict[str, Contender]:
    """Every peer that knows the device."""
    given = SETTINGS
    found: dict[str, Contender] = {"librosa": _librosa} if device == "cpu" else {}
    window = torch.hamming_window(given.window_samples, device=device)
    mel = torch.from_numpy(mel_filters(given)).to(device, torch.float32)
    spectrogram = Spectrogram(
        n_fft=given.window_samples,
        hop_length=given.hop_samples,
        window=given.window,
        center=False,
        power=1.0,
    ).to(device)
    bank = LogmelFilterBank(
        sr=given.rate_hz,
        n_fft=given.window_samples,
        n_mels=given.mel_bands,
        fmin=given.low_hz,
        fmax=given.high_hz,
        is_log=False,
    ).to(device)
    convolved = MelSpectrogram(
        sr=given.rate_hz,
        n_fft=given.window_samples,
        n_mels=given.mel_bands,
        hop_length=given.hop_samples,
        window=given.window,
        center=False,
        power=1.0,
        fmin=given.low_hz,
        fmax=given.high_hz,
        verbose=False,
    ).to(device)

    def stft(samples: Tensor) -> Tensor:
        spectrum = torch.stft(
            samples,
            given.window_samples,
            given.hop_samples,
            window=window,
            center=False,
            return_complex=True,
        )
        return (mel @ spectrum.abs()).mT.add(given.log_offset).log()

    return found | {
        "torchlibrosa": lambda samples: bank(spectrogram(samples))[:, 0].add(1e-8).log(),
        "nnAudio": lambda samples: convolved(samples).mT.add(given.log_offset).log(),
        "torch.stft": stft,
    }


def _librosa(samples: Tensor) -> Tensor:
    mel = librosa.feature.melspectrogram(
        y=samples.numpy(),
        sr=SETTINGS.rate_hz,
        n_fft=SETTINGS.window_samples,
        hop_length=SETTINGS.hop_samples,
        window=SETTINGS.window,
        center=False,
        power=1,
        n_mels=SETTINGS.mel_bands,
        fmin=SETTINGS.low_hz,
        fmax=SETTINGS.high_hz,
    )
    return torch.from_numpy(np.log(mel + np.float32(SETTINGS.log_offset))).mT


# -- measuring and telling


@contextmanager
def one_thread() -> Iterator[None]:
    """For torch, and for the matrix products of numpy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def compared(what: str, samples: Tensor, our: Contender, rounds: int) -> list[Row]:
    """A row for each peer: medians over rounds in which all take their turn."""
    device = samples.device.type
    contenders = {"": our} | peers(device)
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    expected = our(samples).cpu()
    apart = dict.fromkeys(contenders, 0.0)
    for number in range(-1, rounds):  # the first is for warming up
        print(f"{what}, round {number + 1} of {rounds} ...", file=sys.stderr, flush=True)
        for name, contender in contenders.items():
            found, seconds = _timed(contender, samples)
            frames = min(found.shape[1], expected.shape[1])
            difference = found[:, :frames].cpu() - expected[:, :frames]
            apart[name] = max(apart[name], float(difference.abs().max()))
            if number >= 0:
                taken[name].append(seconds)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    audio_seconds = samples.numel() / SETTINGS.rate_hz
    return [
        Row(what, name, audio_seconds, medians[""], medians[name], apart[name])
        for name in contenders
        if name
    ]


@torch.inference_mode()
def _timed(contender: Contender, samples: Tensor) -> tuple[Tensor, float]:
    _wait(samples)
    started = time.perf_counter()
    found = contender(samples)
    _wait(found)
    return found, time.perf_counter() - started


def _wait(for_: Tensor) -> None:
    if for_.device.type == "cuda":
        torch.cuda.synchronize()


def least_seconds(samples: int, reached: Floor) -> float:
    """The floor of so many samples' features: the transform by the usual count of operations, the
    filters where they are above 0; samples read and bands written."""
    size, bins = SETTINGS.window_samples, SETTINGS.window_samples // 2 + 1
    filters = 2 * np.count_nonzero(mel_filters(SETTINGS))
    of_frame = size + 2.5 * size * math.log2(size) + 4 * bins + filters + 2 * SETTINGS.mel_bands
    frames = SETTINGS.clock.frame_count(samples)
    moved = 4 * (samples + frames * SETTINGS.mel_bands)
    return reached.seconds(frames * of_frame, moved, "float32")


_share: tuple[FeatureExtractor, list[NDArray[np.float32]]]


def _start(seconds: float) -> None:
    """Makes a process ready for its shares."""
    global _share
    torch.set_num_threads(1)
    _share = FeatureExtractor(SETTINGS), list(noise(CLIPS, seconds).numpy())
    _work(0)


def _work(_: int) -> None:
    extractor, clips = _share
    extractor.of_clips(clips)


def processes_against_threads(seconds: float, rounds: int) -> float:
    """How many times as fast a process with one thread a core is as one with as many threads."""
    cores = os.cpu_count() or 1
    clips = list(noise(CLIPS, seconds).numpy())
    extractor = FeatureExtractor(SETTINGS)
    ratios = []
    with ProcessPoolExecutor(
        cores, mp_context=get_context("spawn"), initializer=_start, initargs=(seconds,)
    ) as pool:
        list(pool.map(_work, range(4 * cores)))  # all of them have started
        before = torch.get_num_threads()
        torch.set_num_threads(cores)
        extractor.of_clips(clips)
        for _ in range(rounds):
            started = time.perf_counter()
            list(pool.map(_work, range(SHARES * cores)))
            between = time.perf_counter()
            for _ in range(SHARES * cores):
                extractor.of_clips(clips)
            ratios.append((time.perf_counter() - between) / (between - started))
        torch.set_num_threads(before)
    return statistics.median(ratios)


def section(command: str, rounds: int, quick: bool) -> str:
    """Measures, and says what came of it."""
    clip_seconds = 1 if quick else CLIP_SECONDS
    hour_seconds = QUICK_SECONDS if quick else HOUR_SECONDS
    versions = ", ".join(f"{name} {version(name)}" for name in PEERS)
    lines = [
        f"`{command}`; {made_on()}; {versions}.",
        "",
        f"Log mel of {SETTINGS.mel_bands} bands, windows of {SETTINGS.window_samples} samples every"
        f" {SETTINGS.hop_samples} at {SETTINGS.rate_hz} Hz; {CLIPS} clips of {clip_seconds} s at "
        f"once, and one recording of {hour_seconds} s, which we take in blocks of {BLOCK_SECONDS} "
        f"s. Medians of {rounds} rounds in turns.",
    ]
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        clips, hour = noise(CLIPS, clip_seconds).to(device), noise(1, hour_seconds).to(device)
        with one_thread():
            reached = floor(device)
            rows = [
                *compared("clips", clips, ours(device, streamed=False), rounds),
                *compared("a recording", hour, ours(device, streamed=True), rounds),
            ]
        name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        lines += ["", f"{name}: {reached}.", "", *_table(rows, reached)]
    ratio = processes_against_threads(clip_seconds, rounds)
    cores = os.cpu_count()
    lines += [
        "",
        f"{cores} processes of one thread are {ratio:.1f} times as fast as one of {cores} threads.",
    ]
    return "\n".join(lines)


def _table(rows: list[Row], reached: Floor) -> list[str]:
    lines = [
        "| samples | peer | ours, times real time | peer, times real time | times as fast | "
        "largest difference | ours, % of the floor's speed |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        least = least_seconds(round(row.audio_seconds * SETTINGS.rate_hz), reached)
        lines.append(
            f"| {row.what} | {row.peer_name} | {row.audio_seconds / row.ours_seconds:.0f} | "
            f"{row.audio_seconds / row.peer_seconds:.0f} | "
            f"{row.peer_seconds / row.ours_seconds:.1f} | {row.largest_difference:.1e} | "
            f"{100 * least / row.ours_seconds:.0f} |"
        )
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parsed("features", options("features", __doc__), argv)
    words = section(arguments.command, arguments.rounds, arguments.quick)
    tell(arguments.page, "features", words)


if __name__ == "__main__":
    main()
