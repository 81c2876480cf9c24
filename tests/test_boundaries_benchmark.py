"""Both systems hear the same, and events of each recording add up to the scores."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from conftest import Scenes

import earmark
from benchmarks import boundaries
from earmark.config import parse_assignments
from earmark.formats.labels import read_labels
from earmark.metrics.collars import EventEvidence
from earmark.recipes import systems

PLAN = tomllib.loads((boundaries.HERE / "b2.toml").read_text(encoding="utf-8"))


def test_all_systems_hear_the_same_and_are_tuned_alike() -> None:
    paper, short, ours = (
        next(iter(systems(given["recipe"], parse_assignments(given["set"])).values()))
        for given in boundaries.systems(PLAN).values()
    )
    assert paper.features == short.features == ours.features
    assert paper.tuning == short.tuning
    assert paper.tuning.target == ours.tuning.target == "event_f1"
    assert paper.tuning.collar_seconds == ours.tuning.collar_seconds == 0.05
    assert paper.tuning.collar_ratio == ours.tuning.collar_ratio == 0.0
    assert paper.tuning.average == ours.tuning.average
    of_the_paper = next(iter(systems(boundaries.PAPER, {}).values()))
    assert paper.network == of_the_paper.network
    assert short.training.epochs < paper.training.epochs == ours.training.epochs


@pytest.mark.parametrize("collar", [0.05, 1.0])
def test_counts_add_up_to_the_scores(model: Path, held_out: Scenes, collar: float) -> None:
    found = boundaries.counted(model, held_out.strong, held_out.audio, collar)
    recogniser = earmark.load(model)
    events = {row.filename: list(row.events or ()) for row in read_labels(held_out.strong).rows}
    given = {name: recogniser.detect(held_out.audio / name) for name in events}
    evidence = EventEvidence(events, given, recogniser.class_names, collar, collar, 0.0)
    overall = evidence.scores().overall
    for name in boundaries.COUNTS:
        assert sum(found[name]) == getattr(overall, name)
    assert found["recordings"] == list(events)


def _results(folder: Path, system: str, runs: list[dict[str, Any]]) -> None:
    for seed, counts in enumerate(runs):
        text = json.dumps({"recordings": ["a", "b", "c"], "seconds": 60 * seed + 60, **counts})
        (folder / f"{system}-{seed}.json").write_text(text)


def test_a_row_is_of_all_seeds_and_the_last_says_how_they_differ(tmp_path: Path) -> None:
    paper, _, ours = boundaries.systems(PLAN)
    _results(tmp_path, paper, [{"tp": [1, 1, 1], "fp": [1, 1, 1], "fn": [1, 1, 1]}])
    assert len(boundaries.table(PLAN, tmp_path).splitlines()) == 3
    good = {"tp": [2, 2, 2], "fp": [0, 0, 0], "fn": [0, 0, 0]}
    poor = {"tp": [1, 2, 2], "fp": [0, 0, 0], "fn": [1, 0, 0]}
    _results(tmp_path, ours, [good, poor])
    assert boundaries.table(PLAN, tmp_path).splitlines()[3].endswith("| 2 min |")
    lines = [line.split("|")[1:4] for line in boundaries.table(PLAN, tmp_path).splitlines()[2:]]
    assert [(name.strip(), seeds.strip()) for name, _, seeds in lines] == [
        (paper, "0.500"),
        (ours, "1.000, 0.909"),
        (f"{ours} less {paper}", ""),
    ]
    f1 = 22 / 23
    cells = [cell.split() for _, cell, _ in lines]
    assert [float(cell[0]) for cell in cells] == pytest.approx([0.5, f1, f1 - 0.5], abs=0.0006)
    # Every recording is alike for the first; the second's worst draw has "a" alone.
    assert cells[0][1:] == ["(0.500", "to", "0.500)"]
    assert 6 / 7 - 0.001 <= float(cells[1][1].strip("(")) < f1


def test_without_results_the_table_is_empty(tmp_path: Path) -> None:
    assert len(boundaries.table(PLAN, tmp_path).splitlines()) == 2
