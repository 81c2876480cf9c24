"""Which thresholds a trained model gets, and what it scores with them on what was held out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from earmark.audio import AudioError, duration_seconds, read
from earmark.config import ClassDecoding, DecodingSettings, Target, TuningSettings
from earmark.data.labels import Clip
from earmark.data.windows import windows
from earmark.errors import UserError
from earmark.events import Event
from earmark.inference.decoding import decided_scores, decode
from earmark.inference.recogniser import Recogniser
from earmark.metrics.collars import event_scores
from earmark.metrics.counts import Counts
from earmark.metrics.psds import PSDS1, PSDS2, psds_from_scores
from earmark.metrics.segments import segment_scores
from earmark.metrics.tagging import tagging_scores
from earmark.scores import ScoreTrack
from earmark.tasks.progress import progress, say
from earmark.tasks.training_data import HeldOut
from earmark.tuning import tuned_on_events, tuned_on_tags, untuned


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rules, one a class.

    Attributes:
        rules: how probabilities become tags and events.
        note: how they were chosen, for the model card.
        scores: what they give on the validation clips, by name.
        before: the same of the rules that the model had, where they were to be bettered.
    """

    rules: list[ClassDecoding]
    note: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)


def choose(
    recogniser: Recogniser,
    held: HeldOut,
    decoding: DecodingSettings,
    tuning: TuningSettings,
    *,
    better: bool = False,
) -> Chosen:
    """The best rules for what was held out, as a model sees it that is there already.

    Args:
        recogniser: the model.
        held: what to tune on.
        decoding: what the rules follow where they can't be tuned.
        tuning: what "best" means.
        better: whether the model's own rules stay instead, of a class that nothing held out has,
            or of events if there are no times to tune them on.
    """
    names, votes = recogniser.class_names, recogniser.votes
    own = recogniser.rules if better else None
    units = list(_units(held, recogniser.window_seconds))
    rows: list[tuple[list[bool], list[float]]] = []
    with progress("tags of the validation clips", len(units)) as step:
        for clip in units:
            try:
                given = _tags_of(recogniser, clip)
                rows.append(([name in clip.labels for name in names], list(given.values())))
            except AudioError as error:
                say(f"unreadable: {error}")
            step()
    if rows:
        tags = np.array([row[0] for row in rows])
        posteriors = np.array([row[1] for row in rows], np.float32)
        chosen = choose_on_tags(
            held, names, decoding, tuning, tags, posteriors, votes=votes, own=own
        )
    else:
        chosen = choose_untuned(len(names), decoding)
    if not held.timed:
        return chosen
    return choose_on_events(held, decoding, tuning, chosen, recogniser)


def _units(held: HeldOut, window_seconds: float) -> Iterator[Clip]:
    """Validation clips no longer than training clips."""
    for clip in held.clips:
        if clip.start_seconds is None and held.strong:
            try:
                seconds = duration_seconds(clip.path)
            except AudioError as error:
                say(f"unreadable: {error}")
                continue
            if seconds > 1.05 * window_seconds:
                yield from windows(clip, seconds, window_seconds)
                continue
        yield clip


def _tags_of(recogniser: Recogniser, clip: Clip) -> dict[str, float]:
    if clip.start_seconds is None:
        return recogniser.tag(clip.path)
    rate = recogniser.rate_hz
    samples = read(clip.path, rate, clip.start_seconds, clip.stop_seconds)
    return recogniser.tag(samples, rate_hz=rate)


def choose_untuned(classes: int, decoding: DecodingSettings) -> Chosen:
    """The settings' rules, where nothing was held out."""
    note = f"{decoding.threshold} for every class, since nothing was held out to tune them on"
    return Chosen(untuned(classes, decoding), note)


