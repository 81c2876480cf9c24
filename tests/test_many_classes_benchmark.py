"""Recordings become classes as is said, and a run is a row."""

import csv
import json
from pathlib import Path

import pytest

from benchmarks import many_classes
from benchmarks.rotations import COUNTS


def test_each_source_is_a_class_with_all_its_takes(tmp_path: Path) -> None:
    sounds = tmp_path / "esc10.csv"
    lines = [f"dog/{n}-{take}.ogg,Dog bark,{n}" for n in range(6) for take in "AB"]
    sounds.write_text("\n".join(["file,class,freesound_id", *lines]) + "\n")
    out = many_classes.recordings_as_classes(sounds, 4, tmp_path / "new" / "sounds.csv")
    with open(out, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert len({row["class"] for row in rows}) == 4
    for row in rows:
        assert row["class"] == "Dog bark " + row["file"].removeprefix("dog/").partition("-")[0]


def test_recordings_that_are_not_there_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        many_classes.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "esc10.csv isn't there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_is_a_row(tmp_path: Path) -> None:
    counts = {key: [1, 1] for key in COUNTS} | {"tag_fp": [0, 0], "seconds": 150}
    (tmp_path / "a-0.json").write_text(json.dumps(counts))
    (line,) = many_classes.table(["a", "b"], tmp_path).splitlines()[2:]
    assert line == "| a | 0 | 0.667 | 0.500 | 0.500 | 2 min |"
