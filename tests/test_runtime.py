"""An exported model at work without torch: it says what the model says."""

import itertools
import json
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import training_summary

import earmark
from earmark import runtime
from earmark.config import ClassCalibration, FeatureSettings, LogitLine, settings_from
from earmark.errors import UserError
from earmark.features import FeatureExtractor, Normaliser
from earmark.inference.fusion import load_recogniser
from earmark.inference.system import SystemRecogniser
from earmark.model import bundle
from earmark.spectra import NumpyFeatures
from earmark.tasks import export, fuse
from earmark.tuning.rules import untuned

pytest.importorskip("onnxruntime")

NAMES = ("dog", "rain", "siren")
FEATURES = {
    "rate_hz": 1000,
    "window_samples": 32,
    "hop_samples": 20,
    "mel_bands": 8,
    "high_hz": 500,
}
MODELS = {
    "two members": {"members": 2},
    "pooled time": {"members": 2, "time_pooling": [2, 2, 2], "localisation": "linear_softmax"},
    "no bound on weights": {"localisation": "attention_over_time", "spread": 30.0},
    "the surest frame": {"localisation": "max"},
    "a vote": {"kind": "context_mlp", "context_frames": 3, "hidden_units": [5], "dropout": 0.0},
}


def saved(folder, *, members=1, spread=1.0, hop_samples=20, median=0.0, **network):
    """A model folder: 1 kHz, windows of 40 frames, weights that were never trained.

    They are large enough for frames to differ, and thresholds lie amid the frames' probabilities.
    """
    if "kind" not in network:
        network = {"filters": 3, "recurrent_units": 3} | network
    found = settings_from({"features": FEATURES | {"hop_samples": hop_samples}, "network": network})
    description = bundle.describe(
        NAMES,
        found,
        untuned(len(NAMES), found.decoding),
        Normaliser(np.full(8, -3.0), np.full(8, 2.0)),
        40,
        members,
        training_summary(*NAMES),
        "none",
    )
    networks = []
    for member in range(members):
        torch.manual_seed(member)
        made = description.network().eval().requires_grad_(False)
        for name, weight in made.named_parameters():
            if weight.ndim > 1:
                weight.mul_(4.0)
            if name.startswith("localisation.localiser"):
                weight.mul_(spread)
        networks.append(made)
    track = SystemRecogniser(bundle.Bundle(description, tuple(networks))).scores(
        sound(4000, seed=9)
    )
    middle = np.median(track.probabilities, axis=0)
    assert (np.ptp(track.probabilities, axis=0) > 0.1).all()
    rules = [
        rule.model_copy(
            update={
                "threshold": float(at) * 1.05,
                "low_threshold": float(at),
                "median_seconds": median,
                "gate_threshold": float(at) * 0.5,
                "max_gap_seconds": 0.03,
            }
        )
        for rule, at in zip(description.decoding, middle, strict=True)
    ]
    bundle.save(
        folder,
        description.model_copy(update={"decoding": tuple(rules)}),
        [network.state_dict() for network in networks],
        "A card.\n",
    )
    return folder


