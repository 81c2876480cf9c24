"""Rotated folds never meet, and counts and draws are what their names say."""

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from conftest import Scenes

import earmark
from benchmarks import rotations
from earmark.formats.labels import read_labels
from earmark.metrics.segments import segment_scores

PLAN = tomllib.loads((rotations.HERE / "b1.toml").read_text(encoding="utf-8"))


def test_every_fold_is_the_test_once_and_no_two_parts_meet() -> None:
    tests = []
    for fold in range(1, 6):
        sets = rotations.rotated(PLAN, fold)["sets"]
        parts = [part["folds"].split(",") for part in sets.values()]
        assert sorted(f for part in parts for f in part) == list("12345")
        assert sets["train"]["scenes"] == PLAN["sets"]["train"]["scenes"]
        tests.append(sets["test"]["folds"])
    assert sorted(tests) == list("12345")
    own = rotations.rotated(PLAN, 5)["sets"]
    assert {name: own[name] for name in own} == {name: PLAN["sets"][name] for name in own}


def test_counts_add_up_to_the_scores(model: Path, held_out: Scenes) -> None:
    found = rotations.counted(model, held_out.folder)
    recogniser = earmark.load(model)
    rows = read_labels(held_out.strong).rows
    events = {row.filename: list(row.events or ()) for row in rows}
    given = {name: recogniser.detect(held_out.audio / name) for name in events}
    scores = segment_scores(events, given, recogniser.class_names)
    for name in ("tp", "fp", "fn"):
        assert sum(found[name]) == getattr(scores.overall, name)
    assert sum(found["errors"]) == scores.substitutions + scores.deletions + scores.insertions
    assert sum(found["tag_tp"]) + sum(found["tag_fn"]) == sum(len(row.labels) for row in rows)


def test_classes_that_a_model_does_not_know_are_missed(
    model: Path, held_out: Scenes, tmp_path: Path
) -> None:
    known = earmark.load(model).class_names[0]
    shutil.copytree(held_out.folder, tmp_path / "other")
    strong = tmp_path / "other" / "strong.tsv"
    strong.write_text(held_out.strong.read_text().replace(known, "another"))
    before, after = (rotations.counted(model, f) for f in (held_out.folder, strong.parent))
    for found in ("tag_tp", "tp"):
        assert 0 < sum(after[found]) < sum(before[found])
    for true, missed in (("tag_tp", "tag_fn"), ("tp", "fn")):
        assert sum(before[true] + before[missed]) == sum(after[true] + after[missed])


def test_a_fusion_takes_the_members_that_are_there_and_trained_alike(tmp_path: Path) -> None:
    members, same = ("gated-crnn-logmel", "gated-crnn-mfcc"), ["training.fuse_epochs=3"]
    alone = {name: {"recipe": name, "set": same} for name in members} | {
        "fusion": {"recipe": "fusion"}
    }
    other = alone | {members[1]: {"recipe": members[1], "set": [*same, "training.epochs=2"]}}
    for name in members:
        (tmp_path / f"{name}-0").mkdir()
        (tmp_path / f"{name}-0" / "model.safetensors").write_text(name)
    for plan, lent in ((other, members[:1]), (alone, members)):
        for system in (*members, "fusion"):
            rotations.lend_members({"rotations": plan}, tmp_path, system, 0)
        found = {path.parent.name: path.read_text() for path in tmp_path.glob("*/*/*/model.*")}
        assert found == {name: name for name in lent}
    assert not (tmp_path / "fusion-1").exists()


def test_the_papers_fusion_has_the_system_that_is_trained_anyway() -> None:
    fusion, paper = (
        rotations.settings_of(PLAN["rotations"][name]) for name in ("fusion", "gated-crnn-logmel")
    )
    assert fusion.items() > paper.items()


@pytest.fixture
def out(held_out: Scenes, tmp_path: Path) -> Path:
    """Results of two systems on five folds, the second one right where the first is wrong."""
    (tmp_path / "results").mkdir()
    scenes = len(read_labels(held_out.strong).rows)
    rng = np.random.default_rng(0)
    for fold in range(1, 6):
        shutil.copytree(held_out.folder, tmp_path / f"fold-{fold}" / "test")
        for system, wrong in (("poor", 5), ("good", 1)):
            counts = {name: rng.integers(1, 4, scenes).tolist() for name in rotations.COUNTS}
            for name in ("tag_fp", "fp", "errors"):
                counts[name] = [wrong] * scenes
            result = tmp_path / "results" / f"{system}-{fold}-0.json"
            result.write_text(json.dumps(counts | {"seconds": 60 * fold}))
    return tmp_path


