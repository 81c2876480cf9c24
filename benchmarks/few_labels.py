"""How good a model gets with few labelled clips.

    python -m benchmarks.few_labels build/rotations/fold-5 --out build/few --page RESULTS.md

takes 20, 50, 100, ... clips of the scenes that ``benchmarks.rotations`` has made, trains the
systems of ``benchmarks/b1.toml`` on these alone, with nothing but the tags, and all else as it is
where nothing is said: a part of the clips is held out for the thresholds. Every seed draws other
clips. With ``--start MODEL`` one system more starts from a model of other sounds, such as
``python -m benchmarks.bundled --data DATA --out build/others --without ESC-10`` makes. It goes on
where it was stopped (``benchmarks/kept.py``), and several of it share the work.

    python -m benchmarks.few_labels build/bundled --clips-of validation --start bundled \\
        --systems best-small best-small-from-model --section few-labels-known --out build/known

takes the clips of other recordings of the classes that the model in the box knows, of scenes that
``benchmarks.bundled`` has mixed: from these it has learnt nothing.
"""

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import HERE, options
from benchmarks.accuracy import run as run_command
from benchmarks.kept import HOME, add_option, keep, kept, made
from benchmarks.pages import check, tell
from benchmarks.rotations import COUNTS, counted, scores, settings_of
from earmark.formats.labels import read_labels
from earmark.tasks.training_start import read_start


def some_labels(table: Path, clips: int, seed: int, out: Path) -> Path:
    """The rows of as many clips, drawn anew by every seed; more are those of fewer, and others."""
    header, *rows = table.read_text(encoding="utf-8").splitlines()
    chosen = np.random.default_rng(seed).permutation(len(rows))[:clips]
    lines = [header, *(rows[place] for place in sorted(chosen.tolist()))]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def scored(
    settings: Mapping[str, Any], learnt: Path, test: Path, out: Path, clips: int, seed: int
) -> dict[str, Any]:
    """Trains a system with these options, and counts.

    Args:
        settings: the options of ``train``.
        learnt: a folder of scenes, of which so many clips are taken.
        test: a folder of scenes.
        out: the model folder.
        clips: how many.
        seed: of the draw of the clips, and of the training.
    """
    out.mkdir(parents=True, exist_ok=True)
    labels = some_labels(learnt / "weak.tsv", clips, seed, out / "labels.tsv")
    words = ["train", str(labels), "--audio", str(learnt / "audio"), "--out", str(out / "model")]
    words += ["--resume", "--seed", str(seed), *options(dict(settings))]
    run_command(words, out / "model" / "model.json")
    return counted(out / "model", test)


def of(settings: Mapping[str, Any], learnt: Path, test: Path) -> list[object]:
    """What a result is of: settings, scenes, and the model that it started from."""
    own = settings_of(settings)
    start = [read_start(Path(settings["from"])).digest] if "from" in settings else []
    return [*own, *own.values(), learnt / "weak.tsv", test / "strong.tsv", *start]


def table(plan: Mapping[str, Any], results: Path) -> str:
    """A row for each number of clips, of each system that has any the means over the seeds."""
    of_all = [(s, clips) for s in plan["few"]["systems"] for clips in plan["few"]["clips"]]
    systems = list(dict.fromkeys(s for s, clips in of_all if kept(results, f"{s}-{clips}")))
    head = ["labelled clips", "seeds", *(f"{s}: tagging F1, segment F1, ER" for s in systems)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for clips in plan["few"]["clips"]:
        cells, seeds = [], []
        for system in systems:
            rows = []
            for found in kept(results, f"{system}-{clips}").values():
                counts = np.array([found[name] for name in COUNTS]).T
                rows.append(scores({(0, 0): counts}, {0: np.ones(len(counts), np.int64)}))
            seeds.append(len(rows))
            if rows:
                values = np.array(rows).T
                spreads = [f" ± {v.std(ddof=1):.3f}" if len(rows) > 1 else "" for v in values]
                pairs = zip(values, spreads, strict=True)
                cells.append(", ".join(f"{of_seeds.mean():.3f}{by}" for of_seeds, by in pairs))
            else:
                cells.append("")
        if any(seeds):
            lines.append(f"| {clips} | {', '.join(map(str, seeds))} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def systems(plan: Mapping[str, Any], start: str | None) -> dict[str, dict[str, Any]]:
    """Options of ``train``; what starts from a model is left out where none is given."""
    found = {}
    for name, settings in plan["few"]["systems"].items():
        own = {option: value for option, value in settings.items() if option != "start"}
        if not settings.get("start"):
            found[name] = own
        elif start is not None:
            found[name] = {**own, "from": start}
    return found


def main(argv: Sequence[str] | None = None) -> None:
    plan = tomllib.loads((HERE / "b1.toml").read_text(encoding="utf-8"))
    every = list(plan["few"]["systems"])
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scenes", type=Path, help="which benchmarks.rotations or bundled has made")
    parser.add_argument("--clips-of", default="train", metavar="PART")
    parser.add_argument("--section", default="few-labels", help="of the page, and of the results")
    parser.add_argument("--systems", nargs="+", choices=every, default=every, metavar="SYSTEM")
    parser.add_argument("--out", type=Path, required=True)
    add_option(parser)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--start", metavar="MODEL")
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args(argv)
    learnt, test = arguments.scenes / arguments.clips_of, arguments.scenes / "test"
    section, results = arguments.section, arguments.results or HOME / arguments.section
    for folder in (learnt, test):
        if not (folder / "weak.tsv").exists():
            parser.error(f"{folder} holds no scenes: benchmarks.rotations mixes them")
    check(arguments.page, section)
    there = len(read_labels(learnt / "weak.tsv").rows)
    for seed in range(arguments.seeds):
        for clips in (count for count in plan["few"]["clips"] if count <= there):
            for system, own in systems(plan, arguments.start).items():
                if system in arguments.systems:
                    name = f"{system}-{clips}-{seed}"
                    out = arguments.out / name
                    make = partial(scored, own, learnt, test, out, clips, seed)
                    keep(results, name, make, of(own, learnt, test))
    head = f"`python -m benchmarks.few_labels ...`; {made(results)}."
    tell(arguments.page, section, f"{head}\n\n{table(plan, results)}")


if __name__ == "__main__":
    main()
