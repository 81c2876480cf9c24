"""The plot task, with a tiny model of random weights on a recording that each test writes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, training_summary
from matplotlib.image import imread

from earmark import audio
from earmark.config import ClassDecoding, settings_from
from earmark.errors import UserError
from earmark.features import FeatureExtractor, Normaliser, mel_filters
from earmark.inference.fusion import load_recogniser
from earmark.model import bundle
from earmark.model.bundle import read_description
from earmark.outputs import plots
from earmark.tasks import fuse, train
from earmark.tasks.picture import band_centres_hz, plot

RATE_HZ = 4000
HEADER = "filename\tonset\toffset\tevent_label\n"


def make_model(folder, kind="log_mel"):
    settings = settings_from(
        {
            "features": {
                "kind": kind,
                "rate_hz": RATE_HZ,
                "window_samples": 256,
                "hop_samples": 160,
                "mel_bands": 8,
                "high_hz": RATE_HZ / 2,
            },
            "network": {
                "filters": 2,
                "layers_per_block": 1,
                "time_pooling": [2],
                "frequency_pooling": [2],
                "recurrent_units": 2,
            },
        }
    )
    rule = ClassDecoding(
        tag_threshold=0, threshold=0.5, low_threshold=0.5, max_gap_seconds=0, min_event_seconds=0
    )
    description = bundle.describe(
        ("dog", "$cat_"),
        settings,
        [rule, rule],
        Normaliser(np.full(8, -5.0), np.full(8, 3.0)),
        window_frames=40,
        members=1,
        training=training_summary("dog", "$cat_"),
        licence="none",
    )
    torch.manual_seed(3)
    network = description.network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(4)  # so that probabilities cross the thresholds
    bundle.save(folder, description, [network.state_dict()], "")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def trained(clips, tmp_path_factory):
    """A model folder after a short training."""
    out = tmp_path_factory.mktemp("trained") / "model"
    train(clips.weak, audio=clips.audio, out=out, set=TINY, device="cpu")
    return out


@pytest.fixture
def recording(tmp_path):
    """Five seconds, longer than the model's windows: a tone that comes and goes, and noise."""
    seconds = np.arange(5 * RATE_HZ) / RATE_HZ
    tone = 0.5 * np.sin(2 * np.pi * 440 * seconds) * (seconds % 1 < 0.4)
    noise = 0.01 * np.random.default_rng(0).normal(size=len(seconds))
    path = tmp_path / "audio" / "yard" / "a.wav"
    path.parent.mkdir(parents=True)
    audio.write(path, tone + noise, RATE_HZ)
    return path


@pytest.fixture
def drawn(monkeypatch):
    """What reaches ``draw``; it draws all the same."""
    seen = {}
    draw = plots.draw

    def watched(*arguments):
        names = ["path", "spectrogram", "track", "detected", "reference", "title"]
        seen.update(zip(names, arguments, strict=True))
        draw(*arguments)

    monkeypatch.setattr(plots, "draw", watched)
    return seen


def test_draws_what_the_recogniser_says(model, recording, drawn, tmp_path):
    out = tmp_path / "new" / "a.png"
    report = plot(recording, model=model, out=out, device="cpu", precision="float32")
    recogniser = load_recogniser(model)
    events = recogniser.detect(recording)
    assert len(events) > 1
    assert report.events == drawn["detected"] == events
    assert report.text() == f"{len(events)} events: {out}"
    track = recogniser.scores(recording)
    assert np.array_equal(drawn["track"].probabilities, track.probabilities)
    assert np.array_equal(drawn["track"].edges_seconds, track.edges_seconds)
    features = FeatureExtractor(recogniser.description.settings.features)
    whole = features.of_clips([audio.read(recording, RATE_HZ)])[0]
    assert np.allclose(drawn["spectrogram"].values, whole, atol=1e-5)
    assert drawn["spectrogram"].clock == features.clock
    assert drawn["reference"] is None
    assert drawn["title"] == "a.wav"
    assert imread(out).shape[:2] == (900, 1200)


