"""The house: imports point down, and nothing below needs torch that says it doesn't."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import earmark

LEVELS = [
    {"errors", "events", "timeline", "scores", "config", "folders", "writing"},
    {"audio", "calibration", "clock_times", "metrics", "formats", "spectra"},
    {"features"},
    {"data", "model"},
    {"training", "inference"},
    {"tuning", "outputs", "runtime"},
    {"recipes", "scale", "web"},
    {"tasks"},
    {"cli"},
    {"__init__", "__main__"},
]
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}
ROOT = Path(earmark.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def imported(tree):
    """The modules of the package that a syntax tree imports, lazily or not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "earmark" if node.level else node.module
            if node.module == "earmark":
                yield from (f"earmark.{alias.name}" for alias in node.names)


def allowed(part, module):
    root, _, below = module.partition(".")
    other = below.partition(".")[0]
    if root != "earmark" or part == other:
        return True
    # The words of the domain are one part, and only who starts the program sees the root.
    return other in LEVEL and (LEVEL[other] < LEVEL[part] or LEVEL[other] == LEVEL[part] == 0)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_down(file):
    part = file.relative_to(ROOT).parts[0].removesuffix(".py")
    assert part in LEVEL, f"{part} has no level"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert [name for name in imported(tree) if not allowed(part, name)] == []


def test_the_rule_can_fail():
    tree = ast.parse(
        "def f():\n    from earmark.tasks import train\n    import earmark\n    from . import x"
    )
    assert [allowed("model", name) for name in imported(tree)] == [False, False, False]
    assert not allowed("formats", "earmark.audio")
    assert allowed("formats", "earmark.formats.tables")


def test_help_decoding_and_metrics_load_no_torch():
    inference = "earmark.inference.decoding, earmark.inference.stitching, earmark.runtime"
    modules = f"earmark.cli, earmark.tasks, {inference}, earmark.metrics.segments"
    code = f"import sys, {modules}; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
