"""Training that starts from a model: what is carried over, what is kept, what is refused."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ABLE, TINY, Scenes, scenes
from safetensors.numpy import load_file, save_file

from earmark.config import NETWORKS, CrnnSettings, LogitLine
from earmark.errors import UserError
from earmark.features import Normaliser
from earmark.formats.labels import read_labels
from earmark.formats.tables import digest
from earmark.formats.tags import read_tags
from earmark.metrics.tagging import tagging_scores
from earmark.model.build import build
from earmark.model.bundle import load, read_description
from earmark.model.transfer import tensors_of_classes, with_classes
from earmark.tasks import training_run
from earmark.tasks.detection import tag
from earmark.tasks.fusion import fuse
from earmark.tasks.training import train
from earmark.tasks.training_start import SLOWER, read_start

ONE = ("training.epochs=1",)
KINDS = {
    "crnn": {"filters": 3, "recurrent_units": 3},
    "context_mlp": {"context_frames": 3, "hidden_units": [3], "dropout": 0},
    "frame_cnn": {
        "filters": 3,
        "layers": 1,
        "kernel_frames": 3,
        "smoothing_frames": [1.0, 2.0, 4.0],
        "dropout": 0,
    },
    "multi_scale_cnn": {"segment_frames": [0, 4], "filters": [3], "dropout": 0},
}


def network(settings, classes, seed):
    torch.manual_seed(seed)
    return build(settings, 8, classes, Normaliser(np.zeros(8), np.ones(8))).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_known_classes_go_on_and_new_ones_start_fresh(kind: str) -> None:
    # As many classes as filters: nothing but their meaning tells the weights apart.
    settings = NETWORKS[kind].model_validate({"kind": kind, **KINDS[kind]})
    trained, fresh = network(settings, 3, 1), network(settings, 3, 2)
    of_classes = tensors_of_classes(settings, 8)
    heads = {name for name in of_classes if name.endswith("weight")}
    assert heads
    assert all("layers.0" not in name or kind == "context_mlp" for name in of_classes)
    state = with_classes(trained.state_dict(), "abc", fresh.state_dict(), "cxa", of_classes)
    for name in heads:
        rows, old, new = state[name], trained.state_dict()[name], fresh.state_dict()[name]
        assert torch.equal(rows, torch.stack([old[2], new[1], old[0]]))
    # The same classes in another order give the same probabilities in that order.
    fresh.load_state_dict(
        with_classes(trained.state_dict(), "abc", fresh.state_dict(), "cab", of_classes)
    )
    features = torch.randn(2, 9, 8)
    one, other = trained(features), fresh(features)
    assert torch.allclose(one.frame_probabilities[..., [2, 0, 1]], other.frame_probabilities)
    assert torch.allclose(one.clip_probabilities[:, [2, 0, 1]], other.clip_probabilities, atol=1e-6)


def test_settings_are_the_models(model: Path) -> None:
    start = read_start(model)
    base = start.description.settings
    own = {"training": {"epochs": 7}, "network": {"filters": 8, "time_pooling": [1, 1]}}
    given = start.settings(own)
    assert given.features == base.features
    assert given.network == base.network
    assert given.training.epochs == 7
    assert given.training.batch_size == base.training.batch_size
    assert given.training.learning_rate == pytest.approx(base.training.learning_rate / SLOWER)
    assert start.settings({"training": {"learning_rate": 0.1}}).training.learning_rate == 0.1
    for section, key, value in (
        ("network", "filters", 16),
        ("features", "mel_bands", 64),
        ("network", "kind", "frame_cnn"),
    ):
        with pytest.raises(UserError, match=rf"{section}\.{key} is .*, came as {value}; leave it"):
            start.settings({section: {key: value}})
    with pytest.raises(UserError, match="did you mean 'epochs'"):
        start.settings({"training": {"epoch": 3}})


def table(folder: Path, rows: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "labels.tsv"
    path.write_text("\n".join(["filename\tevent_labels", *rows]) + "\n")
    return path


def renamed(clips: Scenes, folder: Path) -> Path:
    """The clips' table without bells, in which a horn is a trumpet."""
    rows = []
    for row in read_labels(clips.weak).rows:
        labels = {"trumpet" if label == "horn" else label for label in row.labels} - {"bell"}
        rows.append(f"{row.filename}\t{','.join(sorted(labels))}")
    return table(folder, rows)


