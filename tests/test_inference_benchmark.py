"""The benchmark of the engines: its quick form runs, and every engine says the same."""

import re
from pathlib import Path

import pytest
from conftest import Scenes

from benchmarks import floor as floors
from benchmarks import inference


def rows_of(text: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"\|.*", text)]
    return [row for row in rows if row[0] != "engine" and not row[0].startswith("-")]


def test_the_quick_form_writes_its_section(
    model: Path, held_out: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors, "MATRIX_SIZE", {"cpu": 64, "cuda": 64})
    monkeypatch.setattr(floors, "COPIED_BYTES", {"cpu": 2**16, "cuda": 2**16})
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- inference -->\nold\n<!-- end of inference -->\nbelow\n", "utf-8")
    words = ["--model", str(model), "--audio", str(held_out.audio), "--labels"]
    inference.main(["--quick", "--page", str(page), *words, str(held_out.strong), "--most", "3"])
    text = page.read_text("utf-8")
    assert re.match(r"above\n<!-- inference -->\n`python -m benchmarks.inference --quick", text)
    assert text.endswith("\n<!-- end of inference -->\nbelow\n")
    rows = rows_of(text)
    speeds, results = ([row for row in rows if len(row) == width] for width in (7, 6))
    assert [row[:2] for row in speeds[:2]] == [["plain network", "float32"], ["torch", "float32"]]
    assert [row[:2] for row in speeds[1:]][: len(results)] == [row[:2] for row in results]
    assert speeds[0][4] == "1.00"
    for row in speeds:
        assert float(row[6]) < (0.01 if row[1] == "bfloat16" else 1e-5), row
    for row in results:
        assert float(row[2]) < (0.02 if row[1] == "bfloat16" else 1e-5), row
    assert "on 3 recordings" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--rounds", "4"], "at least 5"), (["--model", "m"], "go together")],
)
def test_what_can_not_be_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        inference.main(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
