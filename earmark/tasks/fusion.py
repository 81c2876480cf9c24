"""Several models as one: the mean of their posteriors."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from earmark.errors import UserError
from earmark.model.hub import refuse_to_write
from earmark.tasks.progress import say
from earmark.tasks.recordings import made_folder
from earmark.tasks.training import TrainingReport
from earmark.writing import filling, writing

if TYPE_CHECKING:
    from earmark.inference.fusion import FusedRecogniser
    from earmark.model.bundle import FusedDescription
    from earmark.tasks.training_data import HeldOut, TrainingData

MEMBERS = "members"


@dataclass(frozen=True, slots=True)
class Fused:
    """A fused model, and what it scores where its thresholds were tuned (empty if they weren't)."""

    model: Path
    members: int
    validation: dict[str, float]

    def text(self) -> str:
        """The model's place and its scores, in a few lines."""
        lines = [f"fused {self.members} models: {self.model}"]
        if self.validation:
            lines.append("on the validation clips, which also chose the thresholds:")
            lines += [f"  {name}: {value:.3f}" for name, value in self.validation.items()]
        return "\n".join(lines)


def fuse(
    *models: Path,
    out: Path,
    validation: Path | None = None,
    audio: Path | None = None,
    negatives: Path | None = None,
    skip_missing: bool = False,
    device: str = "auto",
) -> Fused:
    """Makes one model of several: the mean of their probabilities.

    Args:
        models: model folders, of the same classes; they may differ in all else.
        out: the model folder to make; it holds copies of the others.
        validation: a table of labels on which the thresholds are tuned; without, each is the
            mean of the models' own.
        audio: the folder that holds the recordings of ``validation``.
        negatives: a folder of recordings that hold none of the classes, for the tuning; see
            ``tune``.
        skip_missing: leaves out clips of ``validation`` whose audio is missing.
        device: auto, cpu, cuda or mps.

    Raises:
        UserError: models that don't fit together, or something can't be read or written.
    """
    if len(models) < 2:
        raise UserError(f"fuse needs at least two models, came with {len(models)}")
    if (validation is None) != (audio is None):
        raise UserError("--validation and --audio go together: the labels and their recordings")
    refuse_to_write(out)
    if twice := sorted({str(model) for model in models if models.count(model) > 1}):
        say(f"given several times, each of which counts: {', '.join(twice)}")
    if negatives is not None and validation is None:
        raise UserError("--negatives are for tuning, which needs labels, too: give --validation")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("the folder for the model must be new or empty", where=out)
    from earmark.inference.fusion import (
        DEEPEST,
        FusedRecogniser,
        check_classes,
        load_recogniser,
    )
    from earmark.tasks.training_data import held_out
    from earmark.training.devices import choose_device

    chosen_device = choose_device(device)
    members = [load_recogniser(model, chosen_device, "auto", depth=DEEPEST - 1) for model in models]
    check_classes(members, [str(model) for model in models])
    held = None
    if validation is not None and audio is not None:
        held = held_out(validation, audio, skip_missing)
        labels = {name for clip in held.clips for name in clip.labels}
        if unknown := sorted(labels - set(members[0].class_names)):
            raise UserError(f"the models have no class '{unknown[0]}'", where=validation)
        if not labels:
            raise UserError("validation needs at least one clip with a tag", where=validation)
    with filling(out):
        partial = made_folder(out) / ".partial"
        with writing(out):
            for number, model in enumerate(models):
                _copy(model, partial / MEMBERS / str(number))
        names = [f"{MEMBERS}/{number}" for number in range(len(models))]
        description = _write(partial, names, FusedRecogniser(members), held, negatives)
        with writing(out):
            for name in (MEMBERS, "README.md", "model.json"):  # which comes last
                os.replace(partial / name, out / name)
            partial.rmdir()
    return Fused(out, len(models), description.validation)


def train_members(
    data: "TrainingData",
    names: Sequence[str],
    train: Callable[[str, Path], TrainingReport],
    out: Path,
    *,
    device: str,
) -> TrainingReport:
    """Trains the systems of a recipe, each into a folder in ``out``, and fuses them.

    Args:
        data: what they learn from and what chooses the thresholds of their mean.
        names: of the systems.
        train: trains a system into a folder.
        out: the model folder to make.
        device: of the fused model.
    """
    from earmark.inference.fusion import FusedRecogniser, load_recogniser
    from earmark.model.bundle import FusedDescription, read_description
    from earmark.training.devices import choose_device

    # A member that has learnt something says itself that it needs --resume.
    begun = (out / MEMBERS).is_dir()
    if out.exists() and not begun and (not out.is_dir() or any(out.iterdir())):
        raise UserError("the folder for the model must be new or empty", where=out)
    folders = {name: f"{MEMBERS}/{Path(name).stem}" for name in names}
    there = {f"{MEMBERS}/{path.name}" for path in (out / MEMBERS).glob("[!.]*")}
    if strange := sorted(there.difference(folders.values())):
        raise UserError(
            f"holds '{strange[0]}', which the recipe has not; give another --out", where=out
        )
    done = (out / "model.json").exists()
    if done and there != set(folders.values()):
        raise UserError("holds a model of other members; give another --out", where=out)
    try:
        reports = [train(name, out / folder) for name, folder in folders.items()]
    except BaseException:
        # Nothing was learnt yet: leave nothing half-made behind.
        for folder in (out / MEMBERS, out):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise
    description = read_description(out) if done else None
    if not isinstance(description, FusedDescription):
        chosen_device = choose_device(device)
        members = [
            load_recogniser(out / folder, chosen_device, "auto") for folder in folders.values()
        ]
        held = data.held if data.held.clips or data.held.of_events else None
        description = _write(out, list(folders.values()), FusedRecogniser(members), held)
    seconds = sum(report.seconds for report in reports)
    return TrainingReport(out, reports[0].clips, description.validation, seconds)


def _write(
    folder: Path,
    members: Sequence[str],
    mean: "FusedRecogniser",
    held: "HeldOut | None",
    negatives: Path | None = None,
) -> "FusedDescription":
    """Chooses the rules of a fused model and describes it in its folder."""
    from earmark.config import DecodingSettings, TuningSettings
    from earmark.model import bundle
    from earmark.outputs.card import card, earlier_card
    from earmark.tasks.tuned_rules import Chosen, choose

    tuning, decoding, licences = TuningSettings(), DecodingSettings(), set()
    for number, member in enumerate(members):
        of_member = bundle.read_description(folder / member)
        licences.add(of_member.licence_of_training_data)
        if number:
            continue
        if isinstance(of_member, bundle.FusedDescription):
            tuning, decoding = of_member.tuning_settings, of_member.decoding_settings
        else:
            tuning, decoding = of_member.settings.tuning, of_member.settings.decoding
    if held is None:
        chosen = Chosen(list(mean.rules), "the means of the members' own")
    else:
        free = tuning.model_copy(update={"max_false_events_per_hour": None})
        held = held.with_negatives(negatives, free)
        tuning = held.as_far_as_bounded(tuning)
        chosen = choose(mean, held, decoding, tuning)
    description = bundle.FusedDescription(
        format_version=bundle.FORMAT_VERSION,
        package_version=version("earmark"),
        class_names=mean.class_names,
        members=tuple(members),
        clock=bundle.ClockDescription.of(mean.clock),
        decoding=tuple(chosen.rules),
        calibration=chosen.calibration,
        tuning_settings=tuning,
        decoding_settings=decoding,
        thresholds=chosen.note,
        tuned_on=held.digests if held else {},
        validation=chosen.scores,
        judged=chosen.judged,
        licence_of_training_data="; ".join(sorted(licences)),
    )
    bundle.save_description(folder, description, card(description, earlier_card(folder)))
    return description


def _copy(model: Path, to: Path) -> None:
    """Copies of a model folder, fused or not, what prediction needs, and the log of its epochs."""
    from earmark.model.bundle import FusedDescription, read_description
    from earmark.model.hub import fetched

    model = fetched(model)
    description = read_description(model)
    to.mkdir(parents=True)
    files = ["model.json", "README.md"]
    if isinstance(description, FusedDescription):
        for member in description.members:
            _copy(model / member, to / member)
    else:
        files.append("model.safetensors")
    for name in files:
        if (model / name).exists():
            shutil.copyfile(model / name, to / name)
    log = Path("training", "log.jsonl")
    if (model / log).is_file():
        (to / log).parent.mkdir()
        shutil.copyfile(model / log, to / log)
