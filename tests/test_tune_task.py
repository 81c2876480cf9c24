"""Tuning a model that is there: better than before, its weights untouched."""

import shutil
from pathlib import Path

import pytest
from conftest import Scenes

import earmark
from earmark import tuning
from earmark.cli import main
from earmark.errors import UserError
from earmark.model.bundle import Description, FusedDescription, read_description
from earmark.tasks import detect, evaluate, fuse, tune, tuned_rules


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tuning that is quick."""
    monkeypatch.setattr(tuning, "THRESHOLDS_TRIED", 8)
    monkeypatch.setattr(tuning, "STEPS_SECONDS_TRIED", (0.6,))
    monkeypatch.setattr(tuning, "MERGES_TRIED", ((0.5, 0.0),))


def contents(folder: Path) -> dict[Path, bytes]:
    """All files within a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def copied(model: Path, tmp_path: Path) -> Path:
    """A model to change."""
    return Path(shutil.copytree(model, tmp_path / "copied"))


def test_a_model_is_tuned_in_place(
    copied: Path, held_out: Scenes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_description(copied)
    files = contents(copied)
    report = tune(copied, held_out.strong, audio=held_out.audio, device="cpu")
    after = read_description(copied)
    assert isinstance(before, Description)
    assert isinstance(after, Description)
    now = contents(copied)
    assert now.keys() == files.keys()
    changed = {path.name for path in now if now[path] != files[path]}
    assert changed == {"model.json", "README.md"}
    assert report.after["segment macro F1"] > report.before["segment macro F1"]
    assert report.after["tagging macro F1"] >= report.before["tagging macro F1"]
    assert after.decoding != before.decoding
    assert after.training.validation == report.after
    assert after.training.thresholds == report.note
    assert after.settings == before.settings
    assert "the strong labels of strong.tsv" in (copied / "README.md").read_text()
    shown = report.text()
    assert f"{report.before['segment F1']:.3f}  {report.after['segment F1']:.3f}" in shown

    out = tmp_path / "events.csv"
    detect(held_out.audio, model=copied, out=out, device="cpu")
    text = evaluate(held_out.strong, out).text()
    assert f"{100 * report.after['segment F1']:.1f}" in text

    again = tune(copied, held_out.strong, audio=held_out.audio, device="cpu")
    assert again.before == report.after
    assert again.after == again.before


@pytest.mark.parametrize("target", ["error_rate", "event_f1", "psds1", "psds2"])
def test_another_target(copied: Path, held_out: Scenes, target: str) -> None:
    name, sign = {
        "error_rate": ("segment error rate", -1),
        "event_f1": ("event macro F1", 1),
        "psds1": ("PSDS, scenario 1", 1),
        "psds2": ("PSDS, scenario 2", 1),
    }[target]
    words = ["tune", str(copied), str(held_out.strong), "--audio", str(held_out.audio)]
    assert main([*words, "--target", target, "--device", "cpu"]) == 0
    description = read_description(copied)
    assert isinstance(description, Description)
    assert description.settings.tuning.target == target
    report = tune(copied, held_out.strong, audio=held_out.audio, device="cpu")
    assert sign * report.after[name] >= sign * report.before[name]


def test_a_fused_model_is_tuned_and_its_members_stay(
    model: Path, held_out: Scenes, tmp_path: Path
) -> None:
    fused = fuse(model, model, out=tmp_path / "fused", device="cpu").model
    members = contents(fused / "members")
    report = tune(fused, held_out.strong, audio=held_out.audio, target="error_rate", device="cpu")
    description = read_description(fused)
    assert isinstance(description, FusedDescription)
    assert description.tuning_settings.target == "error_rate"
    assert description.validation == report.after
    assert description.thresholds == report.note
    assert report.after["segment error rate"] < report.before["segment error rate"]
    assert contents(fused / "members") == members


def test_thresholds_that_rest_on_few_clips_are_named(
    copied: Path,
    held_out: Scenes,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    header, *rows = held_out.weak.read_text().splitlines()
    names = [row.split("\t")[0] for row in rows if "siren" in row][:2]
    table = copied.parent / "weak.tsv"
    table.write_text("\n".join([header, *(f"{name}\tsiren" for name in names)]) + "\n")
    tune(copied, table, audio=held_out.audio, device="cpu")
    assert "fewer than 10 clips are held out of 'siren': " in capsys.readouterr().err
    monkeypatch.setattr(tuned_rules, "FEW_CLIPS", 2)
    tune(copied, table, audio=held_out.audio, device="cpu")
    assert "fewer than" not in capsys.readouterr().err


def test_tags_alone_tune_tag_thresholds_alone(copied: Path, held_out: Scenes) -> None:
    tune(copied, held_out.strong, audio=held_out.audio, precision=0.9, device="cpu")
    recording = sorted(held_out.audio.iterdir())[0]
    before, events = earmark.load(copied).rules, earmark.load(copied).detect(recording)
    lines = held_out.weak.read_text().splitlines()
    without = copied.parent / "weak.tsv"
    without.write_text("\n".join(line for line in lines if "siren" not in line))
    with pytest.raises(UserError, match="this table has tags alone"):
        tune(copied, without, audio=held_out.audio, target="event_f1", device="cpu")
    report = tune(copied, without, audio=held_out.audio, device="cpu")
    after = earmark.load(copied)
    frames = {"tag_threshold": 0.0}
    assert [r.model_copy(update=frames) for r in after.rules] == [
        r.model_copy(update=frames) for r in before
    ]
    assert after.detect(recording) == events
    siren = after.class_names.index("siren")
    assert after.rules[siren] == before[siren]
    assert "as they were, without times" in report.note
    assert "nothing held out has siren: as it was" in report.note
    assert set(report.after) == set(report.before)
    assert "segment F1" not in report.after


def test_a_precision_is_reached_or_its_lack_is_said(copied: Path, held_out: Scenes) -> None:
    report = tune(copied, held_out.strong, audio=held_out.audio, precision=0.05, device="cpu")
    strict = tune(copied, held_out.strong, audio=held_out.audio, precision=1.0, device="cpu")
    assert "maximise recall at a precision of at least 0.05" in report.note
    assert "don't reach it" not in report.note
    assert report.after["tagging precision"] >= 0.05
    assert report.after["segment precision"] >= 0.05
    assert report.after["tagging recall"] > strict.after["tagging recall"]
    assert report.after["segment recall"] > strict.after["segment recall"]
    assert strict.after["segment precision"] == 1 or "don't reach it" in strict.text()
    # What was asked for stays, until something else is.
    again = tune(copied, held_out.strong, audio=held_out.audio, device="cpu")
    assert "at least 1 " in again.note
    other = tune(copied, held_out.strong, audio=held_out.audio, target="segment_f1", device="cpu")
    assert "maximise macro F1 in segments" in other.note


def test_what_can_not_be_tuned(copied: Path, held_out: Scenes, tmp_path: Path) -> None:
    files = contents(copied)
    audio, strong = held_out.audio, held_out.strong
    with pytest.raises(UserError, match="exclude each other"):
        tune(copied, strong, audio=audio, target="psds1", precision=0.9)
    with pytest.raises(UserError, match="--precision: input should be less than or equal to 1"):
        tune(copied, strong, audio=audio, precision=90)
    other = tmp_path / "other.tsv"
    other.write_text(strong.read_text().replace("siren", "oboe"))
    with pytest.raises(UserError, match=r"no class 'oboe'; it knows: beep, .*siren"):
        tune(copied, other, audio=audio)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="holds no audio"):
        tune(copied, strong, audio=empty)
    with pytest.raises(UserError, match="not a model folder"):
        tune(empty, strong, audio=audio)
    assert contents(copied) == files
