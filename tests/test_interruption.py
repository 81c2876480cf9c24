"""Ctrl-C: a line that says what stays, no traceback, nothing half-made, nobody left at work."""

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import TINY, Scenes
from safetensors.numpy import load_file
from test_disks import commands, contents, fill

import earmark
from earmark.cli import AFTER_INTERRUPTION, main
from earmark.data.clips import _each as each_of_clips

# Where each command is stopped, and at which call: amid its work.
STOPPED_AT = {
    "detect": ("earmark.inference.system.SystemRecogniser._batches", 5),
    "detect into a folder": ("earmark.inference.system.SystemRecogniser._batches", 5),
    "detect with scores": ("earmark.inference.system.SystemRecogniser._batches", 5),
    "tag": ("earmark.inference.system.SystemRecogniser._batches", 5),
    "listen": ("earmark.inference.live.LiveDetector.push", 2),
    "evaluate --json": ("earmark.tasks.evaluation._write", 1),
    "evaluate --report": ("earmark.outputs.evaluation_page.page", 1),
    "report": ("earmark.outputs.report_page.page", 1),
    "audit": ("earmark.inference.system.SystemRecogniser._batches", 5),
    "plot": ("earmark.outputs.plots._png", 1),
    "synth": ("earmark.tasks.synthesis.write", 2),
    "fuse": ("earmark.tasks.fusion._copy", 2),
    "export": ("earmark.tasks.exporting._compared", 2),
    "tune": ("earmark.tasks.tuned_rules.choose", 1),
    "prepare": ("earmark.data.shards.make_shard", 2),
    "train": ("earmark.tasks.training_run.train_epoch", 3),
    "compare": ("earmark.tasks.comparison._scores", 1),
    "demo": ("earmark.tasks.synthesis.write", 2),
}


def interrupt_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Presses Ctrl-C at the so many-th call of a function, in whichever thread."""
    place, _, last = name.rpartition(".")
    try:
        owner = importlib.import_module(place)
    except ModuleNotFoundError:
        module, _, kind = place.rpartition(".")
        owner = getattr(importlib.import_module(module), kind)
    before: Callable[..., object] = getattr(owner, last)
    calls = 0

    def pressing(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            signal.raise_signal(signal.SIGINT)
        return before(*arguments, **named)

    monkeypatch.setattr(owner, last, pressing)


@pytest.mark.parametrize("name", STOPPED_AT)
def test_a_command_that_is_stopped(
    name: str,
    model: Path,
    clips: Scenes,
    held_out: Scenes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "place"
    fill(place, model)
    before = contents(place)
    if name == "export":
        pytest.importorskip("onnxruntime")
    words = commands(place, model, clips, held_out)[name]
    if name == "demo":
        from earmark.tasks import demonstration

        monkeypatch.setattr(demonstration, "SOUNDS_OF_CLASS", 2)
    threads = set(threading.enumerate())
    with monkeypatch.context() as patch:
        interrupt_at(patch, *STOPPED_AT[name])
        assert main(words) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    after = AFTER_INTERRUPTION.get(words[0], "what was there is as it was")
    assert last == f"earmark: interrupted; {after}"
    assert set(threading.enumerate()) <= threads
    left = contents(place)
    assert {file: left.get(file) for file in before} == before
    new = left.keys() - before.keys()
    assert not [file for file in new if ".part" in file]
    if words[0] not in AFTER_INTERRUPTION:
        assert not new

    if name == "train":
        assert main([*words, "--resume"]) == 0
        whole, resumed = (
            load_file(folder / "model.safetensors") for folder in (model, place / "trained")
        )
        assert all((whole[key] == resumed[key]).all() for key in whole)
    elif name == "compare":
        assert main(words) == 0
        assert (place / "compared" / "tables.md").exists()
    elif words[0] in ("detect", "tag", "prepare"):
        assert main(words) == 0
        straight = tmp_path / "straight"
        fill(straight, model)
        assert main([word.replace(str(place), str(straight)) for word in words]) == 0
        assert contents(place) == contents(straight)


def test_features_that_nobody_waits_for_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    begun: list[int] = []
    first_taken = threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item:
            first_taken.wait(10)
        return item

    computed = each_of_clips(work, range(100))
    assert next(computed) == 0
    threading.Timer(0.05, first_taken.set).start()
    computed.close()
    assert len(begun) < 6
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]


MODELS_THAT_GO = """
import signal, sys
from pathlib import Path
from earmark.inference.fusion import load_recogniser
first, second = (load_recogniser(Path(sys.argv[1]), "cpu", "bfloat16") for _ in range(2))
print(type(first.engine).__name__)
del first
del second
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_a_program_can_be_stopped_when_its_models_are_gone(model: Path) -> None:
    if find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    done = subprocess.run(
        [sys.executable, "-c", MODELS_THAT_GO, str(model)],
        env={**os.environ, "PYTHONPATH": str(Path(earmark.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "OpenVinoEngine\n"
    assert "KeyboardInterrupt" in done.stderr
    assert done.returncode == -signal.SIGINT


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_a_process_that_is_stopped(clips: Scenes, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "earmark", "train", str(clips.weak), "--audio", str(clips.audio)]
    words += ["--out", str(tmp_path / "m"), "--device", "cpu"]
    for setting in (*TINY, "training.epochs=100000"):
        words += ["--set", setting]
    process = subprocess.Popen(
        words,
        env={**os.environ, "PYTHONPATH": str(Path(earmark.__file__).parents[1])},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 2 of" in line:
            process.send_signal(signal.SIGINT)
            break
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.splitlines()[-1] == f"earmark: interrupted; {AFTER_INTERRUPTION['train']}"
    assert "Traceback" not in said
    assert (tmp_path / "m/training/checkpoint.safetensors").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("closed", [False, True])
def test_an_output_that_takes_nothing(closed: bool) -> None:
    words = [sys.executable, "-m", "earmark", "recipes"]
    environment = {**os.environ, "PYTHONPATH": str(Path(earmark.__file__).parents[1])}
    with open("/dev/full", "w") as full:
        process = subprocess.Popen(
            words,
            env=environment,
            stdout=subprocess.PIPE if closed else full,
            stderr=subprocess.PIPE,
            text=True,
        )
        if process.stdout is not None:
            process.stdout.close()
            process.stdout = None
        _, said = process.communicate(timeout=120)
    reason = "Broken pipe" if closed else "No space left on device"
    assert (process.returncode, said) == (2, f"earmark: stdout: can't be written: {reason}\n")
