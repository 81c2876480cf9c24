"""Which clips a model learns from, and which it is judged by."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from earmark.audio import AudioError, duration_seconds
from earmark.config import TuningSettings
from earmark.data.labels import Clip, find_clips, split
from earmark.data.places import CONTENTS, VALIDATION, Remote, frames_file, place
from earmark.errors import UserError
from earmark.formats.labels import LabelTable, read_labels
from earmark.formats.tables import digest
from earmark.tasks.progress import in_short, say
from earmark.tasks.recordings import found_recordings

if TYPE_CHECKING:
    from earmark.data.shards import StoredClips

DEFAULT_SHARE = "0.15"
"""Of the clips, held out."""

PREPARED_OR_SHARE = "prepared"
"""The clips that were prepared to judge by, with the shards; without, the default share."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What thresholds are chosen on.

    Attributes:
        clips: those whose tags choose epochs and tag thresholds; with events, whole recordings.
        described: how they were chosen, in words.
        strong: whether ``clips`` have events.
        timed: recordings whose events tune how frames become events.
        timed_described: where these are from, in words.
        digests: the SHA-256 of each table among these, by its name.
        negatives: recordings that hold none of the classes, on which false events are counted, as
            on those among ``timed``.
    """

    clips: list[Clip]
    described: str
    strong: bool
    timed: list[Clip]
    timed_described: str
    digests: dict[str, str] = field(default_factory=dict)
    negatives: list[Path] = field(default_factory=list)

    @property
    def of_events(self) -> bool:
        """Whether anything is said of events."""
        return bool(self.timed or self.negatives)

    @property
    def holds_quiet(self) -> bool:
        """Whether any recording is known to hold none of the classes."""
        return bool(self.negatives) or any(not clip.events for clip in self.timed)

    def in_parts(self, clips: Sequence[Clip]) -> "HeldOut":
        """The same, which says so where its recordings are heard as ``clips`` that are parts."""
        lengths = [
            clip.stop_seconds - clip.start_seconds
            for clip in clips
            if clip.start_seconds is not None and clip.stop_seconds is not None
        ]
        if not self.strong or not lengths:
            return self
        parts = f"tags in {len(clips)} parts of up to {max(lengths):.1f} s"
        return replace(self, described=f"{self.described} ({parts})")

    def as_far_as_bounded(self, tuning: TuningSettings) -> TuningSettings:
        """A model's settings, without their bound where nothing here can keep it, which is said."""
        if tuning.max_false_events_per_hour is None or self.holds_quiet:
            return tuning
        say(
            "false events are no longer bounded, as the model's were: nothing that is held out "
            "holds none of the classes; --negatives bounds them again"
        )
        return tuning.model_copy(update={"max_false_events_per_hour": None})

    def with_negatives(self, folder: Path | None, tuning: TuningSettings) -> "HeldOut":
        """The same with the recordings of a folder that hold none of the classes.

        Raises:
            UserError: false events are to be bounded, and no recording is known to hold nothing; or
                a table says that one of the folder holds something.
        """
        held = self
        if folder is not None:
            held = replace(self, negatives=list(found_recordings([folder]).values()))
            tagged = {clip.path.resolve() for clip in (*self.clips, *self.timed) if clip.labels}
            if shared := [path for path in held.negatives if path.resolve() in tagged]:
                raise UserError(
                    "negatives hold none of the classes, but a table gives this one a tag; take it "
                    "out of one of the two",
                    where=shared[0],
                )
        if tuning.max_false_events_per_hour is not None and not held.holds_quiet:
            raise UserError(
                "tuning.max_false_events_per_hour needs held-out recordings that hold none of the "
                "classes; give a folder of them with --negatives, or list some without events in "
                "the strong table"
            )
        return held


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Clips to learn from and clips to judge by.

    Attributes:
        training: the clips whose tags are learnt.
        class_names: every class that a training clip has, and those that were to be kept, sorted.
        held: what is not learnt from.
        stored: where the features of the training clips lie, if they are prepared.
        held_stored: and of those to judge by.
    """

    training: list[Clip]
    class_names: tuple[str, ...]
    held: HeldOut
    stored: "StoredClips | None" = None
    held_stored: "StoredClips | None" = None

    def with_negatives(self, folder: Path | None, tuning: TuningSettings) -> "TrainingData":
        """The same with recordings that hold none of the classes, as ``HeldOut`` has it.

        Raises:
            UserError: one of these is learnt from.
        """
        held = self.held.with_negatives(folder, tuning)
        learnt = {clip.path.resolve() for clip in self.training}
        names = set() if self.stored is None else {clip.path.name for clip in self.training}
        if shared := [p for p in held.negatives if p.resolve() in learnt or p.name in names]:
            raise UserError(
                "negatives must not be trained on, but a table of clips to learn from has this "
                "one; take others",
                where=shared[0],
            )
        return replace(self, held=held)


def gather(
    labels: Path,
    audio: Path | None,
    validation: str,
    tune: Path | None = None,
    *,
    labels_format: str = "auto",
    class_names: Path | None = None,
    skip_missing: bool = False,
    seed: int = 0,
    keep: Sequence[str] = (),
) -> TrainingData:
    """Finds the clips of the tables and holds some out, as ``train`` describes.

    Of classes to ``keep``, a table that doesn't name them says nothing.
    """
    stored = held_stored = None
    table: LabelTable | StoredClips
    if is_shards(labels):
        table = stored = _stored(labels, keep)
        clips = stored.clips
        if validation == PREPARED_OR_SHARE:
            own = place(labels).below(VALIDATION)
            validation = str(own) if own.size(CONTENTS) is not None else DEFAULT_SHARE
    else:
        table = read_labels(labels, labels_format, class_names)
        clips = leaving_open(found(table, _needed(audio), skip_missing), table, keep)
        if validation == PREPARED_OR_SHARE:
            validation = DEFAULT_SHARE
    try:
        fraction = float(validation)
    except ValueError:
        fraction = None
    if fraction is None and is_shards(validation):
        if stored is None:
            raise UserError(
                "clips to judge by can be in shards only where those to learn from are, too",
                where=validation,
            )
        held_stored = _stored(validation, keep)
        held = HeldOut(held_stored.clips, f"the clips of {validation}", False, [], "")
    elif fraction is None:
        held = held_out(Path(validation), _needed(audio), skip_missing, class_names, keep)
    else:
        clips, apart = split(clips, fraction, seed)
        held_stored = stored.of(apart) if stored is not None and apart else None
        described = f"{len(apart)} clips held out of {labels.name}" if apart else ""
        held = HeldOut(apart, described, False, [], "")
    tables = tune is not None or (fraction is None and held_stored is None)
    if stored is not None and audio is not None and not tables:
        raise UserError(
            "shards need no recordings; leave out --audio, or give the table of labels in place "
            "of the shards",
            where=labels,
        )
    counts = Counter(label for clip in clips for label in clip.labels)
    if not counts:
        raise UserError("no clip has a tag, so there is nothing to learn", where=labels)
    names = tuple(sorted({*counts, *keep}))
    for name in names:
        if not name.isprintable():
            raise UserError(
                f"a class name must be printable Unicode, came as {name!r}; rename it", where=labels
            )
    if never := sorted(set(_class_names(table)) - set(names)):
        say(f"left out, since no training clip has them: {', '.join(never)}")
    clips = _telling(clips, names, labels, counts)
    if fraction is None:
        check_held_out(clips, _as_stored(stored, held.clips), names, "validation", validation)
    if tune is not None:
        timed = held_out(tune, _needed(audio), skip_missing, class_names, keep)
        if not timed.strong:
            raise UserError(
                "frames are tuned on events with onset and offset, and this table has tags alone; "
                "give a strong table",
                where=tune,
            )
        check_held_out(clips, _as_stored(stored, timed.clips), names, "tuning", str(tune))
        held = replace(
            held,
            timed=timed.clips,
            timed_described=timed.described,
            digests=held.digests | timed.digests,
        )
    return TrainingData(
        clips, names, held, None if stored is None else stored.of(clips), held_stored
    )


def is_shards(labels: Path | str) -> bool:
    """Whether labels are a place with prepared shards.

    Raises:
        UserError: it is a folder with shards that aren't whole.
    """
    where = place(labels)
    if isinstance(where, Remote) or where.size(CONTENTS) is not None:
        return True
    if any(Path(labels).glob(frames_file("*"))):
        raise UserError(
            f"holds shards, but no {CONTENTS}, which comes last; give the command that prepared "
            "them again",
            where=labels,
        )
    return False


def _needed(audio: Path | None) -> Path:
    if audio is None:
        raise UserError("a table of labels needs --audio: the folder that holds its recordings")
    return audio


def _stored(where: Path | str, keep: Sequence[str]) -> "StoredClips":
    """Stored clips, which say nothing of the classes to keep that their table doesn't name."""
    from earmark.data.shards import stored_clips  # loads torch

    stored = stored_clips(place(where))
    names = stored.contents.class_names
    return stored.saying(_leaving_open(stored.clips, frozenset(names), keep))


