"""Which thresholds a trained model gets, and what it scores with them on what was held out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

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
from earmark.metrics.collars import EventEvidence
from earmark.metrics.confusion import event_confusion, tag_confusion
from earmark.metrics.counts import Counts
from earmark.metrics.psds import PSDS1, PSDS2, PsdsEvidence
from earmark.metrics.segments import SegmentEvidence
from earmark.metrics.tagging import TaggingEvidence, TaggingScores
from earmark.model.bundle import Judged
from earmark.scores import ScoreTrack
from earmark.tasks.judging import judge
from earmark.tasks.progress import in_short, progress, say, working
from earmark.tasks.training_data import HeldOut
from earmark.tuning import tuned_on_events, tuned_on_tags, untuned

FEW_CLIPS = 10
"""Of a class; a threshold that is chosen on fewer is not to be trusted."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rules, one a class.

    Attributes:
        rules: how probabilities become tags and events.
        note: how they were chosen, for the model card.
        scores: what they give on the validation clips, by name.
        before: the same of the rules that the model had, where they were to be bettered.
        judged: how sure the scores are, and what is confused; None where there are none.
    """

    rules: list[ClassDecoding]
    note: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    judged: Judged | None = None


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
    told: list[list[bool]] = []
    sources: list[str] = []
    with progress("tags of the validation clips", len(units)) as step:
        for clip in units:
            try:
                given = _tags_of(recogniser, clip)
                rows.append(([name in clip.labels for name in names], list(given.values())))
                told.append([clip.knows(name) for name in names])
                sources.append(source_of(clip))
            except AudioError as error:
                say(f"unreadable: {error}")
            step()
    if rows:
        tags = np.array([row[0] for row in rows])
        posteriors = np.array([row[1] for row in rows], np.float32)
        known = np.array(told)
        chosen = choose_on_tags(
            held,
            names,
            decoding,
            tuning,
            tags,
            posteriors,
            sources,
            known=None if known.all() else known,
            votes=votes,
            own=own,
        )
    else:
        chosen = choose_untuned(len(names), decoding)
    if not held.timed:
        return chosen
    return choose_on_events(held, decoding, tuning, chosen, recogniser)


def source_of(clip: Clip) -> str:
    """Where a clip is from: its group or, if it has none, its file."""
    return f"file {clip.path}" if clip.group is None else f"group {clip.group}"


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


def choose_untuned(
    classes: int, decoding: DecodingSettings, earlier: Mapping[int, ClassDecoding] | None = None
) -> Chosen:
    """The settings' rules, where nothing was held out; of some classes, by number, the earlier."""
    rules = untuned(classes, decoding)
    for k, rule in (earlier or {}).items():
        rules[k] = rule
    as_before = "as they were in the model that it started from, " if earlier else ""
    others = "new class" if earlier else "class"
    note = f"{decoding.threshold} for every {others}, since nothing was held out to tune them on"
    return Chosen(rules, as_before + note)