def sound(samples, seed=0):
    """Noise whose loudness wanders, so that frames differ."""
    rng = np.random.default_rng(seed)
    loudness = np.exp(2 * np.sin(np.arange(samples) / 150))
    return np.clip(0.1 * loudness * rng.normal(0, 1, samples), -1, 1).astype(np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model folder and the folder that it was exported to, by kind and input."""
    made = {}

    def make(kind, features):
        if (kind, features) not in made:
            place = tmp_path_factory.mktemp("exported")
            model = saved(place / "model", **MODELS[kind])
            export(model, out=place / "out", features=features)
            made[kind, features] = model, place / "out"
        return made[kind, features]

    return make


def assert_alike(track, expected):
    assert track.class_names == expected.class_names
    assert track.clock == expected.clock
    assert track.end_seconds == expected.end_seconds
    np.testing.assert_allclose(track.probabilities, expected.probabilities, rtol=0, atol=1e-4)
    np.testing.assert_allclose(track.local_tags, expected.local_tags, rtol=0, atol=1e-4)
    np.testing.assert_allclose(track.tags, expected.tags, rtol=0, atol=1e-4)


def assert_same_events(found, expected):
    assert [(e.onset_seconds, e.offset_seconds, e.label) for e in found] == [
        (e.onset_seconds, e.offset_seconds, e.label) for e in expected
    ]
    scores = [[e.score for e in events] for events in (found, expected)]
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-4)


@pytest.mark.parametrize("features", [False, True], ids=["features", "samples"])
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("samples", [1, 31, 700, 832, 833, 40_000])
def test_it_says_what_the_model_says(exported, kind, features, samples):
    model, folder = exported(kind, features)
    one, two = load_recogniser(model), runtime.load(folder)
    recording = sound(samples)
    assert_alike(two.scores(recording), one.scores(recording))
    assert_same_events(two.detect(recording), one.detect(recording))
    assert two.tag(recording) == pytest.approx(one.tag(recording), abs=1e-4)
    assert samples < 40_000 or len(one.detect(recording)) > 5
    assert two.window_seconds == one.window_seconds
    assert (two.rate_hz, two.votes, two.rules) == (one.rate_hz, one.votes, one.rules)


def recalibrated(folder, *lines):
    """The model folder with other calibrations of its classes, clips and frames alternating."""
    of = [ClassCalibration(clips=a, frames=b) for a, b in itertools.pairwise(lines)]
    description = bundle.read_description(folder)
    changed = description.model_copy(update={"calibration": bundle.Calibration(classes=tuple(of))})
    bundle.save_description(folder, changed, "A card.\n")


@pytest.mark.slow
def test_calibration_is_exported(tmp_path):
    model, other = (saved(tmp_path / name, members=2) for name in ("model", "other"))
    bare = load_recogniser(model).scores(sound(3000))
    lines = LogitLine(shift=1), LogitLine(scale=2), LogitLine(), LogitLine(shift=-1)
    recalibrated(model, *lines)
    fused = fuse(model, other, out=tmp_path / "fused", device="cpu").model
    recalibrated(fused, *lines[::-1])
    for folder in (model, fused):
        out = tmp_path / f"{folder.name}-out"
        export(folder, out=out)
        one, two = load_recogniser(folder), runtime.load(out)
        assert_alike(two.scores(sound(3000)), one.scores(sound(3000)))
        assert two.calibration == one.calibration
        assert np.abs(one.scores(sound(3000)).tags - bare.tags).max() > 0.05
    described = json.loads((out / "earmark.json").read_text())
    described["calibration"].pop()
    (out / "earmark.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="calibration needs 3 entries, one a class, or none"):
        runtime.load(out)


def test_what_is_exported_is_compared_before_calibration(tmp_path):
    """A steep line makes much of little."""
    model = saved(tmp_path / "model")
    recalibrated(model, *[LogitLine(scale=1000)] * 4)
    fused = fuse(model, model, out=tmp_path / "fused", device="cpu").model
    for folder in (model, fused):
        exported = export(folder, out=tmp_path / f"{folder.name}-out")
        raw = load_recogniser(folder).uncalibrated(), runtime.load(exported.out).uncalibrated()
        assert_alike(*(of.scores(sound(900)) for of in raw))


@pytest.mark.parametrize("features", [False, True], ids=["features", "samples"])
def test_files_of_other_rates(exported, features, tmp_path):
    model, folder = exported("pooled time", features)
    path = tmp_path / "sound.flac"
    soundfile.write(path, np.stack([sound(9000), sound(9000, 1)], axis=1), 1600)
    assert_same_events(runtime.load(folder).detect(path), load_recogniser(model).detect(str(path)))
    assert runtime.load(folder).detect(path)


def test_how_many_threads_work_changes_nothing(exported):
    _, folder = exported("two members", False)
    recording = sound(40_000)
    one, five = (runtime.load(folder, threads=count).scores(recording) for count in (1, 5))
    assert np.array_equal(one.probabilities, five.probabilities)


@pytest.mark.slow
def test_a_fused_model_of_different_clocks(tmp_path):
    coarse = saved(tmp_path / "coarse", time_pooling=[2, 1, 1])
    fine = saved(tmp_path / "fine", hop_samples=16, members=2)
    inner = fuse(coarse, fine, out=tmp_path / "inner", device="cpu").model
    model = fuse(inner, coarse, out=tmp_path / "fused", device="cpu").model
    for features in (False, True):
        folder = tmp_path / f"out-{features}"
        assert export(model, out=folder, features=features).graphs == 3
        assert not list(folder.rglob(".*"))
        recording = sound(5000)
        one, two = load_recogniser(model), runtime.load(folder)
        assert_alike(two.scores(recording), one.scores(recording))
        assert_same_events(two.detect(recording), one.detect(recording))
        assert len(one.detect(recording)) > 1


WITHOUT_TORCH = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ImportError(f"there is no {name} here")

sys.meta_path.insert(0, Refusing())
from earmark import runtime
model = runtime.load(sys.argv[2])
for event in model.detect(sys.argv[3]):
    print(event.onset_seconds, event.offset_seconds, event.label)
for file in sys.argv[4:]:
    print(len(model.scores(file).probabilities), model.tag(file)["dog"] > 0)
assert "torch" not in sys.modules
try:
    import torch
except ImportError:
    print("no torch")
"""


def packages():
    """What the page on models elsewhere installs, and all that the project ever does."""
    root = Path(__file__).parents[1]
    page = (root / "docs" / "how-to" / "elsewhere.md").read_text(encoding="utf-8")
    needed = re.search(r"--no-deps \.\npip install (.*)", page)[1].split()
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = itertools.chain.from_iterable(project["optional-dependencies"].values())
    named = [re.match(r"[\w-]+", line)[0] for line in (*project["dependencies"], *extras)]
    return set(needed), {name for name in named if name != "earmark"}


def test_without_torch_a_file_is_detected(tmp_path):
    first = saved(tmp_path / "first", median=0.1)
    second = saved(tmp_path / "second", time_pooling=[2, 1, 1])
    model = fuse(first, second, out=tmp_path / "fused", device="cpu").model
    export(model, out=tmp_path / "out")
    path = tmp_path / "sound.wav"
    soundfile.write(path, sound(20_000), 2000)
    needed, others = packages()
    assert "torch" in others - needed
    absent = ",".join(others - needed)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, absent, str(tmp_path / "out"), str(path), str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(earmark.__file__).parents[1]), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    events = earmark.load(model, device="cpu", precision="float32").detect(path)
    assert events
    lines = [f"{e.onset_seconds} {e.offset_seconds} {e.label}" for e in events]
    assert done.stdout.splitlines() == [*lines, "499 True", "no torch"]


