"""What the probabilities of the model in the box are worth, and what it finds where nothing is.

    python -m benchmarks.reliability build/bundled --out build/reliability --page RESULTS.md

takes the model and the recordings that ``benchmarks.bundled`` has made. On the scenes for the test
it compares probabilities before and after their calibration with what sounds. Then it tunes copies
of the model with other bounds on false events, and counts what these find in recordings of none of
the classes, in those on which the bound was kept (with the validation scenes that hold nothing) and
in others, and what they find of the test's scenes.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import run
from benchmarks.pages import check, made_on, tell
from earmark.audio import duration_seconds
from earmark.formats.labels import read_labels
from earmark.formats.tables import digest
from earmark.inference.fusion import load_recogniser
from earmark.inference.recogniser import Recogniser
from earmark.metrics.curves import Reliability
from earmark.metrics.segments import segment_scores
from earmark.tasks.held_out_calibration import sounding

BOUNDS = (None, 300, 60, 10)
"""False events an hour that are allowed; None for any."""

NO_BOUND = 1_000_000
"""More than any model finds: takes off the bound of the model that is copied."""

LEAST = 1e-6  # of a probability in a logarithm


def log_loss(truth: NDArray[np.bool_], given: NDArray[np.float32]) -> float:
    """Mean binary cross-entropy of the pairs (N,)."""
    right = np.where(truth, given, 1 - given).astype(np.float64)
    return float(-np.log(np.maximum(right, LEAST)).mean())


def calibration(recogniser: Recogniser, scenes: Path) -> list[str]:
    """The table of probabilities before and after calibration."""
    lines = ["| probabilities of | | log loss | expected calibration error |", "|---|---|---|---|"]
    rows = read_labels(scenes / "strong.tsv").rows
    tags, frames = [], []
    given: dict[str, tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]] = {}
    both = {"before": recogniser.uncalibrated(), "after": recogniser}
    for when, one in both.items():
        given[when] = [], []
        for row in rows:
            track = one.scores(scenes / "audio" / row.filename)
            assert track.tags is not None
            given[when][0].append(track.tags)
            given[when][1].append(track.probabilities.ravel())
            if when == "before":
                tags.append(np.array([name in row.labels for name in recogniser.class_names]))
                frames.append(sounding(track, row.events or ()).ravel())
    for place, (what, truth) in enumerate((("clips", tags), ("frames", frames))):
        true = np.concatenate(truth)
        for when, found in given.items():
            values = np.concatenate(found[place])
            error = Reliability.of(true[:, None], values[:, None]).calibration_error
            cells = f"{log_loss(true, values):.4f} | {100 * error:.2f} %"
            lines.append(f"| {what} | {when} | {cells} |")
    return lines


def tuned(build: Path, out: Path, bound: int | None) -> Path:
    """A copy of the model whose rules keep to a bound."""
    kept = f"{digest(build / 'model' / 'model.json')[:8]}-{'any' if bound is None else bound}"
    model = out / kept
    if not model.exists():
        part = out / f"{model.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(build / "model", part)
        words = ["tune", str(part), str(build / "validation" / "strong.tsv")]
        words += ["--audio", str(build / "validation" / "audio")]
        words += ["--negatives", str(build / "unknown" / "validation")]
        words += ["--max-false-events-per-hour", str(NO_BOUND if bound is None else bound)]
        run(words, out / "never")
        part.rename(model)
    return model


def false_events(build: Path, out: Path) -> list[str]:
    """The table of what copies with other bounds find."""
    held = build / "validation"
    silent = [row for row in read_labels(held / "strong.tsv").rows if not row.events]
    kept = [held / "audio" / row.filename for row in silent]
    quiet = {
        "where the bound was kept": [*kept, *(build / "unknown" / "validation").iterdir()],
        "in other recordings": list((build / "unknown" / "test").iterdir()),
        "in noise": list((build / "noise" / "audio").iterdir()),
    }
    head = ["allowed an hour", *(f"an hour {where}" for where in quiet), "segment F1", "ER"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    rows = read_labels(build / "test" / "strong.tsv").rows
    for bound in BOUNDS:
        recogniser = load_recogniser(tuned(build, out, bound), precision="auto")
        cells = ["any" if bound is None else str(bound)]
        for recordings in quiet.values():
            events = sum(len(recogniser.detect(recording)) for recording in recordings)
            hours = sum(duration_seconds(recording) for recording in recordings) / 3600
            cells.append(f"{events / hours:.0f}")
        found = {
            row.filename: recogniser.detect(build / "test" / "audio" / row.filename) for row in rows
        }
        true = {row.filename: list(row.events or ()) for row in rows}
        scores = segment_scores(true, found, recogniser.class_names)
        cells += [f"{float(scores.overall.f1):.3f}", f"{scores.error_rate:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("build", type=Path, help="what benchmarks.bundled has made")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args(argv)
    check(arguments.page, "reliability")
    build, out = arguments.build, arguments.out
    if not (build / "model").exists():
        parser.error(f"{build} holds no model: benchmarks.bundled makes it")
    out.mkdir(parents=True, exist_ok=True)
    recogniser = load_recogniser(build / "model", precision="auto")
    lines = [
        f"`python -m benchmarks.reliability build/bundled ...`; {made_on()}.",
        "",
        *calibration(recogniser, build / "test"),
        "",
        *false_events(build, out),
    ]
    tell(arguments.page, "reliability", "\n".join(lines))


if __name__ == "__main__":
    main()
