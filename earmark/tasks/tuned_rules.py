"""Which thresholds a trained model gets, and what it scores with them on what was held out."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from earmark.audio import AudioError, duration_seconds, read
from earmark.calibration import calibrated, calibrated_track
from earmark.config import ClassCalibration, ClassDecoding, DecodingSettings, TuningSettings
from earmark.data.labels import Clip
from earmark.data.windows import windows
from earmark.errors import UserError
from earmark.events import Event
from earmark.inference.decoding import decode
from earmark.inference.recogniser import Recogniser
from earmark.metrics.confusion import tag_confusion
from earmark.metrics.false_events import FalseEvents
from earmark.model.bundle import UNCALIBRATED, Calibration, Judged
from earmark.scores import ScoreTrack
from earmark.tasks.held_out_calibration import (
    calibrated_on_events,
    calibrated_on_tags,
    calibration_of,
)
from earmark.tasks.held_out_scores import (
    RuledEvents,
    finite_scores,
    goal_of_events,
    goal_of_tags,
    short_of_precision,
    tag_evidence,
    tag_scores,
)
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
    calibration = calibration_of(kept, as_before.strip(", "))
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
    calibration = calibrated_on_tags(start, tags, posteriors, known, held, tuning)
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
    note = f"tag thresholds {goal_of_tags(tuning)} on {held.described}"
    if tuning.shares_one_rule:
        note += f", drawn towards {decoding.threshold} with the weight of {PRIOR_TAGS} tags"
    sides = tags, posteriors, class_names
    evidence = tag_evidence(rules, *sides)
    tagging = evidence.scores()
    judgeable = np.ones(told.shape, np.bool_)
    if known is not None:
        judgeable = np.asarray(known.any(axis=0))
    scores = finite_scores(tag_scores(tagging, judgeable, tuning))
    short = short_of_precision(tagging.counts, class_names, tuning)
    before = {}
    if own is not None:
        before = finite_scores(tag_scores(tag_evidence(own, *sides).scores(), judgeable, tuning))
    judged = judge(
        held.described,
        lambda weights: tag_scores(evidence.scores(weights), judgeable, tuning),
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
        calibration = calibrated_on_events(
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
        evidence = RuledEvents(rules, tracks, references, decoding, tuning)
        scores, counts = finite_scores(evidence.scores()), evidence.segments.scores().counts
        short = short_of_precision(counts, [names[k] for k in told], tuning)
        of_tags = before.note.partition("; frame thresholds")[0]
        note = (
            f"{of_tags}; frame thresholds, gate, median or boxes, gaps and shortest events "
            f"{goal_of_events(tuning)} on {held.timed_described}"
        )
        if short:
            note += f" (events of {', '.join(short)} don't reach it)"
            say(f"no rule for events reaches a precision of {tuning.precision}: {in_short(short)}")
        if before.before:
            found = RuledEvents(own, tracks, references, decoding, tuning).scores()
            earlier = finite_scores(found)
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
