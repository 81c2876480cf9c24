"""``earmark export``: what it writes is compared with the model, or it isn't there."""

import errno
import importlib
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import Scenes
from test_runtime import saved, sound

from earmark import runtime
from earmark.cli import main
from earmark.errors import UserError
from earmark.inference.fusion import load_recogniser
from earmark.inference.windowed import Outputs
from earmark.outputs import onnx_export
from earmark.runtime import GraphEngine
from earmark.tasks import export, exporting

pytest.importorskip("onnxruntime")


def names(folder: Path) -> set[str]:
    return (
        {p.relative_to(folder).as_posix() for p in folder.rglob("*")} if folder.exists() else set()
    )


def test_a_trained_model_by_the_command_line(
    model: Path, held_out: Scenes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    recording = sorted(held_out.audio.iterdir())[0]
    words = ["export", str(model), "--to", "onnx", "--out", str(out), "--features"]
    assert main([*words, "--check-audio", str(recording)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"exported 1 graph: {out}"
    assert said[1].startswith("probabilities of 21 sounds differ by at most ")
    assert float(said[1].split()[-1]) < 1e-4
    assert names(out) == {"earmark.json", "model.onnx"}
    described = json.loads((out / "earmark.json").read_text())
    of_model = json.loads((model / "model.json").read_text())
    for key in ("class_names", "clock", "decoding", "window_frames"):
        assert described[key] == of_model[key]
    assert described["features"] == of_model["settings"]["features"]
    assert described["input"] == "samples"
    for path in held_out.audio.iterdir():
        expected = load_recogniser(model).detect(path)
        found = runtime.load(out).detect(path)
        assert [(e.onset_seconds, e.label) for e in found] == [
            (e.onset_seconds, e.label) for e in expected
        ]


@pytest.fixture
def untrained(tmp_path: Path) -> Path:
    return saved(tmp_path / "model", members=2)


def test_what_says_something_else_is_not_left(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = onnx_export._Graph.forward

    def other(graph: torch.nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        clips, *rest = forward(graph, inputs)  # type: ignore[arg-type]
        return (clips + 2e-4, *rest)

    monkeypatch.setattr(onnx_export._Graph, "forward", other)
    there = tmp_path / "there"
    there.mkdir()
    for out in (tmp_path / "out", there):
        with pytest.raises(UserError, match=r"differs by 0\.0002, more than 0\.0001"):
            export(untrained, out=out)
        assert not names(out)
    assert there.is_dir()
    assert not (tmp_path / "out").exists()


def test_a_difference_in_one_frame_of_one_sound_is_found(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = GraphEngine.__call__

    def other(engine: GraphEngine, features: np.ndarray) -> Outputs:
        outputs = call(engine, features)
        if len(features) > 2 and np.ptp(features) == 0:  # silence of several windows
            outputs.frames[-1, -1, 1] += 3e-4
        return outputs

    monkeypatch.setattr(GraphEngine, "__call__", other)
    with pytest.raises(UserError, match=r"of silence of 1\.\d+ s, a probability differs"):
        export(untrained, out=tmp_path / "out")


def test_a_graph_that_knows_one_length_is_not_left(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(onnx_export.OUTPUTS, "clips", ())
    forward = onnx_export._Graph.forward

    def frozen(graph: torch.nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return forward(graph, inputs.reshape(2, 37, 8))  # type: ignore[arg-type]

    monkeypatch.setattr(onnx_export._Graph, "forward", frozen)
    with pytest.raises(UserError, match=r"the graph fails on noise of 0\.001 s"):
        export(untrained, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_recording_to_compare_on_counts(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, sound(3000), 1000)
    assert export(untrained, out=tmp_path / "out", check_audio=path).compared == 21
    compared = exporting._difference
    calls = []

    def last_differs(*tracks: object) -> float:
        calls.append(tracks)
        return compared(*tracks) if len(calls) < 21 else np.nan

    monkeypatch.setattr(exporting, "_difference", last_differs)
    with pytest.raises(UserError, match=r"of .*sound\.wav, a probability differs by nan"):
        export(untrained, out=tmp_path / "other", check_audio=path)
    assert not (tmp_path / "other").exists()


def test_all_differences_count() -> None:
    from dataclasses import replace

    from earmark.scores import ScoreTrack
    from earmark.timeline import FrameClock

    numbers = np.full((4, 2), 0.5, np.float32)
    track = ScoreTrack(numbers, ("a", "b"), FrameClock(10, 2, 1), 0, 1.0, numbers, numbers[0])
    assert exporting._difference(track, track) == 0
    for name in ("probabilities", "local_tags", "tags"):
        other = getattr(track, name).copy()
        other.flat[1] += 0.25
        assert exporting._difference(track, replace(track, **{name: other})) == 0.25
    assert exporting._difference(track, replace(track, probabilities=numbers[:3])) == np.inf
    assert exporting._difference(track, replace(track, clock=FrameClock(10, 3, 1))) == np.inf


@pytest.mark.parametrize("what", ["a folder with something", "a file"])
def test_what_is_there_stays(untrained: Path, tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    kept = out / "kept" if what == "a folder with something" else out
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("kept")
    with pytest.raises(UserError, match="must be new or empty"):
        export(untrained, out=out)
    assert kept.read_text() == "kept"


def test_what_can_not_be_exported(
    untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for words, message in [
        (["export", str(tmp_path), "--out", str(out)], "is not a model folder"),
        (["export", str(untrained), "--out", str(out), "--to", "tflite"], "tflite"),
        (["export", str(untrained), "--out", str(out), "--check-audio", "no.wav"], "no.wav"),
        (["export", str(untrained)], "--out"),
    ]:
        assert main(words) == 2
        assert message in capsys.readouterr().err
        assert not out.exists()


def test_without_the_packages(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(UserError, match=r"pip install 'earmark\[onnx\]'"):
                export(untrained, out=tmp_path / "out")
            assert not (tmp_path / "out").exists()


def test_a_full_disk(untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch.onnx, "export", full)
    with pytest.raises(UserError, match=r"model\.onnx: can't be written: .*free some space"):
        export(untrained, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ctrl_c_leaves_nothing(
    untrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = importlib.import_module("earmark.tasks.exporting")
    compared = module._compared

    def pressing(*arguments: object) -> float:
        signal.raise_signal(signal.SIGINT)
        return float(compared(*arguments))

    monkeypatch.setattr(module, "_compared", pressing)
    assert main(["export", str(untrained), "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err.splitlines()[-1].endswith("what was there is as it was")
    assert not (tmp_path / "out").exists()
