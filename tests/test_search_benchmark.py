"""What the search tries is what its rows say, and the base changes nothing."""

import json
import shutil
import tomllib
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import Scenes

from benchmarks import search
from benchmarks.kept import keep
from earmark.model.localisation import Localised
from earmark.training.loss import tag_loss

PLAN = tomllib.loads(search.PLAN.read_text(encoding="utf-8"))
TINY = {
    "recipe": "gated-crnn-logmel",
    "base": {
        "network": {"filters": 4, "recurrent_units": 4, "time_pooling": [2, 2, 2]},
        "training": {"epochs": 1, "average_decay": 0.9, "batch_size": 8},
    },
}


@pytest.mark.parametrize("name", PLAN["rows"])
def test_every_row_but_the_base_changes_something(name: str) -> None:
    base, row = search.row_of(PLAN, "base"), search.row_of(PLAN, name)
    assert base[1] == search.Ideas()
    assert (row == base) == (name == "base")


def test_every_idea_is_tried() -> None:
    tried = {idea for row in PLAN["rows"].values() for idea in row.get("ideas", {})}
    assert tried == {field.name for field in fields(search.Ideas)}


def output(classes: int = 3) -> Localised:
    logits = torch.randn(4, 5, classes, generator=torch.Generator().manual_seed(0))
    clips = torch.sigmoid(logits.amax(dim=1))
    return Localised(logits, logits, clips.log(), (1 - clips).log())


def test_without_ideas_the_loss_is_the_packages() -> None:
    tags = torch.eye(4, 3)
    found, given = search.loss_of(search.Ideas(), output(), tags), output()
    assert found == tag_loss(given.log_present, given.log_absent, tags)
    for idea in ({"label_smoothing": 0.1}, {"bootstrap": 0.2}, {"focal": 1.0}):
        assert search.loss_of(search.Ideas(**idea), output(), tags) != found


def test_without_ideas_nothing_is_changed() -> None:
    features, tags = torch.randn(4, 20, 8), torch.eye(4)
    draws = torch.Generator().manual_seed(0)
    assert search.changed(search.Ideas(), features, tags, draws) == (features, tags)
    for idea in ({"masks": 1}, {"noise": 0.1}, {"tempo": 0.3}, {"mixup": 0.5}):
        found, its_tags = search.changed(search.Ideas(**idea), features, tags, draws)
        assert not torch.equal(found, features)
        assert torch.allclose(its_tags.sum(dim=1), torch.ones(4))


def test_the_table_is_of_rows_each_trained_with_its_own_change(
    clips: Scenes, held_out: Scenes, tmp_path: Path
) -> None:
    for part, scenes in (("train", clips), ("validation", held_out)):
        folder = tmp_path / "b1" / part
        folder.mkdir(parents=True)
        shutil.copytree(scenes.audio, folder / "audio")
        shutil.copy(scenes.strong, folder / "strong.tsv")
        shutil.copy(scenes.weak, folder / "weak.tsv")
    ideas = {"mix_style": 0.5, "teacher": 1.0, "pcen": True, "learned_pooling": True}
    plan = {
        **TINY,
        "rows": {
            "base": {},
            "frames": {"training": {"epochs": 2, "frame_share": 0.5}},
            "told": {"ideas": {"told": True}},
            "twice": {"ideas": {"second_pass": 1.5}},
            "all": {"ideas": ideas | {"attention_layers": 1, "weight_decay": 0.1}},
        },
    }
    out = tmp_path / "out"
    for name in plan["rows"]:
        keep(out, f"{name}-0", partial(search.scored, plan, name, 0, tmp_path / "b1"))
    found = {path.name: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert set(found) == {f"{name}-0.json" for name in plan["rows"]}
    # What is heard a second time changes segments alone.
    assert len({of["tags"] for of in found.values()}) == len(found) - 1
    assert len({of["segments"] for of in found.values()}) == len(found)
    assert found["twice-0.json"]["tags"] == found["base-0.json"]["tags"]
    known = {"tags": 0.5, "segments": 0.25, "cpu_seconds": 60, "weights": 1}
    (out / "base-0.json").write_text(json.dumps(known))
    lines = search.table(plan, out).splitlines()
    assert lines[2] == "| base | 1 | 50.0 | 25.0 | 1 | 1 |"
    assert lines[6].startswith("| all | 1 | ")
    # A seed that is lucky for the base is compared with the same seed of a row alone.
    (out / "base-1.json").write_text(json.dumps(known | {"tags": 0.54}))
    (out / "twice-0.json").write_text(json.dumps(known | {"tags": 0.51}))
    lines = search.table(plan, out).splitlines()
    assert lines[2] == "| base | 2 | 52.0 ± 2.8 | 25.0 ± 0.0 | 1 | 1 |"
    assert lines[5] == "| twice | 1 | 51.0 (+1.0) | 25.0 (+0.0) | 1 | 1 |"
    (out / "twice-1.json").write_text(json.dumps(known | {"tags": 0.57}))
    assert "| twice | 2 | 54.0 ± 4.2 (+2.0 ± 1.4) |" in search.table(plan, out)


def test_a_misspelt_row_is_told_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        search.main(["scenes", "--rows", "no shfit"])
    assert "invalid choice: 'no shfit'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        search.main(["nowhere"])
    assert "nowhere holds no scenes" in capsys.readouterr().err
