"""Clip-level tags in, a model folder out."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from earmark.config import merge, parse_assignments
from earmark.errors import UserError
from earmark.model.hub import refuse_to_write
from earmark.recipes import DEFAULT as DEFAULT_RECIPE
from earmark.recipes import systems
from earmark.tasks.progress import console, counted
from earmark.tasks.training_data import DEFAULT_SHARE, PREPARED_OR_SHARE, gather, is_shards

DEFAULT_VALIDATION = DEFAULT_SHARE


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
        lines = [f"trained on {counted(self.clips, 'clip')} in {self.seconds:.0f} s: {self.model}"]
        if self.validation:
            lines.append("on the validation clips, which also chose epochs and thresholds:")
            lines += [f"  {name}: {value:.3f}" for name, value in self.validation.items()]
        out = shlex.quote(str(self.model))
        lines.append(f"next: earmark detect RECORDINGS --model {out} --out events.csv")
        return "\n".join(lines)


def train(
    labels: Path,
    *,
    audio: Path | None = None,
    out: Path,
    validation: str | None = None,
    tune: Path | None = None,
    negatives: Path | None = None,
    recipe: str = DEFAULT_RECIPE,
    from_: Path | None = None,
    keep_classes: bool = False,
    set: Sequence[str] = (),
    fuse_epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    processes: int = 1,
    resume: bool = False,
    skip_missing: bool = False,
    labels_format: str = "auto",
    class_names: Path | None = None,
    licence: str = "not stated",
) -> TrainingReport:
    """Trains a model on clip-level tags.

    ``torchrun`` starts it on several GPUs and machines, which share the folders: each process then
    has a part of every batch.

    Args:
        labels: a table of tags (weak, segments, wide, ESC-50, DCASE 2017, AudioSet; of a strong
            table the classes alone are used), or a folder with one folder a class; or shards that
            ``prepare`` has made, in a folder or an object storage (s3://BUCKET/SHARDS, say).
        audio: the folder that holds the recordings, searched recursively; shards need none.
        out: the model folder to make.
        validation: a table of labels, shards, or the fraction of clips to hold out; 0 for none.
            Without, 0.15, or what was prepared with the shards. Frame thresholds, gaps and
            shortest lengths are tuned only on a strong table.
        tune: a strong table on which frame thresholds, gaps and shortest lengths are tuned,
            where ``validation`` has no times.
        negatives: a folder of recordings, none of them learnt from, that hold none of the classes:
            on these, and on those that a strong table lists without events, false events are
            counted and, with ``tuning.max_false_events_per_hour``, bounded.
        recipe: a recipe's name, or a TOML file of settings.
        from_: a model folder to start from, or ``bundled`` for the model in the box: its features,
            network and weights, and a third of its learning rate. Classes of the same name go on
            from what it knows of them.
        keep_classes: of that model, also the classes that no clip has; of a class that a table
            doesn't name, nothing is known in its clips.
        set: settings of your own, as section.key=value.
        fuse_epochs: how many epochs are averaged: the best on the validation clips, without any
            the last (the same as training.fuse_epochs).
        seed: the same seed gives the same model on the same machine and number of processes.
        device: auto, cpu, cuda or mps.
        processes: how many of this machine train together; each needs a GPU, or a share of cores.
        resume: goes on where an interrupted training into ``out`` was; on another number of
            processes, too, though dropout then draws otherwise than it would have.
        skip_missing: leaves out clips whose audio is missing or can't be read.
        labels_format: how to read ``labels`` where "auto" guesses wrong.
        class_names: AudioSet's class_labels_indices.csv, for tables of MIDs; one beside the
            table is found.
        licence: the licence of the training data, for the model card.

    Raises:
        UserError: settings, tables or recordings that can't be used.
        ChildProcessError: one of several processes has ended early; says which one, and why. The
            last epoch stays to resume from.
    """
    arguments = locals() | {"processes": 1}
    if not 0 <= seed < 2**63:
        raise UserError(f"a seed must be at least 0 and below 2**63, came as {seed}")
    refuse_to_write(out)
    own = parse_assignments(set)
    if fuse_epochs is not None:
        if fuse_epochs < 1:
            raise UserError(f"--fuse-epochs must be at least 1, came as {fuse_epochs}")
        own = merge(own, {"training": {"fuse_epochs": fuse_epochs}})
    if from_ is None:
        settings = systems(recipe, own)
        if keep_classes:
            raise UserError("--keep-classes keeps those of a model to start from: give --from, too")
    elif recipe != DEFAULT_RECIPE:
        raise UserError("with --from, the recipe is the model's; leave out --recipe")
    if processes < 1:
        raise UserError(f"processes must be at least 1, came as {processes}")
    if processes > 1:
        if "RANK" in os.environ:
            raise UserError("torchrun starts the processes already; leave out --processes")
        from earmark.training.launch import launch

        try:
            return launch(processes, train, **arguments)
        except ChildProcessError as error:
            raise ChildProcessError(f"--resume can go on with what is done; {error}") from error
    if os.environ.get("RANK", "0") != "0":
        console.quiet = True  # the first process speaks
    start = None
    if from_ is not None:
        from earmark.tasks.training_start import read_start

        start = read_start(from_)
        recipe = start.description.training.recipe
        settings = {recipe: start.settings(own)}
    if is_shards(labels) and len(settings) > 1:
        raise UserError(
            f"shards hold the features of one system, and recipe '{recipe}' has {len(settings)}; "
            "train each by itself, and join them with `earmark fuse`"
        )
    data = gather(
        labels,
        audio,
        PREPARED_OR_SHARE if validation is None else validation,
        tune,
        labels_format=labels_format,
        class_names=class_names,
        skip_missing=skip_missing,
        seed=seed,
        keep=start.description.class_names if start is not None and keep_classes else (),
    )
    if start is not None:
        start.twins(data.class_names)
    data = data.with_negatives(negatives, next(iter(settings.values())).tuning)
    # Torch takes a second to import: errors in what the user typed should not wait for it.
    from earmark.tasks.fusion import MEMBERS, train_members
    from earmark.tasks.training_run import TrainingRun
    from earmark.training.devices import choose_device
    from earmark.training.launch import joined

    def complete(name: str, out: Path) -> TrainingReport:
        run = TrainingRun(
            data,
            settings[name],
            name,
            out,
            seed=seed,
            device=device,
            skip_missing=skip_missing,
            licence=licence,
            group=group,
            start=start,
        )
        return run.complete(resume=resume)

    with joined(choose_device(device)) as group:
        if list(settings) == [recipe]:
            return complete(recipe, out)
        if group.rank == 0:
            report = train_members(data, list(settings), complete, out, device=device)
        else:
            for name in settings:
                report = complete(name, out / MEMBERS / Path(name).stem)
        return group.from_first(lambda: report)
