"""How often both boundaries of an event are met, by a recipe and by the paper's system.

    python -m benchmarks.boundaries --data DATA --out build/boundaries --page RESULTS.md

trains the recipe of ``benchmarks/b2.toml``, and the paper's system on the features of that recipe,
once with as many epochs and once for about as long, with several seeds; all are tuned for events
within the collar. Of every test recording it counts the events that are met. Intervals are of draws
of the recordings. It goes on where it was stopped (``benchmarks/kept.py``), and several of it share
the work.
"""

import argparse
import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import HERE, add_data, data_of, train
from benchmarks.kept import add_option, keep, kept, made
from benchmarks.pages import check, tell
from benchmarks.rotations import settings_of
from earmark import recipes
from earmark.config import parse_assignments
from earmark.formats.labels import read_labels
from earmark.inference.fusion import load_recogniser
from earmark.metrics.bootstrap import intervals
from earmark.metrics.collars import EventEvidence
from earmark.tasks.description import training_seconds

PAPER = "gated-crnn-logmel"
SHORT = f"{PAPER}-short"
SAME = ("features", "decoding")
"""The sections of the recipe that the paper's system is given, too."""

COUNTS = ("tp", "fp", "fn")


def systems(plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options of ``train`` for the paper's system, long and short, and for the recipe."""
    recipe = plan["train"]["recipe"]
    tables = recipes.tables(recipe)
    same = [
        f"{section}.{name}={json.dumps(value)}"
        for section in SAME
        for name, value in tables.get(section, {}).items()
    ]
    own = plan["boundaries"]
    (ours,) = recipes.systems(recipe, parse_assignments(plan["train"]["set"])).values()
    short = tomllib.loads((HERE / "b1.toml").read_text(encoding="utf-8"))["train"]["set"]
    long = [word for word in short if not word.startswith("training.epochs=")]
    long.append(f"training.epochs={ours.training.epochs}")
    tuned = [*own["set"], f"tuning.collar_seconds={own['collar_seconds']}", "tuning.collar_ratio=0"]
    return {
        PAPER: {"recipe": PAPER, "set": [*same, *long, *tuned]},
        SHORT: {"recipe": PAPER, "set": [*same, *short, *tuned]},
        recipe: {"recipe": recipe, "set": [*plan["train"]["set"], *tuned]},
    }


def counted(model: Path, table: Path, audio: Path, collar_seconds: float) -> dict[str, Any]:
    """Events of every recording of a table that are met, and those that aren't; sums over classes.

    Args:
        model: a model folder.
        table: strong labels.
        audio: the folder of the recordings.
        collar_seconds: by which either boundary may be missed.
    """
    recogniser = load_recogniser(model, precision="auto")
    events = {row.filename: list(row.events or ()) for row in read_labels(table).rows}
    found = {name: recogniser.detect(audio / name) for name in events}
    evidence = EventEvidence(
        events,
        found,
        recogniser.class_names,
        onset_collar_seconds=collar_seconds,
        offset_collar_seconds=collar_seconds,
        offset_collar_ratio=0.0,
    )
    each = [evidence.scores(alone).overall for alone in np.eye(len(events), dtype=np.int64)]
    counts = {name: [int(getattr(counts, name)) for counts in each] for name in COUNTS}
    return {"recordings": list(events), **counts}


def scored(
    plan: Mapping[str, Any], data: Path, out: Path, system: str, seed: int
) -> dict[str, Any]:
    """Trains a system, and counts."""
    audio = data / plan["tables"]["audio"]
    tables = {name: (data / plan["tables"][name], audio) for name in ("train", "validation")}
    model = out / "models" / f"{system}-{seed}"
    train({"train": {**systems(plan)[system], "seed": seed}}, tables, model)
    collar = plan["boundaries"]["collar_seconds"]
    counts = counted(model, data / plan["tables"]["test"], audio, collar)
    return counts | {"seconds": training_seconds(model)}


def of(plan: Mapping[str, Any], data: Path, system: str) -> list[object]:
    """What a result is of: settings, and tables."""
    settings = settings_of(systems(plan)[system])
    tables = (data / plan["tables"][name] for name in ("train", "validation", "test"))
    return [*settings, *settings.values(), *tables]


def table(plan: Mapping[str, Any], results: Path) -> str:
    """A row for each system, and those for how the last differs; pooled over the seeds."""
    runs: dict[str, NDArray[np.int64]] = {}
    minutes: dict[str, str] = {}
    recordings = 0
    for system in systems(plan):
        found = list(kept(results, system).values())
        if found:
            runs[system] = np.array([[each[name] for name in COUNTS] for each in found])
            recordings = len(found[0]["recordings"])
            minutes[system] = f"{np.mean([each['seconds'] for each in found]) / 60:.0f} min"
    lines = ["| system | event F1 | of each seed | training |", "|---|---|---|---|"]
    if not runs:
        return "\n".join(lines)

    def scores(weights: NDArray[np.int64]) -> dict[str, float]:
        values = {}
        for system, counts in runs.items():
            values[system] = _f1((counts @ weights).sum(axis=0))
        *others, ours = values
        return values | {f"{ours} less {name}": values[ours] - values[name] for name in others}

    within = intervals(scores, recordings)
    for name, value in scores(np.ones(recordings, np.int64)).items():
        each = runs[name].sum(axis=2) if name in runs else []
        seeds = ", ".join(f"{_f1(counts):.3f}" for counts in each)
        ends = within[name]
        within_draws = f"{value:.3f} ({ends.low:.3f} to {ends.high:.3f})"
        lines.append(f"| {name} | {within_draws} | {seeds} | {minutes.get(name, '')} |")
    return "\n".join(lines)


def _f1(counts: NDArray[np.int64]) -> float:
    tp, fp, fn = counts
    return float(2 * tp / max(2 * tp + fp + fn, 1))


def main(argv: Sequence[str] | None = None) -> None:
    plan = tomllib.loads((HERE / "b2.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True)
    add_option(parser, "boundaries")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=systems(plan), metavar="SYSTEM")
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args(argv)
    data = data_of(parser, arguments.data)
    check(arguments.page, "boundaries")
    for seed in range(arguments.seeds):
        for system in arguments.systems or systems(plan):
            make = partial(scored, plan, data, arguments.out, system, seed)
            keep(arguments.results, f"{system}-{seed}", make, of(plan, data, system))
    head = f"`python -m benchmarks.boundaries ...`; {made(arguments.results)}."
    tell(arguments.page, "boundaries", f"{head}\n\n{table(plan, arguments.results)}")


if __name__ == "__main__":
    main()
