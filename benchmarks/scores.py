"""Speed of the scores, against the field's own tools in the same run, and where results differ.

    python -m benchmarks.scores --page BENCHMARKS.md

The data are made from a seed: as many clips, classes and frames as in the evaluation set of
DCASE 2017 Task 4, about two tags a clip, and frame scores that know the events but not well.
Every tool gets them in its own form, made beforehand; its time is from there to all the numbers
that are compared. Ours and the peer take turns.
"""

import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.pages import made_on, options, parsed, tell
from earmark.config import COLLAR_RATIO, COLLAR_SECONDS
from earmark.events import Event
from earmark.metrics.collars import EventScores, event_scores
from earmark.metrics.psds import PSDS1, PSDS2, psds_from_scores
from earmark.metrics.segments import SegmentScores, segment_scores
from earmark.metrics.tagging import tagging_scores
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sed_eval  # type: ignore[import-untyped]
    from dcase_util.containers import MetaDataContainer  # type: ignore[import-untyped]
    from sed_scores_eval.base_modules.scores import create_score_dataframe  # type: ignore[import-untyped]
    from sed_scores_eval.intersection_based import psds  # type: ignore[import-untyped]
    from sklearn import metrics  # type: ignore[import-untyped]

CLIPS, QUICK_CLIPS, CLASSES = 1103, 100, 17
CLOCK = FrameClock(16_000, 1024, 664)
CLIP_SECONDS = 10.0
FRAMES = CLOCK.frame_count(160_000)
THRESHOLD = 0.5
SEED = 2017
PEERS = ("numpy", "scipy", "sed_eval", "scikit-learn", "sed_scores_eval")

Numbers = NDArray[np.float64]
Measured = Callable[[], Numbers]


@dataclass(frozen=True, slots=True)
class Data:
    """A made data set.

    Attributes:
        class_names: the K classes.
        reference: the events of N clips; those of one class are apart.
        estimate: runs of frames above the threshold.
        tags: (N, K) whether the clip has the tag.
        probabilities: (N, K) the highest score of each class in the clip.
        tracks: the frame scores of each clip.
    """

    class_names: list[str]
    reference: dict[str, list[Event]]
    estimate: dict[str, list[Event]]
    tags: NDArray[np.bool_]
    probabilities: Numbers
    tracks: dict[str, ScoreTrack]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two ways to the same numbers."""

    name: str
    peer_name: str
    ours: Measured
    peer: Measured


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a comparison: medians in seconds, and how far the numbers lie apart."""

    name: str
    peer_name: str
    ours_seconds: float
    peer_seconds: float
    largest_difference: float


def made(clips: int, seed: int = SEED) -> Data:
    """A data set of so many clips of 10 s, at least one a class, so that each class occurs."""
    rng = np.random.default_rng(seed)
    class_names = [f"class {k:02d}" for k in range(CLASSES)]
    frequency = np.geomspace(1, 1 / 8, CLASSES)
    edges = CLOCK.edges_seconds(FRAMES, CLIP_SECONDS)
    reference: dict[str, list[Event]] = {}
    estimate: dict[str, list[Event]] = {}
    tracks: dict[str, ScoreTrack] = {}
    tags = np.zeros((clips, CLASSES), np.bool_)
    probabilities = np.zeros((clips, CLASSES))
    for n in range(clips):
        clip = f"clip{n:04d}.wav"
        count = 1 + rng.binomial(4, 0.25)
        chosen = rng.choice(CLASSES, count, replace=False, p=frequency / frequency.sum())
        sounding = sorted({n % CLASSES, *chosen.tolist()} if n < CLASSES else chosen.tolist())
        reference[clip] = [event for k in sounding for event in _events(rng, class_names[k])]
        tags[n, sounding] = True
        scores = _frame_scores(rng, reference[clip], class_names, edges)
        tracks[clip] = ScoreTrack(scores, tuple(class_names), CLOCK, end_seconds=CLIP_SECONDS)
        probabilities[n] = scores.max(axis=0)
        estimate[clip] = _runs(scores, class_names, edges)
    return Data(class_names, reference, estimate, tags, probabilities, tracks)


