"""The model in the box: found by its name, at work without training, and never changed."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.resources import files
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Scenes

import earmark
from earmark.audio import write
from earmark.cli import main
from earmark.config import parse_assignments
from earmark.errors import UserError
from earmark.model.bundle import read_description
from earmark.model.hub import BUNDLED, fetched, named
from earmark.recipes import systems
from earmark.tasks import (
    detect,
    evaluate,
    export,
    fuse,
    info,
    listen,
    plot,
    report,
    serve,
    tag,
    train,
    tune,
)

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "earmark" / "bundled"
DATA = os.environ.get("EARMARK_DATA")
LARGEST_BYTES = 5e6


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in FOLDER.iterdir()}


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    """Whatever a test does, the package's files stay as they are, and no others come."""
    before = contents()
    yield
    assert contents() == before


@pytest.fixture
def noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording in the current folder."""
    monkeypatch.chdir(tmp_path)
    samples = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    write(tmp_path / "noise.wav", samples, 16_000)
    return Path("noise.wav")


# -- what it is


def test_the_package_ships_it() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = patterns["tool"]["setuptools"]["package-data"]["earmark"]
    for name in ("model.json", "model.safetensors", "README.md"):
        assert files("earmark").joinpath("bundled", name).is_file()
        assert any(fnmatch(f"bundled/{name}", pattern) for pattern in shipped)


def test_it_is_small_whole_and_credits_its_sources() -> None:
    assert sum(map(len, contents().values())) < LARGEST_BYTES
    description = read_description(BUNDLED)
    assert len(description.class_names) == 21
    card = contents()["README.md"].decode()
    assert "## Whose recordings these are" in card
    assert all(f"| {name} |" in card for name in description.class_names)
    assert str(Path.home()) not in card
    assert "/tmp" not in card


# -- its name


def test_a_folder_of_that_name_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fetched(named("bundled")) == FOLDER
    for own in ("./bundled", "bundled/", str(tmp_path / "bundled")):
        assert fetched(named(own)) == tmp_path / "bundled"
    assert named("model") == Path("model")


@pytest.mark.parametrize("typed", [["--model", "./bundled"], ["--model=bundled/"]])
def test_a_folder_of_that_name_can_be_typed(
    typed: list[str], model: Path, noise: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, "bundled")
    assert main(["tag", str(noise), *typed]) == 0
    header = capsys.readouterr().out.partition("\n")[0]
    assert header == ",".join(["filename", *read_description(model).class_names])
    assert earmark.load("./bundled").class_names == read_description(model).class_names


def test_it_is_of_the_recipe_as_it_is_now() -> None:
    plan = tomllib.loads((ROOT / "benchmarks" / "bundled.toml").read_text("utf-8"))["train"]
    (recipe,) = systems(plan["recipe"], parse_assignments(plan["set"])).values()
    assert read_description(FOLDER).settings == recipe


def test_it_can_be_named_wherever_a_model_is(noise: Path) -> None:
    names = read_description(BUNDLED).class_names
    assert earmark.load("bundled", "cpu").class_names == names
    assert "best-small" in info(BUNDLED)
    tag(noise, out=Path("tags.csv"), device="cpu")
    Path("reference.tsv").write_text(f"filename\tevent_labels\nnoise.wav\t{names[0]}\n", "utf-8")
    evaluate(Path("reference.tsv"), Path("tags.csv"), thresholds="bundled", extra_classes=True)
    detect(noise, model=BUNDLED, out=Path("events.csv"), device="cpu")
    report(Path("events.csv"), audio=Path(), out=Path("report.html"), model=BUNDLED)
    assert plot(noise, out=Path("picture.png"), device="cpu").events is not None
    with pytest.raises(UserError, match="has no log"):
        plot(BUNDLED, out=Path("curves.png"))


def test_commands_that_take_recordings_have_it_as_default() -> None:
    for command in (detect, tag, listen):
        assert signature(command).parameters["model"].default == BUNDLED
    assert signature(serve).parameters["model"].default == (BUNDLED,)


@pytest.mark.slow
def test_it_can_be_exported(noise: Path) -> None:
    pytest.importorskip("onnxruntime")
    assert export(BUNDLED, out=Path("exported")).difference < 1e-4


@pytest.mark.slow
def test_training_starts_from_it(clips: Scenes, tmp_path: Path) -> None:
    one = ("training.epochs=1",)
    started = train(
        clips.weak,
        audio=clips.audio,
        out=tmp_path / "m",
        from_=BUNDLED,
        set=one,
        validation="0",
        device="cpu",
    )
    assert list(read_description(started.model).training.started_from) == ["bundled"]


# -- nothing changes it


def test_nothing_is_written_where_it_is(clips: Scenes, model: Path, noise: Path) -> None:
    tag(noise, out=Path("tags.csv"), device="cpu")
    name = read_description(BUNDLED).class_names[0]
    truth = Path("reference.tsv")
    truth.write_text(f"filename\tevent_labels\nnoise.wav\t{name}\n", "utf-8")
    for folder in (BUNDLED, FOLDER):
        with pytest.raises(UserError, match="not changed; copy its folder"):
            tune(folder, clips.strong, audio=clips.audio)
        with pytest.raises(UserError, match="not changed; copy its folder"):
            train(clips.weak, audio=clips.audio, out=folder, set=TINY)
        with pytest.raises(UserError, match="not changed; copy its folder"):
            fuse(model, model, out=folder)
        with pytest.raises(UserError, match="not changed; copy its folder"):
            evaluate(truth, Path("tags.csv"), card=folder, extra_classes=True)
    assert not Path("bundled").exists()


# -- without a file


def test_without_a_file_events_go_to_standard_output(
    noise: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", str(noise), "--out", "events.csv"]) == 0
    capsys.readouterr()
    for format, suffix in (("csv", "csv"), ("tsv", "tsv"), ("jsonl", "jsonl"), ("raven", "txt")):
        written = Path(f"events.{suffix}")
        assert main(["detect", str(noise), "--format", format, "--out", str(written)]) == 0
        capsys.readouterr()
        assert main(["detect", str(noise), "--format", format]) == 0
        said = capsys.readouterr()
        assert said.out.splitlines() == written.read_text(encoding="utf-8").splitlines()
        assert said.err == ""


def test_without_a_file_tags_go_to_standard_output(
    noise: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--labels"]):
        assert main(["tag", str(noise), "--out", "tags.csv", *more]) == 0
        capsys.readouterr()
        assert main(["tag", str(noise), *more]) == 0
        assert capsys.readouterr().out == Path("tags.csv").read_text(encoding="utf-8")


def test_from_python_the_table_is_returned(noise: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = detect(noise, device="cpu")
    rows = list(csv.DictReader(io.StringIO(found.text())))
    assert len(rows) == len(found.events["noise.wav"])
    assert found.out is None
    assert capsys.readouterr().out == ""


def test_what_cannot_be_read_is_said_beside_the_table(
    noise: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.wav").write_bytes(b"RIFF")
    for command in ("detect", "tag"):
        assert main([command, "."]) == 1
        said = capsys.readouterr()
        assert "1 could not be read:" in said.err
        assert "bad.wav" in said.err
        assert said.out.startswith("filename,")
        assert "bad.wav" not in said.out


def test_a_name_commands_no_terminal(
    noise: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "a\x1b[2Jb.wav"
    noise.rename(name)
    assert main(["tag", name]) == 0
    piped = capsys.readouterr().out
    assert name in piped
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["tag", name]) == 0
    assert capsys.readouterr().out == piped.replace("\x1b", r"\x1b")


def test_without_any_event_there_is_no_line(
    noise: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(Path("silence.wav"), np.zeros(32_000, np.float32), 16_000)
    assert main(["detect", "silence.wav", "--format", "jsonl"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "audacity"], "for the format audacity give --out"),
        (["--format", "parquet"], "for the format parquet give --out"),
        (["--format", "csv,raven"], "takes one table; for the format csv,raven give --out"),
        (["--restart"], "--restart is for a run with --out"),
        (["--engine", "ray"], "name it with --out"),
    ],
)
def test_what_needs_a_file_says_so(
    words: list[str], message: str, noise: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", str(noise), *words]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


@pytest.mark.slow
def test_a_pipe_that_is_closed_is_no_traceback(noise: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "earmark", "detect", str(noise)],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("earmark: stdout: can't be written")


@pytest.mark.slow
def test_a_table_is_utf_8_wherever_it_goes(noise: Path, tmp_path: Path) -> None:
    model = tmp_path / "always"
    shutil.copytree(fetched(BUNDLED), model)
    raw = json.loads((model / "model.json").read_text(encoding="utf-8"))
    raw["decoding"][0] |= {"threshold": 0.0, "low_threshold": 0.0, "gate_threshold": 0.0}
    (model / "model.json").write_text(json.dumps(raw), encoding="utf-8")
    shutil.copy(noise, tmp_path / "żaba.wav")
    done = subprocess.run(
        [sys.executable, "-m", "earmark", "detect", "żaba.wav", "--model", str(model)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert "żaba.wav" in done.stdout.decode("utf-8")


# -- what it knows


@pytest.mark.skipif(not DATA, reason="EARMARK_DATA says where the recordings are")
def test_it_hears_dogs_without_any_training() -> None:
    # Of the fold that it has never seen.
    folder = Path(DATA or "") / "esc10" / "audio" / "001 - Dog bark"
    model = earmark.load("bundled", "cpu", "float32")
    clips = sorted(folder.glob("4-*.ogg"))
    assert len(clips) == 8
    heard = [any(event.label == "dog" for event in model.detect(clip)) for clip in clips]
    assert sum(heard) >= 5


def test_it_says_nothing_of_silence() -> None:
    model = earmark.load("bundled", "cpu", "float32")
    assert model.detect(np.zeros(160_000, np.float32), rate_hz=16_000) == []
