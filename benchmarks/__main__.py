"""Runs every benchmark of speed, one after another, and writes the page of their results.

    python -m benchmarks                           # all; leave the machine to it
    python -m benchmarks --only training features
    python -m benchmarks --quick                   # tiny sizes, to see that all run; no page

Each runs in a process of its own and writes its section of the page by itself. A machine with a
GPU gets the GPU's rows by the same command. ``benchmarks.accuracy`` tells how good results are.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.pages import check

TITLES = {
    "training": "Training",
    "inference": "Inference",
    "features": "Features",
    "detection": "Detection",
    "data": "Data",
    "large": "Large sets",
    "start": "Start",
    "small": "A small model",
    "scores": "Scores",
    "tuning": "Tuning",
}
"""The benchmarks in the order of the page, which has a section of this title for each."""

PEERS = {
    "inference": ("openvino",),
    "features": ("librosa", "torchlibrosa", "nnAudio"),
    "detection": ("librosa",),
    "scores": ("sed_eval", "dcase_util", "sed_scores_eval", "sklearn"),
    "tuning": ("sed_eval", "dcase_util", "sed_scores_eval", "sklearn"),
}
"""What a benchmark imports that comes with ``earmark[benchmarks]`` alone."""


def run(name: str, words: Sequence[str]) -> str | None:
    """Runs a benchmark; gives what went wrong, if anything."""
    if missing := [peer for peer in PEERS.get(name, ()) if find_spec(peer) is None]:
        return f"needs {', '.join(missing)}: pip install -e '.[benchmarks]'"
    code = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *words], check=False)
    return f"ended with exit code {code.returncode}" if code.returncode else None


def main(argv: Sequence[str] | None = None) -> int:
    """Gives the exit code: 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--page", type=Path, help="with a section for each; BENCHMARKS.md unless --quick"
    )
    parser.add_argument("--only", nargs="+", choices=TITLES, metavar="NAME", help=", ".join(TITLES))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that all run")
    arguments = parser.parse_args(argv)
    page = arguments.page or (None if arguments.quick else Path("BENCHMARKS.md"))
    if page is not None and not page.is_file():
        parser.error(f"there is no page {page}; run this in the folder of the repository")
    chosen = [name for name in TITLES if name in (arguments.only or TITLES)]
    for name in chosen:
        check(page, name)
    words = ["--quick"] if arguments.quick else []
    words += ["--page", str(page)] if page is not None else []
    failed = {}
    for number, name in enumerate(chosen):
        print(f"[{number + 1}/{len(chosen)}] {TITLES[name]}", file=sys.stderr, flush=True)
        if (what := run(name, words)) is not None:
            failed[name] = what
    for name, what in failed.items():
        print(f"{name} {what}", file=sys.stderr)
    print(f"{len(chosen) - len(failed)} of {len(chosen)} benchmarks ran", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
