"""The tables: every row trained and scored, nothing done twice, nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Scenes, scenes

from earmark.errors import UserError
from earmark.formats.labels import read_labels
from earmark.outputs.tables import PUBLISHED_EVENTS, PUBLISHED_TAGGING, ROWS, markdown, summary
from earmark.recipes import names
from earmark.tasks import compare, comparison, detect, evaluate, tag

SET = ("training.epochs=1", "training.batch_size=4", "training.fuse_epochs=1")
QUICK = ("dcase2017-baseline", "frame-cnn")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scenes]:
    folder = tmp_path_factory.mktemp("compared")
    return {
        name: scenes(folder / name, count, seed=seed)
        for seed, (name, count) in enumerate({"train": 12, "held": 5, "test": 6}.items())
    }


def compared(data: dict[str, Scenes], out: Path, **changes: object) -> comparison.Compared:
    given = {
        "audio": data["train"].folder.parent,
        "validation": str(data["held"].strong),
        "test": data["test"].strong,
        "out": out,
        "recipes": QUICK,
        "seeds": 2,
        "set": SET,
        "device": "cpu",
    }
    return compare(data["train"].weak, **(given | changes))


@pytest.fixture(scope="module")
def done(data: dict[str, Scenes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tables") / "tables"
    assert not compared(data, out).failures
    return out


def test_the_rows_are_the_paper_s() -> None:
    ours = {"demo", "gated-crnn-small", "syllables"}
    ours |= {name for name in names() if name.partition("-")[0] == "best"}
    assert set(ROWS) == set(names()) - ours
    assert set(PUBLISHED_TAGGING) | set(PUBLISHED_EVENTS) <= set(ROWS)
    # F1 is the harmonic mean of the other two, but for rounding.
    for row in PUBLISHED_TAGGING.values():
        for numbers in filter(None, row):
            f1, precision, recall = map(float, numbers.split(" / "))
            assert f1 == pytest.approx(2 * precision * recall / (precision + recall), abs=0.15)


def test_what_stands_in_the_folder(done: Path, data: dict[str, Scenes]) -> None:
    cells = [json.loads(path.read_text()) for path in sorted((done / "results").glob("*.json"))]
    assert [(cell["recipe"], cell["seed"]) for cell in cells] == [
        (r, s) for r in QUICK for s in (0, 1)
    ]
    page = (done / "tables.md").read_text()
    assert "18.2 / 15.0 / 23.1" in page
    assert "| frame-cnn |" in page
    numbers = json.loads((done / "tables.json").read_text())
    found = numbers["frame-cnn"]["test.segment_f1"]
    assert found["mean"] == pytest.approx(np.mean(found["values"]))
    assert found["deviation"] == pytest.approx(np.std(found["values"], ddof=1))
    for cell in cells:
        assert 0 <= cell["test"]["tagging_f1"] <= 1
        assert cell["cost"]["parameters"] > 10_000


def test_scores_are_those_of_the_commands(
    done: Path, data: dict[str, Scenes], tmp_path: Path
) -> None:
    test, model = data["test"], done / "models" / "frame-cnn" / "seed-1"
    cell = json.loads((done / "results" / "frame-cnn-1.json").read_text())["test"]
    tag(test.audio, model=model, out=tmp_path / "tags.csv", device="cpu")
    tags = evaluate(
        test.strong, tmp_path / "tags.csv", thresholds=model, extra_classes=True
    ).as_dict()
    assert cell["tagging_f1"] == pytest.approx(tags["micro_f1"])
    assert cell["tagging_map"] == pytest.approx(tags["mean_average_precision"], abs=1e-6)
    detect(test.audio, model=model, out=tmp_path / "events.csv", device="cpu")
    events = evaluate(test.strong, tmp_path / "events.csv", extra_classes=True).as_dict()
    assert cell["segment_f1"] == pytest.approx(events["f1"])
    assert cell["segment_error_rate"] == pytest.approx(events["error_rate"])


def test_it_goes_on_and_does_nothing_twice(
    done: Path, data: dict[str, Scenes], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (done / "results").iterdir()}
    trained = []
    monkeypatch.setattr(comparison, "train", lambda *_, **given: trained.append(given))
    compared(data, done)
    assert not trained
    assert before == {path: path.stat().st_mtime_ns for path in (done / "results").iterdir()}
    with pytest.raises(UserError, match="begun with another set"):
        compared(data, done, set=("training.epochs=2",))
    with pytest.raises(UserError, match="begun with another validation"):
        compared(data, done, validation=str(data["held"].weak))
    # The same in other words.
    held = os.path.relpath(data["held"].strong)
    compared(data, done, validation=held, set=SET[::-1])
    (done / "results" / "frame-cnn-0.json").rename(done / "kept")
    report = compared(data, done)  # nothing is trained by this stand-in; the model is still there
    assert [given["recipe"] for given in trained] == ["frame-cnn"]
    assert not report.failures
    again = json.loads((done / "results" / "frame-cnn-0.json").read_text())
    assert again == json.loads((done / "kept").read_text())


@pytest.mark.slow
def test_a_fusion_waits_for_the_models_that_it_takes(
    data: dict[str, Scenes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "both.toml"
    recipe.write_text(f"members = {json.dumps(list(QUICK))}\n")
    out = tmp_path / "out"
    compared(data, out, recipes=[str(recipe), *QUICK], seeds=1)
    begun = [line for line in capsys.readouterr().err.splitlines() if line.endswith(", seed 0")]
    assert begun == [f"{row}, seed 0" for row in (*QUICK, recipe)]
    for member in QUICK:
        row, copy = (out / "models" / p / "seed-0" for p in (member, "both"))
        weights = (row / "model.safetensors").read_bytes()
        assert (copy / "members" / member / "model.safetensors").read_bytes() == weights
    cells = {p.stem: json.loads(p.read_text()) for p in (out / "results").iterdir()}
    parts = [cells[f"{member}-0"]["cost"]["parameters"] for member in QUICK]
    assert cells["both-0"]["cost"]["parameters"] == sum(parts)
    assert [cell["recipe"] for cell in cells.values()].count(str(recipe)) == 1


def test_a_row_that_fails_is_reported(data: dict[str, Scenes], tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(
        "[training]\nlearning_rate = 1e30\n[network]\nfilters = 2\nrecurrent_units = 2\n"
    )
    report = compared(data, tmp_path / "out", recipes=[str(bad), QUICK[0]], seeds=1)
    assert len(report.cells) == 1
    (failure,) = report.failures
    assert "bad.toml, seed 0" in failure
    assert "lower training.learning_rate" in failure
    assert "1 failed:" in report.text()
    with pytest.raises(UserError, match=r"no recipe could be trained; first: .*bad\.toml"):
        compared(data, tmp_path / "other", recipes=[str(bad)], seeds=1)


def test_tags_of_their_own_and_a_table_to_tune_on(data: dict[str, Scenes], tmp_path: Path) -> None:
    """The challenge's protocol: tags held out of training, frames tuned on a table with times."""
    tags = tmp_path / "tags.tsv"
    rows = read_labels(data["test"].strong).rows
    tags.write_text("filename\tevent_labels\n" + "".join(f"{row.filename}\thorn\n" for row in rows))
    report = compared(
        data,
        tmp_path / "out",
        recipes=[QUICK[0]],
        seeds=1,
        validation="0.3",
        tune=data["held"].strong,
        test_tags=tags,
    )
    (cell,) = report.cells
    assert {"test", "tags_alone", "tuned_on", "cost"} <= cell.keys()
    assert "their own labels" in report.text()
    note = json.loads((tmp_path / "out/models/dcase2017-baseline/seed-0/model.json").read_text())
    thresholds = note["training"]["thresholds"]
    assert "held out of weak.tsv" in thresholds
    assert "on the strong labels of strong.tsv" in thresholds
    with pytest.raises(UserError, match="this table has tags alone"):
        compared(data, tmp_path / "third", tune=data["held"].weak)
    tags.write_text(tags.read_text().replace("horn", "oboe"))
    with pytest.raises(UserError, match="must occur in training, but 'oboe' does not"):
        compared(data, tmp_path / "fourth", test_tags=tags)


