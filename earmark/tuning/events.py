"""Decoding rules per class whose events score best on validation data."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from earmark.config import ClassDecoding, DecodingSettings, TuningSettings
from earmark.events import Event
from earmark.metrics.psds import PSDS1, PSDS2
from earmark.scores import ScoreTrack
from earmark.tuning.axis import Axis
from earmark.tuning.candidates import Candidates, ClassOnAxis
from earmark.tuning.choice import best_f1, best_shapes, bounded, fewest_errors


def tuned_on_events(
    rules: Sequence[ClassDecoding],
    tracks: Sequence[ScoreTrack],
    references: Sequence[Sequence[Event]],
    settings: DecodingSettings,
    tuning: TuningSettings,
    negatives: Sequence[ScoreTrack] = (),
    kept: Collection[int] = (),
) -> list[ClassDecoding]:
    """Rules whose events score best, whatever in a rule decides on them.

    For every class each combination of some medians, or boxes, with the tag gate open or not, and
    of thresholds, hysteresis, gaps and lengths is decoded; the thresholds are spaced by how many
    frames they let through, since scores may crowd next to 0 or 1. Of these and the rule that
    came are taken, by ``tuning.target``:

    - "segment_f1" and "event_f1": the exact best, of each class's F1 ("macro") or of the pooled
      F1 ("micro").
    - "error_rate": a local optimum. In a segment a false alarm of one class makes up for a miss of
      another, so that the classes depend on each other. From the best micro F1, and from the
      rules that came, class after class takes what lowers the error rate of all most, as long as
      any can.
    - "psds1" and "psds2": gate, median and boxes likewise, by PSDS, to which the rest doesn't
      matter; the rest is the best for segment-based F1.

    Where ``tuning`` asks for a precision, it is the highest recall of segments at that precision
    among these, or the highest precision of a class in which none of them reaches it.

    Where ``tuning`` bounds the false events per hour, those of all classes together on recordings
    without an event: the best rules of those that give no more than each class may, which is what
    costs the geometric mean of their F1 least. A rule that gives more may have another threshold,
    up to one that nothing there exceeds.

    A class that does not occur in ``references`` keeps its rule, or the next one within its part
    of the bound, where such classes may all give as many.

    Where ``tuning`` asks for one rule, each recording counts once for every class, as if there
    were one class alone, and all have the best rule of that but for their tag thresholds; the
    rule that came is then the first class's. A bound then only raises the thresholds of classes.
    Classes that are ``kept`` and don't occur have no part in it.

    Args:
        rules: what to beat; their tag thresholds stay.
        tracks: one a validation recording, whole.
        references: the events of each.
        settings: low_ratio and tag_gate.
        tuning: what "best" means, and segments and collars.
        negatives: of further recordings, which hold none of the classes; they count for nothing
            but the bound, and with them there need be no ``tracks``.
        kept: classes, by their number, that keep their rule where they don't occur, also where all
            others get one.
    """
    if tuning.shares_one_rule and tracks:
        alike = _one_rule(rules, tracks, references, settings, tuning, kept)
        quiet = [t for t, events in zip(tracks, references, strict=True) if not events]
        if tuning.max_false_events_per_hour is None or not [*quiet, *negatives]:
            return alike
        rules = alike
    axis = Axis(tracks, references, tuning, negatives)
    classes = [ClassOnAxis(axis, k, rule, settings) for k, rule in enumerate(rules)]
    if tuning.target in ("psds1", "psds2"):
        parameters = PSDS1 if tuning.target == "psds1" else PSDS2
        classes = best_shapes(classes, tracks, references, parameters)
    # From the rule that all share each class departs as far as it must.
    shared = tuning.shares_one_rule and bool(tracks)
    candidates = [of_class.candidates(quieter_only=shared) for of_class in classes]

    def best_of(candidates: Sequence[Candidates]) -> list[int]:
        if shared:
            return [0] * len(candidates)
        if tuning.precision is not None:
            return [of_class.most_recalled(tuning.precision) for of_class in candidates]
        if tuning.target == "error_rate":
            return fewest_errors(candidates, axis)
        return best_f1(candidates, tuning.average == "micro")

    best = best_of(candidates)
    if tuning.max_false_events_per_hour is not None:
        most = tuning.max_false_events_per_hour * axis.quiet_seconds / 3600
        best = bounded(candidates, best, best_of, most)
    return [of_class.rules[index] for of_class, index in zip(candidates, best, strict=True)]


def _one_rule(
    rules: Sequence[ClassDecoding],
    tracks: Sequence[ScoreTrack],
    references: Sequence[Sequence[Event]],
    settings: DecodingSettings,
    tuning: TuningSettings,
    kept: Collection[int],
) -> list[ClassDecoding]:
    """The best rule of all classes together, with the tag thresholds that they had."""
    occurring = {event.label for events in references for event in events}
    every = list(enumerate(tracks[0].class_names))
    pooled = {k: name for k, name in every if k not in kept or name in occurring}
    if not pooled:
        return list(rules)
    one = tracks[0].class_names[:1]
    columns = [track.of_classes([k]) for k in pooled for track in tracks]
    (found,) = tuned_on_events(
        [rules[min(pooled)]],
        [replace(column, class_names=one) for column in columns],
        [
            [replace(event, label=one[0]) for event in events if event.label == name]
            for name in pooled.values()
            for events in references
        ],
        settings,
        tuning.model_copy(update={"one_rule": False, "max_false_events_per_hour": None}),
    )
    return [
        found.model_copy(update={"tag_threshold": rule.tag_threshold}) if k in pooled else rule
        for k, rule in enumerate(rules)
    ]
