"""Fusing models: what comes out, and what can't be."""

import json
import os
from pathlib import Path

import pytest
from conftest import TINY, Scenes

import earmark
from earmark.errors import UserError
from earmark.inference.fusion import DEEPEST
from earmark.tasks import detect, fuse, train


def test_a_model_fused_with_itself_changes_nothing(
    model: Path, held_out: Scenes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fused = fuse(model, model, model, out=tmp_path / "fused", device="cpu").model
    assert f"given several times, each of which counts: {model}\n" in capsys.readouterr().err
    nested = fuse(fused, model, out=tmp_path / "nested", device="cpu").model
    assert "several times" not in capsys.readouterr().err
    alone = detect(held_out.audio, model=model, out=tmp_path / "a.csv", device="cpu")
    for folder in (fused, nested):
        found = detect(held_out.audio, model=folder, out=tmp_path / "b.csv", device="cpu")
        assert found.events == alone.events
        assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    recording = sorted(held_out.audio.iterdir())[0]
    assert earmark.load(fused).tag(recording) == earmark.load(model).tag(recording)


def test_a_fused_model_needs_nothing_but_its_folder(
    model: Path, held_out: Scenes, tmp_path: Path
) -> None:
    fused = fuse(model, model, out=tmp_path / "fused", device="cpu").model
    moved = tmp_path / "elsewhere"
    os.rename(fused, moved)
    names = {p.relative_to(moved).as_posix() for p in moved.rglob("*") if p.is_file()}
    of_member = {"README.md", "model.json", "model.safetensors", "training/log.jsonl"}
    assert names == {"README.md", "model.json"} | {
        f"members/{n}/{f}" for n in (0, 1) for f in of_member
    }
    detect(held_out.audio, model=moved, out=tmp_path / "a.csv", device="cpu")


def test_models_that_do_not_fit(
    model: Path, clips: Scenes, tmp_path: Path, held_out: Scenes
) -> None:
    with pytest.raises(UserError, match="at least two models"):
        fuse(model, out=tmp_path / "fused")
    with pytest.raises(UserError, match="go together"):
        fuse(model, model, out=tmp_path / "fused", audio=clips.audio)
    with pytest.raises(UserError, match="new or empty"):
        fuse(model, model, out=model)
    lines = clips.weak.read_text().splitlines()
    other = tmp_path / "other.tsv"
    other.write_text("\n".join([lines[0], *(line.replace("horn", "oboe") for line in lines[1:])]))
    settings = [*TINY, "training.epochs=1"]
    train(other, audio=clips.audio, out=tmp_path / "other", set=settings, device="cpu")
    with pytest.raises(UserError, match=r"same classes, but only one of .* has '(horn|oboe)'"):
        fuse(model, tmp_path / "other", out=tmp_path / "fused")
    with pytest.raises(UserError, match="no class 'oboe'"):
        fuse(model, model, out=tmp_path / "fused", validation=other, audio=clips.audio)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "other.tsv"]


def test_the_folder_may_be_there_if_it_is_empty(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, link = tmp_path / "empty", tmp_path / "link"
    empty.mkdir()
    link.symlink_to(empty)
    assert fuse(model, model, out=link, device="cpu").members == 2
    assert (empty / "model.json").exists()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    fuse(model, model, out=Path(), device="cpu")
    assert {path.name for path in here.iterdir()} == {"members", "README.md", "model.json"}


def test_a_fused_model_that_says_too_little(model: Path, tmp_path: Path) -> None:
    fused = fuse(model, model, out=tmp_path / "fused", device="cpu").model
    path = fused / "model.json"
    whole = json.loads(path.read_text())
    for changed, message in (
        (whole | {"decoding_settings": {}}, "decoding_settings.threshold' is missing"),
        (whole | {"clock": whole["clock"] | {"hop_samples": 7}}, "clock"),
        (whole | {"class_names": whole["class_names"][::-1]}, "the first member's"),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(UserError, match=message):
            earmark.load(fused)


@pytest.mark.slow
def test_models_in_models_may_be_so_deep(model: Path, tmp_path: Path) -> None:
    deeper = model
    for depth in range(DEEPEST):
        deeper = fuse(model, deeper, out=tmp_path / str(depth), device="cpu").model
    earmark.load(deeper)
    with pytest.raises(UserError, match="deep"):
        fuse(model, deeper, out=tmp_path / "deepest", device="cpu")
    assert not (tmp_path / "deepest").exists()


@pytest.mark.parametrize("member", ["../model", "members/../../model", "/tmp/model", "members/"])
def test_a_member_lies_within_the_folder(model: Path, tmp_path: Path, member: str) -> None:
    fused = fuse(model, model, out=tmp_path / "fused", device="cpu").model
    text = json.loads((fused / "model.json").read_text())
    text["members"] = [member]
    (fused / "model.json").write_text(json.dumps(text))
    with pytest.raises(UserError, match="members"):
        earmark.load(fused)


def test_a_circle_of_members_ends(model: Path, tmp_path: Path) -> None:
    fused = fuse(model, model, out=tmp_path / "fused", device="cpu").model
    text = json.loads((fused / "model.json").read_text())
    text["members"] = ["members/itself"]
    (fused / "model.json").write_text(json.dumps(text))
    (fused / "members" / "itself").symlink_to(fused)
    with pytest.raises(UserError, match="a folder of its own in its model's"):
        earmark.load(fused)
