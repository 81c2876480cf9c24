"""A short search by coverage in every parser; ``coverage_guided.py`` searches for longer."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from parsers import READERS

import earmark

FOLDER = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_no_new_way_through_a_parser_ends_in_a_defect(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    paths = [str(Path(earmark.__file__).parents[1]), *sys.path]
    done = subprocess.run(
        [sys.executable, FOLDER / "coverage_guided.py", name, "-seed=1", "-runs=500"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (runs,) = re.findall(r"^Done (\d+) runs", done.stderr, re.MULTILINE)
    assert int(runs) >= 500
