"""Every system on the same data, over several seeds: the paper's tables."""

import json
import shutil
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from earmark.audio import AudioError
from earmark.config import ClassDecoding, Settings, parse_assignments
from earmark.data.labels import Clip
from earmark.errors import UserError
from earmark.formats.labels import read_labels
from earmark.formats.tables import digest
from earmark.inference.decoding import decode
from earmark.metrics.segments import segment_scores
from earmark.metrics.tagging import tagging_scores
from earmark.outputs.tables import ROWS, markdown, summary
from earmark.recipes import systems
from earmark.scores import ScoreTrack
from earmark.tasks.progress import counted, progress, say
from earmark.tasks.recordings import failure_lines, made_folder
from earmark.tasks.training import DEFAULT_VALIDATION, train
from earmark.tasks.training_data import check_held_out, check_known, found, gather, readable
from earmark.writing import filling, replacing, unfinished, writing

if TYPE_CHECKING:
    from earmark.inference.recogniser import Recogniser

ALL = "all"


@dataclass(frozen=True, slots=True)
class Compared:
    """What was measured so far, and a line for each row that failed."""

    cells: list[dict[str, Any]]
    failures: list[str]
    out: Path

    def text(self) -> str:
        """The tables."""
        done = f"{counted(len(self.cells), 'training')} scored: {self.out}"
        tables = markdown(self.cells)
        return "\n".join([tables, done, *failure_lines(self.failures, "failed")])