def test_a_long_recording_is_kept_in_few_columns(model, recording, drawn, monkeypatch, tmp_path):
    monkeypatch.setattr(plots.Envelope.__init__, "__defaults__", (20,))
    plot(recording, model=model, out=tmp_path / "a.png", device="cpu", precision="float32")
    track = load_recogniser(model).scores(recording)
    step = drawn["track"].clock.pooling // track.clock.pooling
    assert step == 4
    expected = [
        track.probabilities[t : t + step].max(axis=0)
        for t in range(0, len(track.probabilities), step)
    ]
    assert np.array_equal(drawn["track"].probabilities, expected)
    assert drawn["track"].edges_seconds[:-1] == pytest.approx(track.edges_seconds[:-1:step])
    assert drawn["track"].end_seconds == 5
    assert len(drawn["spectrogram"].values) <= 20


def test_the_reference_is_of_the_longest_name_that_the_path_ends_with(
    model, recording, drawn, tmp_path
):
    table = tmp_path / "strong.tsv"
    table.write_text(
        HEADER + "a.wav\t0\t1\tdog\nyard/a.wav\t2\t3\tdog\nyard\\\\a.wav\t1\t2\tzebra\n"
        "ard/a.wav\t3\t4\tdog\nb/yard/a.wav\t3\t4\tdog\nextra.wav\t3\t4\tdog\n"
    )
    report = plot(recording, model=model, out=tmp_path / "a.png", reference=table, device="cpu")
    assert [(e.onset_seconds, e.label) for e in report.reference] == [(1, "zebra"), (2, "dog")]
    assert drawn["reference"] == report.reference
    assert " events beside 2 of the reference: " in report.text()


def test_a_relative_recording_has_its_folders_too(model, recording, monkeypatch, tmp_path):
    table = tmp_path / "strong.tsv"
    table.write_text(HEADER + "yard/a.wav\t\t\t\n")
    monkeypatch.chdir(recording.parent)
    for given in (Path("a.wav"), Path("..") / "yard" / "a.wav"):
        report = plot(given, model=model, out=tmp_path / "a.png", reference=table, device="cpu")
        assert report.reference == []


def test_errors_come_before_any_work(recording, tmp_path):
    nowhere = tmp_path / "no model"
    table = tmp_path / "table.tsv"
    out = tmp_path / "a.png"
    with pytest.raises(UserError, match=r"must end in \.png"):
        plot(recording, model=nowhere, out=tmp_path / "a.jpg")
    table.write_text(HEADER + "aa.wav\t0\t1\tdog\nb.wav\t0\t1\tdog\nc.wav\t0\t1\tdog\n")
    with pytest.raises(UserError, match=r"the table has 'aa\.wav' and 'b\.wav'; a filename"):
        plot(recording, model=nowhere, out=out, reference=table)
    table.write_text("filename\tevent_labels\na.wav\tdog\n")
    with pytest.raises(UserError, match="with tags alone; give a strong table"):
        plot(recording, model=nowhere, out=out, reference=table)
    with pytest.raises(UserError, match="there is no such model folder"):
        plot(recording, model=nowhere, out=out, device="cpu")


def test_a_recording_that_can_not_be_read_is_a_users_error(model, tmp_path):
    out = tmp_path / "a.png"
    with pytest.raises(UserError, match="there is no such file"):
        plot(tmp_path / "b.wav", model=model, out=out, device="cpu")
    assert not out.exists()


def test_mfcc_have_coefficients(recording, drawn, tmp_path):
    model = make_model(tmp_path / "model", "mfcc")
    plot(recording, model=model, out=tmp_path / "a.png", device="cpu")
    assert drawn["spectrogram"].band_centres_hz is None


