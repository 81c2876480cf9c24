"""Which tags of a table are probably wrong, and where to listen."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from earmark.audio import read
from earmark.config import Settings, parse_assignments
from earmark.data.doubts import doubts, surest_stretch
from earmark.data.labels import Clip, known_matrix, split, tag_matrix
from earmark.errors import UserError, printable
from earmark.formats.labels import read_labels
from earmark.formats.tables import COMMA, seconds_text, write_table
from earmark.recipes import DEFAULT as DEFAULT_RECIPE
from earmark.recipes import systems
from earmark.scale.journal import alone, state_of
from earmark.tasks.progress import counted, in_short, say
from earmark.tasks.recordings import (
    Reached,
    each_recording,
    failure_lines,
    in_made_folder,
    made_folder,
)
from earmark.tasks.training_data import HeldOut, TrainingData, found, readable
from earmark.writing import replacing

if TYPE_CHECKING:
    from earmark.inference.recogniser import Recogniser

DEFAULT_FOLDS = 5
SHOWN = 10
COLUMNS = (
    *("filename", "event_label", "problem", "probability", "doubt", "rank", "onset", "offset"),
)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A tag that is probably wrong, or one that is probably missing.

    Attributes:
        filename: of the clip.
        label: the class.
        problem: what is the matter.
        probability: that the class sounds in the clip, by a model that didn't learn from it.
        doubt: how probable it is that the table is wrong, if that were as frequent as not.
        onset_seconds, offset_seconds: in the file, where the class is most probable.
    """

    filename: str
    label: str
    problem: Literal["missing", "wrong"]
    probability: float
    doubt: float
    onset_seconds: float
    offset_seconds: float


@dataclass(frozen=True, slots=True)
class Audited:
    """What was found.

    Attributes:
        suspects: the most doubtful first.
        judged: how many tags, given or not, were judged: clips times classes.
        unjudged: classes that no model could tell.
        failures: a line for each clip that couldn't be read.
        out: the table.
    """

    suspects: list[Suspect]
    judged: int
    unjudged: tuple[str, ...]
    failures: list[str]
    out: Path

    def text(self) -> str:
        """How many there are of each class, and the first ones."""
        missing, wrong = (
            Counter(s.label for s in self.suspects if s.problem == problem)
            for problem in ("missing", "wrong")
        )
        lines = [
            f"of {counted(self.judged, 'tag')} judged, {missing.total():,} probably missing and "
            f"{wrong.total():,} wrong: {self.out}"
        ]
        for label in sorted(missing | wrong):
            lines.append(f"  {label}: {missing[label]} missing, {wrong[label]} wrong")
        if self.suspects:
            lines.append("listen to them in their order, till they turn out right; first:")
        for s in self.suspects[:SHOWN]:
            times = f"{s.onset_seconds:.2f}-{s.offset_seconds:.2f} s"
            said = (
                f"{s.label} is {s.problem}?" if s.problem == "missing" else f"{s.label} is wrong?"
            )
            lines.append(f"  {s.filename}, {times}: {said} (probability {s.probability:.2g})")
        if self.unjudged:
            names = in_short(self.unjudged, SHOWN)
            lines.append(f"not judged, as the models can't tell them: {names}")
        return "\n".join(map(printable, lines + failure_lines(self.failures)))


def audit(
    labels: Path,
    *,
    audio: Path,
    out: Path,
    model: Path | None = None,
    folds: int = DEFAULT_FOLDS,
    recipe: str = DEFAULT_RECIPE,
    set: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    skip_missing: bool = False,
    labels_format: str = "auto",
    class_names: Path | None = None,
) -> Audited:
    """Finds the tags that are probably wrong, and the moments to listen to.

    The clips are divided into folds, and what a model says of a fold that learnt from the others
    is held against its tags, class by class (confident learning, Northcutt et al. 2021). Clips of
    one group are never divided. The models lie beside ``out``, in a folder that ends in
    ``_folds``; stopped at any moment, it goes on there when it is called again.

    Args:
        labels: the table of tags to judge, as for ``train``.
        audio: the folder that holds the recordings, searched recursively.
        out: the CSV to write, of filename, event_label, problem (missing or wrong), probability,
            doubt, rank, and onset and offset of where the class is most probable.
        model: judges by this model, which must not have learnt from these clips, and trains none.
        folds: how many models are trained, each on all folds but one.
        recipe: a recipe's name, or a TOML file of settings, of one system.
        set: settings of your own, as section.key=value.
        seed: of the folds and of the training.
        device: auto, cpu, cuda or mps.
        skip_missing: leaves out clips whose audio is missing or can't be read.
        labels_format: how to read ``labels`` where "auto" guesses wrong.
        class_names: AudioSet's class_labels_indices.csv, for tables of MIDs; one beside the
            table is found.

    Raises:
        UserError: settings, tables or recordings that can't be used, or an unfinished audit into
            ``out`` was another one.
    """
    if out.suffix != ".csv" or out.is_dir():
        raise UserError("the tags to listen to go to a file ending in .csv", where=out)
    if model is not None and (set or recipe != DEFAULT_RECIPE or folds != DEFAULT_FOLDS):
        raise UserError("with --model nothing is trained; leave out --recipe, --set and --folds")
    if folds < 2:
        raise UserError(f"folds must be at least 2, came as {folds}")
    if not 0 <= seed < 2**63:
        raise UserError(f"a seed must be at least 0 and below 2**63, came as {seed}")
    settings = systems(recipe, parse_assignments(set))
    if list(settings) != [recipe]:
        raise UserError(f"a recipe of one system is needed, and '{recipe}' fuses several")
    table = read_labels(labels, labels_format, class_names)
    clips = list(readable(found(table, audio, skip_missing), skip_missing))
    names = tuple(sorted({label for clip in clips for label in clip.labels}))
    if not names:
        raise UserError("no clip has a tag, so there is nothing to judge", where=labels)
    with alone(in_made_folder(out)):
        if model is not None:
            judged = _judged_by(model, clips, names, device)
        else:
            cross = _CrossAudit(
                clips, out, settings[recipe], recipe, seed, device, skip_missing=skip_missing
            )
            judged = cross.complete(folds, names)
        return _report(clips, names, judged, out)