def choose_on_tags(
    held: HeldOut,
    class_names: Sequence[str],
    decoding: DecodingSettings,
    tuning: TuningSettings,
    tags: NDArray[np.bool_],
    posteriors: NDArray[np.float32],
    sources: Sequence[str],
    *,
    known: NDArray[np.bool_] | None = None,
    votes: bool = False,
    own: Sequence[ClassDecoding] | None = None,
    earlier: Mapping[int, ClassDecoding] | None = None,
) -> Chosen:
    """Rules whose tag thresholds are the best for validation clips (N, K).

    ``sources`` (N,) are where the clips are from. Where there are rules to better, ``own``, all
    else in them stays. Where the posteriors are
    shares of frames (``votes``), frame thresholds are the settings'. What isn't ``known`` (N, K)
    counts for nothing. Of classes that can't be tuned, the ``earlier`` rules stay, by number.
    """
    # The best threshold for a class that nothing held out has would be to never give it, and for
    # one that nothing is known to lack to always give it.
    told = tags.any(axis=0)
    if known is not None:
        told &= (known & ~tags).any(axis=0)
        # Below all thresholds, and no tag: that changes no F1 and no average precision.
        posteriors = np.where(known, posteriors, np.float32(-1))
    earlier = earlier or {}
    kept = {
        k: earlier[k].tag_threshold
        if k in earlier
        else decoding.threshold
        if own is None
        else own[k].tag_threshold
        for k in np.flatnonzero(~told).tolist()
    }
    rules = tuned_on_tags(tags, posteriors.clip(min=0), decoding, tuning, votes, kept)
    for k in kept.keys() & earlier.keys():
        rules[k] = earlier[k]
    if own is not None:
        rules = [
            before.model_copy(update={"tag_threshold": rule.tag_threshold})
            for before, rule in zip(own, rules, strict=True)
        ]
    absent = [class_names[k] for k in kept if k not in earlier]
    as_before = [class_names[k] for k in kept if k in earlier]
    note = f"tag thresholds {_goal_of_tags(tuning)} on {held.described}"
    sides = tags, posteriors, class_names
    evidence = _tag_evidence(rules, *sides)
    tagging = evidence.scores()
    scores = _finite(_tag_scores(tagging, tuning))
    short = _short(tagging.counts, class_names, tuning)
    before = {}
    if own is not None:
        before = _finite(_tag_scores(_tag_evidence(own, *sides).scores(), tuning))
    judged = judge(
        held.described,
        lambda weights: _tag_scores(evidence.scores(weights), tuning),
        sources,
        "clips",
        tag_confusion(tags, posteriors > tagging.thresholds, class_names),
        tagging.counts.fp,
    )
    if short:
        note += f" (tags of {', '.join(short)} don't reach it)"
        say(f"no tag threshold reaches a precision of {tuning.precision}: {in_short(short)}")
    if absent:
        stays = str(decoding.threshold) if own is None else "as it was"
        note += f"; nothing held out has {', '.join(absent)}: {stays}"
        say(f"no clip is held out of {in_short(absent)}: the threshold is not tuned")
    if as_before:
        note += f"; as in the model that it started from: {', '.join(as_before)}"
        say(f"no clip is held out of {in_short(as_before)}: decided as before")
    counts = dict(zip(class_names, tags.sum(axis=0).tolist(), strict=True))
    if few := [name for name, count in counts.items() if 0 < count < FEW_CLIPS]:
        say(
            f"fewer than {FEW_CLIPS} clips are held out of {in_short(few)}: thresholds that rest "
            "on them are rough; more of them, as a table of your own, make better ones"
        )
    if own is None:
        frames = "frame thresholds," if votes else "frame thresholds are the same,"
        note += (
            f"; {frames} gaps and shortest events are the settings', since there were no times "
            "to tune them on"
        )
    else:
        note += "; frame thresholds and the rest are as they were, without times to tune them on"
    return Chosen(rules, note, scores, before, judged)


def choose_on_events(
    held: HeldOut,
    decoding: DecodingSettings,
    tuning: TuningSettings,
    before: Chosen,
    recogniser: Recogniser,
) -> Chosen:
    """Rules that are the best for the events of the timed recordings, too.

    Those of classes that aren't known of all of these stay, and aren't scored.

    Args:
        held: what to tune on; recordings that can't be read are left out.
        decoding: the tag gate.
        tuning: what "best" means.
        before: the rules so far, of which the tag thresholds stay.
        recogniser: the trained model, whose rules are to be bettered.
    """
    names = recogniser.class_names
    told = [k for k, name in enumerate(names) if all(clip.knows(name) for clip in held.timed)]
    tracks: dict[str, ScoreTrack] = {}
    references: dict[str, list[Event]] = {}
    sources: list[str] = []
    with progress("tuning", len(held.timed)) as step:
        for clip in held.timed:
            try:
                tracks[clip.filename] = _columns(recogniser.scores(clip.path), told)
                references[clip.filename] = list(clip.events or ())
                sources.append(source_of(clip))
            except AudioError as error:
                say(f"unreadable: {error}")
            step()
    if not tracks:
        raise UserError(f"no recording can be read of {held.timed_described}")
    start = [
        recogniser.rules[k].model_copy(update={"tag_threshold": before.rules[k].tag_threshold})
        for k in told
    ]
    with working("choosing the rules for events"):
        rules = tuned_on_events(
            start, list(tracks.values()), list(references.values()), decoding, tuning
        )
    evidence = _EventEvidence(rules, tracks, references, decoding, tuning)
    scores, counts = _finite(evidence.scores()), evidence.segments.scores().counts
    short = _short(counts, [names[k] for k in told], tuning)
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
        own = [recogniser.rules[k] for k in told]
        found = _EventEvidence(own, tracks, references, decoding, tuning).scores()
        earlier = before.before | _finite(found)
    judged = judge(
        held.timed_described,
        evidence.scores,
        sources,
        f"segments of {tuning.resolution_seconds:g} s",
        evidence.confusion,
        counts.fp,
        slow=evidence.psds is not None,
    )
    if before.judged is not None:
        on = dict.fromkeys([before.judged.on, judged.on])
        ends = before.judged.intervals | judged.intervals
        judged = judged.model_copy(update={"on": " and ".join(on), "intervals": ends})
    chosen = dict(zip(told, rules, strict=True))
    of_all = [chosen.get(k, rule) for k, rule in enumerate(before.rules)]
    return Chosen(of_all, note, before.scores | scores, earlier, judged)


