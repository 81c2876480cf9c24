"""Disks that are full or closed: a line that says so, and what was there stays as it was.

Each command writes where the system lets it write nothing, or not enough. The limit of a file's
size, which anybody may set, stands for a disk that fills up while a file is being written; where
a small disk can be mounted, a full one and a read-only one are tried, too.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import TINY, Scenes
from safetensors.numpy import load_file

import earmark
from earmark.formats.events import read_events

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="disks are filled by means of Linux"),
]

# One process for all of the commands: starting one takes longer than what they do.
PROGRAM = """
import contextlib, io, json, resource, sys
import matplotlib.font_manager
from earmark.cli import main

_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
for words, limit in json.load(sys.stdin):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit or most, most))
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    print(json.dumps([code, said.getvalue()]), flush=True)
"""

LOCK = "compared/.lock"  # of a comparison that had not begun: the same command goes on
SETTINGS = [word for setting in TINY for word in ("--set", setting)]


class Ended(NamedTuple):
    """The exit code of a command, and what stood on stderr."""

    code: int
    said: str


def run(commands: Sequence[tuple[list[str], int | None]]) -> list[Ended]:
    """Commands, each with the largest file that it may write, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(commands),
        env={**os.environ, "PYTHONPATH": str(Path(earmark.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [Ended(*json.loads(line)) for line in done.stdout.splitlines()]


def contents(place: Path) -> dict[str, bytes]:
    """All files, hidden ones too."""
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


def fill(place: Path, model: Path) -> None:
    """Earlier results."""
    place.mkdir(exist_ok=True)
    shutil.copytree(model, place / "model", ignore=shutil.ignore_patterns("training"))
    (place / "tables").mkdir()
    for name in ("events.csv", "tags.csv", "scores.json", "report.html", "picture.png"):
        (place / name).write_text("an earlier result")


def commands(place: Path, model: Path, clips: Scenes, held: Scenes) -> dict[str, list[str]]:
    """Every command that writes, writing to a place."""
    sounds = model.parent / "sounds.tsv"
    audio = sorted(held.audio.iterdir())
    rows = [
        f"{path.name}\t{label}" for path, label in zip(audio[:2], ("horn", "bell"), strict=True)
    ]
    sounds.write_text("\n".join(["filename\tevent_label", *rows]) + "\n")
    events = model.parent / "events-to-score.csv"
    events.write_text(f"filename,onset,offset,event_label\n{audio[0].name},0.0,1.0,horn\n")

    both = model.parent / "audio-of-both"
    for scenes in (clips, held):
        shutil.copytree(scenes.audio, both, dirs_exist_ok=True)
    trained, compared = place / "trained", place / "compared"
    found = {
        "detect": f"{held.audio} --model {model} --out {place}/events.csv",
        "detect into a folder": f"{held.audio} --model {model} --out {place}/tables",
        "detect with scores": f"{held.audio} --model {model} --out {place}/events.csv "
        f"--scores {place}/tables",
        "tag": f"{held.audio} --model {model} --out {place}/tags.csv",
        "listen": f"--input {audio[0]} --seconds 1 --model {model} --out {place}/heard.csv",
        "evaluate --json": f"{held.strong} {events} --json {place}/scores.json",
        "evaluate --report": f"{held.strong} {events} --report {place}/report.html",
        "report": f"{events} --audio {held.audio} --out {place}/report.html",
        "audit": f"{held.weak} --audio {held.audio} --model {model} --out {place}/tags.csv",
        "plot": f"{audio[0]} --model {model} --out {place}/picture.png",
        "synth": f"{sounds} --audio {held.audio} --out {place}/scenes --scenes 2 --rate-hz 8000 "
        "--duration-seconds 2 --events 1 1",
        "fuse": f"{model} {model} --out {place}/fused",
        "export": f"{model} --out {place}/exported",
        "tune": f"{place}/model {held.weak} --audio {held.audio}",
        "prepare": f"{clips.weak} --audio {clips.audio} --out {place}/shards --clips-per-shard 7",
        "train": f"{clips.weak} --audio {clips.audio} --out {trained} --device cpu",
        "compare": f"{clips.weak} --audio {both} --test {held.strong} --out {compared} "
        "--recipes crnn-logmel --seeds 1 --device cpu",
        "demo": f"{place}/demo",
    }
    if find_spec("onnxruntime") is None:
        del found["export"]
    words = {name: [name.split()[0], *line.split()] for name, line in found.items()}
    for name in ("prepare", "train", "compare"):
        words[name] += SETTINGS
    return words


def is_one_line(ended: Ended, place: Path) -> bool:
    last = ended.said.splitlines()[-1]
    return (
        ended.code == 2
        and last.startswith(f"earmark: {place}")
        and ("can't be written: " in last or "can't be made: " in last)
        and "Traceback" not in ended.said
        and ended.said.count("earmark: ") == 1
    )


def test_a_file_that_can_not_be_finished_is_not_begun(
    place: Path, model: Path, clips: Scenes, held_out: Scenes
) -> None:
    fill(place, model)
    before = contents(place)
    words = commands(place, model, clips, held_out)
    for name, ended in zip(words, run([(line, 10) for line in words.values()]), strict=True):
        assert is_one_line(ended, place), (name, ended)
        assert "can't be written: File too large; free some space" in ended.said, name
    left = contents(place)
    left.pop(LOCK)
    assert left == before


@pytest.mark.parametrize("closed", [False, True])
def test_a_small_disk(
    closed: bool, place: Path, model: Path, clips: Scenes, held_out: Scenes
) -> None:
    with mounted(place):
        fill(place, model)
        before = contents(place)
        if closed:
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        else:
            rest = os.open(place / "rest", os.O_CREAT | os.O_WRONLY)
            with suppress(OSError):
                while True:
                    os.write(rest, bytes(4096))
            os.close(rest)
        words = commands(place, model, clips, held_out)
        for name, ended in zip(words, run([(line, None) for line in words.values()]), strict=True):
            assert is_one_line(ended, place), (name, ended)
            reason = "Read-only file system" if closed else "No space left on device; free some"
            assert reason in ended.said, (name, ended)
        left = contents(place)
        left.pop("rest", None)
        left.pop(LOCK, None)
        assert left == before


@contextmanager
def mounted(place: Path) -> Iterator[None]:
    """A disk of a megabyte in memory; skips where none may be mounted."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_training_goes_on_when_there_is_room(
    place: Path, model: Path, clips: Scenes, held_out: Scenes
) -> None:
    place.mkdir()
    words = commands(place, model, clips, held_out)["train"]
    words += ["--set", "network.recurrent_units=48"]
    straight = [word.replace("trained", "straight") for word in words]
    features, weights, checkpoint, last, at_once = run(
        [
            (words, 20_000),
            (words, 80_000),
            ([*words, "--resume"], 150_000),
            ([*words, "--resume"], None),
            (straight, None),
        ]
    )
    for ended, name in (
        (features, "training_features/features.f16"),
        (weights, "epoch_0001.safetensors"),
        (checkpoint, "checkpoint.safetensors"),
    ):
        assert ended.code == 2
        said = f"earmark: {place}/trained/training/{name}: can't be written: File too large"
        assert ended.said.splitlines()[-1].startswith(said), ended
    assert last.code == at_once.code == 0
    one, other = (load_file(place / name / "model.safetensors") for name in ("trained", "straight"))
    assert all((one[name] == other[name]).all() for name in one)
    assert contents(place / "trained").keys() == contents(place / "straight").keys()


def test_what_was_heard_till_the_disk_was_full_stays(
    place: Path, model: Path, clips: Scenes, held_out: Scenes
) -> None:
    place.mkdir()
    detected, table = place / "events.csv", place / "heard.csv"
    run([(commands(place, model, clips, held_out)["detect"], None)])
    events = read_events(detected)
    recording = held_out.audio / max(events, key=lambda name: len(events[name]))
    words = ["listen", "--input", str(recording), "--model", str(model), "--out", str(table)]
    (heard,) = run([(words, None)])
    *rows, last = table.read_bytes().splitlines(keepends=True)
    assert heard.code == 0
    assert len(rows) > 1
    table.unlink()
    (full,) = run([(words, sum(map(len, rows)) + len(last) // 2)])
    assert full.code == 2
    assert "heard.csv: can't be written: File too large; free some space" in full.said
    left = table.read_bytes().splitlines(keepends=True)
    # When it began differs, and lasts as long.
    assert [len(row) for row in left] == [len(row) for row in rows]
