"""Training as a user meets it: what is tuned on what, what resumes, what is refused."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Scenes
from safetensors.numpy import load_file

from earmark.errors import UserError
from earmark.model.bundle import read_description
from earmark.tasks.training import train


def weights(model: Path) -> dict[str, np.ndarray]:
    return load_file(model / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


def without_times(model: Path) -> dict[str, object]:
    text = json.loads((model / "model.json").read_text())
    del text["training"]["seconds"]
    return text


def test_tags_alone_tune_the_tag_thresholds(model: Path) -> None:
    description = read_description(model)
    for rule in description.decoding:
        assert rule.threshold == rule.tag_threshold
        assert rule.max_gap_seconds == description.settings.decoding.max_gap_seconds
    assert len({rule.tag_threshold for rule in description.decoding}) > 1
    assert "no times" in (model / "README.md").read_text()
    assert not list((model / "training").glob("*.safetensors"))


def test_events_tune_the_rest(clips: Scenes, held_out: Scenes, tmp_path: Path) -> None:
    audio = both(clips, held_out, tmp_path)
    report = train(
        clips.weak,
        audio=audio,
        out=tmp_path / "model",
        validation=str(held_out.strong),
        set=[*TINY, "training.epochs=1"],
        device="cpu",
    )
    description = read_description(tmp_path / "model")
    assert any(rule.threshold != rule.tag_threshold for rule in description.decoding)
    assert set(report.validation) >= {"tagging micro F1", "segment F1", "segment error rate"}
    assert "strong labels" in (tmp_path / "model" / "README.md").read_text()


def both(clips: Scenes, held_out: Scenes, folder: Path) -> Path:
    """One folder with the audio of two data sets."""
    for scenes in (clips, held_out):
        shutil.copytree(scenes.audio, folder / "audio", dirs_exist_ok=True)
    return folder / "audio"


def test_nothing_held_out_means_one_half(clips: Scenes, tmp_path: Path) -> None:
    settings = [*TINY, "training.epochs=1"]
    report = train(clips.weak, audio=clips.audio, out=tmp_path / "m", validation="0", set=settings)
    rules = read_description(tmp_path / "m").decoding
    assert {(rule.tag_threshold, rule.threshold) for rule in rules} == {(0.5, 0.5)}
    assert report.validation == {}
    assert "nothing was held out" in (tmp_path / "m" / "README.md").read_text()


def test_averaged_epochs_are_members(clips: Scenes, tmp_path: Path) -> None:
    settings = [*TINY, "training.fuse_epochs=2"]
    train(clips.weak, audio=clips.audio, out=tmp_path / "m", set=settings)
    assert read_description(tmp_path / "m").members == 2
    numbers = {name.partition("/")[0] for name in weights(tmp_path / "m")}
    assert numbers == {"0", "1"}


def test_a_run_broken_at_every_epoch_equals_the_unbroken_one(
    model: Path, clips: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from earmark.tasks import training_run

    class Killed(BaseException):
        pass

    unbroken = training_run.save_tensors
    saved = 0

    def save_and_die(path: Path, *rest: object) -> None:
        nonlocal saved
        unbroken(path, *rest)
        saved += 1
        if saved in (2, 3, 5):  # after a checkpoint, between its two files, after another
            raise Killed

    monkeypatch.setattr(training_run, "save_tensors", save_and_die)
    for _ in range(3):
        with pytest.raises(Killed):
            train(clips.weak, audio=clips.audio, out=tmp_path / "m", set=TINY, resume=True)
    train(clips.weak, audio=clips.audio, out=tmp_path / "m", set=TINY, resume=True)
    assert same(model, tmp_path / "m")
    assert without_times(model) == without_times(tmp_path / "m")


@pytest.mark.slow
def test_a_killed_process_goes_on_exactly(model: Path, clips: Scenes, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "earmark", "train", str(clips.weak), "--audio"]
    words += [str(clips.audio), "--out", str(tmp_path / "m"), "--device", "cpu", "--resume"]
    for setting in TINY:
        words += ["--set", setting]
    rng = np.random.default_rng(0)
    for _ in range(4):
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(2.0, 6.0))
        process.kill()
        process.wait()
    subprocess.run(words, check=True, capture_output=True)
    assert same(model, tmp_path / "m")


def test_an_existing_training_is_not_overwritten(model: Path, clips: Scenes) -> None:
    before = (model / "model.json").read_bytes()
    with pytest.raises(UserError, match="--resume"):
        train(clips.weak, audio=clips.audio, out=model, set=TINY)
    with pytest.raises(UserError, match="these differ"):
        train(clips.weak, audio=clips.audio, out=model, set=TINY, seed=1, resume=True)
    report = train(clips.weak, audio=clips.audio, out=model, set=TINY, device="cpu", resume=True)
    assert report.model == model
    assert (model / "model.json").read_bytes() == before


def test_missing_audio_stops_unless_told_otherwise(clips: Scenes, tmp_path: Path) -> None:
    table = tmp_path / "weak.tsv"
    table.write_text(clips.weak.read_text() + "nowhere.wav\thorn\n")
    settings = [*TINY, "training.epochs=1"]
    with pytest.raises(UserError, match=r"1 of the table's files.*'nowhere.wav'.*skip-missing"):
        train(table, audio=clips.audio, out=tmp_path / "m", set=settings)
    assert not (tmp_path / "m").exists()
    train(table, audio=clips.audio, out=tmp_path / "m", set=settings, skip_missing=True)


def test_broken_audio_stops_unless_told_otherwise(clips: Scenes, tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    shutil.copytree(clips.audio, audio)
    (audio / "broken.flac").write_bytes(b"")
    table = tmp_path / "weak.tsv"
    table.write_text(clips.weak.read_text() + "broken.flac\thorn\n")
    settings = [*TINY, "training.epochs=1"]
    with pytest.raises(UserError, match=r"1 of .* clips can't be read.*broken.flac"):
        train(table, audio=audio, out=tmp_path / "m", validation="0", set=settings)
    assert not (tmp_path / "m").exists()
    report = train(
        table, audio=audio, out=tmp_path / "m", validation="0", set=settings, skip_missing=True
    )
    assert report.clips == 32


def test_a_clip_that_is_too_long_is_named(clips: Scenes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train_\d+.flac.*may last 1 s"):
        train(
            clips.weak,
            audio=clips.audio,
            out=tmp_path / "m",
            set=[*TINY, "training.max_clip_seconds=1"],
        )


def test_validation_may_not_be_trained_on(clips: Scenes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must not be trained on"):
        train(
            clips.weak,
            audio=clips.audio,
            out=tmp_path / "m",
            validation=str(clips.strong),
            set=TINY,
        )


def test_an_unknown_validation_class_is_named(
    clips: Scenes, held_out: Scenes, tmp_path: Path
) -> None:
    audio = both(clips, held_out, tmp_path)
    first = sorted(held_out.audio.iterdir())[0].name
    table = tmp_path / "validation.tsv"
    table.write_text(f"filename\tevent_labels\n{first}\tghost\n")
    with pytest.raises(UserError, match="'ghost' does not"):
        train(clips.weak, audio=audio, out=tmp_path / "m", validation=str(table), set=TINY)


def test_the_settings_decide(clips: Scenes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'epochs'"):
        train(clips.weak, audio=clips.audio, out=tmp_path / "m", set=["training.epoch=3"])
    with pytest.raises(UserError, match="no recipe 'gatd-crnn-logmel'; did you mean"):
        train(clips.weak, audio=clips.audio, out=tmp_path / "m", recipe="gatd-crnn-logmel")
    assert not (tmp_path / "m").exists()


def test_parts_of_long_recordings_are_clips(clips: Scenes, tmp_path: Path) -> None:
    first = sorted(clips.audio.iterdir())[:6]
    rows = [
        f"{path.name}\t{start}\t{start + 0.8}\t{label}"
        for number, path in enumerate(first)
        for start, label in ((0.0, "horn"), (1.0, ("siren", "")[number % 2]))
    ]
    table = tmp_path / "segments.tsv"
    table.write_text("filename\tonset\toffset\tevent_labels\n" + "\n".join(rows) + "\n")
    settings = [*TINY, "training.epochs=1"]
    report = train(table, audio=clips.audio, out=tmp_path / "m", validation="0", set=settings)
    assert report.clips == 12
    description = read_description(tmp_path / "m")
    assert description.class_names == ("horn", "siren")
    assert description.window_frames == description.settings.features.clock.frame_count(6400)
