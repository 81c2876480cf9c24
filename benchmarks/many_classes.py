"""Whether the default settings hold for as many classes as large sets have.

    python -m benchmarks.many_classes --data DATA --out build/many --page RESULTS.md

makes every source recording of ESC-10 a class of its own, up to as many as ``benchmarks/b1.toml``
says, mixes scenes of them, and trains on the tags of these, with nothing else said. The test is of
other scenes of the same recordings: whether so many classes can be learnt and told apart in
mixtures, not whether others of their kind would be known. It goes on where it was stopped
(``benchmarks/kept.py``).
"""

import argparse
import csv
import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import HERE, add_data, data_of, make_scenes
from benchmarks.few_labels import of, scored, systems
from benchmarks.kept import add_option, keep, kept, made
from benchmarks.pages import check, tell
from benchmarks.rotations import COUNTS, scores
from earmark.formats.labels import read_labels
from earmark.tasks.description import training_seconds


def recordings_as_classes(table: Path, classes: int, out: Path) -> Path:
    """The sounds of so many sources, drawn at random, each of which is a class; all takes of it."""
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [f"{row['class']} {row['freesound_id']}" for row in rows]
    chosen = set(np.random.default_rng(0).permutation(sorted(set(names)))[:classes].tolist())
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class"])
        writer.writerows(
            [row["file"], name] for row, name in zip(rows, names, strict=True) if name in chosen
        )
    return out


def trained(settings: Mapping[str, Any], out: Path, name: str, seed: int) -> dict[str, Any]:
    """Counts of a system, and how long it took."""
    learnt, test = out / "train", out / "test"
    clips = len(read_labels(learnt / "weak.tsv").rows)
    counts = scored(settings, learnt, test, out / name, clips, seed)
    return counts | {"seconds": training_seconds(out / name / "model")}


def table(names: Sequence[str], results: Path) -> str:
    """A row for each run."""
    head = ["system", "seed", "tagging micro F1", "segment F1", "error rate", "training"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in names:
        for (seed,), found in kept(results, name).items():
            counts = np.array([found[key] for key in COUNTS]).T
            of_run = scores({(0, 0): counts}, {0: np.ones(len(counts), np.int64)})
            cells = [f"{value:.3f}" for value in of_run]
            minutes = f"{found['seconds'] / 60:.0f} min"
            lines.append(f"| {name} | {seed} | " + " | ".join([*cells, minutes]) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    plan = tomllib.loads((HERE / "b1.toml").read_text(encoding="utf-8"))
    every = systems(plan, None)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True)
    add_option(parser, "many-classes")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--systems", nargs="+", choices=every, default=list(every))
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args(argv)
    data = data_of(parser, arguments.data, plan["sounds"]["table"]).resolve()
    check(arguments.page, "many-classes")
    out, results = arguments.out, arguments.results
    if arguments.seeds:
        of_esc10 = data / plan["sounds"]["table"]
        sounds = recordings_as_classes(of_esc10, plan["many"]["classes"], out / "sounds.csv")
        own = {"sounds": {**plan["sounds"], "table": sounds.resolve()}}
        make_scenes({**plan, **own, "sets": plan["many"]["sets"]}, data, out)
    for seed in range(arguments.seeds):
        for name in arguments.systems:
            make = partial(trained, every[name], out, f"{name}-{seed}", seed)
            keep(results, f"{name}-{seed}", make, of(every[name], out / "train", out / "test"))
    head = f"`python -m benchmarks.many_classes ...`; {made(results)}."
    tell(arguments.page, "many-classes", f"{head}\n\n{table(list(every), results)}")


if __name__ == "__main__":
    main()
