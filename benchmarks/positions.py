"""Whether a model's frames say *when* a sound is, apart from whether its tags say *that* it is.

    python -m benchmarks.positions build/b1/tables --labels build/b1/validation/strong.tsv \\
        --audio build/b1/validation/audio --page RESULTS.md

takes every model of a comparison and looks at its frame probabilities by themselves: the best F1
of segments over all thresholds, then the same with the true tags of each clip known, and how well
the frames of clips that have the tag are ranked. Means over the classes, then over the seeds.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.pages import check, made_on, put
from earmark.formats.labels import read_labels
from earmark.inference.fusion import load_recogniser
from earmark.metrics.tagging import average_precision, roc_auc
from earmark.metrics.thresholds import best_thresholds
from earmark.scores import ScoreTrack

RESOLUTIONS_SECONDS = (1.0, 0.1)
COLUMNS = ("best F1", "tags known", "AUC within tagged clips")


def cells(track: ScoreTrack, seconds: float) -> NDArray[np.float64]:
    """(S, K) largest probabilities in consecutive segments of a recording."""
    edges = track.edges_seconds
    segments = round(float(np.ceil(edges[-1] / seconds - 1e-9)))
    starts = np.arange(segments) * seconds
    first = np.searchsorted(edges, starts + 1e-9, side="right") - 1
    stop = np.searchsorted(edges, np.minimum(starts + seconds, edges[-1]) - 1e-9)
    rows = [track.probabilities[a:b].max(axis=0) for a, b in zip(first, stop, strict=True)]
    return np.asarray(rows, np.float64)


def figures(
    truth: Sequence[NDArray[np.bool_]], scores: Sequence[NDArray[np.float64]]
) -> tuple[float, float, float]:
    """What the columns say of the cells (S, K) of each clip, means over the classes."""
    tagged = np.concatenate([np.broadcast_to(t.any(axis=0), t.shape) for t in truth])
    active, given = np.concatenate(list(truth)), np.concatenate(list(scores))
    values = []
    for k in np.flatnonzero(active.any(axis=0)):
        here, score, within = active[:, k], given[:, k], tagged[:, k]
        values.append(
            (
                _best_f1(here, score),
                _best_f1(here, np.where(within, score, 0.0)),
                roc_auc(here[within], score[within]),
            )
        )
    best, known, ranked = np.nanmean(values, axis=0)
    return float(best), float(known), float(ranked)


def _best_f1(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    found = scores > best_thresholds(truth[:, None], scores[:, None])[0]
    return float(2 * (truth & found).sum() / max(1, truth.sum() + found.sum()))


def of_model(folder: Path, labels: Path, audio: Path) -> list[float]:
    """Tagging mAP, then the columns at each resolution, of one model folder."""
    recogniser = load_recogniser(folder, precision="auto")
    names = recogniser.class_names
    clips = read_labels(labels).rows
    tracks = [recogniser.scores(audio / clip.filename) for clip in clips]
    tags = np.array([[name in clip.labels for name in names] for clip in clips])
    given = np.array([track.tags for track in tracks])
    row = [float(np.mean([average_precision(t, g) for t, g in zip(tags.T, given.T, strict=True)]))]
    for seconds in RESOLUTIONS_SECONDS:
        scores = [cells(track, seconds) for track in tracks]
        truth = [np.zeros(of_clip.shape, np.bool_) for of_clip in scores]
        for clip, active in zip(clips, truth, strict=True):
            for event in clip.events or ():
                first = int(event.onset_seconds / seconds + 1e-9)
                stop = int(np.ceil(event.offset_seconds / seconds - 1e-9))
                active[first:stop, names.index(event.label)] = True
        row += figures(truth, scores)
    return row


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("comparison", type=Path, help="the folder that `earmark compare` made")
    parser.add_argument("--labels", type=Path, required=True, help="a strong table")
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args(argv)
    check(arguments.page, "positions")
    head = ["system", "tagging mAP"]
    head += [f"{seconds:g} s: {c}" for seconds in RESOLUTIONS_SECONDS for c in COLUMNS]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for recipe in sorted((arguments.comparison / "models").iterdir()):
        seeds = sorted(found.parent for found in recipe.glob("seed-*/model.json"))
        if not seeds:
            continue
        rows = np.array([of_model(folder, arguments.labels, arguments.audio) for folder in seeds])
        means = [f"{value:.3f}" for value in rows.mean(axis=0)]
        lines.append("| " + " | ".join([recipe.name, *means]) + " |")
        print(lines[-1], f"({len(seeds)} seeds)", flush=True)
    words = f"`python -m benchmarks.positions ...`; {made_on()}.\n\n" + "\n".join(lines)
    print(words)
    if arguments.page:
        put(arguments.page, "positions", words)


if __name__ == "__main__":
    main()