def test_centres_are_where_the_filters_peak():
    settings = settings_from({}).features
    centres = band_centres_hz(settings)
    assert len(centres) == 64
    assert (np.diff(centres) > 0).all()
    coarse = mel_filters(settings).argmax(axis=1) * settings.rate_hz / settings.window_samples
    wide = centres > 1000
    assert np.allclose(centres[wide], coarse[wide], atol=settings.rate_hz / settings.window_samples)
    # Slaney's scale is linear below 1 kHz, 200/3 Hz a mel.
    top_mel = 15 + np.log(8) / (np.log(6.4) / 27)
    assert centres[9] == pytest.approx(10 * top_mel / 65 * 200 / 3, abs=1)


LOG = (
    '{"number": 1, "loss": 0.5, "validation_map": null, "seconds": 1}\n'
    '{"number": 2, "loss": 0.25, "validation_map": null, "seconds": 1, "kept": true}\n'
)


@pytest.fixture
def curves(monkeypatch):
    """What reaches ``draw_curves``; it draws all the same."""
    seen = []
    draw = plots.draw_curves
    monkeypatch.setattr(plots, "draw_curves", lambda *a: (seen.append(a[1:]), draw(*a)))
    return seen


def test_the_curves_of_a_training(trained, curves, tmp_path):
    out = tmp_path / "curves.png"
    report = plot(trained, out=out)
    assert (report.systems, report.epochs) == (1, 3)
    assert imread(out).shape[:2] == (900, 1200)
    ((curve,), title) = curves[0]
    assert title == "Training of model"
    log = (trained / "training" / "log.jsonl").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert list(curve.losses) == [line["loss"] for line in lines]
    assert list(curve.scores) == [line["validation_map"] for line in lines]
    weights = read_description(trained).training.weights
    assert f" {', '.join(map(str, sorted(curve.kept)))}, the best" in weights
    assert plot(trained / "training" / "log.jsonl", out=out).epochs == 3
    assert curves[1] == curves[0]


def test_the_curves_of_a_fused_model_are_those_of_its_members(trained, curves, tmp_path):
    inner = fuse(trained, trained, out=tmp_path / "inner", device="cpu").model
    fused = fuse(inner, trained, out=tmp_path / "fused", device="cpu").model
    assert plot(fused, out=tmp_path / "c.png").text().startswith("3 epochs of 3 systems: ")
    assert [curve.name for curve in curves[0][0]] == ["0/0", "0/1", "1"]


def test_a_log_without_validation_or_marks(curves, tmp_path):
    log = tmp_path / "m" / "training" / "log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text(LOG)
    plot(log, out=tmp_path / "c.png")
    ((curve,), title) = curves[0]
    assert np.isnan(curve.scores).all()
    assert curve.kept == {2}
    assert title == "Training of m"


def test_what_has_no_curves(model, tmp_path):
    out = tmp_path / "c.png"
    with pytest.raises(UserError, match=r"no log of its epochs \(training/log\.jsonl\)"):
        plot(model, out=out)
    with pytest.raises(UserError, match="neither a recording nor a model folder"):
        plot(tmp_path, out=out)
    with pytest.raises(UserError, match="--reference is for a recording"):
        plot(model, out=out, reference=tmp_path / "r.tsv")
    with pytest.raises(UserError, match="leave out --model"):
        plot(model, model=model, out=out)
    log = tmp_path / "log.jsonl"
    for text, message in (
        (LOG + "{}\n", r"log\.jsonl, line 3: a line must be an epoch"),
        (LOG + '{"number": 3', r"line 3: a line must be"),
        ("[]\n", r"line 1: a line must be"),
        ("", "no epoch of this training is done yet"),
    ):
        log.write_text(text)
        with pytest.raises(UserError, match=message):
            plot(log, out=out)
    with pytest.raises(UserError, match="can't be read"):
        plot(tmp_path / "other.jsonl", out=out)
    assert not out.exists()
