"""What one waits for before anything is heard: whole commands in fresh processes.

    python -m benchmarks.start --page BENCHMARKS.md

The files are in the machine's memory already. Python's own start, and that with torch imported,
stand beside the commands: what is left is ours.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.detection import model, recording
from benchmarks.pages import made_on, options, parsed, tell

CLIP_SECONDS = 10


def commands(out: Path, quick: bool) -> dict[str, list[str]]:
    """The words of each command that is timed."""
    clip, folder = recording(out, CLIP_SECONDS), model(out, quick)
    detect = ["detect", str(clip), "--model", str(folder), "--out", str(out / "events.csv")]
    return {
        "python": ["-c", ""],
        "python, importing torch": ["-c", "import torch"],
        "earmark --help": ["-m", "earmark", "--help"],
        "earmark detect --help": ["-m", "earmark", "detect", "--help"],
        f"earmark detect, a clip of {CLIP_SECONDS} s": ["-m", "earmark", *detect],
    }


def medians(words: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """Seconds of each command; all take their turn in each round, after one that isn't timed."""
    taken: dict[str, list[float]] = {what: [] for what in words}
    for number in range(-1, rounds):
        print(f"round {number + 1} of {rounds} ...", file=sys.stderr, flush=True)
        for what, of_command in words.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *of_command], check=True, capture_output=True)
            if number >= 0:
                taken[what].append(time.perf_counter() - started)
    return {what: statistics.median(seconds) for what, seconds in taken.items()}


def section(command: str, rounds: int, quick: bool) -> str:
    """Measures, and says what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        found = medians(commands(Path(folder), quick), rounds)
    lines = [
        f"`{command}`; {made_on()}. Medians of {rounds} rounds in turns.",
        "",
        "| command | seconds |",
        "|---|---|",
        *(f"| {what} | {seconds:.2f} |" for what, seconds in found.items()),
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parsed("start", options("start", __doc__), argv)
    words = section(arguments.command, arguments.rounds, arguments.quick)
    tell(arguments.page, "start", words)


if __name__ == "__main__":
    main()
