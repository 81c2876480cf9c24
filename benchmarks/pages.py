"""The pages that benchmarks write: sections of their own, and what they were made on."""

import os
import platform
import re
import subprocess
from datetime import date
from pathlib import Path


def made_on() -> str:
    """The date, the commit and the machine."""
    words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    machine = f"{os.cpu_count()} cores ({platform.machine()})"
    return f"{date.today()}, commit {commit or 'unknown'}, {machine}"


def check(page: Path | None, benchmark: str) -> None:
    """Refuses a page without a place for a benchmark, before the work of hours."""
    if page is not None and not _section(benchmark).search(page.read_text(encoding="utf-8")):
        marks = " ... ".join(_marks(benchmark))
        raise SystemExit(f"{page} has no section {marks}")


def put(page: Path, benchmark: str, text: str) -> None:
    """Replaces a benchmark's section of a page, which is marked by comments."""
    check(page, benchmark)
    first, last = _marks(benchmark)
    new = f"{first}\n{text}\n{last}"
    old = page.read_text(encoding="utf-8")
    page.write_text(_section(benchmark).sub(lambda _: new, old), encoding="utf-8")


def _marks(benchmark: str) -> tuple[str, str]:
    return f"<!-- {benchmark} -->", f"<!-- end of {benchmark} -->"


def _section(benchmark: str) -> re.Pattern[str]:
    first, last = map(re.escape, _marks(benchmark))
    return re.compile(f"{first}.*{last}", re.DOTALL)