def scenes_of_recordings(folder: Path, of_scenes: list[list[int]]) -> None:
    """A test part, of the recordings that are in each scene."""
    (folder / "test").mkdir(parents=True)
    names = [f"{number}.flac" for number in range(len(of_scenes))]
    rows = [f"{name}\t0\t1\tdog" for name in names]
    strong = "\n".join(["filename\tonset\toffset\tevent_label", *rows])
    (folder / "test" / "strong.tsv").write_text(strong)
    rows = [
        f"{name}\tdog/1-{recording}-{take}.ogg"
        for name, recordings in zip(names, of_scenes, strict=True)
        for recording in recordings
        for take in "AB"
    ]
    (folder / "test" / "sources.tsv").write_text("\n".join(["filename\tsource", *rows]))


def test_takes_of_a_recording_are_drawn_together(tmp_path: Path) -> None:
    scenes_of_recordings(tmp_path / "fold-1", [[1], [2], [1, 2]])
    draw = rotations.drawn(tmp_path, [1])
    found = {tuple(draw(np.random.default_rng(seed))[1].tolist()) for seed in range(50)}
    assert found == {(2, 0, 1), (0, 2, 1), (1, 1, 1)}


def test_draws_spread_as_totals_over_other_recordings_would(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    of_scenes = [
        rng.choice(60, size=rng.integers(1, 5), replace=False).tolist() for _ in range(500)
    ]
    scenes_of_recordings(tmp_path / "fold-1", of_scenes)
    draw = rotations.drawn(tmp_path, [1])
    # What is right in a scene: so much of each recording, and some chance.
    member = np.zeros((500, 60))
    for scene, own in enumerate(of_scenes):
        member[scene, own] = 1.0
    worlds = [member @ rng.normal(0.7, 0.25, 60) + rng.normal(0, 0.3, 500) for _ in range(40)]
    true = np.std([world.sum() for world in worlds], ddof=1)
    weights = np.array([draw(rng)[1] for _ in range(300)])
    spreads = []
    for world in worlds:
        # Of a ratio, as all scores are: what each scene has more than its share.
        apart = world - member.sum(axis=1) * world.sum() / member.sum()
        spreads.append(np.std(weights @ apart))
    assert 0.75 * true < np.mean(spreads) < 1.4 * true


def test_the_table_says_how_systems_differ(out: Path) -> None:
    lines = rotations.table(both(out), out, {"good": 2.0}).splitlines()
    assert all(line.split("|")[2].strip() == "5" for line in lines[2:])
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["poor", "good", "good less poor"]
    poor, good, apart = (line.split("|")[3:6] for line in lines[2:])
    for place in range(3):
        values = [float(row[place].split()[0]) for row in (poor, good, apart)]
        assert values[1] - values[0] == pytest.approx(values[2], abs=0.0015)
        low, high = (float(end.strip("()")) for end in apart[place].split()[1::2])
        assert low <= values[2] <= high
    assert float(apart[1].split()[0]) > 0 > float(apart[2].split()[0])


def test_systems_are_compared_on_runs_that_both_have(out: Path) -> None:
    for fold in (1, 2, 4):
        (out / "results" / f"good-{fold}-0.json").unlink()
    shutil.copy(out / "results" / "good-3-0.json", out / "results" / "good-3-1.json")
    lines = rotations.table(both(out), out, {"good": 2.0}).splitlines()[2:]
    assert [line.split("|")[2].strip() for line in lines] == ["5", "3", "2"]
    assert set(rotations.runs_of(out / "results", "good")) == {(3, 0), (3, 1), (5, 0)}
    of_folds = rotations.folds_table(both(out)).splitlines()
    assert of_folds[0] == "| test fold | poor | good |"
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in of_folds[2:]]
    assert [(fold, bool(good)) for fold, _, good in cells] == [
        ("1", False),
        ("2", False),
        ("3", True),
        ("4", False),
        ("5", True),
    ]
    alone = {"good": {(5, 0): both(out)["good"][5, 0]}}
    of_runs = rotations.table(alone, out, {}).splitlines()[2].split("|")[3:6]
    assert cells[4][2] == ", ".join(cell.split()[0] for cell in of_runs)


def both(out: Path) -> dict[str, rotations.Runs]:
    return {system: rotations.runs_of(out / "results", system) for system in ("poor", "good")}


def test_scores_are_of_all_folds_together_however_many_seeds_they_have() -> None:
    runs = {
        (1, 0): np.array([[1, 0, 1, 2, 1, 0, 1], [1, 1, 0, 0, 0, 3, 3]]),
        (2, 0): np.array([[4, 0, 0, 1, 1, 1, 2]]),
    }
    weights = {1: np.array([2, 0]), 2: np.array([1])}
    found = rotations.scores(runs, weights)
    assert found.tolist() == [12 / 14, 10 / (10 + 3 + 1), 4 / 6]
    assert rotations.scores({**runs, (1, 1): runs[1, 0]}, weights).tolist() == found.tolist()
