"""Speed of the engines that run a network, against the same network written plainly.

    python -m benchmarks.inference --page BENCHMARKS.md

With a trained model, its recordings and their strong labels, the section also tells what each
engine does to the results; nothing but its numbers makes an engine trustworthy.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.floor import Floor, floor
from benchmarks.pages import made_on, options, parsed, tell
from benchmarks.plain import work_of
from benchmarks.steps import CLASSES, SEED, fresh_network, plain_twin, settings_of
from earmark.config import Settings
from earmark.formats.labels import read_labels
from earmark.inference.decoding import decode
from earmark.inference.engines import Engine, FoldedEngine, OpenVinoEngine, TorchEngine
from earmark.inference.system import WORKERS, SystemRecogniser
from earmark.inference.windowed import WINDOWS_AT_ONCE
from earmark.metrics.segments import segment_scores
from earmark.metrics.tagging import tagging_scores
from earmark.model.bundle import load
from earmark.model.network import Network
from earmark.scores import ScoreTrack

RECIPE = "gated-crnn-logmel"
FRAMES, QUICK_FRAMES = 240, 9

Frames = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Row:
    """An engine's speed.

    Attributes:
        name: of the engine.
        precision: of its convolutions.
        seconds: of a batch.
        ratio: how many times as fast as the plain network of the same rounds.
        difference: the largest, of a frame's probability.
    """

    name: str
    precision: str
    seconds: float
    ratio: float
    difference: float


def engines(
    networks: Sequence[Network], device: torch.device, threads: int, workers: int = 1
) -> list[Engine]:
    """All that run the networks on the device."""
    dtypes = (torch.float32, torch.bfloat16)
    found: list[Engine] = [TorchEngine(networks, device, threads)]
    found += [FoldedEngine(networks, device, dtype, threads) for dtype in dtypes]
    if device.type == "cpu" and find_spec("openvino") is not None:
        found += [OpenVinoEngine(networks, dtype, threads, workers) for dtype in dtypes]
    return found


def measured(settings: Settings, device: torch.device, frames: int, rounds: int) -> list[Row]:
    """The plain network and every engine, in turns, after one turn to warm up."""
    torch.manual_seed(SEED)
    bands = settings.features.mel_bands
    network = fresh_network(settings, bands, CLASSES).eval().requires_grad_(False).to(device)
    plain = plain_twin(network, settings).eval().requires_grad_(False).to(device)
    rng = np.random.default_rng(SEED)
    features = rng.normal(size=(WINDOWS_AT_ONCE, frames, bands)).astype(np.float32)

    @torch.inference_mode()
    def plainly() -> Frames:
        probabilities: Frames = plain(torch.from_numpy(features).to(device))[0].cpu().numpy()
        return probabilities

    def by(engine: Engine) -> Callable[[], Frames]:
        return lambda: engine(features).frames

    of_device = engines([network], device, torch.get_num_threads())
    runs = {("plain network", "float32"): plainly}
    runs |= {(engine.name, engine.precision): by(engine) for engine in of_device}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    expected = plainly()
    differences = {key: float(np.abs(run() - expected).max()) for key, run in runs.items()}
    for _ in range(rounds):
        for key, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[key].append(time.perf_counter() - started)
    peer, *_ = seconds.values()
    return [
        Row(
            *key,
            statistics.median(own),
            statistics.median(one / other for one, other in zip(peer, own, strict=True)),
            differences[key],
        )
        for key, own in seconds.items()
    ]


def table(rows: Sequence[Row], settings: Settings, frames: int, reached: Floor) -> list[str]:
    """A row for each engine; the floor is that of its own precision."""
    bands = settings.features.mel_bands
    work = work_of(plain_twin(fresh_network(settings, bands, CLASSES), settings), frames)
    lines = [
        "| engine | precision | ms a batch | clips/s | times as fast as plain | "
        "times the floor's time | largest difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        width = 2 if row.precision == "bfloat16" else 4
        least = WINDOWS_AT_ONCE * reached.seconds(
            work.operations, work.numbers * width, row.precision
        )
        lines.append(
            f"| {row.name} | {row.precision} | {1000 * row.seconds:.3g} | "
            f"{WINDOWS_AT_ONCE / row.seconds:.3g} | {row.ratio:.2f} | {row.seconds / least:.2f} | "
            f"{row.difference:.1e} |"
        )
    return lines


def accuracy(model: Path, audio: Path, labels: Path, most: int | None) -> list[str]:
    """What each engine says of real recordings, beside plain torch in float32.

    Args:
        model: a folder of one system.
        audio: the folder that the names in the labels are relative to.
        labels: strong ones.
        most: so many of the recordings, from the first.
    """
    bundle = load(model)
    recogniser = SystemRecogniser(bundle)
    reference = {row.filename: list(row.events or ()) for row in read_labels(labels).rows[:most]}
    names = list(reference)
    classes, rules = recogniser.class_names, recogniser.rules
    tags = np.array([[any(e.label == k for e in reference[n]) for k in classes] for n in names])
    lines = [
        "| engine | precision | largest difference, frames | largest difference, clips | "
        "tagging F1 | segment F1 |",
        "|---|---|---|---|---|---|",
    ]
    expected: dict[str, ScoreTrack] = {}
    for engine in engines(bundle.networks, torch.device("cpu"), 1, WORKERS.count):
        print(f"{engine.name}, {engine.precision} ...", file=sys.stderr, flush=True)
        recogniser.engine = engine
        tracks = {name: recogniser.scores(audio / name) for name in names}
        expected = expected or tracks
        posteriors = np.array([track.tags for track in tracks.values()])
        thresholds = np.array([rule.tag_threshold for rule in rules])
        tagging = tagging_scores(tags, posteriors, thresholds, classes)
        gate = recogniser.decoding.tag_gate
        found = {name: decode(track, rules, tag_gate=gate) for name, track in tracks.items()}
        segments = segment_scores(reference, found, classes)
        in_frames = max(
            float(np.abs(tracks[n].probabilities - expected[n].probabilities).max()) for n in names
        )
        in_clips = float(np.abs(posteriors - [track.tags for track in expected.values()]).max())
        lines.append(
            f"| {engine.name} | {engine.precision} | {in_frames:.1e} | {in_clips:.1e} | "
            f"{tagging.micro.f1:.4f} | {segments.overall.f1:.4f} |"
        )
    return [f"A trained model on {len(names)} recordings:", "", *lines]


def section(command: str, arguments: argparse.Namespace) -> str:
    """Measures, and says what came of it."""
    settings = settings_of(RECIPE)
    frames = QUICK_FRAMES if arguments.quick else FRAMES
    lines = [
        f"`{command}`; {made_on()}; torch {torch.__version__}, {torch.get_num_threads()} threads.",
        "",
        f"The recipe {RECIPE}, batches of {WINDOWS_AT_ONCE} windows of {frames} x "
        f"{settings.features.mel_bands}, {CLASSES} classes, fresh weights. Medians of "
        f"{arguments.rounds} rounds, in each of which all took their turn.",
    ]
    for name in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        reached = floor(name)
        rows = measured(settings, torch.device(name), frames, arguments.rounds)
        title = torch.cuda.get_device_name() if name == "cuda" else "CPU"
        lines += ["", f"{title}: {reached}.", "", *table(rows, settings, frames, reached)]
    if arguments.model is not None:
        given = arguments.model, arguments.audio, arguments.labels
        lines += ["", *accuracy(*given, arguments.most)]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = options("inference", __doc__)
    parser.add_argument("--model", type=Path, help="a trained system, to see what engines do to it")
    parser.add_argument("--audio", type=Path, help="the folder of its recordings")
    parser.add_argument("--labels", type=Path, help="their strong labels")
    parser.add_argument("--most", type=int, help="so many of the recordings")
    arguments = parsed("inference", parser, argv)
    if len({arguments.model is None, arguments.audio is None, arguments.labels is None}) > 1:
        parser.error("--model, --audio and --labels go together")
    tell(arguments.page, "inference", section(arguments.command, arguments))


if __name__ == "__main__":
    main()
