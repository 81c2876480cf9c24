"""Tuning a model that is there: better than before, its weights untouched."""

import json
import math
import shutil
from pathlib import Path

import pytest
from conftest import Scenes, scenes

import earmark
from earmark.cli import main
from earmark.errors import UserError
from earmark.formats.labels import read_labels
from earmark.model.bundle import Description, FusedDescription, read_description
from earmark.tasks import detect, evaluate, fuse, tune, tuned_rules
from earmark.tuning import candidates


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tuning that is quick."""
    monkeypatch.setattr(candidates, "THRESHOLDS_TRIED", 8)
    monkeypatch.setattr(candidates, "STEPS_SECONDS_TRIED", (0.6,))
    monkeypatch.setattr(candidates, "MERGES_TRIED", ((0.5, 0.0),))


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


@pytest.mark.slow
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


def test_tags_of_parts_are_told_as_such(copied: Path, held_out: Scenes, tmp_path: Path) -> None:
    parts = "(tags in 9 parts of up to 2.0 s)"
    long = scenes(tmp_path / "long", 3, seed=4, seconds=5.0)
    report = tune(copied, long.strong, audio=long.audio, device="cpu")
    assert f"on the strong labels of strong.tsv {parts}; nothing held" in report.note
    card = (copied / "README.md").read_text()
    assert f"On the strong labels of strong.tsv {parts}, which also chose" in card
    assert f"calibrated, clips on the strong labels of strong.tsv {parts}" in card
    short = tune(copied, held_out.strong, audio=held_out.audio, device="cpu")
    assert "parts" not in short.note


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
    frames = {"tag_threshold": 0.0, "gate_threshold": 0.0}  # of clips, which are calibrated anew
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


@pytest.mark.slow
def test_a_precision_is_reached_or_its_lack_is_said(
    copied: Path, held_out: Scenes, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tune(copied, held_out.strong, audio=held_out.audio, precision=0.05, device="cpu")
    strict = tune(copied, held_out.strong, audio=held_out.audio, precision=1.0, device="cpu")
    assert "maximise recall at a precision of at least 0.05" in report.note
    assert "don't reach it" not in report.note
    assert report.after["tagging precision"] >= 0.05
    assert report.after["segment precision"] >= 0.05
    assert report.after["tagging recall"] > strict.after["tagging recall"]
    assert report.after["segment recall"] > strict.after["segment recall"]
    said = capsys.readouterr().err
    for what, precision in (("tag threshold", "tagging"), ("rule for events", "segment")):
        assert strict.after[f"{precision} precision"] < 1
        assert f"no {what} reaches a precision of 1.0: '" in said
    assert strict.note.count("don't reach it") == 2
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


def edited(model: Path, **tuning: object) -> None:
    """The model's settings of tuning, changed."""
    path = model / "model.json"
    raw = json.loads(path.read_text())
    raw["settings"]["tuning"] |= tuning
    path.write_text(json.dumps(raw))


def log_loss(model: Path, given: Scenes) -> float:
    """Of the probabilities of clips that leave a model."""
    recogniser = earmark.load(model, device="cpu")
    loss = []
    for row in read_labels(given.weak).rows:
        for name, probability in recogniser.tag(given.audio / row.filename).items():
            loss.append(-math.log(probability if name in row.labels else 1 - probability))
    return sum(loss) / len(loss)


def test_a_class_that_nothing_has_keeps_its_rule_under_one_rule(
    copied: Path, held_out: Scenes
) -> None:
    edited(copied, one_rule=True, average="micro", calibrate=False)
    before = read_description(copied)
    of_one = before.class_names[0]
    lines = held_out.strong.read_text().splitlines()
    table = copied.parent / "of_one.tsv"
    table.write_text("\n".join([lines[0], *(line for line in lines if line.endswith(of_one))]))
    tune(copied, table, audio=held_out.audio, device="cpu")
    after = read_description(copied)
    changed = [
        name
        for name, was, now in zip(before.class_names, before.decoding, after.decoding, strict=True)
        if was != now
    ]
    assert changed == [of_one]


@pytest.mark.slow
def test_probabilities_are_calibrated(copied: Path, held_out: Scenes) -> None:
    edited(copied, calibrate=False)
    was = read_description(copied).calibration
    tune(copied, held_out.strong, audio=held_out.audio, device="cpu")
    assert read_description(copied).calibration.classes == was.classes
    assert "calibrated, as before; frames are as" in (copied / "README.md").read_text()
    loss = log_loss(copied, held_out)

    edited(copied, calibrate=True)
    tune(copied, held_out.strong, audio=held_out.audio, device="cpu")
    found = read_description(copied).calibration
    assert found.errors.keys() == {"clips", "frames"}
    before, after = found.errors["frames"]
    assert after < before
    assert found.note == "clips on the strong labels of strong.tsv; frames on the same"
    assert log_loss(copied, held_out) < loss
    said = (copied / "README.md").read_text()
    assert f"of frames {100 * before:.1f} % before, {100 * after:.1f} % after" in said
    of_clips, of_frames = (
        {getattr(of_class, kind) for of_class in found.classes} for kind in ("clips", "frames")
    )
    assert len(of_clips) > 1
    assert len(of_frames) > 1
    # Whatever it was before, it is found anew of what the networks say.
    tune(copied, held_out.strong, audio=held_out.audio, device="cpu")
    assert read_description(copied).calibration == found


