"""Results that took hours to make: which of several processes makes which, and where they stay.

Those behind `RESULTS.md` are in `benchmarks/results`, so that whoever has the repository goes on
where others were stopped. Delete them, or name another folder, to make them anew.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmarks.pages import made_on
from earmark.config import Settings
from earmark.formats.tables import digest

HOME = Path(__file__).with_name("results")
MADE = "made"
"""Of a result: the date, the commit and the machine."""

OF = "of"
"""Of a result: the SHA-256 of what it is of."""


def add_option(parser: argparse.ArgumentParser, benchmark: str | None = None) -> None:
    """`--results`, a folder; for want of a benchmark's name, None if it isn't given."""
    parser.add_argument(
        "--results",
        type=Path,
        default=benchmark and HOME / benchmark,
        metavar="FOLDER",
        help="what is there isn't made again; by default what RESULTS.md is of",
    )


def keep(
    folder: Path,
    name: str,
    make: Callable[[], Mapping[str, Any]],
    of: Sequence[object] = (),
) -> None:
    """Makes a result, unless it is there or another process is at it.

    One that is there must be ``of`` the same: settings and dataclasses, where they differ from the
    defaults, files, by their contents, and what else JSON can say.
    """
    known = _digest(of) if of else None
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
            found = {**make(), MADE: made_on()} | ({OF: known} if known else {})
            text = json.dumps(found, separators=(",", ":"))
            partial = path.with_suffix(".part")
            partial.write_text(text + "\n", encoding="utf-8")
            partial.replace(path)
        elif known is not None and _read(path).get(OF) != known:
            raise SystemExit(
                f"{path} is of other settings or recordings than these; delete it, or name "
                "another folder with --results"
            )


def _digest(of: Sequence[object]) -> str:
    def plain(part: object) -> object:
        if isinstance(part, Path):
            return digest(part)
        if isinstance(part, Settings):
            return part.model_dump(mode="json", exclude_defaults=True)
        if is_dataclass(part):
            values = {field.name: getattr(part, field.name) for field in fields(part)}
            return {f.name: values[f.name] for f in fields(part) if values[f.name] != f.default}
        return part

    parts = json.dumps([plain(part) for part in of], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()


def kept(folder: Path, name: str) -> dict[tuple[int, ...], dict[str, Any]]:
    """The results of a name, by the numbers behind it: of `a-5-0.json` and `a`, (5, 0)."""
    results = {}
    for file in sorted(folder.glob("*.json")):
        if file.stem.startswith(f"{name}-"):
            numbers = file.stem.removeprefix(f"{name}-").split("-")
            if all(number.isdecimal() for number in numbers):
                key = tuple(int(number) for number in numbers)
                results[key] = _read(file)
    return dict(sorted(results.items()))


def made(folder: Path) -> str:
    """When and on what the results of a folder were made, or for want of any, now."""
    found = {_read(file)[MADE] for file in folder.glob("*.json")}
    return "; ".join(sorted(found)) or made_on()


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise SystemExit(
            f"a result must be an object in JSON; {path} isn't; delete it to make it anew"
        ) from None
