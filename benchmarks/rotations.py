"""Systems compared over all five rotations of the test fold, with intervals by source recordings.

    python -m benchmarks.rotations --data DATA --out build/rotations --page RESULTS.md

mixes the scenes of ``benchmarks/b1.toml`` five times, a fold of ESC-10 as the test each time and
the one before it for validation, trains each of its systems with several seeds on each, and
counts right and wrong in every test scene. Intervals are of draws of the source recordings, of all
folds together, which bring their scenes along; seeds are not in them. It goes on where it was
stopped (``benchmarks/kept.py``), and several of it share the work.
"""

import argparse
import csv
import shutil
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from benchmarks.accuracy import HERE, add_data, data_of, make_scenes, train
from benchmarks.kept import add_option, keep, kept, made
from benchmarks.pages import check, tell
from earmark.config import Settings, parse_assignments
from earmark.formats.labels import read_labels
from earmark.inference.fusion import load_recogniser
from earmark.metrics.bootstrap import LEVEL, RESAMPLES
from earmark.metrics.segments import SegmentEvidence
from earmark.metrics.tagging import TaggingEvidence
from earmark.recipes import systems
from earmark.tasks.description import training_seconds

FOLDS = 5
COUNTS = ("tag_tp", "tag_fp", "tag_fn", "tp", "fp", "fn", "errors")


def rotated(plan: Mapping[str, Any], fold: int) -> dict[str, Any]:
    """The plan with another test fold; the one before it is for validation, the rest to learn."""
    held = (fold - 2) % FOLDS + 1
    rest = [str(other) for other in range(1, FOLDS + 1) if other not in (fold, held)]
    folds = {"train": ",".join(rest), "validation": str(held), "test": str(fold)}
    sets = {name: {**plan["sets"][name], "folds": folds[name]} for name in folds}
    return {**plan, "sets": sets}


def counted(model: Path, scenes: Path) -> dict[str, Any]:
    """Right and wrong tags and segments of every scene; the sums of ``COUNTS``.

    Classes that the model doesn't know are never found.
    """
    recogniser = load_recogniser(model, precision="auto")
    rows = read_labels(scenes / "strong.tsv").rows
    known = recogniser.class_names
    names = [*known, *sorted({label for row in rows for label in row.labels} - {*known})]
    tags = np.array([[name in row.labels for name in names] for row in rows])
    given, found = [], {}
    for row in rows:
        path = scenes / "audio" / row.filename
        probabilities = recogniser.tag(path)
        given.append([probabilities.get(name, 0.0) for name in names])
        found[row.filename] = recogniser.detect(path)
    thresholds = [rule.tag_threshold for rule in recogniser.rules]
    thresholds += [np.inf] * (len(names) - len(known))
    tagging = TaggingEvidence(tags, np.array(given), thresholds, names)
    events = {row.filename: list(row.events or ()) for row in rows}
    segments = SegmentEvidence(events, found, names)
    counts: dict[str, list[int]] = {name: [] for name in COUNTS}
    for alone in np.eye(len(rows), dtype=np.int64):
        of_tags, of_segments = tagging.scores(alone).micro, segments.scores(alone)
        overall = of_segments.overall
        errors = of_segments.substitutions + of_segments.deletions + of_segments.insertions
        for name, count in zip(
            COUNTS,
            (of_tags.tp, of_tags.fp, of_tags.fn, overall.tp, overall.fp, overall.fn, errors),
            strict=True,
        ):
            counts[name].append(int(count))
    return counts


def scenes_of(
    plan: Mapping[str, Any], data: Path, out: Path, fold: int
) -> dict[str, tuple[Path, Path]]:
    """(table, audio folder) of each part for a test fold, mixed by one process if need be."""
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / f".scenes-{fold}"):
        return make_scenes(rotated(plan, fold), data, out / f"fold-{fold}")


def scored(
    plan: Mapping[str, Any], data: Path, out: Path, fold: int, system: str, seed: int
) -> dict[str, Any]:
    """Trains a system, and counts."""
    tables = scenes_of(plan, data, out, fold)
    folder = out / f"fold-{fold}"
    model = folder / f"{system}-{seed}"
    lend_members(plan, folder, system, seed)
    train({"train": {**plan["rotations"][system], "seed": seed}}, tables, model)
    return counted(model, folder / "test") | {"seconds": training_seconds(model)}