def choose_on_tags(
    held: HeldOut,
    class_names: Sequence[str],
    decoding: DecodingSettings,
    tuning: TuningSettings,
    tags: NDArray[np.bool_],
    posteriors: NDArray[np.float32],
    *,
    votes: bool = False,
    own: Sequence[ClassDecoding] | None = None,
) -> Chosen:
    """Rules whose tag thresholds are the best for validation clips (N, K).

    Where there are rules to better, ``own``, all else in them stays. Where the posteriors are
    shares of frames (``votes``), frame thresholds are the settings'.
    """
    # The best threshold for a class that nothing held out has would be to never give it.
    kept = {
        k: decoding.threshold if own is None else own[k].tag_threshold
        for k in np.flatnonzero(~tags.any(axis=0)).tolist()
    }
    rules = tuned_on_tags(tags, posteriors, decoding, tuning, votes, kept)
    if own is not None:
        rules = [
            before.model_copy(update={"tag_threshold": rule.tag_threshold})
            for before, rule in zip(own, rules, strict=True)
        ]
    absent = [class_names[k] for k in kept]
    note = f"tag thresholds {_goal_of_tags(tuning)} on {held.described}"
    scores, short = _tag_scores(rules, class_names, tuning, tags, posteriors)
    before = {} if own is None else _tag_scores(own, class_names, tuning, tags, posteriors)[0]
    if short:
        note += f" (tags of {', '.join(short)} don't reach it)"
        say(f"no tag threshold reaches a precision of {tuning.precision}: {', '.join(short)}")
    if absent:
        stays = str(decoding.threshold) if own is None else "as it was"
        note += f"; nothing held out has {', '.join(absent)}: {stays}"
        say(f"no clip is held out of {', '.join(absent)}: the threshold is not tuned")
    if own is None:
        frames = "frame thresholds," if votes else "frame thresholds are the same,"
        note += (
            f"; {frames} gaps and shortest events are the settings', since there were no times "
            "to tune them on"
        )
    else:
        note += "; frame thresholds and the rest are as they were, without times to tune them on"
    return Chosen(rules, note, scores, before)


def choose_on_events(
    held: HeldOut,
    decoding: DecodingSettings,
    tuning: TuningSettings,
    before: Chosen,
    recogniser: Recogniser,
) -> Chosen:
    """Rules that are the best for the events of the timed recordings, too.

    Args:
        held: what to tune on; recordings that can't be read are left out.
        decoding: the tag gate.
        tuning: what "best" means.
        before: the rules so far, of which the tag thresholds stay.
        recogniser: the trained model, whose rules are to be bettered.
    """
    tracks: dict[str, ScoreTrack] = {}
    references: dict[str, list[Event]] = {}
    with progress("tuning", len(held.timed)) as step:
        for clip in held.timed:
            try:
                tracks[clip.filename] = recogniser.scores(clip.path)
                references[clip.filename] = list(clip.events or ())
            except AudioError as error:
                say(f"unreadable: {error}")
            step()
    if not tracks:
        raise UserError(f"no recording can be read of {held.timed_described}")
    start = [
        own.model_copy(update={"tag_threshold": rule.tag_threshold})
        for own, rule in zip(recogniser.rules, before.rules, strict=True)
    ]
    rules = tuned_on_events(
        start, list(tracks.values()), list(references.values()), decoding, tuning
    )
    scores, short = _event_scores(rules, tracks, references, decoding, tuning)
    of_tags = before.note.partition("; frame thresholds")[0]
    note = (
        f"{of_tags}; frame thresholds, gate, median or boxes, gaps and shortest events "
        f"{_goal_of_events(tuning)} on {held.timed_described}"
    )
    if short:
        note += f" (events of {', '.join(short)} don't reach it)"
        say(f"no rule for events reaches a precision of {tuning.precision}: {', '.join(short)}")
    earlier = {}
    if before.before:
        found, _ = _event_scores(recogniser.rules, tracks, references, decoding, tuning)
        earlier = before.before | found
    return Chosen(rules, note, before.scores | scores, earlier)


