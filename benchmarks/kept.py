"""Results that took hours to make: which of several processes makes which, and where they stay.

Those behind `RESULTS.md` are in `benchmarks/results`, so that whoever has the repository goes on
where others were stopped. Delete them, or name another folder, to make them anew.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmarks.pages import made_on

HOME = Path(__file__).with_name("results")
MADE = "made"
"""Of a result: the date, the commit and the machine."""


def add_option(parser: argparse.ArgumentParser, benchmark: str | None = None) -> None:
    """`--results`, a folder; for want of a benchmark's name, None if it isn't given."""
    parser.add_argument(
        "--results",
        type=Path,
        default=benchmark and HOME / benchmark,
        metavar="FOLDER",
        help="what is there isn't made again; by default what RESULTS.md is of",
    )


def keep(folder: Path, name: str, make: Callable[[], Mapping[str, Any]]) -> None:
    """Makes a result, unless it is there or another process is at it."""
    locks = folder / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return
    with lock:
        path = folder / f"{name}.json"
        if not path.exists():
            found = {**make(), MADE: made_on()}
            text = json.dumps(found, separators=(",", ":"))
            partial = path.with_suffix(".part")
            partial.write_text(text + "\n", encoding="utf-8")
            partial.replace(path)


def kept(folder: Path, name: str) -> dict[tuple[int, ...], dict[str, Any]]:
    """The results of a name, by the numbers behind it: of `a-5-0.json` and `a`, (5, 0)."""
    results = {}
    for file in sorted(folder.glob("*.json")):
        if file.stem.startswith(f"{name}-"):
            numbers = file.stem.removeprefix(f"{name}-").split("-")
            if all(number.isdecimal() for number in numbers):
                key = tuple(int(number) for number in numbers)
                results[key] = json.loads(file.read_text(encoding="utf-8"))
    return dict(sorted(results.items()))


def made(folder: Path) -> str:
    """When and on what the results of a folder were made, or for want of any, now."""
    found = {json.loads(file.read_text(encoding="utf-8"))[MADE] for file in folder.glob("*.json")}
    return "; ".join(sorted(found)) or made_on()