def _events(rng: np.random.Generator, label: str) -> list[Event]:
    """One or two events of a class, apart from each other."""
    count = int(rng.integers(1, 3))
    room = CLIP_SECONDS / count
    onsets = room * (np.arange(count) + rng.uniform(0, 0.4, count))
    offsets = onsets + room * rng.uniform(0.05, 0.55, count)
    return [
        Event(on, off, label)
        for on, off in zip(onsets.round(4).tolist(), offsets.round(4).tolist(), strict=True)
    ]


def _frame_scores(
    rng: np.random.Generator, events: list[Event], class_names: list[str], edges: Numbers
) -> NDArray[np.float32]:
    """(T, K) smooth noise about a level of each class, raised where it sounds, and squashed."""
    window = np.ones(21) / 21
    active = np.zeros((FRAMES, len(class_names)))
    for event in events:
        within = (edges[1:] > event.onset_seconds) & (edges[:-1] < event.offset_seconds)
        active[within, class_names.index(event.label)] = 1
    noise = rng.normal(0, 3, active.shape)
    level = rng.normal(-5, 1.5, len(class_names)) + 2 * active.any(axis=0)
    raised = [np.convolve(column, window, "same") for column in (noise + 4 * active).T]
    logits = level + np.transpose(raised)
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def _runs(scores: NDArray[np.float32], class_names: list[str], edges: Numbers) -> list[Event]:
    """The runs of frames above the threshold."""
    events = []
    for k, name in enumerate(class_names):
        above = np.concatenate([[False], scores[:, k] > THRESHOLD, [False]])
        changes = np.flatnonzero(above[1:] != above[:-1]).reshape(-1, 2)
        events += [Event(on, off, name) for on, off in edges[changes].tolist()]
    return events


# -- what is compared: both sides give the same numbers in the same order


def comparisons(data: Data) -> list[Comparison]:
    """Every comparison, its inputs already in the form that each tool takes."""
    segments, events = _sed_eval_events(data)
    return [
        Comparison(
            "segment-based", "sed_eval", lambda: _our_events(data, segment_scores), segments
        ),
        Comparison("event-based", "sed_eval", lambda: _our_events(data, event_scores), events),
        Comparison(
            "tagging", "sed_eval", lambda: _our_tags(data, ranked=False), _sed_eval_tags(data)
        ),
        Comparison(
            "tagging", "scikit-learn", lambda: _our_tags(data, ranked=True), _scikit_learn(data)
        ),
        Comparison("PSDS 1 and 2", "sed_scores_eval", lambda: _our_psds(data), _their_psds(data)),
    ]


def _our_events(
    data: Data, score: Callable[..., SegmentScores] | Callable[..., EventScores]
) -> Numbers:
    scores = score(data.reference, data.estimate, data.class_names)
    overall = scores.overall
    errors = np.array([scores.substitutions, scores.deletions, scores.insertions])
    return np.array(
        [
            *(overall.f1, overall.precision, overall.recall, scores.error_rate),
            *(*errors / scores.n_reference, scores.macro_f1),
            *(*scores.counts.f1, *scores.class_error_rate),
        ]
    )


