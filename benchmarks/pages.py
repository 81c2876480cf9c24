"""The pages that benchmarks write: sections of their own, and what they were made on."""

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

LEAST_ROUNDS = 5
"""Of which a median is taken."""


def made_on() -> str:
    """The date, the commit and the machine."""
    words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    machine = f"{os.cpu_count()} cores ({platform.machine()})"
    return f"{date.today()}, commit {commit or 'unknown'}, {machine}"


def options(benchmark: str, doc: str | None, *, rounds: bool = True) -> argparse.ArgumentParser:
    """The options that the benchmarks of speed share, to add to; see ``parsed``."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{benchmark}", description=(doc or "").partition("\n")[0]
    )
    parser.add_argument("--page", type=Path, help="a page with a section for this benchmark")
    parser.add_argument("--quick", action="store_true", help="once, on little, to try it out")
    if rounds:
        parser.add_argument("--rounds", type=int, help=f"{LEAST_ROUNDS} by default")
    return parser


def parsed(
    benchmark: str, parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> argparse.Namespace:
    """What was given, checked; ``command`` is all of it as it was typed."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = parser.parse_args(given)
    least = 1 if arguments.quick else LEAST_ROUNDS
    if "rounds" in arguments:
        arguments.rounds = least if arguments.rounds is None else arguments.rounds
        if arguments.rounds < least:
            parser.error(f"a median needs at least {least} rounds, came as {arguments.rounds}")
    check(arguments.page, benchmark)
    arguments.command = shlex.join(["python", "-m", f"benchmarks.{benchmark}", *given])
    return arguments


def tell(page: Path | None, benchmark: str, text: str) -> None:
    """Prints a benchmark's section, and puts it into the page if there is one."""
    print(text)
    if page is not None:
        put(page, benchmark, text)


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
