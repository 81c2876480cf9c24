"""The benchmarks of detection and of the start: their quick forms run, and their peer agrees."""

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import detection, start
from benchmarks.pages import put
from earmark.audio import probe

pytest.importorskip("librosa")
# Librosa imports as it goes, and what it imports warns of Python's later versions.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    out = tmp_path_factory.mktemp("detection")
    return out, detection.model(out, quick=True)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1, 10, 13, 36])
def test_the_straightforward_pipeline_says_what_ours_does(
    made: tuple[Path, Path], seconds: int
) -> None:
    out, model = made
    path = detection.recording(out, seconds)
    assert probe(path).duration_seconds == seconds
    assert detection.difference(model, path) < 0.01
    found = detection.Straightforward(model).probabilities(path)
    assert np.ptp(found) > 0.05


def test_recordings_are_made_once_and_alike(made: tuple[Path, Path], tmp_path: Path) -> None:
    out, _ = made
    first, again = detection.recording(out, 3), detection.recording(tmp_path, 3)
    assert first.read_bytes() == again.read_bytes()
    before = first.stat().st_mtime_ns
    assert detection.recording(out, 3).stat().st_mtime_ns == before
    assert len(list(detection.files(out, 4, 1).iterdir())) == 4


@pytest.mark.slow
def test_the_quick_form_writes_its_section(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "QUICK_SIZES", detection.Sizes(12, 24, 5, 1))
    monkeypatch.setattr(detection, "least_seconds", lambda *_: 0.01)  # tested with the floor
    page = tmp_path / "page.md"
    page.write_text("<!-- detection -->\nold\n<!-- end of detection -->\n", "utf-8")
    detection.main(["--quick", "--out", str(made[0]), "--page", str(page)])
    text = page.read_text("utf-8")
    assert "old" not in text
    rows = re.findall(r"^\| .* \| [\d.]+ \| \d+ \| \d+% \| \d+ \|$", text, re.MULTILINE)
    assert len(rows) == 5
    assert re.search(r"Ours is [\d.]+ times as fast", text)


def test_the_floor_counts_every_window(
    made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneASecond:
        def seconds(self, operations: float, moved_bytes: float, precision: str) -> float:
            return operations

    monkeypatch.setattr(detection, "floor", OneASecond)
    of_one = detection.least_seconds(made[1], 10)
    assert [detection.least_seconds(made[1], n) / of_one for n in (5, 14, 24)] == [1, 2, 4]


def test_few_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for benchmark in (detection, start):
        with pytest.raises(SystemExit):
            benchmark.main(["--rounds", "4"])
        assert "at least 5" in capsys.readouterr().err


def test_the_start_is_timed_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = start.commands(tmp_path, quick=True)
    assert [what for what in words if what.startswith("earmark")] == [
        "earmark --help",
        "earmark detect --help",
        "earmark detect, a clip of 10 s",
    ]
    tiny = {"python": ["-c", ""], "sleep": ["-c", "import time; time.sleep(0.2)"]}
    monkeypatch.setattr(start, "commands", lambda *_: tiny)
    text = start.section("command", 1, quick=True)
    put_on = tmp_path / "page.md"
    put_on.write_text("<!-- start -->\n<!-- end of start -->", "utf-8")
    put(put_on, "start", text)
    found = dict(re.findall(r"^\| (\w+) \| ([\d.]+) \|$", put_on.read_text("utf-8"), re.MULTILINE))
    assert float(found["sleep"]) >= 0.2
    assert found.keys() == tiny.keys()
