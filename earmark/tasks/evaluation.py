"""``evaluate``: how good predicted tags or events are, held against a reference."""

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.config import COLLAR_SECONDS, SEGMENT_SECONDS
from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.tables import digest
from earmark.metrics.bootstrap import (
    LEVEL,
    RESAMPLES,
    Comparison,
    Interval,
    compare,
    intervals,
)
from earmark.metrics.collars import EventEvidence
from earmark.metrics.curves import PrecisionRecall, Reliability
from earmark.metrics.false_events import FalseEvents
from earmark.metrics.intersections import MOST_SECONDS, IntersectionEvidence
from earmark.metrics.psds import PSDS1, PSDS2, PsdsEvidence, PsdsParameters
from earmark.metrics.segments import MOST_SEGMENTS, SegmentEvidence
from earmark.metrics.tagging import TaggingEvidence
from earmark.outputs.evaluation import Evaluation, Scored
from earmark.outputs.scorecards import TUNED_HERE, EventCard, FrameCard, Scorecard, TagCard
from earmark.tasks.clip_names import Match
from earmark.tasks.evaluation_inputs import (
    DEFAULT_THRESHOLD,
    Prediction,
    Reference,
    above,
    read_prediction,
    read_reference,
    tuned_here,
)
from earmark.tasks.progress import working
from earmark.writing import replacing

__all__ = ["Evaluation", "evaluate"]

SEED = 0

FINEST_SECONDS = 1e-6
"""The shortest segments: far above the tolerance of boundaries."""

RESAMPLES_OF_FRAMES = 200
"""Draws for frame scores: each takes 100 times as long as one of events."""

SHARED = 0.5
"""Part of an event that must be shared, for intersection-based F1."""


