"""A model folder: whole, checked, and nothing in it that could run."""

import json
import pickle

import numpy as np
import pytest
import torch
from conftest import training_summary
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from earmark.config import ClassDecoding, settings_from
from earmark.errors import UserError
from earmark.features import Normaliser
from earmark.model import bundle
from earmark.model.bundle import TrainingSummary, describe, load, read_description, save

NAMES = ("Air horn, truck horn", "Zug, ĝ")
SMALL = settings_from(
    {"features": {"mel_bands": 8}, "network": {"filters": 2, "recurrent_units": 2}}
)


def description(members=2, normaliser=None, training=None, decoding=None):
    rules = decoding or [
        ClassDecoding(
            tag_threshold=0.1 + 0.2,
            threshold=1 / 3,
            low_threshold=0.0,
            max_gap_seconds=0.2,
            min_event_seconds=0.1,
        )
    ] * len(NAMES)
    return describe(
        NAMES,
        SMALL,
        rules,
        normaliser or Normaliser(np.linspace(-9, -3, 8) / 3, np.full(8, 1 / 7)),
        240,
        members,
        training or training_summary(*NAMES),
        "CC BY 4.0",
    )


@pytest.fixture
def folder(tmp_path):
    made = description()
    states = []
    for seed in range(made.members):
        torch.manual_seed(seed)
        states.append(made.network().state_dict())
    save(tmp_path / "model", made, states, "# A card\n")
    return tmp_path / "model"


def edit(folder, change):
    path = folder / "model.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    change(raw)
    path.write_text(json.dumps(raw), encoding="utf-8")


def message(folder, work=load):
    with pytest.raises(UserError) as caught:
        work(folder)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_a_model_comes_back_as_it_was(folder):
    found = load(folder)
    assert found.description == description()
    assert found.description.class_names == NAMES
    assert len(found.networks) == 2
    inputs = torch.randn(2, 9, 8)
    for seed, network in enumerate(found.networks):
        torch.manual_seed(seed)
        before = description().network().eval()
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
        assert torch.equal(network(inputs).frame_logits, before(inputs).frame_logits)
        assert torch.equal(network(inputs).log_present, before(inputs).log_present)


def test_a_folder_is_three_files_and_no_pickle(folder, monkeypatch):
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "model.json",
        "model.safetensors",
    ]
    assert (folder / "README.md").read_text() == "# A card\n"

    def refuse(*_, **__):
        raise AssertionError("a pickle was read")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    load(folder)
    torch.save({"0/x": torch.zeros(1)}, folder / "model.safetensors")
    assert "can't be read as the model's weights" in message(folder)


def test_saving_again_replaces_the_whole(folder):
    (folder / ".model.safetensors.partial").write_bytes(b"left over")
    (folder / "mine.txt").write_text("stays")
    made = description(members=1)
    save(folder, made, [made.network().state_dict()], "new")
    assert len(load(folder).networks) == 1
    assert (folder / "mine.txt").read_text() == "stays"
    assert not list(folder.glob(".*"))


def test_a_folder_without_a_model_is_named(tmp_path):
    assert message(tmp_path).endswith("(it has no model.json); `earmark train` makes one")
    assert message(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: there is no such model folder"
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "run.json").write_text("{}")
    assert message(tmp_path).endswith("finish its training: `earmark train ... --resume`")
    (tmp_path / "earmark.json").write_text("{}")
    assert "is an exported model, which earmark.runtime.load reads; give" in message(tmp_path)


def test_a_misspelt_model_folder_has_a_suggestion(folder):
    wrong = folder.with_name(folder.name + "s")
    assert message(wrong).endswith(f"no such model folder; did you mean {folder}?")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused(folder, version):
    edit(folder, lambda raw: raw.update(format_version=version))
    assert f"format_version must be 1, came as {version!r}" in message(folder)


@pytest.mark.parametrize("key", [k for k in bundle.Description.model_fields if k != "calibration"])
def test_a_missing_key_is_named(folder, key):
    edit(folder, lambda raw: raw.pop(key))
    said = message(folder, read_description)
    assert key in said
    assert "is missing" in said or key == "format_version"


SETTINGS = [
    (section, key)
    for section, keys in SMALL.model_dump(mode="json").items()
    for key in [None, *keys]
    if section not in bundle.TOLD and key not in bundle.LATER
]


@pytest.mark.parametrize(
    ("section", "key"),
    [("training", "open_shards"), ("augmentation", "shift"), ("tuning", "calibrate")],
)
def test_a_model_of_before_a_setting_of_training_or_tuning_is_read(folder, section, key):
    edit(folder, lambda raw: raw["settings"][section].pop(key))
    assert read_description(folder).settings == SMALL


def test_a_model_of_before_augmentation_or_later_settings_of_networks_is_read(folder):
    edit(folder, lambda raw: raw["settings"].pop("augmentation"))
    for key in bundle.LATER:
        edit(folder, lambda raw, key=key: raw["settings"]["network"].pop(key))
    assert read_description(folder).settings == SMALL
    assert load(folder).networks


def test_a_model_of_before_calibration_stays_as_it_is(folder):
    edit(folder, lambda raw: raw.pop("calibration"))
    assert read_description(folder).calibration == bundle.Calibration()
    line = {"scale": 2.0, "shift": 1.0}
    edit(folder, lambda raw: raw.update(calibration={"classes": [{"clips": line}]}))
    assert f"calibration.classes needs {len(NAMES)} entries" in message(folder)