def _goal_of_tags(tuning: TuningSettings) -> str:
    if tuning.precision is not None:
        return f"maximise recall at a precision of at least {tuning.precision:g}"
    return f"maximise {tuning.average} F1"


def _goal_of_events(tuning: TuningSettings) -> str:
    segments = f"in segments of {tuning.resolution_seconds:g} s"
    if tuning.precision is not None:
        return f"{_goal_of_tags(tuning)} {segments}"
    goals: dict[Target, str] = {
        "segment_f1": f"maximise {tuning.average} F1 {segments}",
        "error_rate": f"minimise the error rate {segments}",
        "event_f1": f"maximise {tuning.average} F1 of events within {tuning.collar_seconds:g} s",
        "psds1": "maximise PSDS, scenario 1",
        "psds2": "maximise PSDS, scenario 2",
    }
    return goals[tuning.target]


def _tag_scores(
    rules: Sequence[ClassDecoding],
    class_names: Sequence[str],
    tuning: TuningSettings,
    tags: NDArray[np.bool_],
    posteriors: NDArray[np.float32],
) -> tuple[dict[str, float], list[str]]:
    """Scores of tags, and which classes miss the precision that was asked for."""
    thresholds = np.array([rule.tag_threshold for rule in rules])
    tagging = tagging_scores(tags, posteriors, thresholds, class_names)
    scores = {
        "tagging micro F1": float(tagging.micro.f1),
        "tagging macro F1": tagging.macro_f1,
        "tagging mAP": tagging.mean_average_precision,
    }
    if tuning.precision is not None:
        scores["tagging precision"] = float(tagging.micro.precision)
        scores["tagging recall"] = float(tagging.micro.recall)
    return _finite(scores), _short(tagging.counts, class_names, tuning)


def _event_scores(
    rules: Sequence[ClassDecoding],
    tracks: Mapping[str, ScoreTrack],
    references: Mapping[str, Sequence[Event]],
    decoding: DecodingSettings,
    tuning: TuningSettings,
) -> tuple[dict[str, float], list[str]]:
    """Scores of events, among them what was tuned for, and likewise."""
    names, gate = next(iter(tracks.values())).class_names, decoding.tag_gate
    found = {name: decode(track, rules, tag_gate=gate) for name, track in tracks.items()}
    segments = segment_scores(references, found, names, tuning.resolution_seconds)
    scores = {
        "segment F1": float(segments.overall.f1),
        "segment macro F1": segments.macro_f1,
        "segment error rate": segments.error_rate,
    }
    if tuning.precision is not None:
        scores["segment precision"] = float(segments.overall.precision)
        scores["segment recall"] = float(segments.overall.recall)
    if tuning.target == "event_f1":
        collar = tuning.collar_seconds
        events = event_scores(references, found, names, collar, collar, tuning.collar_ratio)
        scores["event F1"] = float(events.overall.f1)
        scores["event macro F1"] = events.macro_f1
    if tuning.target in ("psds1", "psds2"):
        shown = {n: decided_scores(t, rules, tag_gate=gate) for n, t in tracks.items()}
        seconds = {name: float(track.edges_seconds[-1]) for name, track in tracks.items()}
        parameters = PSDS1 if tuning.target == "psds1" else PSDS2
        psds = psds_from_scores(references, shown, seconds, names, parameters)
        scores[f"PSDS, scenario {tuning.target[-1]}"] = psds.value
    return _finite(scores), _short(segments.counts, names, tuning)


def _finite(scores: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def _short(counts: Counts, class_names: Sequence[str], tuning: TuningSettings) -> list[str]:
    """Which classes, of those that occur, miss the precision that was asked for."""
    if tuning.precision is None:
        return []
    missed = (counts.precision < tuning.precision) & (counts.n_reference > 0)
    return [name for name, short in zip(class_names, missed.tolist(), strict=True) if short]