def _columns(track: ScoreTrack, classes: Sequence[int]) -> ScoreTrack:
    """The track of some of its classes, by their numbers."""
    if len(classes) == len(track.class_names):
        return track
    chosen = list(classes)
    return replace(
        track,
        probabilities=track.probabilities[:, chosen],
        class_names=tuple(track.class_names[k] for k in chosen),
        local_tags=None if track.local_tags is None else track.local_tags[:, chosen],
        tags=None if track.tags is None else track.tags[chosen],
    )


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


def _tag_evidence(
    rules: Sequence[ClassDecoding],
    tags: NDArray[np.bool_],
    posteriors: NDArray[np.float32],
    class_names: Sequence[str],
) -> TaggingEvidence:
    thresholds = np.array([rule.tag_threshold for rule in rules])
    return TaggingEvidence(tags, posteriors, thresholds, class_names)


def _tag_scores(tagging: TaggingScores, tuning: TuningSettings) -> dict[str, float]:
    """What is said of tags."""
    scores = {
        "tagging micro F1": float(tagging.micro.f1),
        "tagging macro F1": tagging.macro_f1,
        "tagging mAP": tagging.mean_average_precision,
    }
    if tuning.precision is not None:
        scores["tagging precision"] = float(tagging.micro.precision)
        scores["tagging recall"] = float(tagging.micro.recall)
    return scores


class _EventEvidence:
    """What rules make of tracks beside what is true, to be scored in any draw of recordings."""

    def __init__(
        self,
        rules: Sequence[ClassDecoding],
        tracks: Mapping[str, ScoreTrack],
        references: Mapping[str, Sequence[Event]],
        decoding: DecodingSettings,
        tuning: TuningSettings,
    ) -> None:
        names, gate = next(iter(tracks.values())).class_names, decoding.tag_gate
        found = {name: decode(track, rules, tag_gate=gate) for name, track in tracks.items()}
        seconds = {name: float(track.edges_seconds[-1]) for name, track in tracks.items()}
        self._tuning = tuning
        self.segments = SegmentEvidence(references, found, names, tuning.resolution_seconds)
        self.confusion = event_confusion(
            references, found, names, tuning.resolution_seconds, seconds
        )
        self.events: EventEvidence | None = None
        self.psds: PsdsEvidence | None = None
        if tuning.target == "event_f1":
            collar = tuning.collar_seconds
            self.events = EventEvidence(
                references, found, names, collar, collar, tuning.collar_ratio
            )
        if tuning.target in ("psds1", "psds2"):
            shown = {n: decided_scores(t, rules, tag_gate=gate) for n, t in tracks.items()}
            parameters = PSDS1 if tuning.target == "psds1" else PSDS2
            self.psds = PsdsEvidence.from_scores(references, shown, seconds, names, parameters)

    def scores(self, weights: NDArray[np.int64] | None = None) -> dict[str, float]:
        """What is said of events, among it what was tuned for."""
        segments = self.segments.scores(weights)
        scores = {
            "segment F1": float(segments.overall.f1),
            "segment macro F1": segments.macro_f1,
            "segment error rate": segments.error_rate,
        }
        if self._tuning.precision is not None:
            scores["segment precision"] = float(segments.overall.precision)
            scores["segment recall"] = float(segments.overall.recall)
        if self.events is not None:
            events = self.events.scores(weights)
            scores["event F1"] = float(events.overall.f1)
            scores["event macro F1"] = events.macro_f1
        if self.psds is not None:
            name = f"PSDS, scenario {self._tuning.target[-1]}"
            scores[name] = self.psds.scores(weights).value
        return scores


def _finite(scores: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def _short(counts: Counts, class_names: Sequence[str], tuning: TuningSettings) -> list[str]:
    """Which classes, of those that occur, miss the precision that was asked for."""
    if tuning.precision is None:
        return []
    missed = (counts.precision < tuning.precision) & (counts.n_reference > 0)
    return [name for name, short in zip(class_names, missed.tolist(), strict=True) if short]