def test_nothing_is_chosen_on_the_test(data: dict[str, Scenes], tmp_path: Path) -> None:
    test = data["test"].strong
    for given in (
        {"test": data["train"].strong},
        {"test": data["train"].strong, "validation": "0.5"},
        {"validation": str(test)},
        {"validation": "0.3", "tune": test},
    ):
        with pytest.raises(UserError, match="test must not be trained on"):
            compared(data, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_recipes_are_told_apart(data: dict[str, Scenes], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.toml").write_text("[training]\nepochs = 1\n")
    both = [str(tmp_path / folder / "m.toml") for folder in ("a", "b")]
    with pytest.raises(UserError, match="must differ in name"):
        compared(data, tmp_path / "out", recipes=both)
    with pytest.raises(UserError, match="at least one recipe"):
        compared(data, tmp_path / "out", recipes=[])
    with pytest.raises(UserError, match="no recipe 'frame-cn'"):
        compared(data, tmp_path / "out", recipes=["frame-cn"])


def test_a_recipe_that_has_changed_is_no_more_the_same_row(
    data: dict[str, Scenes], tmp_path: Path
) -> None:
    recipe = tmp_path / "m.toml"
    text = (
        '[network]\nkind = "context_mlp"\ncontext_frames = 3\nhidden_units = [{}]\ndropout = 0.0\n'
    )
    recipe.write_text(text.format(4))
    compared(data, tmp_path / "out", recipes=[str(recipe)], seeds=1)
    recipe.write_text(text.format(9))
    report = compared(data, tmp_path / "out", recipes=[str(recipe)], seeds=2)
    assert len(report.failures) == 2
    assert all("other settings of the recipe" in failure for failure in report.failures)
    assert len(report.cells) == 1


def test_settings_that_one_row_lacks_fail_that_row_alone(
    data: dict[str, Scenes], tmp_path: Path
) -> None:
    report = compared(data, tmp_path / "out", seeds=1, set=(*SET, "network.smoothing_frames=[1.0]"))
    (failure,) = report.failures
    assert failure.startswith("dcase2017-baseline: ")
    assert [cell["recipe"] for cell in report.cells] == ["frame-cnn"]


def test_unreadable_test_files_are_known_before_the_work(
    data: dict[str, Scenes], tmp_path: Path
) -> None:
    broken = data["test"].folder.parent / "broken.flac"
    broken.write_bytes(b"nothing")
    table = tmp_path / "test.tsv"
    table.write_text(data["test"].strong.read_text() + "broken.flac\t0.0\t1.0\thorn\n")
    try:
        with pytest.raises(UserError, match=r"broken\.flac.*--skip-missing"):
            compared(data, tmp_path / "out", test=table)
        assert not (tmp_path / "out").exists()
        report = compared(
            data, tmp_path / "out", test=table, skip_missing=True, recipes=[QUICK[0]], seeds=1
        )
    finally:
        broken.unlink()
    assert report.cells[0]["test"]["recordings"] == 6
    assert "of 6 recordings" in report.text()


def test_a_damaged_note_is_named(done: Path, data: dict[str, Scenes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "comparison.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        compared(data, out)


@pytest.mark.slow
def test_two_processes_share_the_work(data: dict[str, Scenes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [sys.executable, "-m", "earmark", "compare", str(data["train"].weak)]
    words += ["--audio", str(data["train"].folder.parent), "--test", str(data["test"].strong)]
    words += ["--validation", str(data["held"].strong), "--out", str(out), "--device", "cpu"]
    words += ["--recipes", *QUICK, "--seeds", "2", "--set", *SET]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [process.communicate()[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    begun = [line for text in said for line in text.splitlines() if ", seed " in line]
    assert sorted(begun) == sorted(f"{recipe}, seed {seed}" for recipe in QUICK for seed in (0, 1))
    assert len(list((out / "results").glob("*.json"))) == 4


def test_tables_of_nothing_and_of_one_seed() -> None:
    assert "Nothing was measured" in markdown([])
    cell = {
        "recipe": "frame-cnn",
        "seed": 0,
        "test": {"recordings": 7.0}
        | dict.fromkeys(
            (
                "tagging_f1",
                "tagging_precision",
                "tagging_recall",
                "tagging_macro_precision",
                "tagging_macro_recall",
                "tagging_f1_of_means",
                "tagging_map",
                "segment_f1",
                "segment_error_rate",
            ),
            0.5,
        ),
        "cost": {"parameters": 1000, "training_seconds": 90.0},
    }
    page = markdown([cell])
    assert "| frame-cnn | 50.0 | 50.0 | 50.0 | 50.0 (50.0 / 50.0) | 50.0 | 1,000 | 2 min |" in page
    assert "| frame-cnn | 50.0 / 0.500 |" in page
    assert summary([cell])["frame-cnn"]["test.segment_f1"]["deviation"] is None
