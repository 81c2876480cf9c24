"""What a user gets who names no recipe, of all parts together; only sizes are cut."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import Scenes

from earmark.config import Target
from earmark.errors import UserError
from earmark.model.bundle import Description, read_description
from earmark.tasks import detect, train, tune
from earmark.tasks.training_start import read_start

SMALLER = (
    "features.rate_hz=8000",
    "features.window_samples=512",
    "features.hop_samples=320",
    "features.mel_bands=24",
    "features.high_hz=4000",
    "network.filters=[4, 4, 8, 8]",
    "network.recurrent_units=8",
    "training.batch_size=8",
    "training.epochs=3",
    "training.min_epoch_clips=32",
)
BOUND = "tuning.max_false_events_per_hour=100"


def described(model: Path) -> Description:
    description = read_description(model)
    assert isinstance(description, Description)
    return description


@pytest.fixture(scope="module")
def bounded(clips: Scenes, noises: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on tags, its false events bounded on noise."""
    out = tmp_path_factory.mktemp("bounded") / "model"
    settings = [*SMALLER, BOUND]
    train(clips.weak, audio=clips.audio, out=out, negatives=noises, set=settings, device="cpu")
    return out


def test_tags_alone_and_a_bound(bounded: Path, noises: Path, tmp_path: Path) -> None:
    settings = described(bounded).settings
    assert settings.network.model_dump()["background"] is True
    assert settings.tuning.one_rule
    assert settings.augmentation.mixed_share > 0
    assert described(bounded).training.recipe == "best-small"
    weights = described(bounded).training.weights
    how = "posteriors, by weights averaged over the last steps, of epoch "
    assert re.fullmatch(
        how + r"\d+, the best by validation mAP of those with labelled frames", weights
    )
    found = detect(noises, model=bounded, out=tmp_path / "events.csv", device="cpu")
    assert not found.failures
    assert len((tmp_path / "events.csv").read_text().splitlines()) == 1  # 6 s: not one is allowed


@pytest.mark.slow
def test_it_is_tuned_for_whatever_there_is(
    bounded: Path, held_out: Scenes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(bounded, model)
    goals: tuple[tuple[Target | None, float | None], ...] = (
        ("error_rate", None),
        ("psds1", None),
        (None, 0.9),
        ("segment_f1", None),
    )
    for target, precision in goals:
        given = {"audio": held_out.audio, "target": target, "precision": precision}
        tune(model, held_out.strong, device="cpu", **given)  # type: ignore[arg-type]
        tuning = described(model).settings.tuning
        assert tuning.target == target or tuning.precision == precision
        # Nothing that is held out holds none of the classes.
        assert tuning.max_false_events_per_hour is None
        rules = described(model).decoding
        alike = target == "segment_f1"  # as it was, whatever came between
        assert (len({rule.threshold for rule in rules}) == 1) == alike
        assert (len({rule.tag_threshold for rule in rules}) == 1) == alike
        assert ("with one for all classes" in described(model).training.thresholds) == alike
    said = capsys.readouterr().err
    assert said.count("no longer bounded") == 1
    shutil.copytree(bounded, tmp_path / "asked")
    with pytest.raises(UserError, match="give a folder of them with --negatives"):
        tune(
            tmp_path / "asked",
            held_out.strong,
            audio=held_out.audio,
            max_false_events_per_hour=10.0,
            device="cpu",
        )


def test_a_training_starts_from_it_without_what_it_was_bounded_on(
    bounded: Path, clips: Scenes, tmp_path: Path
) -> None:
    assert read_start(bounded).settings({}).tuning.max_false_events_per_hour is None
    given = {"audio": clips.audio, "from_": bounded, "set": ["training.epochs=1"]}
    train(clips.weak, out=tmp_path / "m", device="cpu", **given)  # type: ignore[arg-type]
    assert described(tmp_path / "m").settings.tuning.one_rule


def test_what_is_bounded_are_all_classes_with_those_that_a_table_leaves_open(
    bounded: Path, clips: Scenes, held_out: Scenes, noises: Path, tmp_path: Path
) -> None:
    before = tmp_path / "before"
    shutil.copytree(bounded, before)
    raw = json.loads((before / "model.json").read_text())
    kept = raw["class_names"].index("bell")
    always = {"threshold": 1e-6, "low_threshold": 1e-6, "gate_threshold": 0.0}
    raw["decoding"][kept] |= always | {"tag_threshold": 1e-6}
    (before / "model.json").write_text(json.dumps(raw))
    tables = []
    for table in (clips.weak, held_out.strong):
        rows = [row for row in table.read_text().splitlines() if "bell" not in row]
        tables.append(tmp_path / table.name)
        tables[-1].write_text("\n".join([*rows, ""]))
    audio = tmp_path / "audio"
    for scenes in (clips, held_out):
        shutil.copytree(scenes.audio, audio, dirs_exist_ok=True)
    train(
        tables[0],
        audio=audio,
        out=tmp_path / "m",
        validation="0",
        tune=tables[1],
        negatives=noises,
        from_=before,
        keep_classes=True,
        set=["training.epochs=1", "tuning.max_false_events_per_hour=0"],
        device="cpu",
    )
    assert described(tmp_path / "m").decoding[kept].threshold > 1e-6
    assert "0 false events per hour" in described(tmp_path / "m").training.thresholds
    detect(noises, model=tmp_path / "m", out=tmp_path / "events.csv", device="cpu")
    assert len((tmp_path / "events.csv").read_text().splitlines()) == 1


@pytest.mark.slow
def test_partly_known_tags_on_two_processes(clips: Scenes, tmp_path: Path) -> None:
    header, *rows = clips.weak.read_text().splitlines()
    assert header == "filename\tevent_labels"
    absent = [f"{row}\t{'siren' if 'siren' not in row else ''}" for row in rows]
    table = tmp_path / "partly.tsv"
    table.write_text("\n".join([f"{header}\tabsent_labels", *absent, ""]))
    settings = [*SMALLER, "training.epochs=1"]
    given = {"audio": clips.audio, "validation": "0", "set": settings, "device": "cpu"}
    losses = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        train(table, out=out, processes=processes, **given)  # type: ignore[arg-type]
        lines = (out / "training" / "log.jsonl").read_text().splitlines()
        losses.append(float(lines[0].partition('"loss": ')[2].partition(",")[0]))
    # Other draws, so other losses, but on one scale.
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


def test_other_features_say_what_is_in_the_way(clips: Scenes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"features.kind is mfcc.*take another recipe"):
        train(clips.weak, audio=clips.audio, out=tmp_path / "m", set=["features.kind=mfcc"])