def _sed_eval_events(data: Data) -> tuple[Measured, Measured]:
    def listed(events: list[Event]) -> MetaDataContainer:
        return MetaDataContainer(
            [
                {
                    "onset": event.onset_seconds,
                    "offset": event.offset_seconds,
                    "event_label": event.label,
                }
                for event in events
            ]
        )

    pairs = [(listed(data.reference[c]), listed(data.estimate[c])) for c in data.reference]

    def results(judge: Any) -> Numbers:
        for wanted, found in pairs:
            judge.evaluate(wanted, found)
        found = judge.results()
        f_measure, errors = found["overall"]["f_measure"], found["overall"]["error_rate"]
        classes = [found["class_wise"][name] for name in data.class_names]
        return np.array(
            [
                *(f_measure[key] for key in ("f_measure", "precision", "recall")),
                *(
                    errors[f"{key}_rate"]
                    for key in ("error", "substitution", "deletion", "insertion")
                ),
                found["class_wise_average"]["f_measure"]["f_measure"],
                *(of["f_measure"]["f_measure"] for of in classes),
                *(of["error_rate"]["error_rate"] for of in classes),
            ]
        )

    def segments() -> Numbers:
        judge = sed_eval.sound_event.SegmentBasedMetrics(data.class_names, time_resolution=1.0)
        return results(judge)

    def events() -> Numbers:
        judge = sed_eval.sound_event.EventBasedMetrics(
            data.class_names,
            t_collar=COLLAR_SECONDS,
            percentage_of_length=COLLAR_RATIO,
            event_matching_type="optimal",
        )
        return results(judge)

    return segments, events


def _our_tags(data: Data, *, ranked: bool) -> Numbers:
    """``ranked`` says whether the peer ranks too; our time includes that in any case."""
    scores = tagging_scores(data.tags, data.probabilities, THRESHOLD, data.class_names)
    decided = [
        *(scores.micro.f1, scores.micro.precision, scores.micro.recall),
        *(scores.macro_f1, scores.macro_precision, scores.macro_recall),
        *scores.counts.f1,
    ]
    ranks = [
        *(scores.micro_average_precision, scores.mean_average_precision, scores.lwlrap),
        *(scores.micro_roc_auc, scores.macro_roc_auc),
        *(*scores.average_precision, *scores.roc_auc),
    ]
    return np.array([*decided, *ranks] if ranked else decided)


def _sed_eval_tags(data: Data) -> Measured:
    """Without the probabilities, of which it asks only for an equal error rate."""

    def listed(table: NDArray[np.bool_]) -> MetaDataContainer:
        return MetaDataContainer(
            [
                {"filename": clip, "tags": [data.class_names[k] for k in np.flatnonzero(row)]}
                for clip, row in zip(data.reference, table, strict=True)
            ]
        )

    wanted, found = listed(data.tags), listed(data.probabilities > THRESHOLD)

    def tags() -> Numbers:
        judge = sed_eval.audio_tag.AudioTaggingMetrics(data.class_names)
        results = judge.evaluate(wanted, found).results()
        keys = ("f_measure", "precision", "recall")
        return np.array(
            [
                *(results["overall"]["f_measure"][key] for key in keys),
                *(results["class_wise_average"]["f_measure"][key] for key in keys),
                *(results["class_wise"][k]["f_measure"]["f_measure"] for k in data.class_names),
            ]
        )

    return tags


def _scikit_learn(data: Data) -> Measured:
    tags, given = data.tags, data.probabilities

    def ratios(chosen: NDArray[np.bool_], average: str | None) -> list[Any]:
        found = metrics.precision_recall_fscore_support(
            tags, chosen, average=average, zero_division=0
        )
        return [found[2], found[0], found[1]]

    def scores() -> Numbers:
        chosen = given > THRESHOLD
        average, area = metrics.average_precision_score, metrics.roc_auc_score
        # Of every score the classes first: their mean is the macro average.
        precisions, areas = average(tags, given, average=None), area(tags, given, average=None)
        lwlrap = metrics.label_ranking_average_precision_score(
            tags, given, sample_weight=tags.sum(axis=1)
        )
        return np.array(
            [
                *(*ratios(chosen, "micro"), *ratios(chosen, "macro"), *ratios(chosen, None)[0]),
                *(average(tags, given, average="micro"), precisions.mean(), lwlrap),
                *(area(tags, given, average="micro"), areas.mean(), *precisions, *areas),
            ]
        )

    return scores