def compare(
    labels: Path,
    *,
    audio: Path,
    test: Path,
    out: Path,
    validation: str = DEFAULT_VALIDATION,
    tune: Path | None = None,
    test_tags: Path | None = None,
    recipes: Sequence[str] = (ALL,),
    seeds: int = 3,
    set: Sequence[str] = (),
    device: str = "auto",
    skip_missing: bool = False,
    labels_format: str = "auto",
    class_names: Path | None = None,
) -> Compared:
    """Trains and scores recipes over several seeds, and writes the paper's tables.

    What is done is kept: it goes on where it was stopped, and more recipes or seeds can be added.
    Several of these commands with one ``out`` share the work.

    Args:
        labels: a table of tags to learn from, as for ``train``.
        audio: the folder that holds all recordings.
        test: a strong table, on which nothing is chosen.
        out: the folder for models, results and tables.
        validation: a table of labels, or the fraction of ``labels`` to hold out; it chooses
            epochs and tag thresholds and, with times, how frames become events.
        tune: a strong table on which the frames are tuned where ``validation`` has no times; it
            is scored, too, marked as tuned on its own labels.
        test_tags: the tags of the test recordings, where they are not those of their events.
        recipes: names or TOML files; all: the paper's.
        seeds: how many trainings of each, with the seeds 0, 1, ...
        set: settings of your own for all of them, as section.key=value.
        device: auto, cpu, cuda or mps.
        skip_missing: leaves out clips whose audio is missing or can't be read.
        labels_format: how to read ``labels`` where "auto" guesses wrong.
        class_names: AudioSet's class_labels_indices.csv, for tables of MIDs.

    Raises:
        UserError: settings, tables or recordings that can't be used by any recipe.
    """
    if seeds < 1:
        raise UserError(f"seeds must be at least 1, came as {seeds}")
    own = parse_assignments(set)
    wanted = dict.fromkeys(row for name in recipes for row in (ROWS if name == ALL else [name]))
    if not wanted:
        raise UserError("give at least one recipe, or all")
    if len({Path(name).stem for name in wanted}) < len(wanted):
        raise UserError("recipes must differ in name: rows and folders are called after them")
    failures: dict[tuple[str, int], str] = {}
    made_of: dict[str, dict[str, Settings]] = {}
    for name in wanted:
        try:
            made_of[name] = systems(name, own)
        except UserError as error:
            failures[name, 0] = f"{name}: {error}"
    if not made_of:
        raise UserError(next(iter(failures.values())))
    # A fusion is made of the others' models where it has the same, so these come first.
    names = sorted(made_of, key=lambda name: len(made_of[name]) > 1)
    data = gather(
        labels,
        audio,
        validation,
        tune,
        labels_format=labels_format,
        class_names=class_names,
        skip_missing=skip_missing,
        seed=0,
    )
    plan = _Plan(
        out,
        _scored(test, test_tags, audio, skip_missing, class_names),
        [] if tune is None else _scored(tune, None, audio, skip_missing, class_names),
        device,
        skip_missing,
        made_of,
    )
    for scored, table in ((plan.test, test), (plan.tuned_on, tune)):
        if table is not None:
            check_known([item.labels for item in scored], data.class_names, table)
    # Whatever a system learns from, or is chosen on, at any seed.
    seen = [*data.training, *data.held.clips, *data.held.timed]
    check_held_out(seen, [item.clip for item in plan.test], data.class_names, "test", str(test))
    plan.begin(
        {
            "labels": labels,
            "validation": Path(validation) if Path(validation).is_file() else validation,
            "tune": tune,
            "test": test,
            "test_tags": test_tags,
            "labels_format": labels_format,
            "class_names": class_names,
            "skip_missing": skip_missing,
            "set": own,
        }
    )

    def training(recipe: str, seed: int, folder: Path) -> None:
        train(
            labels,
            audio=audio,
            out=folder,
            validation=validation,
            tune=tune,
            recipe=recipe,
            set=set,
            seed=seed,
            device=device,
            resume=True,
            skip_missing=skip_missing,
            labels_format=labels_format,
            class_names=class_names,
        )

    # First what no other process is at and whose members are there, then the rest.
    for wait in (False, True):
        for seed in range(seeds):
            for recipe in names:
                if (recipe, seed) in failures:
                    continue
                try:
                    if plan.is_done(recipe, seed) or not (wait or plan.has_members(recipe, seed)):
                        continue
                    with plan.lock(recipe, seed, wait):
                        if not plan.is_done(recipe, seed):
                            say(f"{recipe}, seed {seed}")
                            plan.borrow_members(recipe, seed)
                            training(recipe, seed, plan.model(recipe, seed))
                            plan.score(recipe, seed)
                except Timeout:
                    continue  # another process is at it
                except Exception as error:
                    failures[recipe, seed] = f"{recipe}, seed {seed}: {error}"
                    say(failures[recipe, seed])
                    if not isinstance(error, UserError):
                        plan.note(recipe, seed, traceback.format_exc())
                plan.write_tables()
    if not plan.cells():
        raise UserError(f"no recipe could be trained; first: {next(iter(failures.values()))}")
    plan.write_tables()
    return Compared(plan.cells(), list(failures.values()), out)


@dataclass(frozen=True, slots=True)
class _Scored:
    """A recording to score: its events, and its tags."""

    clip: Clip
    labels: frozenset[str]


