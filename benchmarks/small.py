"""Speed of the small model, in training and at work, against the paper's.

    python -m benchmarks.small --page BENCHMARKS.md

Both are ours, set up as ``earmark train`` and ``earmark detect`` do, on made data. Every turn is a
process of its own. How good the small model's results are stands in RESULTS.md.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from benchmarks.pages import made_on, options, parsed, tell
from benchmarks.plain import PAPER
from benchmarks.steps import (
    CLASSES,
    SEED,
    Contender,
    Sizes,
    fresh_network,
    settings_of,
    sizes_of,
    turn,
)
from benchmarks.turns import apart
from earmark.errors import UserError
from earmark.inference.engines import choose_engine
from earmark.training.devices import choose_device

SMALL = "gated-crnn-small"
WINDOWS = 8
LEAST_SECONDS = 1.0
WARM_UP_BATCHES = 2


@dataclass(frozen=True, slots=True)
class Row:
    """Medians in clips of 10 s a second, and that of the rounds' ratios."""

    what: str
    paper_clips: float
    small_clips: float
    ratio: float


def training_clips(recipe: str, device: str, *, quick: bool) -> float:
    """Clips a second in training."""
    sizes = sizes_of(settings_of(recipe), quick=quick)
    return sizes.clips / turn(Contender(recipe, ours=True), sizes, device).step_seconds


def inference_clips(recipe: str, device: str, *, quick: bool) -> float:
    """Clips a second from features to probabilities, without what the engine takes to start."""
    settings = settings_of(recipe)
    sizes = sizes_of(settings, quick=quick)
    torch.manual_seed(SEED)
    network = fresh_network(settings, sizes.bands, CLASSES).eval()
    engine = choose_engine([network], choose_device(device))
    shape = (WINDOWS, sizes.frames, sizes.bands)
    windows = np.random.default_rng(SEED).normal(size=shape).astype("f4")
    for _ in range(WARM_UP_BATCHES):
        engine(windows)
    least = 0.0 if quick else LEAST_SECONDS
    batches, started = 0, time.perf_counter()
    while not batches or time.perf_counter() - started < least:
        engine(windows)
        batches += 1
    return batches * WINDOWS / (time.perf_counter() - started)


def measured(small: str, device: str, rounds: int, *, quick: bool) -> list[Row]:
    """Both in turns, in processes of their own."""
    kinds: list[tuple[str, Callable[..., float]]] = [
        ("training", training_clips),
        ("inference", inference_clips),
    ]
    rows = []
    for what, clips in kinds:
        found = []
        for number in range(rounds):
            print(f"{device}, {what}, round {number + 1} ...", file=sys.stderr, flush=True)
            pair = (apart(partial(clips, of, device, quick=quick)) for of in (PAPER, small))
            found.append(tuple(pair))
        paper, own = zip(*found, strict=True)
        ratio = statistics.median(b / a for a, b in found)
        rows.append(Row(what, statistics.median(paper), statistics.median(own), ratio))
    return rows


def section(command: str, small: str, rounds: int, *, quick: bool) -> str:
    """Measures, and says what came of it."""
    sizes = {recipe: sizes_of(settings_of(recipe), quick=quick) for recipe in (PAPER, small)}
    weights = {recipe: _weights(recipe, of) for recipe, of in sizes.items()}
    shapes = {recipe: f"{of.frames} x {of.bands}" for recipe, of in sizes.items()}
    lines = [
        f"`{command}`; {made_on()}; torch {torch.__version__}, {torch.get_num_threads()} threads.",
        "",
        f"{weights[PAPER]:,} weights in {PAPER} and {weights[small]:,} in {small}, "
        f"{CLASSES} classes, clips of {shapes[PAPER]} and {shapes[small]}; batches of "
        f"{sizes[PAPER].clips} and {sizes[small].clips} in training, of {WINDOWS} in inference. "
        f"Medians of {rounds} rounds, in each of which both took their turn in a process of its "
        "own.",
        "",
        f"| device | what | {PAPER}, clips/s | {small}, clips/s | times as fast |",
        "|---|---|---|---|---|",
    ]
    for device in ("cpu", *(("cuda",) if torch.cuda.is_available() else ())):
        lines += [
            f"| {device} | {row.what} | {row.paper_clips:.3g} | {row.small_clips:.3g} | "
            f"{row.ratio:.2f} |"
            for row in measured(small, device, rounds, quick=quick)
        ]
    return "\n".join(lines)


def _weights(recipe: str, sizes: Sizes) -> int:
    network = fresh_network(settings_of(recipe), sizes.bands, CLASSES)
    return sum(weight.numel() for weight in network.parameters())


def main(argv: Sequence[str] | None = None) -> None:
    parser = options("small", __doc__)
    parser.add_argument("--recipe", default=SMALL, help="of the small model")
    arguments = parsed("small", parser, argv)
    try:
        settings_of(arguments.recipe)
    except UserError as error:
        parser.error(str(error))
    given = (arguments.command, arguments.recipe, arguments.rounds)
    tell(arguments.page, "small", section(*given, quick=arguments.quick))


if __name__ == "__main__":
    main()