def evaluate(
    reference: Path,
    prediction: Path,
    *,
    durations: Path | None = None,
    audio: Path | None = None,
    thresholds: str | float | Path | None = None,
    resolution: float = SEGMENT_SECONDS,
    collar: float = COLLAR_SECONDS,
    match: Match = "exact",
    tag_every_clip: bool = False,
    extra_classes: bool = False,
    against: Path | None = None,
    json: Path | None = None,
    report: Path | None = None,
    card: Path | None = None,
    data_name: str | None = None,
) -> Evaluation:
    """Scores predicted tags, events or frame scores; which of them, the columns tell.

    Events are scored against a strong reference: in segments, by their boundaries and by the time
    they share with it. Tags, or the probabilities of clips, are scored against the tags of the
    reference or, where it is strong, the classes of its events. A folder of frame scores, as
    detect writes it, gives PSDS. A clip that the prediction leaves out counts with its misses. Of
    every headline score the 95 % interval over draws of the clips is given; clips of one group, or
    parts of one file, are drawn together. Where the recordings' lengths are known, what is found
    in those without an event counts as false events per hour.

    Args:
        reference: a table of labels in any format that is read.
        prediction: a table of events, of clip probabilities or of tags, or a folder of tables of
            events or of frame scores, one a recording.
        durations: the files to score and how long they last; without it those of the reference. A
            file that the reference leaves out is scored as empty. PSDS needs them.
        audio: in place of durations, the folder of the recordings, all of which are scored.
        thresholds: for clip probabilities: one number, or a model folder with one a class.
            Without it those of the card's model or, without a card, 0.5. For frame scores: a
            number, above which frames are events.
        resolution: seconds of a segment, for events.
        collar: seconds by which an event's boundaries may be missed; its offset by half of its
            length, if that is more.
        match: whether file names must be equal, or only their stems: without folder, suffix and a
            leading Y, or the same part of a video.
        tag_every_clip: a clip of which no probability is above its threshold gets the tag of the
            largest one.
        extra_classes: counts classes that the reference lacks as false alarms, where otherwise
            they are an error.
        against: a second prediction of the same kind to compare this one with.
        json: a file ending in .json to write the result to.
        report: a file ending in .html for a page with curves.
        card: the model folder that made the prediction: its model card gets the scores, in the
            place of those of this kind on data of this name, if it has such.
        data_name: what the card calls the data; without, as the reference's file is called.

    Raises:
        UserError: a table that can't be read, tables that don't fit each other, no clip in
            common, times beyond a clip, or an option that the prediction has no use for.
    """
    for path, suffix in ((json, ".json"), (report, ".html")):
        if path is not None and path.suffix != suffix:
            raise UserError(f"the result goes to a file ending in {suffix}", where=path)
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError("there is no such folder for the result", where=path.parent)
    if not FINEST_SECONDS <= resolution < math.inf:
        raise UserError(f"a resolution must be at least {FINEST_SECONDS:g} s, came as {resolution}")
    if not 0 <= collar < math.inf:
        raise UserError(f"a collar must be at least 0 s, came as {collar}")
    if data_name is not None and card is None:
        raise UserError("--data-name is for the model card; give the model folder with --card")
    if card is not None and against is not None:
        raise UserError("a model card has scores of one prediction; leave out --against or --card")
    known = None if card is None else _classes_of(card)
    truth = read_reference(reference, durations, audio, match)
    found = [
        read_prediction(path, thresholds, truth, match, extra_classes, card)
        for path in (prediction, against)
        if path is not None
    ]
    _check_kinds(found, resolution, collar)
    class_names = tuple(
        sorted({*truth.table.class_names, *(n for f in found for n in f.class_names)})
    )
    if tag_every_clip and any(one.thresholds_from is None or one.tags is None for one in found):
        raise UserError(
            "--tag-every-clip is for clip probabilities; leave it out", where=prediction
        )
    if known is not None and (unknown := set(found[0].class_names).difference(known)):
        raise UserError(
            f"the model has no class '{min(unknown)}' of the prediction; give the folder of the "
            "model that made it",
            where=card,
        )
    with working("scoring"):
        scored = [
            _scored(one, truth, class_names, resolution, collar, tag_every_clip) for one in found
        ]

    groups = truth.groups
    sources = len(set(groups))
    resamples = RESAMPLES if found[0].tracks is None else min(RESAMPLES, RESAMPLES_OF_FRAMES)
    ends: dict[str, Interval] = {}
    differences: dict[str, Comparison] = {}
    if sources > 1:
        with working("drawing clips for the intervals"):
            ends = intervals(
                scored[0].statistics,
                len(truth.clips),
                resamples=resamples,
                level=LEVEL,
                seed=SEED,
                groups=groups,
            )
    if len(scored) > 1:
        if sources == 1:
            raise UserError(
                "a comparison needs clips of at least two files or groups: of one alone nothing "
                "can be said",
                where=reference,
            )
        with working("drawing clips for the comparison"):
            differences = _differences(scored[0], scored[1], groups, resamples)
    result = Evaluation(
        reference=reference,
        kind=found[0].kind,
        class_names=class_names,
        clips=len(truth.clips),
        sources=sources,
        scored=scored[0],
        intervals=ends,
        resamples=resamples,
        seed=SEED,
        against=scored[1] if against is not None else None,
        differences=differences,
    )
    if json is not None:
        _write(json, dumps(result.as_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if report is not None:
        _write(report, _page(result, truth, found[0], class_names, resolution))
    if card is not None:
        _complete_card(card, result, data_name or reference.stem)
    return result


def _classes_of(model: Path) -> tuple[str, ...]:
    """The classes of a model whose card can be changed."""
    # Loads torch, which only a card needs.
    from earmark.model.bundle import read_description
    from earmark.model.hub import refuse_to_write

    refuse_to_write(model)
    return read_description(model).class_names


def _complete_card(model: Path, result: Evaluation, data_name: str) -> None:
    """Adds the scores to a model's card, or puts them in the place of earlier ones."""
    from earmark.model.bundle import FusedDescription, read_description
    from earmark.outputs import card

    description = read_description(model)
    training = description if isinstance(description, FusedDescription) else description.training
    about = [f"{result.scored.path.name} against {result.reference.name}"]
    if result.reference.is_file():
        about[0] += f" (SHA-256 {(known := digest(result.reference))})"
        if known in training.tuned_on.values():
            about.append("the model's thresholds were tuned on this table: expect less elsewhere")
    about += [*result.about(), f"scored by earmark {version('earmark')}", *result.remarks()]
    text = card.earlier_card(model) or card.card(description)
    section = card.scores_section(result.kind, data_name, about, result.tables())
    text = card.with_section(text, card.scores_key(result.kind, data_name), section)
    with replacing(model / "README.md") as part:
        part.write_bytes(text.encode("utf-8", "surrogateescape"))


def _check_kinds(found: Sequence[Prediction], resolution: float, collar: float) -> None:
    """Whether the predictions are of one kind, and the options of use to it."""
    first = found[0]
    for other in found[1:]:
        if other.kind != first.kind:
            raise UserError(
                f"only predictions of one kind compare: {first.path} holds {first.kind}, this one "
                f"{other.kind}",
                where=other.path,
            )
    has_events = first.events is not None or (
        first.tracks is not None and first.thresholds_from is not None
    )
    for name, value, usual in (
        ("resolution", resolution, SEGMENT_SECONDS),
        ("collar", collar, COLLAR_SECONDS),
    ):
        if value != usual and not has_events:
            raise UserError(f"a {name} is for events; leave it out to score {first.path}")


def _scored(
    found: Prediction,
    truth: Reference,
    class_names: Sequence[str],
    resolution_seconds: float,
    collar_seconds: float,
    tag_every_clip: bool,
) -> Scored:
    cards: list[Scorecard] = []
    if found.tags is not None:
        cards.append(_tag_card(found, truth, class_names, tag_every_clip))
    if found.tracks is not None:
        cards.append(_frame_card(found.tracks, truth, class_names))
    events = _events(found)
    if events is not None:
        cards.append(_event_card(events, truth, class_names, resolution_seconds, collar_seconds))
    listed, predicted = set(truth.clips), set(found.clips)
    strange = {
        "classes_missing_from_prediction": sorted(set(class_names) - set(found.class_names)),
        "classes_missing_from_reference": sorted(set(class_names) - set(truth.table.class_names)),
    }
    left_out = {
        "clips_missing_from_prediction": len(listed - predicted),
        "clips_missing_from_reference": len(listed - truth.rows.keys()),
        "predicted_clips_outside_list": len(predicted - listed),
        "reference_clips_outside_list": len(truth.rows.keys() - listed),
        **{name: len(names) for name, names in strange.items()},
        "zero_length_events_in_reference": truth.table.zero_length_events,
        "zero_length_events_in_prediction": found.zero_length_events,
        "cut_events_in_reference": truth.cut_events,
        "cut_events_in_prediction": found.cut_events,
    }
    return Scored(
        found.path, tuple(cards), found.thresholds_from, found.tuned_on, left_out, strange
    )


def _tag_card(
    found: Prediction, truth: Reference, class_names: Sequence[str], tag_every_clip: bool
) -> TagCard:
    reference, probabilities, limits = _tag_tables(found, truth, class_names)
    errors = None
    if found.thresholds_from is not None:
        known = [class_names.index(name) for name in found.class_names]
        of_all = Reliability.of(reference[:, known], probabilities[:, known]).calibration_error
        of_each = np.full(len(class_names), np.nan)
        for k in known:
            of_class = Reliability.of(reference[:, [k]], probabilities[:, [k]])
            of_each[k] = of_class.calibration_error
        errors = of_all, of_each
    return TagCard(
        TaggingEvidence(
            reference, probabilities, limits, class_names, tag_every_clip=tag_every_clip
        ),
        ranked=found.thresholds_from is not None,
        remark=_tuning_remark(found, truth),
        calibration_errors=errors,
    )


def _tuning_remark(found: Prediction, truth: Reference) -> str:
    return TUNED_HERE if tuned_here(found, truth.table.path) else ""


def _tag_tables(
    found: Prediction, truth: Reference, class_names: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """What is true and with what probability it was predicted (N, K), and the thresholds (K,)."""
    index = {name: k for k, name in enumerate(class_names)}
    columns = [index[name] for name in found.class_names]
    reference = np.zeros((len(truth.clips), len(class_names)), np.bool_)
    # What the prediction leaves out has probability 0, which no threshold is below.
    probabilities = np.zeros(reference.shape)
    limits = np.full(len(class_names), DEFAULT_THRESHOLD)
    limits[columns] = found.thresholds
    tags = found.tags or {}
    for n, clip in enumerate(truth.clips):
        if clip in truth.rows:
            reference[n, [index[label] for label in truth.rows[clip].labels]] = True
        if clip in tags:
            probabilities[n, columns] = tags[clip]
    return reference, probabilities, limits


def _events(found: Prediction) -> dict[str, Sequence[Event]] | None:
    """The events of each clip; of frame scores those above the threshold that was given."""
    if found.events is not None:
        return dict(found.events)
    if found.tracks is None or found.thresholds_from is None:
        return None
    limit = float(found.thresholds)
    return {clip: above(track, limit) for clip, track in found.tracks.items()}


def _event_card(
    found: Mapping[str, Sequence[Event]],
    truth: Reference,
    class_names: Sequence[str],
    resolution_seconds: float,
    collar_seconds: float,
) -> EventCard:
    reference = truth.events
    estimate = {clip: found[clip] for clip in truth.clips if clip in found}
    total = 0.0
    for clip in truth.clips:
        events = (*reference[clip], *estimate.get(clip, ()))
        last = max((event.offset_seconds for event in events), default=0.0)
        total += last
        if last / resolution_seconds >= MOST_SEGMENTS or total >= MOST_SECONDS / 2:
            raise UserError(
                f"an event of '{clip}' ends at {last:g} s, too far for segments of "
                f"{resolution_seconds:g} s, or to be added to all other clips; mend the time or "
                "take longer segments"
            )
    sides = reference, estimate, class_names
    boundaries, onsets = (
        EventEvidence(*sides, collar_seconds, collar_seconds, use_offset=use_offset)
        for use_offset in (True, False)
    )
    points = {}
    durations = truth.durations_seconds
    if durations is not None and min(durations.values()) > 0:
        for name, parameters in (("psds1", PSDS1), ("psds2", PSDS2)):
            evidence = PsdsEvidence.from_events(
                reference, [estimate], durations, class_names, parameters
            )
            points[f"{name}_of_one_operating_point"] = evidence.scores().value
    false_events = None
    if durations is not None:
        false_events = FalseEvents(*sides, durations)
    return EventCard(
        SegmentEvidence(*sides, resolution_seconds),
        boundaries,
        onsets,
        IntersectionEvidence(*sides, SHARED, SHARED),
        points,
        false_events=false_events if false_events is not None and false_events.hours else None,
    )


def _frame_card(
    tracks: Mapping[str, Any], truth: Reference, class_names: Sequence[str]
) -> FrameCard:
    durations = truth.durations_seconds
    assert durations is not None
    for clip, seconds in durations.items():
        if seconds <= 0:
            raise UserError(f"PSDS needs clips that last longer than 0 s, unlike '{clip}'")
    listed = {clip: tracks[clip] for clip in truth.clips if clip in tracks}
    one, two, shared = (
        PsdsEvidence.from_scores(truth.events, listed, durations, class_names, parameters)
        for parameters in (PSDS1, PSDS2, PsdsParameters(SHARED, SHARED))
    )
    return FrameCard(one, two, shared)


def _differences(
    ours: Scored, theirs: Scored, groups: Sequence[str], resamples: int
) -> dict[str, Comparison]:
    """The comparison of all headline scores that both have."""
    both = ours.statistics().keys() & theirs.statistics().keys()

    def common(one: Scored, weights: NDArray[np.int64]) -> dict[str, float]:
        return {name: value for name, value in one.statistics(weights).items() if name in both}

    return compare(
        lambda weights: common(ours, weights),
        lambda weights: common(theirs, weights),
        len(groups),
        resamples=resamples,
        level=LEVEL,
        seed=SEED,
        groups=groups,
    )


def _page(
    result: Evaluation,
    truth: Reference,
    found: Prediction,
    class_names: Sequence[str],
    resolution_seconds: float,
) -> str:
    """The report, with the figures that the prediction allows."""
    # Loads matplotlib, which only a page needs.
    from earmark.metrics.confusion import event_confusion, tag_confusion
    from earmark.outputs import evaluation_figures as figures
    from earmark.outputs.evaluation_page import page

    drawings = []
    for card in result.scored.cards:
        if isinstance(card, FrameCard):
            named = [("PSDS 1", card.psds1), ("PSDS 2", card.psds2)]
            drawings.append(figures.psd_roc_drawing(named))
        elif isinstance(card, TagCard):
            reference, probabilities, limits = _tag_tables(found, truth, class_names)
            if found.thresholds_from is not None:
                curves = {
                    name: PrecisionRecall.of(reference[:, k], probabilities[:, k])
                    for k, name in enumerate(class_names)
                }
                drawings.append(figures.precision_recall_drawing(curves, card.scores))
            confusion = tag_confusion(reference, probabilities > limits, class_names)
            drawings.append(figures.confusion_drawing(confusion, "clips"))
            if found.thresholds_from is not None:
                known = [class_names.index(name) for name in found.class_names]
                reliability = Reliability.of(reference[:, known], probabilities[:, known])
                drawings.append(figures.reliability_drawing(reliability))
        elif isinstance(card, EventCard):
            confusion = event_confusion(
                truth.events,
                _events(found) or {},
                class_names,
                resolution_seconds,
                truth.durations_seconds,
            )
            unit = f"segments of {resolution_seconds:g} s"
            drawings.append(figures.confusion_drawing(confusion, unit))
    return page(result.title(), result.about(), result.tables(), drawings, result.remarks())


def _write(path: Path, text: str) -> None:
    """Writes a file that appears whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
