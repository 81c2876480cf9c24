"""How long it takes to tune a model's decoding on validation data, for each target.

    python -m benchmarks.tuning --page BENCHMARKS.md

The data are those of the benchmark of the scores, of 2,000 clips. There is no peer: what counts is
that nobody waits. Each target is tuned once; the time is the processor's, so that other work on the
machine changes little.
"""

import sys
import time
from collections.abc import Sequence
from typing import get_args

from benchmarks.pages import made_on, options, parsed, tell
from benchmarks.scores import CLASSES, FRAMES, made
from earmark.config import DecodingSettings, Target, TuningSettings
from earmark.tuning.events import tuned_on_events
from earmark.tuning.rules import untuned

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


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parsed("tuning", options("tuning", __doc__, rounds=False), argv)
    clips = QUICK_CLIPS if arguments.quick else CLIPS
    found = seconds_of(clips)
    lines = [
        f"`{arguments.command}`; {made_on()}. {clips} made clips, {CLASSES} classes, "
        f"{FRAMES} frames.",
        "",
        "| tuned for | seconds of one core |",
        "|---|---|",
        *(f"| {target} | {seconds:.0f} |" for target, seconds in found.items()),
    ]
    tell(arguments.page, "tuning", "\n".join(lines))


if __name__ == "__main__":
    main()
