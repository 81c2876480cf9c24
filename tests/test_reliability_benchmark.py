"""Losses are those of their definition, and both tables say what was counted."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Scenes

import earmark
from benchmarks import reliability
from earmark.audio import duration_seconds


def test_the_loss_is_that_of_its_definition() -> None:
    truth, given = np.array([True, False, True]), np.array([0.8, 0.4, 0.0], np.float32)
    expected = -(math.log(0.8) + math.log(0.6) + math.log(1e-6)) / 3
    assert reliability.log_loss(truth, given) == pytest.approx(expected, rel=1e-5)


def test_a_folder_without_a_model_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        reliability.main([str(tmp_path), "--out", str(tmp_path / "out")])
    assert "holds no model: benchmarks.bundled makes it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def build(
    able_model: Path, held_out: Scenes, noises: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What the program that makes the model in the box leaves, of other recordings."""
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(able_model, folder / "model")
    data = able_model.parent / "data"
    for part in ("validation", "test"):
        shutil.copytree(data, folder / part)
        shutil.copytree(noises, folder / "unknown" / part)
    shutil.copytree(noises, folder / "noise" / "audio")
    sounding = next((data / "audio").iterdir())
    shutil.copy(sounding, folder / "unknown" / "test" / sounding.name)
    return folder


@pytest.mark.slow
def test_both_tables_are_of_what_was_found(
    build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- reliability -->\nold\n<!-- end of reliability -->\n")
    reliability.main([str(build), "--out", str(tmp_path / "out"), "--page", str(page)])
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.read_text().splitlines()
        if line.startswith("|")
    ]
    losses = {(row[0], row[1]): float(row[2]) for row in cells[2:6]}
    assert set(losses) == {(a, b) for a in ("clips", "frames") for b in ("before", "after")}
    assert [row[0] for row in cells[8:]] == ["any", "300", "60", "10"]
    for row in cells[8:]:
        if row[0] != "any":
            assert float(row[1]) <= float(row[0])
    (free,) = (tmp_path / "out").glob("*-any")
    found = earmark.load(free)
    for column, folder in ((2, build / "unknown" / "test"), (3, build / "noise" / "audio")):
        seconds = sum(duration_seconds(path) for path in folder.iterdir())
        events = sum(len(found.detect(path)) for path in folder.iterdir())
        assert float(cells[8][column]) == pytest.approx(events / seconds * 3600, abs=0.5)
    assert float(cells[8][3]) != float(cells[8][2])  # one of them sounds
    assert float(cells[8][4]) >= float(cells[-1][4]) - 0.05
