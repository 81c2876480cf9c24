"""Clip-level tags in, a model folder out."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from earmark.config import merge, parse_assignments, settings_from
from earmark.data.labels import Clip, find_clips, split
from earmark.errors import UserError
from earmark.formats.labels import LabelTable, read_labels
from earmark.recipes import DEFAULT as DEFAULT_RECIPE
from earmark.recipes import tables as recipe_tables
from earmark.tasks.progress import in_short, say

DEFAULT_VALIDATION = "0.15"


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What came out of a training.

    Attributes:
        model: the model folder.
        clips: training clips.
        validation: scores on the validation clips, on which the thresholds were tuned, by name;
            empty if nothing was held out.
        seconds: training time, without what an interrupted run lost.
    """

    model: Path
    clips: int
    validation: dict[str, float]
    seconds: float

    def text(self) -> str:
        """The model's place and its scores, in a few lines."""
        lines = [f"trained on {self.clips} clips in {self.seconds:.0f} s: {self.model}"]
        if self.validation:
            lines.append("on the validation clips, which also chose epochs and thresholds:")
            lines += [f"  {name}: {value:.3f}" for name, value in self.validation.items()]
        return "\n".join(lines)


def train(
    labels: Path,
    *,
    audio: Path,
    out: Path,
    validation: str = DEFAULT_VALIDATION,
    recipe: str = DEFAULT_RECIPE,
    set: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    skip_missing: bool = False,
    labels_format: str = "auto",
    licence: str = "not stated",
) -> TrainingReport:
    """Trains a model on clip-level tags.

    Args:
        labels: a table of tags (weak, segments, wide, ESC-50, DCASE 2017; of a strong table the
            classes alone are used), or a folder with one folder a class.
        audio: the folder that holds the recordings, searched recursively.
        out: the model folder to make.
        validation: a table of labels, or the fraction of clips to hold out; 0 for none. Frame
            thresholds, gaps and shortest lengths are tuned only on a strong table.
        recipe: a recipe's name, or a TOML file of settings.
        set: settings of your own, as section.key=value.
        seed: the same seed gives the same model on the same machine.
        device: auto, cpu, cuda or mps.
        resume: goes on where an interrupted training into ``out`` was.
        skip_missing: leaves out clips whose audio is missing or can't be read.
        labels_format: how to read ``labels`` where "auto" guesses wrong.
        licence: the licence of the training data, for the model card.

    Raises:
        UserError: settings, tables or recordings that can't be used.
    """
    if not 0 <= seed < 2**63:
        raise UserError(f"a seed must be at least 0 and below 2**63, came as {seed}")
    of_recipe = recipe_tables(recipe)
    settings_from(of_recipe, where=recipe)
    settings = settings_from(merge(of_recipe, parse_assignments(set)), where="--set")
    data = gather(labels, audio, validation, labels_format, skip_missing, seed)
    # Torch takes a second to import: errors in what the user typed should not wait for it.
    from earmark.tasks.training_run import TrainingRun

    return TrainingRun(
        data,
        settings,
        recipe,
        out,
        seed=seed,
        device=device,
        skip_missing=skip_missing,
        licence=licence,
    ).complete(resume=resume)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Clips to learn from and clips to judge by.

    Attributes:
        training: the clips whose tags are learnt.
        validation: clips held out; of a strong table these are whole recordings.
        class_names: every class that a training clip has, sorted.
        strong: whether ``validation`` has events.
        described: how ``validation`` was chosen, in words.
    """

    training: list[Clip]
    validation: list[Clip]
    class_names: tuple[str, ...]
    strong: bool
    described: str


def gather(
    labels: Path,
    audio: Path,
    validation: str,
    labels_format: str,
    skip_missing: bool,
    seed: int,
) -> TrainingData:
    """Finds the clips of the tables and holds some out, as ``train`` describes."""
    table = read_labels(labels, labels_format)
    clips = _found(table, audio, skip_missing)
    try:
        fraction = float(validation)
    except ValueError:
        fraction = None
    if fraction is None:
        held_table = read_labels(Path(validation))
        held, strong = _found(held_table, audio, skip_missing), held_table.strong
        described = f"the {'strong' if strong else 'weak'} labels of {Path(validation).name}"
    else:
        clips, held = split(clips, fraction, seed)
        strong = False
        described = f"{len(held)} clips held out of {labels.name}" if held else ""
    counts = Counter(label for clip in clips for label in clip.labels)
    if not counts:
        raise UserError("no clip has a tag, so there is nothing to learn", where=labels)
    class_names = tuple(sorted(counts))
    for name in class_names:
        if not name.isprintable():
            raise UserError(
                f"a class name must be printable Unicode, came as {name!r}; rename it", where=labels
            )
    if never := sorted(set(table.class_names) - set(class_names)):
        say(f"left out, since no training clip has them: {', '.join(never)}")
    if fraction is None:
        _check_validation(clips, held, class_names, validation)
    return TrainingData(clips, held, class_names, strong, described)


def _found(table: LabelTable, audio: Path, skip_missing: bool) -> list[Clip]:
    clips, missing = find_clips(table, audio)
    if missing:
        what = f"{len(missing)} of the table's files are not in {audio}"
        for name in missing:
            say(f"missing: {name}")
        if not skip_missing:
            raise UserError(
                f"{what}: {in_short(missing)}; add them, or pass --skip-missing", where=table.path
            )
        say(f"{table.path}: {what}; going on without them")
    return clips


def _check_validation(
    clips: Sequence[Clip], held: Sequence[Clip], class_names: Sequence[str], validation: str
) -> None:
    """Refuses a table of validation clips that can't judge what is learnt from ``clips``."""
    labels = {label for clip in held for label in clip.labels}
    if unknown := sorted(labels.difference(class_names)):
        raise UserError(
            f"a class of the validation labels must occur in training, but '{unknown[0]}' does "
            f"not; known: {', '.join(class_names)}",
            where=validation,
        )
    if not labels:
        raise UserError("validation needs at least one clip with a tag", where=validation)
    if shared := sorted(_groups(clips) & _groups(held)):
        raise UserError(
            "validation must be of other sources than training, but both tables have the group "
            f"'{shared[0]}'",
            where=validation,
        )
    parts: dict[Path, list[tuple[float, float]]] = {}
    for clip in clips:
        parts.setdefault(clip.path, []).append(_part(clip))
    trained_on = [
        clip.filename
        for clip in held
        for start, stop in parts.get(clip.path, ())
        if start < _part(clip)[1] and _part(clip)[0] < stop
    ]
    if trained_on:
        raise UserError(
            f"validation must not be trained on, but {len(trained_on)} clips are in both tables: "
            f"{in_short(trained_on)}",
            where=validation,
        )


def _groups(clips: Sequence[Clip]) -> set[str]:
    return {clip.group for clip in clips if clip.group is not None}


def _part(clip: Clip) -> tuple[float, float]:
    """From when to when in its file a clip lasts."""
    stop = math.inf if clip.stop_seconds is None else clip.stop_seconds
    return clip.start_seconds or 0.0, stop
