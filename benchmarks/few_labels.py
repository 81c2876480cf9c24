"""How good a model gets with few labelled clips.

    python -m benchmarks.few_labels build/rotations/fold-5 --out build/few --page RESULTS.md

takes 20, 50, 100, ... clips of the scenes that ``benchmarks.rotations`` has made, trains the
systems of ``benchmarks/b1.toml`` on these alone, with nothing but the tags, and all else as it is
where nothing is said: a part of the clips is held out for the thresholds. Every seed draws other
clips. With ``--start MODEL`` one system more starts from a model of other sounds, such as
``python -m benchmarks.bundled --data DATA --out build/others --without ESC-10`` makes. It goes on
where it was stopped, and several of it share the work.
"""

import argparse
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import HERE, options
from benchmarks.accuracy import run as run_command
from benchmarks.claims import claimed
from benchmarks.pages import check, made_on, tell
from benchmarks.rotations import COUNTS, counted, scores


def some_labels(table: Path, clips: int, seed: int, out: Path) -> Path:
    """The rows of as many clips, drawn anew by every seed; more are those of fewer, and others."""
    header, *rows = table.read_text(encoding="utf-8").splitlines()
    chosen = np.random.default_rng(seed).permutation(len(rows))[:clips]
    lines = [header, *(rows[place] for place in sorted(chosen.tolist()))]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def run(
    plan: Mapping[str, Any],
    scenes: Path,
    out: Path,
    system: str,
    clips: int,
    seed: int,
    start: Path | None = None,
) -> None:
    """One training and its scores, unless it is done or another process is at it.

    A system that starts from a model is left out where none is given.
    """
    settings = dict(plan["few"]["systems"][system])
    begun = settings.pop("start", False)
    if begun and start is None:
        return
    name = f"{system}-{clips}-{seed}"
    with claimed(out, name) as result:
        if result is None:
            return
        table = scenes / "train" / "weak.tsv"
        labels = some_labels(table, clips, seed, out / f"{clips}-{seed}.tsv")
        model = out / "models" / name
        words = ["train", str(labels), "--audio", str(scenes / "train" / "audio")]
        words += ["--out", str(model), "--resume", "--seed", str(seed)]
        words += ["--from", str(start)] if begun else []
        run_command([*words, *options(settings)], model / "model.json")
        found = counted(model, scenes / "test")
        result.write_text(json.dumps(found) + "\n", encoding="utf-8")


def table(plan: Mapping[str, Any], out: Path) -> str:
    """A row for each number of clips, of each system the means over the seeds."""
    systems = list(plan["few"]["systems"])
    head = ["labelled clips", "seeds", *(f"{s}: tagging F1, segment F1, ER" for s in systems)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for clips in plan["few"]["clips"]:
        cells, seeds = [], []
        for system in systems:
            rows = []
            for file in sorted((out / "results").glob(f"{system}-{clips}-[0-9]*.json")):
                found = json.loads(file.read_text(encoding="utf-8"))
                counts = np.array([found[name] for name in COUNTS]).T
                rows.append(scores({(0, 0): counts}, {0: np.ones(len(counts), np.int64)}))
            seeds.append(len(rows))
            if rows:
                spread = np.std(rows, axis=0, ddof=min(1, len(rows) - 1))
                pairs = zip(np.mean(rows, axis=0), spread, strict=True)
                cells.append(", ".join(f"{mean:.3f} ± {by:.3f}" for mean, by in pairs))
            else:
                cells.append("")
        if any(seeds):
            lines.append(f"| {clips} | {', '.join(map(str, seeds))} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scenes", type=Path, help="a fold that benchmarks.rotations has made")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--start", type=Path, metavar="MODEL")
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args(argv)
    check(arguments.page, "few-labels")
    plan = tomllib.loads((HERE / "b1.toml").read_text(encoding="utf-8"))
    out = arguments.out
    (out / "models").mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.seeds):
        for clips in plan["few"]["clips"]:
            for system in plan["few"]["systems"]:
                run(plan, arguments.scenes, out, system, clips, seed, arguments.start)
    head = f"`python -m benchmarks.few_labels build/rotations/fold-5 ...`; {made_on()}."
    tell(arguments.page, "few-labels", f"{head}\n\n{table(plan, out)}")


if __name__ == "__main__":
    main()
