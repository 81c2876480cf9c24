"""How long it takes to tune a model's decoding on validation data, for each target.

    python -m benchmarks.tuning --page BENCHMARKS.md

The data are those of the benchmark of the scores, of 2,000 clips. There is no peer: what counts is
that nobody waits. Each target is tuned once; the time is the processor's, so that other work on the
machine changes little.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import get_args

from benchmarks.pages import check, made_on, put
from benchmarks.scores import CLASSES, FRAMES, made
from earmark.config import DecodingSettings, Target, TuningSettings
from earmark.tuning import tuned_on_events, untuned

CLIPS, QUICK_CLIPS = 2000, 40


def seconds_of(clips: int) -> dict[str, float]:
    """Processor seconds of tuning for each target."""
    data = made(clips)
    tracks, references = list(data.tracks.values()), list(data.reference.values())
    decoding = DecodingSettings(tag_gate=False)
    found = {}
    for target in get_args(Target):
        print(f"{target} ...", file=sys.stderr, flush=True)
        how = TuningSettings(target=target)
        started = time.process_time()
        tuned_on_events(untuned(CLASSES, decoding), tracks, references, decoding, how)
        found[target] = time.process_time() - started
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--page", type=Path, help="a page with a section for tuning")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CLIPS} clips, to try it out")
    arguments = parser.parse_args()
    check(arguments.page, "tuning")
    clips = QUICK_CLIPS if arguments.quick else CLIPS
    found = seconds_of(clips)
    command = " ".join(["python -m benchmarks.tuning", *sys.argv[1:]])
    lines = [
        f"`{command}`; {made_on()}. {clips} made clips, {CLASSES} classes, {FRAMES} frames.",
        "",
        "| tuned for | seconds of one core |",
        "|---|---|",
        *(f"| {target} | {seconds:.0f} |" for target, seconds in found.items()),
    ]
    words = "\n".join(lines)
    print(words)
    if arguments.page:
        put(arguments.page, "tuning", words)


if __name__ == "__main__":
    main()
