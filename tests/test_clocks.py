"""Clocks that jump: no duration is measured by them, and what has changed is noticed."""

import ast
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import TINY, Scenes

import earmark
from earmark.config import FeatureSettings
from earmark.data.clips import ClipFeatures, clip_features
from earmark.data.labels import Clip
from earmark.features import FeatureExtractor
from earmark.model.bundle import read_description
from earmark.tasks.training import train

ROOT = Path(earmark.__file__).parent
WALL_CLOCKS = {"time", "time_ns", "now", "utcnow", "today", "gmtime", "localtime", "ctime"}
YEAR_SECONDS = 3600 * 24 * 365
# Which files were written too lately to be known by their times alone, and when a sound is heard.
KNOWN = {("data/clips.py", "time.time_ns"), ("tasks/sound_inputs.py", "datetime.now")}


def wall_clocks(path: Path) -> Iterator[str]:
    """What a module reads of the time of day."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in ("time", "datetime", "date") and node.attr in WALL_CLOCKS:
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (f"time.{alias.name}" for alias in node.names if alias.name in WALL_CLOCKS)


def test_the_time_of_day_decides_nothing() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in ROOT.rglob("*.py")
        for name in wall_clocks(path)
    }
    assert found == KNOWN


def test_a_training_lasts_no_negative_time(
    clips: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = np.random.default_rng(0)
    began = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: float(jumps.uniform(0, 50 * YEAR_SECONDS)))
        patch.setattr(time, "time_ns", lambda: int(jumps.uniform(0, 50 * YEAR_SECONDS) * 1e9))
        train(clips.weak, audio=clips.audio, out=tmp_path / "m", set=TINY, device="cpu")
    seconds = read_description(tmp_path / "m").training.seconds
    assert 0 < seconds <= time.monotonic() - began


@pytest.mark.parametrize("jump_seconds", [-50 * YEAR_SECONDS, -3, 0, 3, 50 * YEAR_SECONDS])
def test_a_change_is_noticed_whatever_the_time(
    jump_seconds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.wav"
    clip = Clip(path, path.name, None, None, frozenset(), None, None)
    settings = FeatureSettings(
        rate_hz=1000, window_samples=64, hop_samples=32, mel_bands=4, low_hz=0, high_hz=500
    )

    def found() -> ClipFeatures:
        extractor = FeatureExtractor(settings)
        return clip_features([clip], extractor, tmp_path / "f", max_clip_seconds=9.0)

    noise = np.random.default_rng(0).normal(0, 0.1, 300)
    soundfile.write(path, noise, 1000)
    before = path.stat()
    now_ns = time.time_ns
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: now_ns() + jump_seconds * 10**9)
        first = found()
    while time.time_ns() < before.st_ctime_ns + 20_000_000:  # as the ticks of the file system are
        time.sleep(0.005)
    soundfile.write(path, noise[::-1], 1000)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert found().key != first.key