def _class_names(table: "LabelTable | StoredClips") -> Sequence[str]:
    return table.class_names if isinstance(table, LabelTable) else table.contents.class_names


def _as_stored(stored: "StoredClips | None", held: list[Clip]) -> list[Clip]:
    """Clips whose files can be told from those of stored ones, which know their names alone."""
    return held if stored is None else [replace(clip, path=Path(clip.filename)) for clip in held]


def held_out(
    table: Path,
    audio: Path,
    skip_missing: bool,
    class_names: Path | None = None,
    keep: Sequence[str] = (),
) -> HeldOut:
    """All clips of a table, to judge by; of a strong one, to tune frames on, too."""
    labels = read_labels(table, class_names=class_names)
    clips = leaving_open(found(labels, audio, skip_missing), labels, keep)
    described = f"the {'strong' if labels.strong else 'weak'} labels of {table.name}"
    timed = clips if labels.strong else []
    timed_described = described if labels.strong else ""
    digests = {table.name: digest(table)} if table.is_file() else {}
    return HeldOut(clips, described, labels.strong, timed, timed_described, digests)


def found(table: LabelTable, audio: Path, skip_missing: bool) -> list[Clip]:
    """The clips of a table whose audio is there; the others are listed, and may be skipped."""
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


def leaving_open(clips: list[Clip], table: LabelTable, keep: Sequence[str]) -> list[Clip]:
    """The clips of a table that knows nothing of the classes to keep that it doesn't name."""
    return _leaving_open(clips, frozenset(table.class_names), keep)