@pytest.mark.parametrize(("section", "key"), SETTINGS)
def test_a_default_never_fills_in_for_a_missing_setting(folder, section, key):
    def remove(raw):
        if key is None:
            del raw["settings"][section]
        else:
            del raw["settings"][section][key]

    edit(folder, remove)
    said = message(folder, read_description)
    name = f"settings.{section}" if key is None else f"{section}.{key}"
    assert f"'{name}' is missing" in said or "does not follow" in said or "normaliser needs" in said


def test_an_unknown_key_is_named(folder):
    edit(folder, lambda raw: raw["settings"]["features"].update(hop_sample=3))
    assert "no setting 'settings.features.hop_sample'; did you mean 'hop_samples'" in message(
        folder
    )
    edit(folder, lambda raw: raw["settings"]["features"].pop("hop_sample"))
    edit(folder, lambda raw: raw["decoding"][1].update(tag_treshold=3))
    assert "'decoding.1.tag_treshold'; did you mean 'tag_threshold'" in message(folder)
    edit(folder, lambda raw: raw["decoding"][1].pop("tag_treshold"))
    edit(folder, lambda raw: raw.update(colour="red"))
    assert "no setting 'colour'" in message(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw["normaliser"]["mean"].pop(), "normaliser needs 8 numbers"),
        (lambda raw: raw["normaliser"]["mean"].__setitem__(0, float("nan")), "normaliser.mean.0"),
        (lambda raw: raw["normaliser"]["deviation"].__setitem__(3, 0.0), "normaliser.deviation.3"),
        (lambda raw: raw["decoding"].pop(), "decoding needs 2 rules"),
        (lambda raw: raw["decoding"][0].update(threshold=float("nan")), "decoding.0.threshold"),
        (lambda raw: raw.update(class_names=["a", "a"]), "class_names must differ"),
        (lambda raw: raw.update(class_names=[]), "class_names"),
        (lambda raw: raw["clock"].update(pooling=8), "clock does not follow from the settings"),
        (lambda raw: raw.update(window_frames=0), "window_frames"),
        (lambda raw: raw.update(members=0), "members"),
        (
            lambda raw: raw["settings"]["network"].update(recurrent="x"),
            "settings.network.recurrent",
        ),
    ],
)
def test_what_does_not_agree_is_named(folder, change, said):
    edit(folder, change)
    assert f"model.json: {said}" in message(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format_version": 1', "\ufffe"])
def test_json_that_is_none(folder, text):
    (folder / "model.json").write_text(text, encoding="utf-16")
    assert "model.json: " in message(folder)
    (folder / "model.json").write_text(text, encoding="utf-8")
    assert "model.json: " in message(folder)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_weights_are_named(folder, share):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "model.safetensors: can't be read as the model's weights" in message(folder)


def test_weights_that_are_gone_are_named(folder):
    (folder / "model.safetensors").unlink()
    assert "model.safetensors: can't be read" in message(folder)


def rewrite(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_weights_that_do_not_fit_are_named(folder):
    name = "1/localisation.classifier.bias"
    rewrite(folder, lambda tensors: tensors.update({name: torch.zeros(3)}))
    assert "does not fit model.json" in (said := message(folder))
    assert "localisation.classifier.bias" in said
    rewrite(folder, lambda tensors: tensors.pop(name))
    assert "localisation.classifier.bias" in message(folder)
    rewrite(
        folder, lambda tensors: tensors.update({name: torch.zeros(2), "1/extra": torch.ones(1)})
    )
    assert "extra" in message(folder)


@pytest.mark.parametrize("name", ["2/more", "x/more", "more"])
def test_weights_of_no_member_are_refused(folder, name):
    rewrite(folder, lambda tensors: tensors.update({name: torch.zeros(3)}))
    assert "model.safetensors: " in message(folder)


def test_what_is_not_a_number_is_never_written(tmp_path):
    with pytest.raises(ValidationError):
        description(normaliser=Normaliser(np.full(8, np.nan), np.ones(8)))
    scores = {"validation": {"segment F1": float("nan")}}
    with pytest.raises(ValidationError):
        description(training=TrainingSummary(**training_summary(*NAMES).model_dump() | scores))


@pytest.mark.parametrize("name", ["recipe", "clips_of_class", "validation"])
def test_a_missing_part_of_the_training_summary_is_named(folder, name):
    edit(folder, lambda raw: raw["training"].pop(name))
    assert f"'training.{name}' is missing" in message(folder)


def test_clips_are_counted_for_every_class(folder):
    edit(folder, lambda raw: raw["training"]["clips_of_class"].pop(NAMES[0]))
    assert "clips_of_class needs a number for every class" in message(folder)


def test_weights_that_are_no_numbers_are_refused(folder):
    rewrite(folder, lambda tensors: tensors["0/localisation.classifier.bias"].fill_(torch.nan))
    assert "must be finite" in message(folder)


def test_weights_of_another_type_are_refused(folder):
    rewrite(folder, lambda tensors: tensors.update({k: v.int() for k, v in tensors.items()}))
    assert "must be of type torch.float32, is of I32" in message(folder)
