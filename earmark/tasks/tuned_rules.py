"""Which thresholds a trained model gets, and what it scores with them on what was held out."""

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from earmark.audio import AudioError, duration_seconds, read
from earmark.calibration import calibrated, calibrated_track, fitted
from earmark.config import (
    ClassCalibration,
    ClassDecoding,
    DecodingSettings,
    Target,
    TuningSettings,
)
from earmark.data.labels import Clip
from earmark.data.windows import windows
from earmark.errors import UserError
from earmark.events import Event
from earmark.inference.decoding import decided_scores, decode
from earmark.inference.recogniser import Recogniser
from earmark.metrics.collars import EventEvidence
from earmark.metrics.confusion import event_confusion, tag_confusion
from earmark.metrics.counts import Counts, mean_over_classes
from earmark.metrics.curves import Reliability
from earmark.metrics.false_events import FalseEvents
from earmark.metrics.psds import PSDS1, PSDS2, PsdsEvidence
from earmark.metrics.segments import SegmentEvidence
from earmark.metrics.tagging import TaggingEvidence, TaggingScores
from earmark.model.bundle import UNCALIBRATED, Calibration, Judged
from earmark.scores import ScoreTrack
from earmark.tasks.judging import judge
from earmark.tasks.progress import in_short, progress, say, working
from earmark.tasks.training_data import HeldOut
from earmark.tuning.events import tuned_on_events
from earmark.tuning.rules import AS_IT_IS, PRIOR_TAGS, moved_rule, tuned_on_tags, untuned