def _scored(
    events: Path,
    tags: Path | None,
    audio: Path,
    skip_missing: bool,
    class_names: Path | None,
) -> list[_Scored]:
    table = read_labels(events, class_names=class_names)
    if not table.strong:
        raise UserError(
            "events are scored against onsets and offsets, and this table has tags alone; give a "
            "strong table",
            where=events,
        )
    clips = list(readable(found(table, audio, skip_missing), skip_missing))
    if tags is None:
        return [_Scored(clip, clip.labels) for clip in clips]
    of_tags = read_labels(tags, class_names=class_names)
    of_tags.refuse_partial()
    labels = {row.filename: row.labels for row in of_tags.rows}
    if absent := [clip.filename for clip in clips if clip.filename not in labels]:
        raise UserError(f"has no tags of '{absent[0]}', which {events} has", where=tags)
    return [_Scored(clip, labels[clip.filename]) for clip in clips]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where everything of a comparison lies, and what is done with it."""

    out: Path
    test: list[_Scored]
    tuned_on: list[_Scored]
    device: str
    skip_missing: bool
    made_of: dict[str, dict[str, Settings]]

    def begin(self, what: Mapping[str, object]) -> None:
        """Makes the folder, or checks that it was begun with the same data and settings."""
        given = {
            name: digest(value)
            if isinstance(value, Path) and value.is_file()
            else json.dumps(value, sort_keys=True, default=str)
            for name, value in what.items()
        }
        made_folder(self.out)
        note = self.out / "comparison.json"
        with ExitStack() as held:
            with writing(self.out):
                held.enter_context(FileLock(self.out / ".lock"))
            if note.exists():
                try:
                    begun = dict(json.loads(note.read_text(encoding="utf-8")))
                except (OSError, ValueError, TypeError) as error:
                    raise UserError("is damaged; give another --out", where=note) from error
                if differing := [name for name in given if begun.get(name) != given[name]]:
                    raise UserError(
                        f"was begun with another {differing[0]}; give it again, or another --out",
                        where=self.out,
                    )
            elif any(not path.name.startswith(".") for path in self.out.iterdir()):
                raise UserError("the folder must be new or empty", where=self.out)
            else:
                _write(note, given)

    def is_done(self, recipe: str, seed: int) -> bool:
        """Whether there is a result; of a recipe that has changed since, it is an error."""
        for path in self._results():
            cell = json.loads(path.read_text(encoding="utf-8"))
            if cell["recipe"] == recipe and cell["systems"] != self._systems(recipe):
                raise UserError(
                    "is of other settings of the recipe; give another --out", where=path
                )
        return self.result(recipe, seed).exists()

    def _systems(self, recipe: str) -> dict[str, Any]:
        return {
            Path(name).stem: settings.model_dump(mode="json")
            for name, settings in self.made_of[recipe].items()
        }

    def model(self, recipe: str, seed: int) -> Path:
        return self.out / "models" / Path(recipe).stem / f"seed-{seed}"

    def result(self, recipe: str, seed: int) -> Path:
        return self.out / "results" / f"{Path(recipe).stem}-{seed}.json"

    def lock(self, recipe: str, seed: int, wait: bool) -> FileLock:
        folder = made_folder(self.out / "locks")
        return FileLock(folder / f"{Path(recipe).stem}-{seed}", timeout=-1 if wait else 0)

    def note(self, recipe: str, seed: int, trace: str) -> None:
        path = self.result(recipe, seed).with_suffix(".error.txt")
        made_folder(path.parent)
        _into_place(path, trace)

    def borrow_members(self, recipe: str, seed: int) -> None:
        """Puts models that are there already where a fusion would train the same ones."""
        for member in self._rows_within(recipe):
            here = self.model(recipe, seed) / "members" / Path(member).stem
            # A result says that nobody works on the model any more.
            if self.result(member, seed).exists() and not here.exists():
                partial = unfinished(here)
                shutil.rmtree(partial, ignore_errors=True)
                with writing(here), filling(partial):
                    shutil.copytree(self.model(member, seed), partial)
                    partial.rename(here)

    def has_members(self, recipe: str, seed: int) -> bool:
        """Whether all that a fusion can borrow is there; of another row nothing is missing."""
        return all(self.result(member, seed).exists() for member in self._rows_within(recipe))

    def _rows_within(self, recipe: str) -> list[str]:
        """The members of a fusion that are rows of their own, trained alike."""
        members = self.made_of[recipe]
        if len(members) == 1:
            return []
        return [m for m, settings in members.items() if self.made_of.get(m) == {m: settings}]

    def score(self, recipe: str, seed: int) -> None:
        """Scores a trained model and keeps what came out."""
        from earmark.inference.fusion import load_recogniser
        from earmark.tasks.description import parameters_of, training_seconds
        from earmark.training.devices import choose_device
        from earmark.tuning.rules import rules_of_tags

        folder = self.model(recipe, seed)
        recogniser = load_recogniser(folder, choose_device(self.device))
        rules = list(recogniser.rules)
        alone = rules_of_tags(rules, recogniser.decoding, recogniser.votes, recogniser.calibration)
        test = _tracks(recogniser, self.test, self.skip_missing)
        cell: dict[str, Any] = {
            "recipe": recipe,
            "seed": seed,
            "systems": self._systems(recipe),
            "test": _scores(recogniser, test, rules),
            "tags_alone": _scores(recogniser, test, alone),
        }
        if self.tuned_on:
            tuned_on = _tracks(recogniser, self.tuned_on, self.skip_missing)
            cell["tuned_on"] = _scores(recogniser, tuned_on, rules)
        cell["cost"] = {
            "parameters": parameters_of(folder, one_epoch=True),
            "training_seconds": training_seconds(folder),
        }
        made_folder(self.result(recipe, seed).parent)
        _write(self.result(recipe, seed), cell)
        self.result(recipe, seed).with_suffix(".error.txt").unlink(missing_ok=True)

    def cells(self) -> list[dict[str, Any]]:
        """All that was measured so far."""
        return [json.loads(path.read_text(encoding="utf-8")) for path in self._results()]

    def _results(self) -> list[Path]:
        return sorted((self.out / "results").glob("[!.]*.json"))

    def write_tables(self) -> None:
        cells = self.cells()
        if cells:
            _write(self.out / "tables.json", summary(cells))
            _into_place(self.out / "tables.md", markdown(cells))


def _tracks(
    recogniser: "Recogniser", scored: Sequence[_Scored], skip_unreadable: bool
) -> list[tuple[_Scored, ScoreTrack]]:
    tracks = []
    with progress("scoring", len(scored)) as step:
        for item in scored:
            try:
                tracks.append((item, recogniser.scores(item.clip.path)))
            except AudioError as error:
                if not skip_unreadable:
                    raise
                say(f"unreadable: {error}")
            step()
    return tracks


def _scores(
    recogniser: "Recogniser",
    tracks: Sequence[tuple[_Scored, ScoreTrack]],
    rules: Sequence[ClassDecoding],
) -> dict[str, float]:
    """Tagging and segment-based scores of tracks, decided by some rules."""
    names = recogniser.class_names
    tags = np.array([[name in item.labels for name in names] for item, _ in tracks])
    posteriors = np.array([track.tags for _, track in tracks])
    thresholds = np.array([rule.tag_threshold for rule in rules])
    tagging = tagging_scores(tags, posteriors, thresholds, names)
    gate = recogniser.decoding.tag_gate
    references = {item.clip.filename: list(item.clip.events or ()) for item, _ in tracks}
    estimated = {item.clip.filename: decode(track, rules, tag_gate=gate) for item, track in tracks}
    segments = segment_scores(references, estimated, names)
    numbers: dict[str, float | np.floating[Any] | NDArray[np.float64]] = {
        "tagging_f1": tagging.micro.f1,
        "tagging_precision": tagging.micro.precision,
        "tagging_recall": tagging.micro.recall,
        "tagging_macro_f1": tagging.macro_f1,
        "tagging_macro_precision": tagging.macro_precision,
        "tagging_macro_recall": tagging.macro_recall,
        "tagging_f1_of_means": tagging.f1_of_mean_precision_and_recall,
        "tagging_map": tagging.mean_average_precision,
        "segment_f1": segments.overall.f1,
        "segment_precision": segments.overall.precision,
        "segment_recall": segments.overall.recall,
        "segment_macro_f1": segments.macro_f1,
        "segment_error_rate": segments.error_rate,
        "recordings": float(len(tracks)),
    }
    return {name: float(f"{float(value):.12g}") for name, value in numbers.items()}


def _write(path: Path, content: object) -> None:
    _into_place(path, json.dumps(content, indent=1) + "\n")


def _into_place(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