def _leaving_open(clips: list[Clip], named: frozenset[str], keep: Sequence[str]) -> list[Clip]:
    if named.issuperset(keep):
        return clips
    return [
        clip if clip.absent is not None else replace(clip, absent=named - clip.labels)
        for clip in clips
    ]


def _telling(
    clips: list[Clip], names: Sequence[str], labels: Path, counts: Counter[str]
) -> list[Clip]:
    """The clips of which anything is known; says what nothing can be learnt of."""
    if all(clip.absent is None for clip in clips):
        return clips
    telling = [clip for clip in clips if any(clip.knows(name) for name in names)]
    if silent := len(clips) - len(telling):
        say(f"{labels}: {silent} clips say of no class whether they have it; left out")
    everywhere = [
        name
        for name in names
        if counts[name] and not any(clip.knows(name) and name not in clip.labels for clip in clips)
    ]
    if everywhere:
        say(
            f"{labels}: no clip is known to lack {', '.join(everywhere)}, so that nothing tells "
            "what it is not; name it in absent_labels of some clips"
        )
    return telling


def check_held_out(
    clips: Sequence[Clip],
    held: Sequence[Clip],
    class_names: Sequence[str],
    what: str,
    table: str,
) -> None:
    """Refuses a table of clips that can't judge what is learnt from ``clips``."""
    check_known([clip.labels for clip in held], class_names, table)
    if not any(clip.labels for clip in held):
        raise UserError(f"{what} needs at least one clip with a tag", where=table)
    if shared := sorted(_groups(clips) & _groups(held)):
        raise UserError(
            f"{what} must be of other sources than training, but both tables have the group "
            f"'{shared[0]}'",
            where=table,
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
            f"{what} must not be trained on, but {len(trained_on)} clips are in both tables: "
            f"{in_short(trained_on)}",
            where=table,
        )


def check_known(
    labels: Iterable[Iterable[str]], class_names: Sequence[str], table: Path | str
) -> None:
    """Refuses labels that no training clip has."""
    if unknown := sorted({label for of_clip in labels for label in of_clip} - set(class_names)):
        raise UserError(
            f"a class of these labels must occur in training, but '{unknown[0]}' does not; "
            f"known: {', '.join(class_names)}",
            where=table,
        )


def readable(clips: Iterable[Clip], skip_unreadable: bool) -> Iterator[Clip]:
    """The clips whose audio can be opened; the others are listed, and may be skipped."""
    for clip in clips:
        try:
            duration_seconds(clip.path)
        except AudioError as error:
            say(f"unreadable: {error}")
            if not skip_unreadable:
                raise UserError(f"{error}; mend or remove it, or pass --skip-missing") from error
        else:
            yield clip


def _groups(clips: Sequence[Clip]) -> set[str]:
    return {clip.group for clip in clips if clip.group is not None}


def _part(clip: Clip) -> tuple[float, float]:
    """From when to when in its file a clip lasts."""
    stop = math.inf if clip.stop_seconds is None else clip.stop_seconds
    return clip.start_seconds or 0.0, stop