def _our_psds(data: Data) -> Numbers:
    durations = dict.fromkeys(data.reference, CLIP_SECONDS)
    found = [
        psds_from_scores(data.reference, data.tracks, durations, data.class_names, asked)
        for asked in (PSDS1, PSDS2)
    ]
    return np.concatenate([[scores.value, *scores.class_values] for scores in found])


def _their_psds(data: Data) -> Measured:
    frames = {
        clip: create_score_dataframe(
            track.probabilities.astype(np.float64), track.edges_seconds, data.class_names
        )
        for clip, track in data.tracks.items()
    }
    events = {
        clip: [(event.onset_seconds, event.offset_seconds, event.label) for event in of_clip]
        for clip, of_clip in data.reference.items()
    }
    durations = dict.fromkeys(data.reference, CLIP_SECONDS)

    def scores() -> Numbers:
        found = [
            psds(
                frames,
                events,
                durations,
                dtc_threshold=asked.dtc,
                gtc_threshold=asked.gtc,
                cttc_threshold=asked.cttc,
                alpha_ct=asked.alpha_ct,
                alpha_st=asked.alpha_st,
                max_efpr=asked.max_efpr_per_hour,
            )
            for asked in (PSDS1, PSDS2)
        ]
        return np.concatenate(
            [[value, *(of[name] for name in data.class_names)] for value, of, *_ in found]
        )

    return scores


# -- measuring and telling


def measured(comparison: Comparison, rounds: int) -> Row:
    """The medians over rounds in which both take their turn."""
    ours_seconds, peer_seconds, differences = [], [], []
    for _ in range(rounds):
        ours, took = _timed(comparison.ours)
        ours_seconds.append(took)
        peer, took = _timed(comparison.peer)
        peer_seconds.append(took)
        # A number that only one side has is as far off as can be.
        apart = np.where(ours == peer, 0.0, np.abs(ours - peer))
        differences.append(float(np.where(np.isnan(apart), np.inf, apart).max()))
    return Row(
        comparison.name,
        comparison.peer_name,
        statistics.median(ours_seconds),
        statistics.median(peer_seconds),
        max(differences),
    )


def _timed(run: Measured) -> tuple[Numbers, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = time.perf_counter()
        found = run()
        return found, time.perf_counter() - started


def section(command: str, data: Data, rounds: int, rows: list[Row]) -> str:
    """What the page says."""
    versions = ", ".join(f"{name} {version(name)}" for name in PEERS)
    events = [sum(map(len, side.values())) for side in (data.reference, data.estimate)]
    lines = [
        f"`{command}`; {made_on()}; Python {platform.python_version()}, {versions}.",
        "",
        f"Made data: {len(data.tags)} clips of {CLIP_SECONDS:g} s, {CLASSES} classes, {FRAMES} "
        f"frames, {data.tags.sum(axis=1).mean():.1f} tags a clip, {events[0]} reference events and "
        f"{events[1]} estimated ones; seed {SEED}. Medians of {rounds} rounds, in each of which "
        "both took their turn.",
        "",
        "| scores | peer | ours, ms | peer, ms | times as fast | largest difference |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.name} | {row.peer_name} | {1000 * row.ours_seconds:.1f} | "
            f"{1000 * row.peer_seconds:.1f} | {row.peer_seconds / row.ours_seconds:.0f} | "
            f"{row.largest_difference:.1e} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parsed("scores", options("scores", __doc__), argv)
    data = made(QUICK_CLIPS if arguments.quick else CLIPS)
    rows = []
    for comparison in comparisons(data):
        print(f"{comparison.name} beside {comparison.peer_name} ...", file=sys.stderr, flush=True)
        rows.append(measured(comparison, arguments.rounds))
    tell(arguments.page, "scores", section(arguments.command, data, arguments.rounds, rows))


if __name__ == "__main__":
    main()