@pytest.mark.parametrize("times", [True, False])
def test_false_events_are_bounded(
    copied: Path, held_out: Scenes, noises: Path, times: bool
) -> None:
    words = ["tune", str(copied), str(held_out.strong if times else held_out.weak)]
    words += ["--audio", str(held_out.audio), "--device", "cpu", "--negatives", str(noises)]
    path = copied / "model.json"
    raw = json.loads(path.read_text())
    for rule in raw["decoding"]:
        rule |= {"threshold": 0.02, "low_threshold": 0.02, "gate_threshold": 0}
    path.write_text(json.dumps(raw))
    assert main([*words, "--max-false-events-per-hour", "1e6"]) == 0
    free = read_description(copied)
    per_hour = free.training.validation["false events per hour"]
    assert per_hour > 0
    assert f"{per_hour:.3g} false events per hour on 0.00167 hours" in free.training.thresholds
    assert main([*words, "--max-false-events-per-hour", str(per_hour / 2)]) == 0
    bound = read_description(copied)
    assert bound.settings.tuning.max_false_events_per_hour == per_hour / 2
    recogniser = earmark.load(copied, device="cpu")
    found = sum(len(recogniser.detect(path)) for path in noises.iterdir())
    assert found * 600 <= per_hour / 2
    assert bound.training.validation["false events per hour"] == pytest.approx(found * 600)
    assert bound.decoding != free.decoding


def test_a_bound_needs_recordings_without_events(copied: Path, held_out: Scenes) -> None:
    given = {"audio": held_out.audio, "device": "cpu", "max_false_events_per_hour": 1.0}
    lines = held_out.strong.read_text().splitlines()
    quiet = [line for line in lines[1:] if not line.split("\t")[3]]
    table = copied.parent / "busy.tsv"
    table.write_text("\n".join(line for line in lines if line not in quiet))
    with pytest.raises(UserError, match=r"max_false_events_per_hour needs held-out recordings"):
        tune(copied, table, **given)
    name = lines[1].split("\t")[0]
    rest = [line for line in lines if not line.startswith(name)]
    table.write_text("\n".join([*rest, f"{name}\t\t\t"]))
    assert "false events per hour on 0.0" in tune(copied, table, **given).note
    broken = copied.parent / "broken"
    shutil.copytree(held_out.audio, broken)
    (broken / name).write_bytes(b"no sound")
    edited(copied, one_rule=True, average="micro")
    with pytest.raises(UserError, match="none of those listed without events can be read"):
        tune(copied, table, **(given | {"audio": broken}))
    edited(copied, one_rule=False)
    with pytest.raises(UserError, match="a table gives this one a tag"):
        tune(copied, table, negatives=held_out.audio, **given)
    with pytest.raises(UserError, match="--max-false-events-per-hour: "):
        tune(copied, table, **(given | {"max_false_events_per_hour": -1.0}))


def test_a_fused_model_is_calibrated_where_it_is_tuned(
    model: Path, held_out: Scenes, noises: Path, tmp_path: Path
) -> None:
    alone = fuse(model, model, out=tmp_path / "alone", device="cpu").model
    assert read_description(alone).calibration.classes == ()
    with pytest.raises(UserError, match="give --validation"):
        fuse(model, model, out=tmp_path / "no", negatives=noises)
    fused = fuse(
        model,
        model,
        out=tmp_path / "fused",
        validation=held_out.strong,
        audio=held_out.audio,
        negatives=noises,
        device="cpu",
    ).model
    description = read_description(fused)
    assert description.calibration.errors.keys() == {"clips", "frames"}
    assert "false events per hour" in description.thresholds
    assert "calibrated, clips on" in (fused / "README.md").read_text()
    assert log_loss(fused, held_out) < log_loss(model, held_out)


def test_negatives_alone_change_no_rules(
    model: Path, held_out: Scenes, noises: Path, tmp_path: Path
) -> None:
    given = {"validation": held_out.weak, "audio": held_out.audio, "device": "cpu"}
    plain = fuse(model, model, out=tmp_path / "plain", **given).model
    counted = fuse(model, model, out=tmp_path / "counted", negatives=noises, **given).model
    assert read_description(counted).decoding == read_description(plain).decoding
    assert "false events per hour" in read_description(counted).validation
    assert "false events per hour" not in read_description(plain).validation