def of(plan: Mapping[str, Any], fold: int, system: str) -> list[object]:
    """What a result is of: settings, and how scenes are mixed."""
    settings = settings_of(plan["rotations"][system])
    return [*settings, *settings.values(), plan["scenes"], rotated(plan, fold)["sets"]]


def settings_of(rotation: Mapping[str, Any]) -> dict[str, Settings]:
    """What a system trains, by recipe."""
    return systems(rotation["recipe"], parse_assignments(rotation.get("set", [])))


def lend_members(plan: Mapping[str, Any], folder: Path, system: str, seed: int) -> None:
    """Puts models that are systems of their own here where a fusion would train them again."""
    rotations = plan["rotations"]
    members = settings_of(rotations[system])
    for other in rotations.keys() - {system}:
        for name, settings in settings_of(rotations[other]).items():
            there = folder / f"{other}-{seed}"
            here = folder / f"{system}-{seed}" / "members" / name
            alike = members.get(name) == settings and len(members) > 1
            if alike and (there / "model.safetensors").exists() and not here.exists():
                partial = here.with_name(f".{name}")
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(there, partial)
                partial.rename(here)


# -- what came out


Runs = dict[tuple[int, int], NDArray[np.int64]]
"""Of each fold and seed the counts (scenes, COUNTS)."""


def runs_of(results: Path, system: str) -> Runs:
    """What is there of a system."""
    return {
        (fold, seed): np.array([found[name] for name in COUNTS]).T
        for (fold, seed), found in kept(results, system).items()
    }


def scores(runs: Runs, weights: Mapping[int, NDArray[np.int64]]) -> NDArray[np.float64]:
    """Tagging F1, segment F1 and error rate, pooled over folds; of each the mean of its seeds."""
    of_folds: dict[int, list[NDArray[np.int64]]] = {}
    for (fold, _), counts in runs.items():
        of_folds.setdefault(fold, []).append(weights[fold] @ counts)
    total = np.sum([np.mean(of_fold, axis=0) for of_fold in of_folds.values()], axis=0)
    tag_tp, tag_fp, tag_fn, tp, fp, fn, errors = total
    f1 = 2 * tag_tp / (2 * tag_tp + tag_fp + tag_fn), 2 * tp / (2 * tp + fp + fn)
    return np.array([*f1, errors / (tp + fn)])


def recording_of(source: str) -> str:
    """What a clip of ESC-10 was cut from: its name is the fold, the recording and the take."""
    stem = Path(source).stem
    return stem.rpartition("-")[0] or stem


def drawn(
    out: Path, folds: Iterable[int]
) -> Callable[[np.random.Generator], dict[int, NDArray[np.int64]]]:
    """Draws of the source recordings of folds: how much each test scene counts by them.

    A scene counts once, and by as much more or less as each of its recordings is drawn more than
    once or not at all. What a recording adds to the sums over scenes then comes and goes with it,
    whatever else sounds in these; were a scene to count by the mean of its recordings, each would
    add a part of that alone, and the intervals would be too narrow.
    """
    recordings: dict[int, list[str]] = {}
    scenes: dict[int, list[set[str]]] = {}
    for fold in folds:
        folder = out / f"fold-{fold}" / "test"
        of_scene: dict[str, set[str]] = {
            row.filename: set() for row in read_labels(folder / "strong.tsv").rows
        }
        with open(folder / "sources.tsv", encoding="utf-8", newline="") as table:
            for row in csv.DictReader(table, delimiter="\t"):
                of_scene[row["filename"]].add(recording_of(row["source"]))
        scenes[fold] = list(of_scene.values())
        recordings[fold] = sorted(set().union(*scenes[fold]))
    every = [(fold, recording) for fold, of in recordings.items() for recording in of]

    def draw(rng: np.random.Generator) -> dict[int, NDArray[np.int64]]:
        times = np.bincount(rng.integers(len(every), size=len(every)), minlength=len(every))
        more = dict(zip(every, (times - 1).tolist(), strict=True))
        return {
            fold: np.array([1 + sum(more[fold, name] for name in own) for own in of_fold])
            for fold, of_fold in scenes.items()
        }

    return draw


