"""Hours of sound and thousands of files through one process: nothing grows on the way."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pytest
from conftest import TINY
from numpy.typing import NDArray

from earmark.audio import write
from earmark.inference import system, windowed
from earmark.inference.fusion import load_recogniser
from earmark.tasks.detection import detect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/status").exists(), reason="memory is measured by means of Linux"
    ),
]

RATE_HZ = 8000
assert f"features.rate_hz={RATE_HZ}" in TINY
HOURS = 2
BLOCK_SECONDS = 30
FILES = 2000
MIB = 2**20


class Held(NamedTuple):
    """What a process holds at a moment; memory without that of files."""

    private_bytes: int
    open_files: int
    threads: int


def held() -> Held:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            private = int(line.split()[1]) * 1024
    return Held(private, len(list(Path("/proc/self/fd").iterdir())), threading.active_count())


def growth(seen: list[Held]) -> Held:
    """The medians of the last tenth, less those of the second tenth, when all is warm."""
    tenth = len(seen) // 10
    early, late = (
        list(zip(*part, strict=True)) for part in (seen[tenth : 2 * tenth], seen[-tenth:])
    )
    return Held(*(round(median(b) - median(a)) for a, b in zip(early, late, strict=True)))


def stream(seconds: int) -> Iterator[NDArray[np.float32]]:
    """Noise with a loud second a minute, in blocks, of which none is held."""
    rng = np.random.default_rng(0)
    for start in range(0, seconds, BLOCK_SECONDS):
        block = rng.normal(0, 0.01, BLOCK_SECONDS * RATE_HZ).astype(np.float32)
        if start % 60 == 0:
            block[:RATE_HZ] *= 50
        yield block


def test_a_long_recording(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = HOURS * 3600
    monkeypatch.setattr(windowed, "blocks", lambda path, rate_hz: stream(seconds))
    recogniser = load_recogniser(model, "cpu", "float32")
    decoder = recogniser.decoder()
    seen, frames, events = [], 0, 0
    for track in recogniser.blocks("a stream"):
        frames += len(track.probabilities)
        events += len(decoder.push(track))
        seen.append(held())
    assert frames == pytest.approx(seconds * RATE_HZ / 320, abs=2)
    assert len(seen) > 100
    assert events
    grown = growth(seen)
    # The samples are 230 MB, their features 17 MB.
    assert grown.private_bytes < 4 * MIB, grown
    assert grown.open_files <= 0
    assert grown.threads <= 0


def test_many_files(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for number in range(FILES):
        path = tmp_path / "in" / f"{number % 20}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, rng.normal(0, 0.1, RATE_HZ // 4), RATE_HZ)
    seen = []
    before: Callable[..., Iterator[object]] = system.SystemRecogniser.blocks

    def watched(self: object, *given: object, **named: object) -> Iterator[object]:
        seen.append(held())
        yield from before(self, *given, **named)

    monkeypatch.setattr(system.SystemRecogniser, "blocks", watched)
    out = tmp_path / "out"
    found = detect(tmp_path / "in", model=model, out=out, scores=tmp_path / "scores")
    assert not found.failures
    assert len(seen) == FILES == len(list(out.rglob("*.csv")))
    grown = growth(seen)
    # What is found is given back, so that a file may cost a few kilobytes.
    assert grown.private_bytes < FILES * 2048, grown
    assert grown.open_files <= 1
    assert grown.threads <= 1
