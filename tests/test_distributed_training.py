"""Training on several processes as a user meets it: what comes out, and how it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import TINY, Scenes
from safetensors.numpy import load_file

from earmark.errors import UserError
from earmark.model.bundle import read_description
from earmark.tasks.training import train

pytestmark = pytest.mark.slow

# Dropout, so that the random state matters; an odd batch, so that parts differ in size.
SETTINGS = (*TINY, "network.dropout=0.3", "training.batch_size=7", "training.epochs=4")
SETTINGS += ("training.precision=float32",)


def arguments(
    clips: Scenes, out: Path, *more: str, settings: Sequence[str] = SETTINGS
) -> list[str]:
    words = ["-m", "earmark", "train", str(clips.weak), "--audio", str(clips.audio)]
    words += ["--out", str(out), "--device", "cpu", *more]
    for setting in settings:
        words += ["--set", setting]
    return words


def start(words: Sequence[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(words: Sequence[str]) -> tuple[int, str, str]:
    process = start(words)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def workers(process: "subprocess.Popen[str]") -> list[int]:
    """The process ids of those that train, in the order in which they were started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    )


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def epochs(out: Path) -> list[dict[str, float]]:
    log = out / "training" / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def until_an_epoch_is_done(process: "subprocess.Popen[str]", out: Path) -> None:
    stop = time.monotonic() + 200
    while not epochs(out):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < stop
        time.sleep(0.02)