FALSE_EVENTS = "false events per hour"

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
        calibration: of the probabilities that the rules are for.
        own: classes, by number, whose rules are those of a model before; they stay so where nothing
            held out says how they begin and end.
    """

    rules: list[ClassDecoding]
    note: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    judged: Judged | None = None
    calibration: Calibration = UNCALIBRATED
    own: Set[int] = frozenset()


def choose(
    recogniser: Recogniser,
    held: HeldOut,
    decoding: DecodingSettings,
    tuning: TuningSettings,
    *,
    better: bool = False,
) -> Chosen:
    """The best calibration and rules for what was held out, as a model that is there sees it.

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
    raw = recogniser.with_calibration(())
    units = list(_units(held, recogniser.window_seconds))
    rows: list[tuple[list[bool], list[float]]] = []
    told: list[list[bool]] = []
    heard: list[Clip] = []
    with progress("tags of the validation clips", len(units)) as step:
        for clip in units:
            try:
                given = _tags_of(raw, clip)
                rows.append(([name in clip.labels for name in names], list(given.values())))
                told.append([clip.knows(name) for name in names])
                heard.append(clip)
            except AudioError as error:
                say(f"unreadable: {error}")
            step()
    if rows:
        tags = np.array([row[0] for row in rows])
        posteriors = np.array([row[1] for row in rows], np.float32)
        known = np.array(told)
        chosen = choose_on_tags(
            held.in_parts(heard),
            names,
            decoding,
            tuning,
            tags,
            posteriors,
            [source_of(clip) for clip in heard],
            known=None if known.all() else known,
            votes=votes,
            own=own,
            was=dict(enumerate(recogniser.calibration)),
        )
    else:
        chosen = choose_untuned(len(names), decoding)
    if not held.of_events:
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
    classes: int,
    decoding: DecodingSettings,
    earlier: Mapping[int, ClassDecoding] | None = None,
    was: Mapping[int, ClassCalibration] | None = None,
) -> Chosen:
    """The settings' rules, where nothing was held out.

    Of some classes, by number, the earlier ones, and the calibration that they were for.
    """
    rules = untuned(classes, decoding)
    kept = [(was or {}).get(k, AS_IT_IS) for k in range(classes)]
    for k, rule in (earlier or {}).items():
        rules[k] = rule
    as_before = "as they were in the model that it started from, " if earlier else ""
    others = "new class" if earlier else "class"
    note = f"{decoding.threshold} for every {others}, since nothing was held out to tune them on"
    calibration = _calibration(kept, as_before.strip(", "))
    return Chosen(rules, as_before + note, calibration=calibration, own=(earlier or {}).keys())


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
    was: Mapping[int, ClassCalibration] | None = None,
) -> Chosen:
    """Rules whose tag thresholds are the best for validation clips (N, K), calibrated on these.

    ``posteriors`` are as they are before calibration, and ``sources`` (N,) where the clips are
    from. Where there are rules to better, ``own``, all else in them stays. Where the posteriors
    are shares of frames (``votes``), frame thresholds are the settings'. What isn't ``known``
    (N, K) counts for nothing. Of classes that can't be tuned, the ``earlier`` rules stay, by
    number. Such rules are for probabilities that are calibrated as they were, ``was``, by number.
    """
    # The best threshold for a class that nothing held out has would be to never give it, and for
    # one that nothing is known to lack to always give it.
    told = np.asarray(tags.any(axis=0))
    if known is not None:
        told &= (known & ~tags).any(axis=0)
    earlier, was = earlier or {}, was or {}
    # Of a class that is learnt further, a calibration of earlier frames says nothing any more.
    start = [
        was.get(k, AS_IT_IS) if own is not None or (k in earlier and not told[k]) else AS_IT_IS
        for k in range(len(class_names))
    ]
    calibration = _calibrated_on_tags(start, tags, posteriors, known, held, tuning)
    classes = calibration.classes or tuple(start)
    if own is not None:
        own = [moved_rule(rule, was.get(k, AS_IT_IS), classes[k]) for k, rule in enumerate(own)]
    posteriors = calibrated([of_class.clips for of_class in classes], posteriors)
    if known is not None:
        # Below all thresholds, and no tag: that changes no F1 and no average precision.
        posteriors = np.where(known, posteriors, np.float32(-1))
    kept = {
        k: earlier[k].tag_threshold
        if k in earlier
        else decoding.threshold
        if own is None
        else own[k].tag_threshold
        for k in np.flatnonzero(~told).tolist()
    }
    rules = tuned_on_tags(
        tags, posteriors.clip(min=0), decoding, tuning, votes, kept, calibration=classes
    )
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
    if tuning.shares_one_rule:
        note += f", drawn towards {decoding.threshold} with the weight of {PRIOR_TAGS} tags"
    sides = tags, posteriors, class_names
    evidence = _tag_evidence(rules, *sides)
    tagging = evidence.scores()
    judgeable = np.ones(told.shape, np.bool_)
    if known is not None:
        judgeable = np.asarray(known.any(axis=0))
    scores = _finite(_tag_scores(tagging, judgeable, tuning))
    short = _short(tagging.counts, class_names, tuning)
    before = {}
    if own is not None:
        before = _finite(_tag_scores(_tag_evidence(own, *sides).scores(), judgeable, tuning))
    judged = judge(
        held.described,
        lambda weights: _tag_scores(evidence.scores(weights), judgeable, tuning),
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
        same = "the same" if classes == (AS_IT_IS,) * len(classes) else "these before that"
        frames = "frame thresholds," if votes else f"frame thresholds are {same},"
        note += (
            f"; {frames} gaps and shortest events are the settings', since there were no times "
            "to tune them on"
        )
    else:
        note += "; frame thresholds and the rest are as they were, without times to tune them on"
    theirs = kept.keys() & earlier.keys() if own is None else set(range(len(rules)))
    return Chosen(rules, note, scores, before, judged, calibration, theirs)


def choose_on_events(
    held: HeldOut,
    decoding: DecodingSettings,
    tuning: TuningSettings,
    before: Chosen,
    recogniser: Recogniser,
) -> Chosen:
    """Rules that are the best for the events of the timed recordings, too, calibrated on these.

    Those of classes that aren't known of all of these stay, and aren't scored. Where false events
    are to be bounded, and no recording is timed, the rules are those so far within the bound.

    Args:
        held: what to tune on; recordings that can't be read are left out.
        decoding: the tag gate.
        tuning: what "best" means.
        before: the rules so far, of which the tag thresholds stay.
        recogniser: the trained model, whose rules are to be bettered.
    """
    names = recogniser.class_names
    told = [k for k, name in enumerate(names) if all(clip.knows(name) for clip in held.timed)]
    raw = recogniser.with_calibration(())
    tracks: dict[str, ScoreTrack] = {}
    references: dict[str, list[Event]] = {}
    negatives: dict[str, ScoreTrack] = {}
    sources: list[str] = []
    with progress("tuning", len(held.timed) + len(held.negatives)) as step:
        for clip in held.timed:
            try:
                tracks[clip.filename] = raw.scores(clip.path).of_classes(told)
                references[clip.filename] = list(clip.events or ())
                sources.append(source_of(clip))
            except AudioError as error:
                say(f"unreadable: {error}")
            step()
        for path in held.negatives:
            try:
                negatives[str(path)] = raw.scores(path)
            except AudioError as error:
                say(f"unreadable: {error}")
            step()
    if held.timed and not tracks:
        raise UserError(f"no recording can be read of {held.timed_described}")
    if held.negatives and not negatives:
        raise UserError("no recording can be read of those that hold none of the classes")
    bounded = tuning.max_false_events_per_hour is not None
    if bounded and not negatives and all(references.values()):
        raise UserError(
            "tuning.max_false_events_per_hour needs held-out recordings that hold none of the "
            "classes, and none of those listed without events can be read"
        )
    calibration = before.calibration
    if tracks and tuning.calibrate:
        calibration = _calibrated_on_events(
            calibration, names, told, tracks, references, held, tuning
        )
    classes = calibration.classes or (AS_IT_IS,) * len(names)
    of_told = [classes[k] for k in told]
    tracks = {name: calibrated_track(of_told, track) for name, track in tracks.items()}
    negatives = {name: calibrated_track(classes, track) for name, track in negatives.items()}
    of_negatives = {name: track.of_classes(told) for name, track in negatives.items()}
    own = [before.rules[k] for k in told]
    if tracks:
        own = [moved_rule(recogniser.rules[k], recogniser.calibration[k], classes[k]) for k in told]
    rules = [
        rule.model_copy(update={"tag_threshold": before.rules[k].tag_threshold})
        for k, rule in zip(told, own, strict=True)
    ]
    if tracks or tuning.max_false_events_per_hour is not None:
        with working("choosing the rules for events"):
            rules = tuned_on_events(
                rules,
                list(tracks.values()),
                list(references.values()),
                decoding,
                tuning,
                list(of_negatives.values()),
                [place for place, k in enumerate(told) if k in before.own],
            )
    note, judged = before.note, before.judged
    scores: dict[str, float] = {}
    earlier: dict[str, float] = {}
    if tracks:
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
            say(f"no rule for events reaches a precision of {tuning.precision}: {in_short(short)}")
        if before.before:
            found = _EventEvidence(own, tracks, references, decoding, tuning).scores()
            earlier = _finite(found)
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
            same = held.timed_described == held.described
            on = before.judged.on if same else f"{before.judged.on} and {judged.on}"
            ends = before.judged.intervals | judged.intervals
            judged = judged.model_copy(update={"on": on, "intervals": ends})
    quiet = of_negatives | {n: track for n, track in tracks.items() if not references[n]}
    chosen = dict(zip(told, rules, strict=True))
    of_all = [chosen.get(k, rule) for k, rule in enumerate(before.rules)]
    if quiet:
        per_hour = _false_per_hour(rules, quiet, decoding)
        if before.before:
            earlier[FALSE_EVENTS] = _false_per_hour(own, quiet, decoding)
        rest = [k for k in range(len(names)) if k not in chosen]
        if rest and negatives:  # which hold none of these, either
            beside = {name: track.of_classes(rest) for name, track in negatives.items()}
            of_rest = [of_all[k] for k in rest]
            if tuning.max_false_events_per_hour is not None:
                left = max(tuning.max_false_events_per_hour - per_hour, 0.0)
                within = tuning.model_copy(update={"max_false_events_per_hour": left})
                of_rest = tuned_on_events(of_rest, [], [], decoding, within, list(beside.values()))
                for k, rule in zip(rest, of_rest, strict=True):
                    of_all[k] = rule
            per_hour += _false_per_hour(of_rest, beside, decoding)
        scores[FALSE_EVENTS] = per_hour
        hours = sum(track.stop_seconds for track in quiet.values()) / 3600
        most = tuning.max_false_events_per_hour
        bound = "" if most is None else f", of which {most:g} were allowed"
        note += (
            f"; {per_hour:.3g} {FALSE_EVENTS} on {hours:.3g} hours that hold none of the classes"
            f"{bound}"
        )
    return Chosen(
        of_all, note, before.scores | scores, before.before | earlier, judged, calibration
    )


def _false_per_hour(
    rules: Sequence[ClassDecoding], quiet: Mapping[str, ScoreTrack], decoding: DecodingSettings
) -> float:
    names = next(iter(quiet.values())).class_names
    found = {name: decode(t, rules, tag_gate=decoding.tag_gate) for name, t in quiet.items()}
    seconds = {name: track.stop_seconds for name, track in quiet.items()}
    nothing: dict[str, list[Event]] = {name: [] for name in quiet}
    return float(FalseEvents(nothing, found, names, seconds).per_hour().sum())


def _calibrated_on_tags(
    before: Sequence[ClassCalibration],
    tags: NDArray[np.bool_],
    posteriors: NDArray[np.float32],
    known: NDArray[np.bool_] | None,
    held: HeldOut,
    tuning: TuningSettings,
) -> Calibration:
    """Each class's clips calibrated on those of which is known (N, K) whether they have it.

    A class that all or none of them have stays as it was before.
    """
    if not tuning.calibrate:
        return _calibration(before, "as before")
    told = np.ones(tags.shape, np.bool_) if known is None else known
    classes = list(before)
    for k, of_class in enumerate(before):
        here = told[:, k]
        if tags[here, k].any() and not tags[here, k].all():
            line = fitted(posteriors[here, k], tags[here, k])
            classes[k] = of_class.model_copy(update={"clips": line})
    given = calibrated([of_class.clips for of_class in classes], posteriors)
    errors = {"clips": _errors(tags[told], posteriors[told], given[told])}
    return _calibration(classes, f"clips on {held.described}", errors)


def _calibrated_on_events(
    before: Calibration,
    class_names: Sequence[str],
    told: Sequence[int],
    tracks: Mapping[str, ScoreTrack],
    references: Mapping[str, Sequence[Event]],
    held: HeldOut,
    tuning: TuningSettings,
) -> Calibration:
    """Each class's frames calibrated on tracks of the classes ``told``, which are as they came.

    Recordings weigh alike, and all together as many observations as they have segments: frames
    that are near each other say the same.
    """
    truth = np.concatenate([sounding(track, references[name]) for name, track in tracks.items()])
    lengths = np.array([len(track.probabilities) for track in tracks.values()])
    seconds = sum(track.stop_seconds for track in tracks.values())
    of_each = seconds / tuning.resolution_seconds / len(tracks)
    weights = np.repeat(of_each / lengths, lengths)
    classes = list(before.classes) or [AS_IT_IS] * len(class_names)
    given = np.concatenate([track.probabilities for track in tracks.values()])
    for place, k in enumerate(told):
        if truth[:, place].any() and not truth[:, place].all():
            line = fitted(given[:, place], truth[:, place], weights)
            classes[k] = classes[k].model_copy(update={"frames": line})
    after = calibrated([classes[k].frames for k in told], given)
    errors = {"frames": _errors(truth, given, after)}
    same = held.timed_described == held.described and before.note
    on = "the same" if same else held.timed_described
    note = f"{before.note}; frames on {on}".removeprefix("; ")
    return _calibration(classes, note, before.errors | errors)


def _calibration(
    classes: Sequence[ClassCalibration],
    note: str,
    errors: dict[str, tuple[float, float]] | None = None,
) -> Calibration:
    if all(of_class == AS_IT_IS for of_class in classes):
        return UNCALIBRATED
    return Calibration(classes=tuple(classes), note=note, errors=errors or {})


def _errors(
    truth: NDArray[np.bool_], before: NDArray[np.float32], after: NDArray[np.float32]
) -> tuple[float, float]:
    """Expected calibration errors of all pairs together, before and after."""
    pairs = truth.reshape(-1, 1)
    first, second = (Reliability.of(pairs, of.reshape(-1, 1)) for of in (before, after))
    return first.calibration_error, second.calibration_error


def sounding(track: ScoreTrack, events: Sequence[Event]) -> NDArray[np.bool_]:
    """(T, K) whether an event of the class sounds in the middle of a frame."""
    edges = track.edges_seconds
    middles = (edges[:-1] + edges[1:]) / 2
    sounding = np.zeros(track.probabilities.shape, np.bool_)
    for event in events:
        if event.label in track.class_names:
            first, beyond = np.searchsorted(middles, [event.onset_seconds, event.offset_seconds])
            sounding[first:beyond, track.class_names.index(event.label)] = True
    return sounding


def _goal_of_tags(tuning: TuningSettings) -> str:
    if tuning.precision is not None:
        return f"maximise recall at a precision of at least {tuning.precision:g}"
    alike = " with one for all classes" if tuning.shares_one_rule else ""
    return f"maximise {tuning.average} F1{alike}"


def _goal_of_events(tuning: TuningSettings) -> str:
    segments = f"in segments of {tuning.resolution_seconds:g} s"
    if tuning.precision is not None:
        return f"{_goal_of_tags(tuning)} {segments}"
    goals: dict[Target, str] = {
        "segment_f1": f"{_goal_of_tags(tuning)} {segments}",
        "error_rate": f"minimise the error rate {segments}",
        "event_f1": f"{_goal_of_tags(tuning)} of events within {tuning.collar_seconds:g} s",
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


def _tag_scores(
    tagging: TaggingScores, judgeable: NDArray[np.bool_], tuning: TuningSettings
) -> dict[str, float]:
    """What is said of tags; the means are over the classes (K,) of which anything is known."""
    scores = {
        "tagging micro F1": float(tagging.micro.f1),
        "tagging macro F1": mean_over_classes(tagging.counts.f1[judgeable]),
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