@pytest.mark.parametrize("kind", ["log_mel", "mfcc"])
def test_features_by_numpy_are_the_features(kind):
    settings = FeatureSettings(kind=kind)
    recording = sound(40_000)
    blocks = np.array_split(recording, 7)
    by_torch = np.concatenate(list(FeatureExtractor(settings).stream(blocks)))
    by_numpy = np.concatenate(list(NumpyFeatures(settings).stream(blocks)))
    np.testing.assert_allclose(by_numpy, by_torch, rtol=0, atol=1e-4)
    for ours, theirs in zip(
        NumpyFeatures(settings).of_clips([recording[:5], recording]),
        FeatureExtractor(settings).of_clips([recording[:5], recording]),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)


@pytest.fixture
def broken(exported, tmp_path):
    """A copy of an exported model, to be damaged."""
    return Path(shutil.copytree(exported("two members", False)[1], tmp_path / "broken"))


def changed(folder, **values):
    path = folder / "earmark.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in (described | values).items() if v is not ...}))


def refused(folder, message):
    with pytest.raises(UserError, match=message) as caught:
        runtime.load(folder)
    assert str(folder) in str(caught.value)


def test_a_folder_of_something_else(tmp_path, broken):
    refused(tmp_path, r"not an exported model \(it has no earmark.json\); make one with")
    refused(saved(tmp_path / "model"), "earmark export")
    refused(tmp_path / "nowhere", "there is no such folder; `earmark export` makes one")
    (broken / "model.onnx").unlink()
    refused(broken, "model.onnx: can't be read as a graph: there is no such file")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format_version": 2}, "format_version must be 1, came as 2"),
        ({"clas_names": ["a"]}, "there is no setting 'clas_names'; did you mean 'class_names'"),
        ({"localisation": ...}, "'localisation' is missing"),
        ({"window_frames": 0}, "window_frames"),
        ({"clock": {"rate_hz": 1, "window_samples": 2, "hop_samples": 1, "pooling": 1}}, "clock"),
        ({"class_names": ["dog", "dog", "rain"]}, "class_names must differ"),
        ({"class_names": ["dog", "rain"]}, "decoding needs 2 rules"),
        ({"members": ["../elsewhere"], "clock": ...}, "members"),
    ],
)
def test_a_description_that_is_wrong(broken, values, message):
    changed(broken, **values)
    refused(broken, message)


def test_a_description_that_is_no_json(broken):
    (broken / "earmark.json").write_text("{")
    refused(broken, "must be JSON")


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_graph_that_is_damaged(broken, content):
    path = broken / "model.onnx"
    path.write_bytes(path.read_bytes()[:-3000] if content is None else content)
    refused(broken, "model.onnx: can't be read as a graph: ")


def test_a_graph_of_another_model(broken, exported):
    shutil.copy(exported("the surest frame", False)[1] / "model.onnx", broken)
    refused(broken, "model.onnx: does not fit earmark.json")
    shutil.copy(exported("two members", True)[1] / "model.onnx", broken)
    refused(broken, "model.onnx: does not fit earmark.json")


def test_fused_models_in_fused_models_come_to_an_end(tmp_path):
    rules = [rule.model_dump() for rule in untuned(1, settings_from({}).decoding)]
    folder = tmp_path
    for _ in range(12):
        folder.mkdir(exist_ok=True)
        described = {
            "format_version": 1,
            "package_version": "1",
            "class_names": ["dog"],
            "members": ["members/0"],
            "decoding": rules,
            "decoding_settings": {},
        }
        (folder / "earmark.json").write_text(json.dumps(described))
        folder = folder / "members" / "0"
        folder.parent.mkdir()
    with pytest.raises(UserError, match="may be 8 deep"):
        runtime.load(tmp_path)


def test_without_the_package_onnxruntime(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'earmark\[onnx\]'"):
        runtime.load(exported("two members", False)[1])


@pytest.mark.parametrize("empty", [np.zeros(0, np.float32), np.zeros((0, 2), np.float32)])
def test_a_recording_without_samples_is_refused(exported, empty):
    recogniser = runtime.load(exported("two members", True)[1])
    with pytest.raises(UserError, match="at least one sample"):
        recogniser.detect(empty)


def test_nothing_is_warned_of(exported):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runtime.load(exported("two members", True)[1]).tag(sound(5000))