@dataclass(slots=True, eq=False)
class _Judged:
    """What models say of clips: probabilities (N, K) and moments (N, K, 2), nan for nothing."""

    probabilities: NDArray[np.float32]
    moments: NDArray[np.float64]
    failures: list[str] = field(default_factory=list)

    @classmethod
    def nothing(cls, clips: int, classes: int) -> "_Judged":
        return cls(
            np.full((clips, classes), np.nan, np.float32), np.full((clips, classes, 2), np.nan)
        )


def _report(clips: Sequence[Clip], names: Sequence[str], judged: _Judged, out: Path) -> Audited:
    tags = tag_matrix(clips, names).toarray()
    known = known_matrix(clips, names)
    said = judged.probabilities
    found = doubts(tags, said if known is None else np.where(known.toarray(), said, np.nan))
    rows, columns = np.nonzero(found.suspected)
    worst_first = np.lexsort((columns, rows, -found.doubt[rows, columns]))
    suspects = []
    for n, k in zip(rows[worst_first].tolist(), columns[worst_first].tolist(), strict=True):
        start = clips[n].start_seconds or 0.0
        onset, offset = judged.moments[n, k].tolist()
        suspects.append(
            Suspect(
                clips[n].filename,
                names[k],
                "wrong" if tags[n, k] else "missing",
                float(judged.probabilities[n, k]),
                float(found.doubt[n, k]),
                start + onset,
                start + offset,
            )
        )
    write_table(out, _table(suspects), COMMA)
    unjudged = tuple(name for k, name in enumerate(names) if np.isnan(found.doubt[:, k]).all())
    return Audited(suspects, int((~np.isnan(found.doubt)).sum()), unjudged, judged.failures, out)


def _table(suspects: Sequence[Suspect]) -> Iterator[Sequence[str]]:
    yield COLUMNS
    for rank, s in enumerate(suspects, start=1):
        times = (seconds_text(s.onset_seconds), seconds_text(s.offset_seconds))
        numbers = (f"{s.probability:.4f}", f"{s.doubt:.4f}", str(rank))
        yield s.filename, s.label, s.problem, *numbers, *times


def _judged_by(model: Path, clips: Sequence[Clip], names: Sequence[str], device: str) -> _Judged:
    from earmark.inference.fusion import load_recogniser
    from earmark.training.devices import choose_device

    recogniser = load_recogniser(model, choose_device(device), "auto")
    if not {*names}.intersection(recogniser.class_names):
        known = ", ".join(recogniser.class_names)
        raise UserError(
            f"the model knows none of the classes {in_short(names)}; it knows: {known}", where=model
        )
    return _listened(recogniser, clips, names, "judging")


def _listened(
    recogniser: "Recogniser", clips: Sequence[Clip], names: Sequence[str], what: str
) -> _Judged:
    """What a model says of clips; of ``names`` it may know but some."""
    from earmark.inference.system import WORKERS

    judged = _Judged.nothing(len(clips), len(names))
    known = [k for k, name in enumerate(names) if name in recogniser.class_names]
    columns = [recogniser.class_names.index(names[k]) for k in known]

    def listen(number: str, path: Path, _: Reached) -> None:
        clip = clips[int(number)]
        if clip.start_seconds is None:
            track = recogniser.scores(path)
        else:
            rate = recogniser.rate_hz
            samples = read(path, rate, clip.start_seconds, clip.stop_seconds)
            track = recogniser.scores(samples, rate_hz=rate)
        assert track.tags is not None
        judged.probabilities[int(number), known] = track.tags[columns]
        judged.moments[int(number), known] = surest_stretch(track)[columns]

    paths = {str(number): clip.path for number, clip in enumerate(clips)}
    judged.failures = each_recording(paths, what, listen, WORKERS.count + 1)
    return judged


