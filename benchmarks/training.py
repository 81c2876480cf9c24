"""Speed of a training step, against the same network written plainly, and whether both learn alike.

    python -m benchmarks.training --page BENCHMARKS.md

Every turn is a process of its own: made data, weights that are the same for both, steps to warm
up, steps that are timed. How both learn is shown by a small network on a small made set;
``--full-curve`` takes the real one instead, for hours on a CPU.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from functools import partial

import torch

from benchmarks import learning
from benchmarks.floor import Floor, floor
from benchmarks.pages import made_on, options, parsed, tell
from benchmarks.plain import work_of
from benchmarks.steps import (
    CLASSES,
    Contender,
    Sizes,
    Turn,
    fresh_network,
    plain_twin,
    settings_of,
    sizes_of,
    turn,
)
from benchmarks.turns import apart
from earmark.config import Settings
from earmark.training.devices import choose_device, choose_precision

QUICK_CURVE_STEPS = 4
SED, AT = "gated-crnn-logmel", "gated-crnn-logmel-at"

PLAIN = Contender(SED)
PAIR = (PLAIN, Contender(SED, ours=True))
OTHERS = (
    Contender(SED, keeps_memory=True),
    Contender(SED, autocast=True),
    Contender(SED, channels_last=True),
    Contender(AT),
    Contender(AT, ours=True),
)

Turns = dict[Contender, list[Turn]]


def measured(device: str, rounds: int, other_rounds: int, *, quick: bool) -> Turns:
    """The turns of every contender; those of a round have the same place in the lists."""
    wanted = dict.fromkeys(PAIR, rounds) | dict.fromkeys(OTHERS, other_rounds)
    found: Turns = {contender: [] for contender in wanted}
    for number in range(max(wanted.values())):
        for contender in (c for c, of_contender in wanted.items() if number < of_contender):
            what = f"{contender.recipe}, {contender.how}"
            print(f"{device}, round {number + 1}: {what} ...", file=sys.stderr, flush=True)
            sizes = sizes_of(settings_of(contender.recipe), quick=quick)
            found[contender].append(apart(partial(turn, contender, sizes, device)))
    return found


def table(turns: Turns, device: str, reached: Floor, *, quick: bool) -> list[str]:
    """A row for each contender, beside the plain network of its recipe, or else of the first."""
    lines = [
        "| recipe | network | s a step | clips/s | times as fast as plain | "
        "% of the floor's speed | loss differs by | rounds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for contender, own in turns.items():
        settings = settings_of(contender.recipe)
        sizes = sizes_of(settings, quick=quick)
        seconds = statistics.median(turn.step_seconds for turn in own)
        twin = Contender(contender.recipe)
        pairs = list(zip(turns.get(twin, turns[PLAIN]), own, strict=False))
        # Batches are of the same size in all recipes.
        ratio = statistics.median(peer.step_seconds / of.step_seconds for peer, of in pairs)
        share = difference = ""
        if twin in turns:
            least = least_seconds(settings, sizes, device, reached)
            share = f"{100 * least / seconds:.0f}"
            difference = f"{max(_apart(peer, of) for peer, of in pairs):.1e}"
        lines.append(
            f"| {contender.recipe} | {contender.how} | {seconds:.3g} | "
            f"{sizes.clips / seconds:.3g} | {ratio:.2f} | {share} | {difference} | {len(own)} |"
        )
    return lines


def _apart(one: Turn, other: Turn) -> float:
    return max(abs(a - b) for a, b in zip(one.losses, other.losses, strict=True))


def least_seconds(settings: Settings, sizes: Sizes, device: str, reached: Floor) -> float:
    """The floor of a step of a network that has a plain twin: thrice the way forward."""
    network = plain_twin(fresh_network(settings, sizes.bands, CLASSES), settings)
    precision = choose_precision("auto", choose_device(device))
    work = work_of(network, sizes.frames)
    width = 2 if precision == "bfloat16" else 4
    ways = 3 * sizes.clips
    return reached.seconds(ways * work.operations, ways * work.numbers * width, precision)


def section(command: str, arguments: argparse.Namespace) -> str:
    """Measures, and says what came of it."""
    quick = arguments.quick
    sizes = sizes_of(settings_of(SED), quick=quick)
    lines = [
        f"`{command}`; {made_on()}; torch {torch.__version__}, {torch.get_num_threads()} threads.",
        "",
        f"Batches of {sizes.clips} clips of {sizes.frames} x {sizes.bands}, {CLASSES} classes. "
        "Medians of the rounds, in each of which every contender took its turn in a process of its "
        "own. The floor takes the operations of three ways forward at the speed of the quickest "
        "matrix product. The losses are those of the first steps from the same weights.",
    ]
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        reached = apart(partial(floor, device))
        turns = measured(device, arguments.rounds, arguments.other_rounds, quick=quick)
        name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        lines += ["", f"{name}: {reached}.", "", *table(turns, device, reached, quick=quick)]
    seeds = 2 if quick else learning.SEEDS
    steps, full = arguments.curve_steps, arguments.full_curve
    curves = learning.learnt(SED, steps, seeds, devices[-1], full=full)
    return "\n".join([*lines, "", learning.verdict(curves)])


def main(argv: Sequence[str] | None = None) -> None:
    parser = options("training", __doc__)
    parser.add_argument("--other-rounds", type=int, default=1, help="of all but plain and ours")
    parser.add_argument("--curve-steps", type=int, help="to see whether both learn alike")
    parser.add_argument("--full-curve", action="store_true", help="with the real network")
    arguments = parsed("training", parser, argv)
    steps = QUICK_CURVE_STEPS if arguments.quick else learning.STEPS
    arguments.curve_steps = steps if arguments.curve_steps is None else arguments.curve_steps
    for option in ("other_rounds", "curve_steps"):
        if (came := getattr(arguments, option)) < 1:
            parser.error(f"--{option.replace('_', '-')} must be at least 1, came as {came}")
    tell(arguments.page, "training", section(arguments.command, arguments))


if __name__ == "__main__":
    main()
