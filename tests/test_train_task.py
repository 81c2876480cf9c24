"""Training as a user meets it: what is tuned on what, what resumes, what is refused."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Scenes, scenes
from safetensors.numpy import load_file

import earmark
from earmark.calibration import moved_threshold
from earmark.config import LogitLine
from earmark.errors import UserError
from earmark.model.bundle import read_description
from earmark.tasks import training_run
from earmark.tasks.training import train
from earmark.tasks.training_data import gather


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
    of_classes = description.calibration.classes
    assert len({of_class.clips for of_class in of_classes}) > 1
    for rule, of_class in zip(description.decoding, of_classes, strict=True):
        assert of_class.frames == LogitLine()
        before = moved_threshold(rule.tag_threshold, of_class.clips, LogitLine())
        assert rule.threshold == pytest.approx(before)
        assert rule.max_gap_seconds == description.settings.decoding.max_gap_seconds
    assert len({rule.tag_threshold for rule in description.decoding}) > 1
    card = (model / "README.md").read_text()
    assert "no times" in card
    assert "- Probabilities: calibrated, clips on 5 clips held out of weak.tsv; expected" in card
    assert "frames are as the network gives them." in card
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
    for made in (clips, held_out):
        shutil.copytree(made.audio, folder / "audio", dirs_exist_ok=True)
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
    description = read_description(tmp_path / "m")
    assert description.members == 2
    assert description.training.weights.startswith("mean posteriors of epochs ")
    numbers = {name.partition("/")[0] for name in weights(tmp_path / "m")}
    assert numbers == {"0", "1"}


def test_two_at_once_in_one_folder_are_refused(
    clips: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a job that was started twice: the second is refused, the first goes on."""
    given = training_run.train_epoch
    refused = []

    def epoch_and_another(*rest: object, **named: object) -> float:
        with pytest.raises(UserError) as error:
            train(clips.weak, audio=clips.audio, out=tmp_path / "m", set=TINY, resume=True)
        refused.append(str(error.value))
        return given(*rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(training_run, "train_epoch", epoch_and_another)
    train(clips.weak, audio=clips.audio, out=tmp_path / "m", set=TINY)
    assert len(refused) == 3
    assert all("another process is writing it" in line for line in refused)
    assert not list((tmp_path / "m").rglob(".lock"))


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


def test_random_changes_and_averages_go_on_exactly(
    clips: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from earmark.tasks import training_run

    class Killed(BaseException):
        pass

    changing = ["augmentation.shift=true", "augmentation.mixed_share=0.5"]
    settings = [*TINY, *changing, "training.average_decay=0.9", "training.schedule=cosine"]
    settings += ["training.epochs=3", "training.frame_share=0.7"]
    given = {"audio": clips.audio, "set": settings}
    train(clips.weak, out=tmp_path / "unbroken", **given)  # type: ignore[arg-type]
    original = training_run.save_tensors

    def save_and_die(path: Path, *rest: object) -> None:
        original(path, *rest)  # type: ignore[arg-type]
        if path.name.startswith("checkpoint"):
            raise Killed

    monkeypatch.setattr(training_run, "save_tensors", save_and_die)
    for epoch in (1, 2):  # the last that is told tags alone, and the first that is told frames
        with pytest.raises(Killed):
            train(clips.weak, out=tmp_path / "m", resume=epoch > 1, **given)  # type: ignore[arg-type]
    monkeypatch.undo()
    train(clips.weak, out=tmp_path / "m", resume=True, **given)  # type: ignore[arg-type]
    assert same(tmp_path / "unbroken", tmp_path / "m")
    kept = read_description(tmp_path / "m").training.weights
    assert kept.endswith("the best by validation mAP of those with labelled frames")
    plain = [*TINY, "training.average_decay=0.9", "training.schedule=cosine"]
    train(clips.weak, audio=clips.audio, out=tmp_path / "plain", set=plain)
    assert not same(tmp_path / "plain", tmp_path / "m")


def test_epochs_with_labelled_frames_are_kept_before_others() -> None:
    from earmark.tasks.training_log import Epoch, Log

    log = Log()
    for number, value in enumerate((0.5, 0.9, 0.6, 0.4), 1):
        log.add(Epoch(number, 1.0, value, 1.0), keep=1, tag_epochs=2)
        assert log.kept == [min(number, 2) if number < 3 else 3]
    log.add(Epoch(5, 1.0, 0.5, 1.0), keep=2, tag_epochs=2)
    assert log.kept == [3, 5]


def test_a_few_clips_come_several_times_in_an_epoch(
    clips: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from earmark.tasks import training_run

    steps = []
    given = training_run.train_epoch

    def counted(
        network: object, batches: Iterable[object], *rest: object, **named: object
    ) -> float:
        seen = list(batches)
        steps.append(len(seen))
        return given(network, seen, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(training_run, "train_epoch", counted)
    settings = [*TINY, "training.epochs=1", "training.min_epoch_clips=101"]
    train(
        clips.weak, audio=clips.audio, out=tmp_path / "m", set=[*settings, "training.batch_size=10"]
    )
    assert steps == [11]


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


def test_an_existing_training_is_not_overwritten(
    model: Path, clips: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (model / "model.json").read_bytes()
    with pytest.raises(UserError, match="--resume"):
        train(clips.weak, audio=clips.audio, out=model, set=TINY)
    with pytest.raises(UserError, match="these differ"):
        train(clips.weak, audio=clips.audio, out=model, set=TINY, seed=1, resume=True)
    with monkeypatch.context() as patch:
        patch.setattr(training_run, "version", lambda _: "99.0")
        with pytest.raises(UserError, match="version of earmark"):
            train(clips.weak, audio=clips.audio, out=model, set=TINY, device="cpu", resume=True)
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
    first = sorted(clips.audio.iterdir())[0].name
    parts = tmp_path / "parts.tsv"
    parts.write_text(
        f"filename\tonset\toffset\tevent_labels\n{first}\t0.0\t0.5\thorn\n{first}\t1.0\t1.5\tbell\n"
    )
    overlapping = tmp_path / "overlapping.tsv"
    overlapping.write_text(f"filename\tonset\toffset\tevent_labels\n{first}\t0.4\t0.9\thorn\n")
    beside = tmp_path / "beside.tsv"
    beside.write_text(f"filename\tonset\toffset\tevent_labels\n{first}\t0.5\t1.0\thorn\n")
    whole = tmp_path / "whole.tsv"
    whole.write_text(f"filename\tonset\toffset\tevent_label\n{first}\t0.0\t0.4\thorn\n")
    for labels, validation in [
        (clips.weak, clips.strong),
        (parts, overlapping),
        (parts, whole),
        (clips.weak, beside),
    ]:
        with pytest.raises(UserError, match="must not be trained on"):
            gather(labels, clips.audio, str(validation))
    assert len(gather(parts, clips.audio, str(beside)).held.clips) == 1


def test_sources_may_not_be_on_both_sides(clips: Scenes, tmp_path: Path) -> None:
    first, second = (path.name for path in sorted(clips.audio.iterdir())[:2])
    tables = [tmp_path / "training.tsv", tmp_path / "validation.tsv"]
    for table, name in zip(tables, (first, second), strict=True):
        table.write_text(f"filename\tevent_labels\tgroup\n{name}\thorn\tnorth\n")
    with pytest.raises(UserError, match="both tables have the group 'north'"):
        gather(tables[0], clips.audio, str(tables[1]))


def test_validation_needs_a_tag(clips: Scenes, held_out: Scenes, tmp_path: Path) -> None:
    audio = both(clips, held_out, tmp_path)
    table = tmp_path / "validation.tsv"
    table.write_text(f"filename\tevent_labels\n{sorted(held_out.audio.iterdir())[0].name}\t\n")
    with pytest.raises(UserError, match="at least one clip with a tag"):
        gather(clips.weak, audio, str(table))


def test_a_class_that_is_not_held_out_keeps_the_settings_threshold(
    clips: Scenes, held_out: Scenes, tmp_path: Path
) -> None:
    audio = both(clips, held_out, tmp_path)
    table = tmp_path / "validation.tsv"
    names = sorted(path.name for path in held_out.audio.iterdir())
    labels = ["horn", "bell", "horn,bell", "siren", "", "siren"]
    rows = [f"{name}\t{label}" for name, label in zip(names, labels, strict=False)]
    table.write_text("filename\tevent_labels\n" + "\n".join(rows) + "\n")
    settings = [*TINY, "training.epochs=1", "decoding.threshold=0.37"]
    train(clips.weak, audio=audio, out=tmp_path / "m", validation=str(table), set=settings)
    description = read_description(tmp_path / "m")
    rule = dict(zip(description.class_names, description.decoding, strict=True))
    assert rule["engine"].tag_threshold == rule["engine"].threshold == 0.37
    assert rule["horn"].tag_threshold != 0.37
    assert "nothing held out has beep, engine, hammer: 0.37" in description.training.thresholds


def test_long_recordings_judge_tags_in_parts(clips: Scenes, tmp_path: Path) -> None:
    long = scenes(tmp_path / "long", 3, seed=4, seconds=5.0)
    audio = both(clips, long, tmp_path)
    settings = [*TINY, "training.epochs=1"]
    out = tmp_path / "m"
    train(clips.weak, audio=audio, out=out, validation=str(long.strong), set=settings)
    note = read_description(out).training.thresholds
    assert "on the strong labels of strong.tsv (tags in 9 parts of up to 2.0 s)" in note


def test_broken_validation_recordings_can_be_skipped(
    clips: Scenes, held_out: Scenes, tmp_path: Path
) -> None:
    audio = both(clips, held_out, tmp_path)
    (audio / "short.wav").write_bytes(b"RI")
    table = tmp_path / "strong.tsv"
    table.write_text(held_out.strong.read_text() + "short.wav\t0.1\t0.5\thorn\n")
    settings = [*TINY, "training.epochs=1"]
    words = {"audio": audio, "out": tmp_path / "m", "validation": str(table), "set": settings}
    with pytest.raises(UserError, match=r"1 of 13 clips can't be read: .*short\.wav"):
        train(clips.weak, **words)
    report = train(clips.weak, **words, skip_missing=True)
    assert "segment F1" in report.validation


@pytest.mark.parametrize("stage", ["nothing", "empty folder", "partial note"])
def test_a_run_killed_before_it_began_can_go_on(clips: Scenes, tmp_path: Path, stage: str) -> None:
    out = tmp_path / "m"
    if stage != "nothing":
        (out / "training").mkdir(parents=True)
    if stage == "partial note":
        (out / "training" / ".run.json.partial").write_text('{"ke')
        (out / "training" / ".lock").touch()
    train(clips.weak, audio=clips.audio, out=out, set=[*TINY, "training.epochs=1"], resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_failed_in_its_first_epoch_is_started_anew(
    clips: Scenes, tmp_path: Path, resume: bool
) -> None:
    settings = [*TINY, "training.epochs=1"]
    given = {"audio": clips.audio, "out": tmp_path / "m", "device": "cpu"}
    with pytest.raises(UserError, match="must stay finite"):
        train(clips.weak, **given, set=[*settings, "training.learning_rate=1e30"])
    train(clips.weak, **given, set=settings, resume=resume)
    given["out"] = tmp_path / "anew"
    train(clips.weak, **given, set=settings)
    assert same(tmp_path / "m", tmp_path / "anew")


def test_a_fusion_that_failed_in_its_first_epoch_is_started_anew(
    clips: Scenes, tmp_path: Path
) -> None:
    recipe = tmp_path / "two.toml"
    recipe.write_text("members = ['gated-crnn-logmel', 'crnn-logmel']\n")
    settings = [*TINY, "training.epochs=1"]
    given = {"audio": clips.audio, "out": tmp_path / "m", "recipe": str(recipe), "device": "cpu"}
    with pytest.raises(UserError, match="must stay finite"):
        train(clips.weak, **given, set=[*settings, "training.learning_rate=1e30"])
    train(clips.weak, **given, set=settings)
    again = "gated-crnn-logmel: there is a training already; pass --resume"
    with pytest.raises(UserError, match=again):
        train(clips.weak, **given, set=settings)
    train(clips.weak, **given, set=settings, resume=True)


def test_a_run_killed_while_it_tidied_up_is_tidied(
    model: Path, clips: Scenes, tmp_path: Path
) -> None:
    copy = tmp_path / "m"
    shutil.copytree(model, copy)
    (copy / "training" / "checkpoint.safetensors").write_bytes(b"left over")
    (copy / "training" / "training_features").mkdir()
    train(clips.weak, audio=clips.audio, out=copy, set=TINY, device="cpu", resume=True)
    assert {path.name for path in (copy / "training").iterdir()} == {"run.json", "log.jsonl"}


def test_other_recordings_are_no_resumption(
    clips: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from earmark.tasks import training_run

    audio = tmp_path / "audio"
    shutil.copytree(clips.audio, audio)
    unbroken = training_run.TrainingRun._finish
    monkeypatch.setattr(training_run.TrainingRun, "_finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(clips.weak, audio=audio, out=tmp_path / "m", set=TINY)
    monkeypatch.setattr(training_run.TrainingRun, "_finish", unbroken)
    first, second = sorted(audio.iterdir())[:2]
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match="these have changed"):
        train(clips.weak, audio=audio, out=tmp_path / "m", set=TINY, resume=True)


def test_a_folder_that_cannot_be_made(clips: Scenes, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be made"):
        train(clips.weak, audio=clips.audio, out=tmp_path / "file" / "m", set=TINY)
    with pytest.raises(UserError, match="at least 0"):
        train(clips.weak, audio=clips.audio, out=tmp_path / "m", set=TINY, seed=-1)
    with pytest.raises(UserError, match="--fuse-epochs must be at least 1, came as 0"):
        train(clips.weak, audio=clips.audio, out=tmp_path / "m", set=TINY, fuse_epochs=0)


def test_a_table_without_rows_is_told(clips: Scenes, tmp_path: Path) -> None:
    table = tmp_path / "weak.tsv"
    table.write_text("filename\tevent_labels\n")
    with pytest.raises(UserError, match=r"weak\.tsv: the table has no rows; add some"):
        train(table, audio=clips.audio, out=tmp_path / "m", set=TINY)


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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"key": 1'])
def test_a_damaged_note_is_named(clips: Scenes, tmp_path: Path, content: bytes) -> None:
    note = tmp_path / "m" / "training" / "run.json"
    note.parent.mkdir(parents=True)
    note.write_bytes(content)
    (note.parent / "checkpoint.safetensors").touch()
    with pytest.raises(UserError, match=r"run\.json: is damaged"):
        train(clips.weak, audio=clips.audio, out=tmp_path / "m", set=TINY, resume=True)


@pytest.mark.parametrize("name", ["index.npz", "features.f16"])
@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut", b"[]"])
def test_damaged_features_are_computed_again(
    clips: Scenes, tmp_path: Path, name: str, content: bytes | None
) -> None:
    from earmark.config import parse_assignments, settings_from
    from earmark.data.clips import clip_features
    from earmark.features import FeatureExtractor

    found = gather(clips.weak, clips.audio, "0").training[:3]
    extractor = FeatureExtractor(settings_from(parse_assignments(TINY)).features)
    first = clip_features(found, extractor, tmp_path, max_clip_seconds=30.0).frames.copy()
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    again = clip_features(found, extractor, tmp_path, max_clip_seconds=30.0)
    assert np.array_equal(first, again.frames)


def test_weights_that_blow_up_make_no_model(clips: Scenes, tmp_path: Path) -> None:
    settings = [*TINY, "training.epochs=1", "training.batch_size=64", "training.learning_rate=1e30"]
    with pytest.raises(UserError, match="must stay finite"):
        train(clips.weak, audio=clips.audio, out=tmp_path / "m", validation="0", set=settings)
    assert not (tmp_path / "m" / "model.json").exists()


def test_a_class_name_is_printable(clips: Scenes, tmp_path: Path) -> None:
    first = sorted(clips.audio.iterdir())[0].name
    table = tmp_path / "weak.csv"
    table.write_text(f'filename,event_labels\n{first},"two\nlines"\n')
    with pytest.raises(UserError, match="must be printable"):
        gather(table, clips.audio, "0")


def test_a_class_without_readable_clips_is_named(clips: Scenes, tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    shutil.copytree(clips.audio, audio)
    (audio / "broken.flac").write_bytes(b"")
    table = tmp_path / "weak.tsv"
    table.write_text(clips.weak.read_text() + "broken.flac\tghost\n")
    words = {"audio": audio, "out": tmp_path / "m", "set": TINY, "skip_missing": True}
    with pytest.raises(UserError, match="no clip of class 'ghost' can be read"):
        train(table, validation="0", **words)
    assert not (tmp_path / "m").exists()


ONE = [*TINY, "training.epochs=1"]
SILENT = "tuning.max_false_events_per_hour=0"


def test_uncalibrated_where_that_is_asked_for(clips: Scenes, tmp_path: Path) -> None:
    settings = [*ONE, "tuning.calibrate=false"]
    train(clips.weak, audio=clips.audio, out=tmp_path / "m", set=settings, device="cpu")
    description = read_description(tmp_path / "m")
    assert description.calibration.classes == ()
    assert all(rule.threshold == rule.tag_threshold for rule in description.decoding)
    assert "not calibrated" in (tmp_path / "m" / "README.md").read_text()


@pytest.mark.parametrize("validation", ["0.3", "0"])
def test_false_events_are_bounded_without_times(
    clips: Scenes, noises: Path, tmp_path: Path, validation: str
) -> None:
    settings = [*ONE, "decoding.threshold=0.02", "decoding.tag_gate=false"]
    found = []
    for name, more in (("free", []), ("bound", [SILENT])):
        train(
            clips.weak,
            audio=clips.audio,
            out=tmp_path / name,
            validation=validation,
            negatives=noises,
            set=[*settings, *more],
            device="cpu",
        )
        model = earmark.load(tmp_path / name, device="cpu")
        found.append(sum(len(model.detect(path)) for path in noises.iterdir()))
    assert found[0] > found[1] == 0
    card = (tmp_path / "bound" / "README.md").read_text()
    assert (
        "; 0 false events per hour on 0.00167 hours that hold none of the classes, of which 0 "
        in card
    )
    free = (tmp_path / "free" / "README.md").read_text()
    assert f"{found[0] / 6 * 3600:.3g} false events per hour on 0.00167 hours" in free


def test_negatives_are_asked_for_and_not_learnt_from(clips: Scenes, tmp_path: Path) -> None:
    def fails(**given: object) -> str:
        with pytest.raises(UserError) as caught:
            train(clips.weak, audio=clips.audio, out=tmp_path / "m", device="cpu", **given)
        assert not (tmp_path / "m").exists()
        return str(caught.value)

    assert "give a folder of them with --negatives" in fails(set=[*ONE, SILENT])
    assert "must not be trained on" in fails(set=ONE, negatives=clips.audio, validation="0")
