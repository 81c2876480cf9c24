"""The benchmark of the scores: its quick form runs, and every tool finds the same."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.scores", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_quick_form_writes_its_section(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- scores -->\nold\n<!-- end of scores -->\nbelow\n", "utf-8")
    done = run("--quick", "--rounds", "1", "--page", str(page))
    assert done.returncode == 0, done.stderr
    text = page.read_text("utf-8")
    assert re.match(r"above\n<!-- scores -->\n`python -m benchmarks.scores --quick", text)
    assert text.endswith("\n<!-- end of scores -->\nbelow\n")
    assert "old" not in text
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"\|.*", text)]
    assert [row[:2] for row in rows[2:]] == [
        ["segment-based", "sed_eval"],
        ["event-based", "sed_eval"],
        ["tagging", "sed_eval"],
        ["tagging", "scikit-learn"],
        ["PSDS 1 and 2", "sed_scores_eval"],
    ]
    for row in rows[2:]:
        assert float(row[-1]) < 1e-9, row


def test_few_rounds_are_refused() -> None:
    done = run("--rounds", "4")
    assert done.returncode == 2
    assert "at least 5" in done.stderr


@pytest.mark.slow
def test_the_quick_form_of_tuning_has_every_target(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- tuning -->\n<!-- end of tuning -->\n", "utf-8")
    command = [sys.executable, "-m", "benchmarks.tuning", "--quick", "--page", str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (\w+) \| \d+ \|$", page.read_text("utf-8"), re.MULTILINE)
    assert rows == ["segment_f1", "error_rate", "event_f1", "psds1", "psds2"]
