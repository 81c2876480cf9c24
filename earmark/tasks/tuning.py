"""Other rules for a model that is there already."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from earmark.config import Target, TuningSettings, explain
from earmark.errors import UserError


@dataclass(frozen=True, slots=True)
class Tuned:
    """A model with new rules, and what it scores on the clips that chose them, by name.

    Attributes:
        model: its folder.
        note: how the rules were chosen.
        before: scores with the rules that it had.
        after: the same with the new ones.
    """

    model: Path
    note: str
    before: dict[str, float]
    after: dict[str, float]

    def text(self) -> str:
        """What was tuned for, and the scores before and after."""
        width = max(map(len, self.after), default=0)
        lines = [
            f"tuned: {self.model}",
            self.note,
            "on the same clips:",
            f"  {'':{width}}  before  after",
        ]
        for name, value in self.after.items():
            before = f"{self.before[name]:6.3f}" if name in self.before else f"{'-':>6}"
            lines.append(f"  {name:{width}}  {before}  {value:5.3f}")
        return "\n".join(lines)


def tune(
    model: Path,
    labels: Path,
    *,
    audio: Path,
    target: Target | None = None,
    precision: float | None = None,
    max_false_events_per_hour: float | None = None,
    negatives: Path | None = None,
    skip_missing: bool = False,
    device: str = "auto",
) -> Tuned:
    """Chooses anew how a model decides, on labels it wasn't trained on; its weights stay.

    The model folder is changed in place. Probabilities are calibrated anew, too, unless the model's
    ``tuning.calibrate`` is false. Of labels without times only the tag thresholds are
    tuned, and events stay as they are.

    Args:
        model: a model folder, fused or not.
        labels: a table of clips that the model wasn't trained on.
        audio: the folder that holds their recordings.
        target: what the events are to be best in: segment_f1, error_rate, event_f1, psds1 or psds2;
            without, what the model was tuned for so far. Tags are tuned for F1.
        precision: instead, the highest recall at this precision, of tags and of segments, class by
            class.
        max_false_events_per_hour: the best rules of those that find at most so many events, of all
            classes together, in recordings that hold none of them.
        negatives: a folder of such recordings; those that a strong table lists without events are
            such ones, too.
        skip_missing: leaves out clips whose audio is missing.
        device: auto, cpu, cuda or mps.

    Raises:
        UserError: labels that don't fit the model, or something can't be read or written.
    """
    from earmark.inference.fusion import load_recogniser
    from earmark.model.bundle import FusedDescription, read_description, save_description
    from earmark.model.hub import refuse_to_write
    from earmark.outputs.card import card, earlier_card, with_scores_of_before
    from earmark.tasks.training_data import held_out
    from earmark.tasks.tuned_rules import choose
    from earmark.training.devices import choose_device

    if target is not None and precision is not None:
        raise UserError("--target and --precision exclude each other; give one of them")
    refuse_to_write(model)
    description = read_description(model)
    if isinstance(description, FusedDescription):
        tuning, decoding = description.tuning_settings, description.decoding_settings
    else:
        tuning, decoding = description.settings.tuning, description.settings.decoding
    tuning = _changed(tuning, target, precision, max_false_events_per_hour)
    free = tuning.model_copy(update={"max_false_events_per_hour": None})
    held = held_out(labels, audio, skip_missing).with_negatives(negatives, free)
    if max_false_events_per_hour is None:
        tuning = held.as_far_as_bounded(tuning)
    held = held.with_negatives(None, tuning)
    known = description.class_names
    names = {name for clip in held.clips for name in clip.labels}
    if unknown := sorted(names.difference(known)):
        raise UserError(
            f"the model has no class '{unknown[0]}'; it knows: {', '.join(known)}", where=labels
        )
    if not names:
        raise UserError("tuning needs at least one clip with a tag", where=labels)
    if target is not None and not held.timed:
        raise UserError(
            "--target is for events, and this table has tags alone; give a strong table, or leave "
            "it out to tune the tag thresholds",
            where=labels,
        )
    recogniser = load_recogniser(model, choose_device(device), "auto")
    chosen = choose(recogniser, held, decoding, tuning, better=True)
    how: dict[str, Any] = {
        "thresholds": chosen.note,
        "tuned_on": held.digests,
        "validation": chosen.scores,
        "judged": chosen.judged,
    }
    if isinstance(description, FusedDescription):
        changes = {"tuning_settings": tuning, **how}
    else:
        settings = description.settings.model_copy(update={"tuning": tuning})
        training = description.training.model_copy(update=how)
        changes = {"settings": settings, "training": training}
    changes |= {"decoding": tuple(chosen.rules), "calibration": chosen.calibration}
    description = description.model_copy(update=changes)
    earlier = with_scores_of_before(earlier_card(model))
    save_description(model, description, card(description, earlier))
    return Tuned(model, chosen.note, chosen.before, chosen.scores)


def _changed(
    tuning: TuningSettings,
    target: Target | None,
    precision: float | None,
    max_false_events_per_hour: float | None,
) -> TuningSettings:
    """The settings with another target, precision or bound, if one is given."""
    other: dict[str, Any] = {}
    if target is not None or precision is not None:
        other = {"target": target or "segment_f1", "precision": precision}
    if max_false_events_per_hour is not None:
        other["max_false_events_per_hour"] = max_false_events_per_hour
    try:
        return TuningSettings.model_validate(tuning.model_dump() | other)
    except ValidationError as error:
        name, colon, why = explain(error, TuningSettings).partition(":")
        raise UserError(f"--{name.replace('_', '-')}{colon}{why}") from error
