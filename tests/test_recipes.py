"""Every recipe trains on made data, and what comes out is a model folder like any other."""

from pathlib import Path

import pytest
from conftest import Scenes, scenes

from earmark import recipes
from earmark.inference.fusion import load_recogniser
from earmark.tasks import detect, evaluate, fuse, info, plot, tag, train
from earmark.tasks.fusion import MEMBERS

# A few steps of each system as it is, on short clips; what makes it slow made small.
FEW_STEPS = ("training.epochs=1", "training.batch_size=3", "training.fuse_epochs=1")
SMALLER = {"crnn": ("network.filters=4", "network.recurrent_units=4")}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return scenes(tmp_path_factory.mktemp("few") / "few", 9, seed=5)


def settings_of(recipe: str) -> tuple[str, ...]:
    (settings, *_) = recipes.systems(recipe, {}).values()
    return FEW_STEPS + SMALLER.get(settings.network.kind, ())


@pytest.mark.slow
@pytest.mark.parametrize("recipe", recipes.names())
def test_every_recipe_trains_and_detects(recipe: str, few: Scenes, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    report = train(
        few.weak, audio=few.audio, out=model, recipe=recipe, set=settings_of(recipe), device="cpu"
    )
    assert report.clips + 2 >= 8
    recording = sorted(few.audio.iterdir())[0]
    found = detect(recording, model=model, out=out / "events.csv", scores=out / "scores")
    assert list(found.events) == [recording.name]
    assert len(list((out / "scores").iterdir())) == 1
    tags = tag(few.audio, model=model, out=out / "tags.csv", device="cpu")
    assert len(tags.probabilities) == 9
    assert evaluate(few.strong, out / "tags.csv", thresholds=model).as_dict()["clips"] == 9
    assert "parameters" in info(model)


@pytest.mark.slow
def test_a_fusion_in_every_command(few: Scenes, tmp_path: Path) -> None:
    """Two systems of one recipe: on their own, and the mean of both."""
    model = tmp_path / "model"
    recipe = tmp_path / "mine.toml"
    recipe.write_text('members = ["dcase2017-baseline", "frame-cnn"]\n')

    def trained(**more: object) -> object:
        return train(
            few.weak,
            audio=few.audio,
            out=model,
            validation=str(few.strong.with_name("held.tsv")),
            recipe=str(recipe),
            set=FEW_STEPS,
            device="cpu",
            **more,
        )

    lines = few.strong.read_text().splitlines()
    held = sorted({line.split("\t")[0] for line in lines[1:]})[:3]
    of_held = [line for line in lines[1:] if line.split("\t")[0] in held]
    few.strong.with_name("held.tsv").write_text("\n".join([lines[0], *of_held, ""]))
    weak = few.weak.read_text().splitlines()
    rest = [line for line in weak if line.split("\t")[0] not in held]
    few.weak.write_text("\n".join([*rest, ""]))
    try:
        report = trained()
        assert {"tagging micro F1", "segment F1"} <= report.validation.keys()
        again = trained(resume=True)
        assert again.validation == report.validation
    finally:
        few.weak.write_text("\n".join([*weak, ""]))
    names = ["dcase2017-baseline", "frame-cnn"]
    assert sorted(p.name for p in (model / MEMBERS).iterdir()) == names
    recording = few.audio / held[0]
    plot(recording, model=model, out=tmp_path / "picture.png", device="cpu")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    text = info(model)
    assert all(f"{MEMBERS}/{name}" in text for name in names)

    # Fused by hand from the same folders: the same mean, not calibrated any more, of their rules.
    both = [model / MEMBERS / name for name in names]
    fused = fuse(*both, out=tmp_path / "fused", device="cpu")
    assert fused.members == 2
    mean = load_recogniser(model).with_calibration(()).tag(recording)
    assert load_recogniser(fused.model).tag(recording) == mean
    # And with a table to tune on: the rules that training had chosen.
    tuned = fuse(
        *both,
        out=tmp_path / "tuned",
        validation=few.strong.with_name("held.tsv"),
        audio=few.audio,
        device="cpu",
    )
    assert tuned.validation == pytest.approx(report.validation)
    tags = [
        tag(recording, model=m, out=tmp_path / f"{n}.csv", device="cpu").probabilities
        for n, m in enumerate([model, tuned.model])
    ]
    assert tags[0] == tags[1]


@pytest.mark.slow
def test_a_system_that_is_there_again_is_another_training_of_it(
    few: Scenes, tmp_path: Path
) -> None:
    recipe = tmp_path / "twice.toml"
    recipe.write_text('members = ["frame-cnn", "frame-cnn"]\n')
    weights = {}
    for name, how in (("twice", str(recipe)), ("alone", "frame-cnn")):
        model = tmp_path / name
        train(few.weak, audio=few.audio, out=model, recipe=how, set=FEW_STEPS, seed=3)
        for folder in [model, *(model / MEMBERS).glob("*")]:
            if (folder / "model.safetensors").exists():
                weights[folder.name] = (folder / "model.safetensors").read_bytes()
    assert set(weights) == {"alone", "frame-cnn", "frame-cnn-2"}
    assert weights["alone"] == weights["frame-cnn"]
    assert weights["alone"] != weights["frame-cnn-2"]
