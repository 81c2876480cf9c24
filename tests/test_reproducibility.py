"""The same tomorrow: one seed, one model; the same decisions however the work is cut."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, Scenes
from numpy.typing import NDArray
from safetensors.numpy import load_file

import earmark
from earmark.audio import write
from earmark.events import Event
from earmark.formats.events import read_events
from earmark.inference import system, windowed
from earmark.inference.fusion import load_recogniser
from earmark.inference.pipeline import Workers
from earmark.scores import ScoreTrack
from earmark.tasks.training import train

# Scores that are closer to a threshold may fall on its other side.
TOLERANCE = 1e-5
# Dropout, so that all that is drawn at random counts.
SETTINGS = (*TINY, "network.dropout=0.3", "training.epochs=2")
RATE_HZ = 8000


def bits(model: Path) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in load_file(model / "model.safetensors").items()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_seed_gives_one_model_to_the_last_bit(
    precision: str, clips: Scenes, tmp_path: Path
) -> None:
    settings = [*SETTINGS, f"training.precision={precision}"]
    for name, seed in (("first", 1), ("second", 1), ("other", 2)):
        out = tmp_path / name
        train(clips.weak, audio=clips.audio, out=out, set=settings, device="cpu", seed=seed)
    assert bits(tmp_path / "first") == bits(tmp_path / "second")
    assert bits(tmp_path / "first") != bits(tmp_path / "other")


@pytest.mark.slow
def test_one_seed_gives_one_model_in_another_process(
    model: Path, clips: Scenes, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "earmark", "train", str(clips.weak), "--audio", str(clips.audio)]
    words += ["--out", str(tmp_path / "m"), "--device", "cpu"]
    for setting in TINY:
        words += ["--set", setting]
    subprocess.run(
        words,
        env=environment(torch.get_num_threads()) | {"PYTHONHASHSEED": "7"},
        check=True,
        capture_output=True,
    )
    assert bits(model) == bits(tmp_path / "m")


def environment(threads: int) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(Path(earmark.__file__).parents[1]),
        "OMP_NUM_THREADS": str(threads),
    }


def sound(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Tones that come and go, over noise."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    found = rng.normal(0, 0.02, len(times))
    for _ in range(3):
        hz, every = rng.uniform(200, 3000), rng.uniform(2, 7)
        found += 0.2 * np.sin(2 * np.pi * hz * times) * (np.sin(2 * np.pi * times / every) > 0.4)
    return found.astype(np.float32)


def found_by(
    model: Path, precision: str, samples: NDArray[np.float32]
) -> tuple[ScoreTrack, list[Event], NDArray[np.float64]]:
    """Scores, events, and the thresholds of frames (K,)."""
    recogniser = load_recogniser(model, torch.device("cpu"), precision)
    thresholds = np.array([rule.threshold for rule in recogniser.rules])
    return recogniser.scores(samples), recogniser.detect(samples), thresholds


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "auto"])
@pytest.mark.parametrize(("windows", "workers"), [(1, 1), (3, 2), (8, 3)])
def test_decisions_do_not_depend_on_batches_and_threads(
    windows: int, workers: int, precision: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = sound(33.0)
    usual, events, thresholds = found_by(model, precision, samples)
    monkeypatch.setattr(windowed, "WINDOWS_AT_ONCE", windows)
    monkeypatch.setattr(system, "WORKERS", Workers(workers, system._one_thread))
    other, other_events, _ = found_by(model, precision, samples)
    assert_same_decisions(usual, other, thresholds)
    assert events
    assert near(usual, thresholds) or decided(events) == decided(other_events)


def near(track: ScoreTrack, thresholds: NDArray[np.float64]) -> bool:
    return bool((abs(track.probabilities - thresholds) <= TOLERANCE).any())


def decided(events: list[Event]) -> list[tuple[float, float, str]]:
    return [(event.onset_seconds, event.offset_seconds, event.label) for event in events]


def assert_same_decisions(
    one: ScoreTrack, other: ScoreTrack, thresholds: NDArray[np.float64]
) -> None:
    first, second = one.probabilities, other.probabilities
    assert first.shape == second.shape
    assert abs(first - second).max() <= TOLERANCE
    clear = abs(first - thresholds) > TOLERANCE
    assert clear.mean() > 0.9
    assert ((first > thresholds) == (second > thresholds))[clear].all()
    assert one.tags is not None
    assert other.tags is not None
    assert abs(one.tags - other.tags).max() <= TOLERANCE


@pytest.mark.parametrize("frames", [1, 13, 25])
def test_where_windows_lie_hardly_matters(frames: int, model: Path) -> None:
    samples = sound(40.0)
    whole, _, thresholds = found_by(model, "float32", samples)
    later, _, _ = found_by(model, "float32", samples[whole.clock.samples_for(frames) :])
    # Beyond a window of either end, what is heard around a frame is the same.
    one, other = whole.probabilities[frames:][50:-50], later.probabilities[50:-50]
    assert len(one) == len(other) > 800
    difference = abs(one - other)
    assert difference.max() < 0.02
    assert difference.mean() < one.std() / 25
    clear = abs(one - thresholds) > 0.02
    assert clear.mean() > 0.5
    assert ((one > thresholds) == (other > thresholds))[clear].all()


@pytest.mark.slow
def test_decisions_do_not_depend_on_processes_and_their_threads(
    model: Path, tmp_path: Path
) -> None:
    for number in range(6):
        path = tmp_path / ("a" if number % 2 else "b") / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        write(path, sound(5.0, number), RATE_HZ)
    tables = []
    for threads, folders in ((1, ["a", "b"]), (2, ["a", "b"]), (1, ["a"]), (1, ["b"])):
        out = tmp_path / f"events-{len(tables)}.csv"
        words = [sys.executable, "-m", "earmark", "detect", *folders, "--model", str(model)]
        words += ["--out", str(out), "--device", "cpu", "--precision", "float32"]
        subprocess.run(
            words, cwd=tmp_path, env=environment(threads), check=True, capture_output=True
        )
        tables.append({name: decided(events) for name, events in read_events(out).items()})
    together, on_two_threads, *apart = tables
    assert any(together.values())
    assert together == on_two_threads
    assert together == {name: events for table in apart for name, events in table.items()}