def test_what_it_starts_from_is_recorded(
    model: Path, clips: Scenes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = renamed(clips, tmp_path)
    given = {"audio": clips.audio, "out": tmp_path / "m", "set": ONE, "device": "cpu"}
    train(labels, **given, from_=model, licence="CC0-1.0")
    said = capsys.readouterr().err
    assert "learns anew: trumpet" in said
    assert "--keep-classes keeps them): bell, horn" in said
    with pytest.raises(UserError, match="there is a training already"):
        train(labels, **given, from_=model)
    assert "learns anew" not in capsys.readouterr().err
    base, made = read_description(model), read_description(tmp_path / "m")
    assert made.class_names == ("beep", "engine", "hammer", "siren", "trumpet")
    assert made.training.started_from == {"model": digest(model / "model.safetensors")}
    assert base.training.started_from == {}
    assert made.training.recipe == base.training.recipe
    assert made.normaliser == base.normaliser
    assert made.licence_of_training_data == "CC0-1.0; not stated"
    assert "Started from the model model" in (tmp_path / "m" / "README.md").read_text()
    start = read_start(tmp_path / "m")  # whose learning rate doesn't fall again
    assert start.settings({}).training.learning_rate == made.settings.training.learning_rate

    before = (tmp_path / "m" / "model.json").read_bytes()
    train(labels, **given, from_=model, licence="CC0-1.0", resume=True)
    assert (tmp_path / "m" / "model.json").read_bytes() == before
    other = tmp_path / "other"
    shutil.copytree(model, other)
    tensors = load_file(other / "model.safetensors")
    doubled = {name: np.asarray(2 * tensor) for name, tensor in tensors.items()}
    save_file(doubled, other / "model.safetensors")
    with pytest.raises(UserError, match="these differ"):
        train(labels, **given, from_=other, resume=True)


def test_a_class_that_is_written_in_another_way_is_named(
    model: Path, clips: Scenes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (line.replace("bell", "Bell") for line in clips.weak.read_text().splitlines()[1:])
    labels = table(tmp_path, list(rows))
    given = {"audio": clips.audio, "out": tmp_path / "m", "set": ONE, "device": "cpu"}
    with pytest.raises(UserError, match="'Bell' is 'bell' in model, and the model would have both"):
        train(labels, **given, from_=model, keep_classes=True)
    assert not (tmp_path / "m").exists()
    train(labels, **given, from_=model)
    assert "'Bell' is 'bell' in model: write it so to go on from it" in capsys.readouterr().err
    assert "Bell" in read_description(tmp_path / "m").class_names


def test_classes_are_kept_where_that_is_asked_for(
    model: Path, clips: Scenes, tmp_path: Path
) -> None:
    report = train(
        renamed(clips, tmp_path),
        audio=clips.audio,
        out=tmp_path / "m",
        from_=model,
        keep_classes=True,
        set=["training.epochs=1", "training.learning_rate=1e-9"],
        device="cpu",
        validation="0.3",
    )
    base, made = read_description(model), read_description(tmp_path / "m")
    assert made.class_names == (*base.class_names, "trumpet")
    assert made.training.clips_of_class["bell"] == made.training.clips_of_class["horn"] == 0
    for name in ("bell", "horn"):
        rule = made.decoding[made.class_names.index(name)]
        assert rule == base.decoding[base.class_names.index(name)]
        # Which is for probabilities that are calibrated as they were.
        of_class = made.calibration.classes[made.class_names.index(name)]
        assert of_class == base.calibration.classes[base.class_names.index(name)]
        assert of_class.clips != LogitLine()
    assert "as in the model that it started from: bell, horn" in made.training.thresholds
    assert report.validation
    # What is known of a class that no table names stays: no clip says that it lacks it.
    heads = [load(folder).networks[0].localisation.classifier for folder in (model, tmp_path / "m")]
    assert torch.equal(heads[0].weight[1], heads[1].weight[1])
    untuned = train(
        renamed(clips, tmp_path),
        audio=clips.audio,
        out=tmp_path / "u",
        from_=model,
        set=ONE,
        validation="0",
        device="cpu",
    )
    rules = read_description(untuned.model)
    assert rules.decoding[0] == base.decoding[0]
    assert rules.calibration.classes[0] == base.calibration.classes[0]
    assert rules.calibration.classes[-1].clips == LogitLine()
    assert rules.decoding[-1].tag_threshold == 0.5
    assert "as they were in the model" in rules.training.thresholds


def test_a_strong_table_judges_what_it_names(
    model: Path, clips: Scenes, held_out: Scenes, tmp_path: Path
) -> None:
    for made in (clips, held_out):
        shutil.copytree(made.audio, tmp_path / "audio", dirs_exist_ok=True)
    lines = held_out.strong.read_text().splitlines()
    strong = tmp_path / "strong.tsv"
    strong.write_text("\n".join(line for line in lines if not line.endswith("bell")) + "\n")
    rows = (line for line in clips.weak.read_text().splitlines()[1:] if "bell" not in line)
    report = train(
        table(tmp_path / "tables", list(rows)),
        audio=tmp_path / "audio",
        out=tmp_path / "m",
        from_=model,
        keep_classes=True,
        set=ONE,
        device="cpu",
        validation=str(strong),
    )
    assert {"tagging mAP", "segment F1", "segment macro F1"} <= report.validation.keys()
    base, made = read_description(model), read_description(tmp_path / "m")
    assert made.class_names == base.class_names
    number = made.class_names.index("bell")
    assert made.decoding[number] == base.decoding[number]
    judged = made.training.judged
    assert judged is not None
    assert "bell" not in {alarms.label for alarms in judged.false_alarms}


def test_what_is_refused(model: Path, clips: Scenes, tmp_path: Path) -> None:
    given = {"audio": clips.audio, "out": tmp_path / "m", "device": "cpu"}
    fuse(model, model, out=tmp_path / "fused")
    for message, more in (
        ("is a fused model; name one of its members", {"from_": tmp_path / "fused"}),
        ("no such model folder", {"from_": tmp_path / "nothing"}),
        ("leave out --recipe", {"from_": model, "recipe": "crnn-mfcc"}),
        ("give --from, too", {"keep_classes": True}),
        (
            r"is \[8\], came as 16; leave it out",
            {"from_": model, "set": ["network.filters=16"]},
        ),
    ):
        with pytest.raises(UserError, match=message):
            train(clips.weak, **given, **more)
    assert not (tmp_path / "m").exists()


def test_what_the_model_has_may_be_said_again(model: Path) -> None:
    start = read_start(model)
    for said in ({"filters": 8}, {"filters": [8]}, {"layers_per_block": 1}):
        alike = start.settings({"network": said})
        assert alike.network == start.settings({}).network
    assert start.settings({"network": {"layers_per_block": [1]}}).network == alike.network
    with pytest.raises(UserError, match=r"layers_per_block is 1, came as \[1, 2\]; leave it out"):
        start.settings({"network": {"layers_per_block": [1, 2]}})


def mean_precision(model: Path, made: Scenes, folder: Path) -> float:
    tag(made.audio, model=model, out=folder / "tags.csv", device="cpu")
    filenames, names, posteriors = read_tags(folder / "tags.csv")
    labels = {row.filename: row.labels for row in read_labels(made.weak).rows}
    reference = [[name in labels[filename] for name in names] for filename in filenames]
    return tagging_scores(reference, posteriors, 0.5, names).mean_average_precision


@pytest.mark.slow
def test_eight_clips_are_enough_for_a_model_that_has_learnt(
    able_model: Path, tmp_path: Path
) -> None:
    few = scenes(tmp_path / "few", 8, seed=32, seconds=4.0, labels=ABLE, longest=2.0)
    test = scenes(tmp_path / "test", 40, seed=33, seconds=4.0, labels=ABLE, longest=2.0)
    given = {"audio": few.audio, "device": "cpu", "validation": "0"}
    epochs = "training.epochs=20"
    train(few.weak, **given, out=tmp_path / "on", from_=able_model, set=[epochs])
    size = ("network.filters=16", "network.recurrent_units=16")
    fresh = [*TINY, *size, epochs, "training.learning_rate=0.003"]
    train(few.weak, **given, out=tmp_path / "fresh", set=fresh)
    on, anew = (mean_precision(tmp_path / name, test, tmp_path) for name in ("on", "fresh"))
    assert on > anew + 0.2


@pytest.mark.slow
def test_two_processes_start_from_the_same(model: Path, clips: Scenes, tmp_path: Path) -> None:
    given = ["training.epochs=1", "training.precision=float32", "training.batch_size=7"]
    labels = renamed(clips, tmp_path)
    for processes in (1, 2):
        train(
            labels,
            audio=clips.audio,
            out=tmp_path / str(processes),
            from_=model,
            keep_classes=True,
            set=given,
            device="cpu",
            processes=processes,
        )
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("1", "2"))
    assert all(np.allclose(one[name], two[name], atol=1e-3) for name in one)


def test_the_settings_of_each_kind_of_network_are_tried() -> None:
    assert set(KINDS) == set(NETWORKS)
    assert CrnnSettings().kind == "crnn"


@pytest.mark.parametrize(("labels", "share"), [("weak", 0), ("renamed", 1 / 5)])
def test_few_clips_come_as_often_as_new_classes_need_it(
    model: Path,
    clips: Scenes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    labels: str,
    share: float,
) -> None:
    steps: list[int] = []

    class Noted(training_run.Course):
        def __init__(self, *given: Any) -> None:
            steps.append(given[-1])
            super().__init__(*given)

    monkeypatch.setattr(training_run, "Course", Noted)
    own = [*ONE, "training.batch_size=8", "training.min_epoch_clips=640"]
    given = {"audio": clips.audio, "out": tmp_path / "m", "set": own, "device": "cpu"}
    of = clips.weak if labels == "weak" else renamed(clips, tmp_path)
    report = train(of, **given, from_=model)
    assert steps == [math.ceil(max(report.clips, 640 * share) / 8)]
