"""Detecting and tagging as a user meets them: names, tables, bad files among good ones."""

import csv
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import Scenes

import earmark
from earmark.audio import AudioError, write
from earmark.errors import UserError
from earmark.formats.events import read_events
from earmark.formats.scores import read_scores
from earmark.formats.tags import read_tags
from earmark.tasks.detection import detect, tag
from earmark.tasks.evaluation import evaluate
from earmark.tasks.picture import plot
from earmark.tasks.recordings import each_recording, found_recordings


def test_one_table_of_all(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    out = tmp_path / "made" / "events.csv"
    report = detect(held_out.audio, model=model, out=out, device="cpu")
    assert len(report.events) == 12
    table = read_events(out)
    recogniser = earmark.load(model, "cpu")
    for path in sorted(held_out.audio.iterdir()):
        expected = recogniser.detect(path)
        found = table.get(path.name, [])
        assert [event.label for event in found] == [event.label for event in expected]
        assert [event.onset_seconds for event in found] == pytest.approx(
            [event.onset_seconds for event in expected], abs=1e-3
        )


def test_a_table_a_recording_and_score_tracks(
    model: Path, held_out: Scenes, tmp_path: Path
) -> None:
    first = sorted(held_out.audio.iterdir())[0]
    detect(held_out.audio, model=model, out=tmp_path / "e", scores=tmp_path / "s", device="cpu")
    assert len(list((tmp_path / "e").iterdir())) == 12
    edges, names, probabilities = read_scores(tmp_path / "s" / f"{first.name}.tsv")
    track = earmark.load(model, "cpu").scores(first)
    assert names == track.class_names
    assert np.array_equal(probabilities.astype(np.float32), track.probabilities)
    assert edges == pytest.approx(track.edges_seconds, abs=1e-6)


def test_names_are_relative_to_the_folder_given(model: Path, tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    (audio / "north").mkdir(parents=True)
    noise = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    write(audio / "north" / "a.wav", noise, 8000)
    tag(audio, model=model, out=tmp_path / "folder.csv", device="cpu")
    assert read_tags(tmp_path / "folder.csv")[0] == ["north/a.wav"]
    tag(audio / "north" / "a.wav", model=model, out=tmp_path / "file.csv", device="cpu")
    assert read_tags(tmp_path / "file.csv")[0] == ["a.wav"]


def test_tags_as_probabilities_and_as_decisions(
    model: Path, held_out: Scenes, tmp_path: Path
) -> None:
    tag(held_out.audio, model=model, out=tmp_path / "p.csv", device="cpu")
    tag(held_out.audio, model=model, out=tmp_path / "d.csv", labels=True, device="cpu")
    names, classes, probabilities = read_tags(tmp_path / "p.csv")
    recogniser = earmark.load(model, "cpu")
    thresholds = [rule.tag_threshold for rule in recogniser.description.decoding]
    with open(tmp_path / "d.csv", newline="", encoding="utf-8") as file:
        decided = {row["filename"]: row["event_labels"] for row in csv.DictReader(file)}
    for name, row in zip(names, probabilities > thresholds, strict=True):
        expected = [label for label, given in zip(classes, row, strict=True) if given]
        assert [label for label in decided[name].split(",") if label] == expected


def test_names_that_a_submission_can_not_hold_are_known_before_the_work(
    held_out: Scenes, tmp_path: Path
) -> None:
    for out in (None, tmp_path / "tags.txt"):
        with pytest.raises(UserError, match=r"^tags in the format dcase2017 say each clip's place"):
            tag(held_out.audio, model=tmp_path / "nowhere", out=out, format="dcase2017")


def test_bad_recordings_do_not_stop_the_others(
    model: Path, held_out: Scenes, tmp_path: Path
) -> None:
    audio = tmp_path / "audio"
    audio.mkdir()
    for path in sorted(held_out.audio.iterdir())[:2]:
        (audio / path.name).write_bytes(path.read_bytes())
    (audio / "empty.wav").write_bytes(b"")
    (audio / "text.flac").write_bytes(b"not audio at all")
    report = detect(audio, model=model, out=tmp_path / "events.csv", device="cpu")
    assert len(report.events) == 2
    assert len(report.failures) == 2
    assert "2 could not be read" in report.text()
    with pytest.raises(AudioError, match=r"empty\.wav"):
        detect(audio / "empty.wav", model=model, out=tmp_path / "no.csv", device="cpu")
    assert not (tmp_path / "no.csv").exists()


def test_many_recordings_at_once_are_as_one_after_another(model: Path, tmp_path: Path) -> None:
    audio, rng = tmp_path / "audio", np.random.default_rng(0)
    audio.mkdir()
    for number in range(24):
        seconds = rng.choice([0.001, 0.3, 1, 7])  # a window is of 2 s
        noise = rng.normal(0, 0.1, int(8000 * seconds)) * rng.integers(0, 2)
        write(audio / f"{number:02}.wav", noise, 8000)
    bad = ("05.wav", "06.wav", "23.wav")
    for name in bad:
        (audio / name).write_bytes(b"not audio at all")
    report = detect(audio, model=model, out=tmp_path / "e.csv", scores=tmp_path / "s", device="cpu")
    tags = tag(audio, model=model, out=tmp_path / "t.csv", device="cpu")
    names = sorted(path.name for path in audio.iterdir())
    assert list(report.events) == list(tags.probabilities) == [n for n in names if n not in bad]
    assert [Path(line.partition(": ")[0]).name for line in report.failures] == list(bad)
    recogniser = earmark.load(model, "cpu")
    for name in report.events:
        assert report.events[name] == recogniser.detect(audio / name)
        assert tags.probabilities[name] == recogniser.tag(audio / name)
        assert len(read_scores(tmp_path / "s" / f"{name}.tsv")[2]) > 0


@pytest.mark.parametrize("at_once", [1, 3])
def test_what_is_no_bad_recording_stops_all(held_out: Scenes, at_once: int) -> None:
    begun = []

    def work(name: str, *_: object) -> None:
        begun.append(name)
        if len(begun) == 2:
            raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"):
        each_recording(found_recordings([held_out.audio]), "working", work, at_once)
    assert len(begun) <= 2 + 2 * at_once + 1
    assert not [t for t in threading.enumerate() if t.name.startswith("recording")]


@pytest.mark.slow
def test_detecting_loads_nothing_slow_that_it_does_not_need(
    model: Path, held_out: Scenes, tmp_path: Path
) -> None:
    clip, out = sorted(held_out.audio.iterdir())[0], tmp_path / "e.csv"
    words = ["detect", str(clip), "--model", str(model), "--out", str(out)]
    slow = ("matplotlib", "scipy", "torch._dynamo", "torch._inductor", "sklearn")
    code = (
        f"import sys; from earmark.cli import main; main({words})\n"
        f"print([name for name in {slow} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert out.exists()


def test_a_model_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a model folder"):
        detect(tmp_path, model=tmp_path, out=tmp_path / "events.csv")


def test_samples_in_memory(model: Path, held_out: Scenes) -> None:
    from earmark.audio import read

    recogniser = earmark.load(model, "cpu")
    path = sorted(held_out.audio.iterdir())[0]
    samples = read(path, 8000)
    assert np.array_equal(
        recogniser.scores(samples).probabilities, recogniser.scores(path).probabilities
    )
    assert recogniser.tag(samples) == recogniser.tag(path)


@pytest.mark.parametrize("name", ["events.tsv", "events.CSV", "file"])
def test_events_go_to_csv_or_to_a_folder(
    model: Path, held_out: Scenes, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"a file ending in \.csv or to a folder"):
        detect(held_out.audio, model=model, out=tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_model_folder_takes_no_results(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    (tmp_path / "model.json").touch()
    for where in ({"out": tmp_path}, {"out": tmp_path / "e.csv", "scores": tmp_path}):
        with pytest.raises(UserError, match="is a model folder, and stays one"):
            detect(held_out.audio, model=model, **where)
    with pytest.raises(UserError, match="is a model folder"):
        detect(held_out.audio, model=model, out=tmp_path, engine="ray")
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


def test_where_nothing_can_be_written_is_known_before_the_work(
    model: Path, held_out: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from earmark.tasks import detection

    monkeypatch.setattr(detection, "each_recording", lambda *_: 1 / 0)
    (tmp_path / "file").touch()
    for work, name in ((detect, "e.csv"), (detect, "folder"), (tag, "t.csv")):
        with pytest.raises(UserError, match="can't be made"):
            work(held_out.audio, model=model, out=tmp_path / "file" / name)


def test_tags_never_replace_a_recording(model: Path, held_out: Scenes) -> None:
    recording = sorted(held_out.audio.iterdir())[0]
    before = recording.read_bytes()
    with pytest.raises(UserError, match=r"ending in \.csv"):
        tag(recording, model=model, out=recording)
    assert recording.read_bytes() == before


def test_a_name_that_is_not_unicode_is_listed(
    model: Path, held_out: Scenes, tmp_path: Path
) -> None:
    good = sorted(held_out.audio.iterdir())[0]
    audio = tmp_path / "audio"
    audio.mkdir()
    (audio / "good.flac").write_bytes(good.read_bytes())
    (audio / os.fsdecode(b"bad\xff.flac")).write_bytes(good.read_bytes())
    report = detect(audio, model=model, out=tmp_path / "e.csv", device="cpu")
    assert list(report.events) == ["good.flac"]
    assert len(report.failures) == 1
    assert "must be Unicode" in report.text()


def test_pictures_and_results_never_replace_what_is_read(
    model: Path, held_out: Scenes, tmp_path: Path
) -> None:
    recording = tmp_path / "recording.png"
    recording.write_bytes(sorted(held_out.audio.iterdir())[0].read_bytes())
    table = tmp_path / "strong.tsv"
    table.write_bytes(held_out.strong.read_bytes())
    before = recording.read_bytes(), table.read_bytes()
    with pytest.raises(UserError, match="may not replace the recording"):
        plot(recording, model=model, out=recording)
    with pytest.raises(UserError, match=r"ending in \.json"):
        evaluate(table, table, json=table)
    assert (recording.read_bytes(), table.read_bytes()) == before