def minutes_of(results: Path, system: str) -> float:
    """How long its trainings took, on average."""
    return float(np.mean([found["seconds"] for found in kept(results, system).values()]) / 60)


def table(runs: Mapping[str, Runs], out: Path, minutes: Mapping[str, float]) -> str:
    """A row for each system, and one for how each differs from the first on runs of both."""
    head = ["system", "runs", "tagging micro F1", "segment F1", "error rate", "training"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    if not runs:
        return "\n".join(lines)
    draw = drawn(out, sorted({fold for found in runs.values() for fold, _ in found}))
    rng = np.random.default_rng(0)
    draws = [draw(rng) for _ in range(RESAMPLES)]
    once = {fold: np.ones_like(weights) for fold, weights in draws[0].items()}

    def row(name: str, of: Callable[[Mapping[int, NDArray[np.int64]]], Any], count: int) -> str:
        sides = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        ends = np.quantile([of(weights) for weights in draws], sides, axis=0)
        cells = [f"{v:.3f} ({a:.3f} to {b:.3f})" for v, a, b in zip(of(once), *ends, strict=True)]
        cells.append(f"{minutes[name]:.0f} min" if name in minutes else "")
        return f"| {name} | {count} | " + " | ".join(cells) + " |"

    for system, found in runs.items():
        lines.append(row(system, partial(scores, found), len(found)))
    first, *others = runs
    for system in others:
        keys = runs[system].keys() & runs[first].keys()
        ours, theirs = ({key: runs[s][key] for key in sorted(keys)} for s in (system, first))
        if keys:
            apart = partial(_difference, ours, theirs)
            lines.append(row(f"{system} less {first}", apart, len(keys)))
    return "\n".join(lines)


def folds_table(runs: Mapping[str, Runs]) -> str:
    """A row for each test fold, of each system the scores of its runs there."""
    lines = ["| test fold | " + " | ".join(runs) + " |", "|---" * (len(runs) + 1) + "|"]
    for fold in sorted({fold for found in runs.values() for fold, _ in found}):
        cells = []
        for found in runs.values():
            of_fold = {key: counts for key, counts in found.items() if key[0] == fold}
            if not of_fold:
                cells.append("")
                continue
            once = np.ones(len(next(iter(of_fold.values()))), np.int64)
            cells.append(", ".join(f"{value:.3f}" for value in scores(of_fold, {fold: once})))
        lines.append(f"| {fold} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _difference(
    ours: Runs, theirs: Runs, weights: Mapping[int, NDArray[np.int64]]
) -> NDArray[np.float64]:
    return scores(ours, weights) - scores(theirs, weights)


def main(argv: Sequence[str] | None = None) -> None:
    plan = tomllib.loads((HERE / "b1.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True)
    add_option(parser, "rotations")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", nargs="+", type=int, choices=range(1, FOLDS + 1))
    parser.add_argument("--systems", nargs="+", choices=plan["rotations"], metavar="SYSTEM")
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args(argv)
    data = data_of(parser, arguments.data, plan["sounds"]["table"])
    check(arguments.page, "rotations")
    out, results = arguments.out, arguments.results
    for seed in range(arguments.seeds):
        for fold in arguments.folds or range(1, FOLDS + 1):
            for system in arguments.systems or plan["rotations"]:
                make = partial(scored, plan, data, out, fold, system, seed)
                keep(results, f"{system}-{fold}-{seed}", make, of(plan, fold, system))
    head = f"`python -m benchmarks.rotations ...`; {made(results)}."
    runs = {system: found for system in plan["rotations"] if (found := runs_of(results, system))}
    for fold in {fold for found in runs.values() for fold, _ in found}:
        scenes_of(plan, data, out, fold)
    minutes = {system: minutes_of(results, system) for system in runs}
    tables = f"{table(runs, out, minutes)}\n\nThe same, by test fold:\n\n{folds_table(runs)}"
    tell(arguments.page, "rotations", f"{head}\n\n{tables}")


if __name__ == "__main__":
    main()
