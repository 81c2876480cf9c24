"""Features of a set of any size as shards, which a training streams."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from earmark.config import Settings, parse_assignments
from earmark.errors import UserError
from earmark.formats.labels import read_labels
from earmark.recipes import DEFAULT as DEFAULT_RECIPE
from earmark.recipes import systems
from earmark.tasks.progress import counted, progress, say
from earmark.tasks.recordings import refuse_if_all_failed, refuse_model
from earmark.tasks.training_data import found

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from earmark.data.labels import Clip
    from earmark.data.places import Place

CLIPS_PER_SHARD = 8192


@dataclass(frozen=True, slots=True)
class PreparationReport:
    """What came out of a preparation.

    Attributes:
        shards: where they are.
        clips: how many they hold.
        count: how many shards there are.
        made: how many of these were made now; the others were there.
        unreadable: how many clips were left out.
    """

    shards: str
    clips: int
    count: int
    made: int
    unreadable: int

    def text(self) -> str:
        """What is where, in a line."""
        less = f", {self.unreadable} could not be read" if self.unreadable else ""
        of_shards = f"{counted(self.count, 'shard')} ({self.made} made now)"
        return f"{counted(self.clips, 'clip')} in {of_shards}{less}: {self.shards}"


def prepare(
    labels: Path,
    *,
    audio: Path,
    out: Path,
    validation: Path | None = None,
    recipe: str = DEFAULT_RECIPE,
    set: Sequence[str] = (),
    clips_per_shard: int = CLIPS_PER_SHARD,
    skip_missing: bool = False,
    labels_format: str = "auto",
    class_names: Path | None = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
) -> PreparationReport:
    """Computes the features of a large set into shards, which a training streams.

    Called again, it makes the shards that lack, or whose clips, labels or settings have changed.
    Ray makes the same shards on as many machines as it has, all of which need the package and see
    the recordings and ``out`` under the same paths.

    Args:
        labels: a table of tags, or a folder with one folder a class, as ``train`` takes them.
        audio: the folder that holds the recordings, searched recursively.
        out: the folder to make, or an address of an object storage (s3://BUCKET/SHARDS, say).
        validation: a table of other clips, to judge by; ``train`` finds their shards.
        recipe: a recipe's name, or a TOML file of settings; its features count.
        set: settings of your own, as section.key=value.
        clips_per_shard: how many clips a shard holds; a training holds a few shards at a time.
        skip_missing: leaves out clips whose audio is missing or can't be read.
        labels_format: how to read ``labels`` where "auto" guesses wrong.
        class_names: AudioSet's class_labels_indices.csv, for tables of MIDs.
        engine: local, or ray.
        address: of the Ray cluster; without, that of RAY_ADDRESS, or else a new one here.

    Raises:
        UserError: settings, tables or recordings that can't be used.
    """
    if clips_per_shard < 1:
        raise UserError(f"a shard needs at least 1 clip, came as {clips_per_shard}")
    if address is not None and engine != "ray":
        raise UserError("--address goes with --engine ray; leave it out, or give that, too")
    refuse_model(out)
    of_systems = systems(recipe, parse_assignments(set))
    if len({settings.features for settings in of_systems.values()}) > 1:
        raise UserError(
            f"shards hold features of one kind, and the systems of recipe '{recipe}' differ in "
            f"them; prepare for each of {', '.join(of_systems)}"
        )
    (settings, *_) = of_systems.values()
    # Torch takes a second to import: errors in what the user typed should not wait for it.
    from earmark.data.places import VALIDATION, Folder, place
    from earmark.data.shards import blocks, contents_of, finish
    from earmark.scale.journal import alone
    from earmark.scale.ray_engine import connected

    where = place(out)
    with ExitStack() as held:
        ray = held.enter_context(connected(address)) if engine == "ray" else None

        def prepared(labels: Path, labels_format: str, where: "Place") -> PreparationReport:
            if isinstance(where, Folder):
                where.make()
                held.enter_context(alone(where.path))
            table = read_labels(labels, labels_format, class_names)
            clips = found(table, audio, skip_missing)
            cut = blocks(len(clips), clips_per_shard)
            made = sum(_made(where, cut, clips, settings, f"features of {labels.name}", ray))
            shards = len(cut)
            contents = contents_of(where, shards, settings.features, table.class_names, labels.name)
            _refuse_failures(contents.failures, len(clips), skip_missing)
            finish(where, contents)
            unreadable = len(contents.failures)
            return PreparationReport(str(where), contents.clips, shards, made, unreadable)

        if validation is not None:
            prepared(validation, "auto", where.below(VALIDATION))
        return prepared(labels, labels_format, where)


def _made(
    where: "Place",
    cut: Sequence["NDArray[np.int64]"],
    clips: Sequence["Clip"],
    settings: Settings,
    what: str,
    ray: Any | None,
) -> Iterator[bool]:
    """Makes the shards that lack; tells of each if it was made now."""
    from earmark.data.shards import make_shard
    from earmark.scale.ray_engine import make_shards

    how = settings.features, settings.training.max_clip_seconds
    if ray is not None:
        with progress(what, len(cut)) as step:
            for new in make_shards(ray, where, cut, clips, *how):
                step()
                yield new
        return
    with progress(what, len(clips)) as step:
        for shard, numbers in enumerate(cut):
            of_shard = [clips[number] for number in numbers]
            yield make_shard(where, shard, numbers.tolist(), of_shard, *how, after_clip=step)


def _refuse_failures(failures: Sequence[str], clips: int, skip_missing: bool) -> None:
    """Lists clips that can't be read; raises UserError unless they may be skipped."""
    for failure in failures:
        say(f"unreadable: {failure}")
    refuse_if_all_failed(failures, clips - len(failures))
    if failures and not skip_missing:
        raise UserError(
            f"{len(failures)} of {clips} clips can't be read: {failures[0]}; mend or remove them, "
            "or pass --skip-missing"
        )