def same(one: Path, other: Path) -> bool:
    first, second = (load_file(model / "model.safetensors") for model in (one, other))
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As torchrun sets it, so that its numbers are comparable to the last bit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def of_two(clips: Scenes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that two processes have trained."""
    out = tmp_path_factory.mktemp("two") / "model"
    report = train(clips.weak, audio=clips.audio, out=out, set=SETTINGS, device="cpu", processes=2)
    assert report.model == out
    assert report.clips == read_description(out).training.clips
    assert report.validation
    return out


@pytest.mark.parametrize("batch_size", [7, 1])  # of one clip the second process has none
def test_two_processes_learn_what_one_learns(
    batch_size: int, clips: Scenes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = [*SETTINGS, "network.dropout=0", f"training.batch_size={batch_size}"]
    given += ["training.epochs=2", "training.frame_share=0.5"]
    audio = tmp_path / "audio"
    shutil.copytree(clips.audio, audio)
    for short in sorted(audio.iterdir())[::3]:  # so that parts differ in their longest clip, too
        samples, rate = soundfile.read(short)
        soundfile.write(short, samples[: len(samples) * 2 // 3], rate)
    for processes in (1, 2):
        out = tmp_path / str(processes)
        train(clips.weak, audio=audio, out=out, set=given, device="cpu", processes=processes)
    one, two = epochs(tmp_path / "1"), epochs(tmp_path / "2")
    assert len(one) == len(two) == 2
    assert one[1]["loss"] > one[0]["loss"]  # that of frames is in it
    for alone, shared in zip(one, two, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert shared["validation_map"] == pytest.approx(alone["validation_map"], abs=0.02)
    # Each line stands once a run, whoever could have said it.
    assert capfd.readouterr().err.count("epoch 2 of 2") == 2


def test_one_seed_gives_one_model_by_torchrun_too(
    of_two: Path, clips: Scenes, tmp_path: Path
) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    code, out, err = run([*torchrun, *arguments(clips, tmp_path / "model")])
    assert code == 0, err
    assert out.count("trained on") == 1
    assert out.count("next: earmark detect ") == 1
    assert err.count("epoch 4 of 4") == 1
    assert same(of_two, tmp_path / "model")


def test_a_killed_process_ends_the_run_which_others_resume(
    of_two: Path, clips: Scenes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    process = start(arguments(clips, out, "--processes", "2"))
    until_an_epoch_is_done(process, out)
    started = workers(process)
    assert len(started) == 2
    os.kill(started[1], signal.SIGKILL)
    text, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert text == ""
    said = err.splitlines()[-1]
    assert said.startswith("earmark: ")
    assert "process 2 of 2 was killed (SIGKILL)" in said
    assert "--resume" in said
    assert not any(map(alive, started))
    assert (out / "training" / "checkpoint.safetensors").exists()
    assert not (out / "model.json").exists()

    shutil.copytree(out, tmp_path / "alone")
    for place, processes in (("alone", 1), ("model", 2)):
        train(
            clips.weak,
            audio=clips.audio,
            out=tmp_path / place,
            set=SETTINGS,
            device="cpu",
            processes=processes,
            resume=True,
        )
        assert "going on after epoch" in capfd.readouterr().err
        assert [epoch["number"] for epoch in epochs(tmp_path / place)] == [1, 2, 3, 4]
        assert (tmp_path / place / "model.json").exists()
    assert same(of_two, out)
    assert not same(of_two, tmp_path / "alone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_who_launched_them_takes_them_along(
    number: signal.Signals, clips: Scenes, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    settings = [*SETTINGS, "training.epochs=1000"]
    words = arguments(clips, out, "--processes", "2", settings=settings)
    process = start(words)
    until_an_epoch_is_done(process, out)
    started = workers(process)
    if number == signal.SIGINT:  # as a terminal does it: to all of them
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130, err
        assert "Traceback" not in err
        assert err.splitlines()[-1].startswith("earmark: interrupted; what was learnt stays")
    stop = time.monotonic() + 10
    while any(map(alive, started)):
        assert time.monotonic() < stop
        time.sleep(0.05)
    assert (out / "training" / "checkpoint.safetensors").exists()


def test_what_a_user_can_mend_is_said_once(clips: Scenes, tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    shutil.copytree(clips.audio, audio)
    (audio / "broken.flac").write_bytes(b"")
    table = tmp_path / "weak.tsv"
    table.write_text(clips.weak.read_text() + "broken.flac\thorn\n")
    words = arguments(Scenes(tmp_path), tmp_path / "m", "--processes", "2", "--validation", "0")
    code, out, err = run(words)
    assert code == 2, err
    assert out == ""
    assert err.splitlines()[-1].startswith("earmark: 1 of")
    assert err.count("broken.flac") == 2  # in the list, and in the error
    assert not (tmp_path / "m").exists()


def test_a_finished_run_says_so(of_two: Path, clips: Scenes) -> None:
    before = (of_two / "model.json").read_bytes()
    given = {"audio": clips.audio, "out": of_two, "set": SETTINGS, "device": "cpu"}
    report = train(clips.weak, **given, processes=2, resume=True)
    assert report == train(clips.weak, **given, resume=True)
    with pytest.raises(UserError, match="there is a training already"):
        train(clips.weak, **given, processes=2)
    assert (of_two / "model.json").read_bytes() == before


def test_systems_of_a_fusion_are_trained_by_all(clips: Scenes, tmp_path: Path) -> None:
    members = []
    for name, kind in (("a", "log_mel"), ("b", "mfcc")):
        members.append(str(tmp_path / f"{name}.toml"))
        Path(members[-1]).write_text(f'[features]\nkind = "{kind}"\n')
    recipe = tmp_path / "both.toml"
    recipe.write_text(f"members = {json.dumps(members)}\n")
    settings = [*SETTINGS, "training.epochs=1"]
    words = arguments(
        clips, tmp_path / "m", "--processes", "2", "--recipe", str(recipe), settings=settings
    )
    code, out, err = run(words)
    assert code == 0, err
    assert out.count("trained on") == 1
    assert len(read_description(tmp_path / "m").members) == 2
    code, _, err = run([*words, "--resume"])
    assert code == 0, err


def test_processes_that_can_not_be(
    clips: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"audio": clips.audio, "out": tmp_path / "m"}
    with pytest.raises(UserError, match="at least 1, came as 0"):
        train(clips.weak, **given, processes=0)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="torchrun starts the processes already"):
        train(clips.weak, **given, processes=2)
    assert not (tmp_path / "m").exists()