class _CrossAudit:
    """Models that each learn from all folds but one, and judge that one.

    The folder beside ``out`` holds a note of which audit it is of and, fold by fold, a model
    folder and then what the model says.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        out: Path,
        settings: Settings,
        recipe: str,
        seed: int,
        device: str,
        *,
        skip_missing: bool,
    ) -> None:
        self.clips = clips
        self.folder = out.with_name(f"{out.stem}_folds")
        self.settings = settings
        self.recipe = recipe
        self.seed = seed
        self.device = device
        self.skip_missing = skip_missing

    def complete(self, folds: int, names: Sequence[str]) -> _Judged:
        """What is said of all clips, now or before."""
        parts = self._parts(folds)
        self._claim(folds)
        judged = _Judged.nothing(len(self.clips), len(names))
        for number, part in enumerate(parts, start=1):
            of_part = self._kept(number, len(part), len(names))
            if of_part is None:
                say(f"fold {number} of {folds}")
                of_part = self._judge(number, folds, part, names)
                self._keep(number, of_part)
            judged.probabilities[part] = of_part.probabilities
            judged.moments[part] = of_part.moments
            judged.failures += of_part.failures
        return judged

    def _parts(self, folds: int) -> list[list[int]]:
        """The clips of each fold, by number; each class is spread over all as far as it goes."""
        number_of = {id(clip): number for number, clip in enumerate(self.clips)}
        left = list(self.clips)
        parts = []
        for more in range(folds, 1, -1):
            try:
                left, part = split(left, 1 / more, self.seed)
            except UserError as error:
                raise UserError(
                    f"these clips can't be divided into {folds} folds, as those of a group or a "
                    "file stay together; give fewer --folds, or more clips"
                ) from error
            parts.append(part)
        return [[number_of[id(clip)] for clip in part] for part in (*parts, left)]

    def _claim(self, folds: int) -> None:
        """Makes the folder, or checks that it is of this audit."""
        what: list[object] = [self.settings.model_dump(mode="json"), self.seed, folds]
        for clip in self.clips:
            part = (clip.start_seconds, clip.stop_seconds)
            absent = None if clip.absent is None else sorted(clip.absent)
            what.append([clip.filename, *part, sorted(clip.labels), absent, clip.group])
            what.append(state_of(clip.path))
        key = hashlib.sha256(json.dumps(what).encode()).hexdigest()
        note = made_folder(self.folder) / "audit.json"
        if not note.exists():
            if any(self.folder.glob("[!.]*")):
                raise UserError(
                    "the folder for the models must be new; remove it, or give another --out",
                    where=self.folder,
                )
            with replacing(note) as file:
                file.write_text(json.dumps({"key": key}) + "\n", encoding="utf-8")
            return
        try:
            was = json.loads(note.read_text(encoding="utf-8"))["key"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError("is damaged; remove its folder", where=note) from error
        if was != key:
            raise UserError(
                "is of an audit of other labels, recordings, settings, folds or another seed; "
                "remove it, or give another --out",
                where=self.folder,
            )

    def _judge(self, number: int, folds: int, part: Sequence[int], names: Sequence[str]) -> _Judged:
        # Torch takes a second to import: errors in what the user typed should not wait for it.
        from earmark.inference.fusion import load_recogniser
        from earmark.tasks.training_run import TrainingRun
        from earmark.training.devices import choose_device

        apart = set(part)
        training = [clip for n, clip in enumerate(self.clips) if n not in apart]
        learnt = tuple(sorted({label for clip in training for label in clip.labels}))
        if not learnt:
            raise UserError("no clip of the other folds has a tag; give fewer --folds")
        model = self.folder / f"fold_{number}"
        run = TrainingRun(
            TrainingData(training, learnt, HeldOut([], "", False, [], "")),
            self.settings,
            self.recipe,
            model,
            seed=self.seed,
            device=self.device,
            skip_missing=self.skip_missing,
            licence="not stated",
        )
        run.complete(resume=True)
        recogniser = load_recogniser(model, choose_device(self.device), "auto")
        clips = [self.clips[n] for n in part]
        return _listened(recogniser, clips, names, f"judging fold {number} of {folds}")

    def _file(self, number: int) -> Path:
        return self.folder / f"fold_{number}.npz"

    def _keep(self, number: int, judged: _Judged) -> None:
        content = io.BytesIO()
        np.savez(
            content,
            probabilities=judged.probabilities,
            moments=judged.moments,
            failures=np.array(judged.failures, dtype=np.str_),
        )
        with replacing(self._file(number)) as part:
            part.write_bytes(content.getbuffer())

    def _kept(self, number: int, clips: int, classes: int) -> _Judged | None:
        """What was kept of a fold, None if nothing whole was."""
        try:
            # Opened here: of a damaged archive numpy leaves the file open.
            with open(self._file(number), "rb") as file, np.load(file) as kept:
                probabilities, moments = kept["probabilities"], kept["moments"]
                failures = kept["failures"].tolist()
        except (OSError, EOFError, ValueError, KeyError, BadZipFile):
            return None
        if probabilities.shape != (clips, classes) or moments.shape != (clips, classes, 2):
            return None
        return _Judged(probabilities, moments, failures)
