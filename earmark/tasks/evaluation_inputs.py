"""What ``evaluate`` reads: the reference, the clip list, predictions; and whether they fit."""

import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from json import loads
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.errors import UserError
from earmark.events import Event
from earmark.folders import as_compared, files_below
from earmark.formats.audioset import STRONG_COLUMNS
from earmark.formats.detected import read_detected
from earmark.formats.durations import read_durations
from earmark.formats.labels import LabelRow, LabelTable, read_labels, track_format
from earmark.formats.scores import read_scores
from earmark.formats.tables import (
    LABEL_COLUMNS,
    NAME_COLUMNS,
    TELLING_COLUMNS,
    digest,
    parquet_parts,
    read_table,
)
from earmark.formats.tags import read_tags
from earmark.formats.tracks import first_line
from earmark.model.hub import fetched, named
from earmark.scores import ScoreTrack
from earmark.tasks.clip_names import Match, by_clip, matched, nothing_in_common
from earmark.tasks.progress import in_short
from earmark.timeline import FrameClock

DEFAULT_THRESHOLD = 0.5

BEYOND_SECONDS = 0.1
"""By how much rounded times may lie beyond the end of their clip; they are cut there."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What is true, and which clips are scored.

    Attributes:
        table: as it was read.
        rows: what the table says of a clip, by the clip's name.
        clips: the names of those that are scored, in order.
        durations_seconds: of each of them; None where they are not known.
        also_called: other names of clips, as of recordings in folders.
        cut_events: how many events ended just beyond their clip.
    """

    table: LabelTable
    rows: Mapping[str, LabelRow]
    clips: tuple[str, ...]
    durations_seconds: Mapping[str, float] | None
    also_called: Mapping[str, str]
    cut_events: int

    @property
    def events(self) -> dict[str, Sequence[Event]]:
        """The events of every clip that is scored."""
        return {
            clip: (self.rows[clip].events or ()) if clip in self.rows else () for clip in self.clips
        }

    @property
    def groups(self) -> list[str]:
        """The source of every clip: its group, else its file, of which it may be a part."""
        sources = []
        for clip in self.clips:
            row = self.rows.get(clip)
            name = clip if row is None else row.filename
            group = None if row is None else row.group
            sources.append(f"file {name}" if group is None else f"group {group}")
        return sources


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What was predicted of each clip: one of tags, events and score tracks; the others are None.

    ``tags`` holds probabilities (K,) of ``class_names``, 0 and 1 where they were decided before.

    Attributes:
        path: where it was read.
        class_names: the classes that it names.
        thresholds: of probabilities, (K,) or one for all.
        thresholds_from: where these come from; None where there are no probabilities.
        tuned_on: what is known of the data that thresholds were tuned on, in words.
        tuned_digests: the SHA-256 of the tables that they were tuned on.
        zero_length_events: how many were set aside.
        cut_events: how many ended just beyond their clip.
        stems: whether the names of its clips may lack the recording's suffix.
    """

    path: Path
    class_names: tuple[str, ...]
    tags: Mapping[str, NDArray[np.float64]] | None = None
    events: Mapping[str, Sequence[Event]] | None = None
    tracks: Mapping[str, ScoreTrack] | None = None
    thresholds: NDArray[np.float64] | float = DEFAULT_THRESHOLD
    thresholds_from: str | None = None
    tuned_on: str = ""
    tuned_digests: frozenset[str] = frozenset()
    zero_length_events: int = 0
    cut_events: int = 0
    stems: bool = False

    @property
    def kind(self) -> str:
        """In a word or two, for people."""
        if self.tags is not None:
            return "tags"
        return "events" if self.events is not None else "frame scores"

    @property
    def clips(self) -> Collection[str]:
        """The names of the clips it says something of."""
        for found in (self.tags, self.events, self.tracks):
            if found is not None:
                return found.keys()
        return ()


def read_reference(
    path: Path, durations: Path | None, audio: Path | None, match: Match
) -> Reference:
    """The reference, and the clips to score: those of ``durations`` or ``audio``, else its own.

    Raises:
        UserError: a table that can't be read, no clip, or events beyond their clip.
    """
    if durations is not None and audio is not None:
        raise UserError("durations come from a table or from audio; give one of the two")
    table = read_labels(path)
    table.refuse_partial()
    rows = by_clip(table)
    listed: dict[str, float] | None = None
    also_called: dict[str, str] = {}
    if durations is not None:
        listed = read_durations(durations)
        also_called = _without_suffixes(listed, rows) if table.stems else {}
        names = matched(listed, rows, match, durations, also_called)
        listed = {names[name]: seconds for name, seconds in listed.items()}
        if listed and rows and rows.keys().isdisjoint(listed):
            raise nothing_in_common(durations, listed, "the reference", rows, match)
    elif audio is not None:
        listed, also_called = _heard(audio, table, rows, match)
    clips = tuple(rows if listed is None else listed)
    if not clips:
        raise UserError("there is no clip to score", where=durations or path)
    cut = 0
    for clip in clips:
        row = rows.get(clip)
        if listed is None or row is None or not row.events:
            continue
        events, shortened = _within(clip, row.events, listed[clip], path)
        rows[clip] = replace(row, events=tuple(events))
        cut += shortened
    return Reference(table, rows, clips, listed, also_called, cut)


def read_prediction(
    path: Path,
    thresholds: str | float | Path | None,
    reference: Reference,
    match: Match,
    extra_classes: bool = False,
    model: Path | None = None,
) -> Prediction:
    """A table, or a folder of tables or frame scores, its clips by the reference's names for them.

    Its classes are those of the reference or, with ``extra_classes``, others too. Where no
    thresholds of clip probabilities are given, they are those of the ``model`` that it is of.

    Raises:
        UserError: it can't be read or held against the reference.
    """
    if _holds_scores(path) and reference.durations_seconds is None:
        raise UserError(
            "PSDS counts false alarms an hour, so that it needs to know how long every clip "
            "lasts; give a durations table (--durations: filename, duration) or the recordings "
            "(--audio)",
            where=path,
        )
    found = _read(path, thresholds, model)
    known = dict.fromkeys([*reference.rows, *reference.clips])
    also_called = dict(reference.also_called)
    if found.stems or reference.table.stems:
        also_called = _without_suffixes(found.clips, known) | also_called
    names = matched(found.clips, known, match, path, also_called)
    if found.clips and set(names.values()).isdisjoint(reference.clips):
        raise nothing_in_common(path, found.clips, reference.table.path, reference.clips, match)
    _check_classes(found, reference.table, extra_classes)
    if found.tags is not None:
        return replace(found, tags={names[name]: tags for name, tags in found.tags.items()})
    if not reference.table.strong:
        raise UserError(
            f"{found.kind} need a strong reference (filename, onset, offset, event_label), but "
            "this one has tags only; give the strong one, or predict tags",
            where=reference.table.path,
        )
    durations = reference.durations_seconds or {}
    if found.tracks is not None:
        tracks = {names[name]: track for name, track in found.tracks.items()}
        for clip, track in tracks.items():
            _check_end(clip, track, durations.get(clip, math.inf), path)
        return replace(found, tracks=tracks)
    events_of, cut = {}, 0
    for name, events in (found.events or {}).items():
        clip = names[name]
        if clip in durations:
            events, shortened = _within(clip, events, durations[clip], path)
            cut += shortened
        events_of[clip] = events
    return replace(found, events=events_of, cut_events=cut)


def above(track: ScoreTrack, threshold: float) -> list[Event]:
    """The runs of frames above, not at, a threshold: nothing is joined or left out."""
    edges, events = track.edges_seconds, []
    for k, name in enumerate(track.class_names):
        active = np.concatenate(([False], track.probabilities[:, k] > threshold, [False]))
        changes = np.flatnonzero(active[1:] != active[:-1])
        for start, stop in edges[changes].reshape(-1, 2).tolist():
            events.append(Event(start, stop, name))
    return events


def tuned_here(found: Prediction, reference: Path) -> bool:
    """Whether the thresholds were tuned on the reference itself."""
    return reference.is_file() and digest(reference) in found.tuned_digests


@dataclass(frozen=True, slots=True, eq=False)
class _TableTrack(ScoreTrack):
    """A track whose frames lie where a table says, not a clock."""

    edges: NDArray[np.float64] | None = None

    @property
    def edges_seconds(self) -> NDArray[np.float64]:
        assert self.edges is not None
        return self.edges


def _read(path: Path, thresholds: str | float | Path | None, model: Path | None) -> Prediction:
    if _holds_scores(path):
        return _read_scores(path, thresholds)
    in_parts = path.is_dir() and not parquet_parts(path)
    header = [] if in_parts or track_format(path) else read_table(path).records[0].cells
    if header and header[0] in NAME_COLUMNS and set(TELLING_COLUMNS).isdisjoint(header):
        filenames, class_names, probabilities = read_tags(path)
        if not class_names:
            raise UserError("a tag table needs a column for each class", where=path)
        limits, origin, note, digests = _thresholds(
            model if thresholds is None else thresholds, class_names
        )
        tags = dict(zip(filenames, probabilities, strict=True))
        return Prediction(
            path,
            class_names,
            tags=tags,
            thresholds=limits,
            thresholds_from=origin,
            tuned_on=note,
            tuned_digests=digests,
        )
    if thresholds is not None:
        raise UserError(
            "thresholds are for clip probabilities, but this table is decided already; leave "
            "them out",
            where=path,
        )
    if header[:2] == ["onset", "offset"]:
        raise UserError(
            "this is the score table of one recording; give the folder of all of them", where=path
        )
    table = read_detected(path)
    rows = by_clip(table)
    if table.strong:
        return Prediction(
            path,
            table.class_names,
            events={clip: row.events or () for clip, row in rows.items()},
            zero_length_events=table.zero_length_events,
            stems=table.stems,
        )
    return Prediction(
        path,
        table.class_names,
        tags={
            clip: np.array([name in row.labels for name in table.class_names], np.float64)
            for clip, row in rows.items()
        },
    )


def _holds_scores(path: Path) -> bool:
    """Whether it is a folder with score tables, whose rows name no files."""
    names = sorted(files_below(path)) if path.is_dir() else []
    table = next((name for name in names if name.lower().endswith(".tsv")), None)
    if table is None:
        return False
    header = (first_line(path / table) or "").replace('"', "").split("\t")
    return {*NAME_COLUMNS, *LABEL_COLUMNS, STRONG_COLUMNS[0]}.isdisjoint(header)


def _without_suffixes(names: Iterable[str], clips: Iterable[str]) -> dict[str, str]:
    """The clip that each name means where one of the two lacks its suffix."""
    known = {as_compared(clip): clip for clip in clips}
    roots = Counter(os.path.splitext(clip)[0] for clip in known)
    by_root = {root: known[clip] for clip in known if roots[root := os.path.splitext(clip)[0]] == 1}
    found = {}
    for name in names:
        wanted = as_compared(name)
        clip = known.get(os.path.splitext(wanted)[0]) or by_root.get(wanted)
        if clip is not None:
            found[name] = clip
    return found


def _read_scores(folder: Path, thresholds: str | float | Path | None) -> Prediction:
    """The tracks of a folder; a table's path in it, less ``.tsv``, is the recording's name."""
    limit, origin = DEFAULT_THRESHOLD, None
    if thresholds is not None:
        limit, origin = _one_threshold(thresholds)
    tracks: dict[str, ScoreTrack] = {}
    class_names: set[str] = set()
    for path in sorted(folder.rglob("*.tsv")):
        edges, names, probabilities = read_scores(path)
        tracks[path.relative_to(folder).as_posix().removesuffix(".tsv")] = _TableTrack(
            probabilities,  # type: ignore[arg-type]  # with all digits of the table
            names,
            FrameClock(1, 1, 1),  # not asked: the edges are the table's
            edges=edges,
        )
        class_names.update(names)
    return Prediction(
        folder,
        tuple(sorted(class_names)),
        tracks=tracks,
        thresholds=limit,
        thresholds_from=origin,
    )


def _one_threshold(given: str | float | Path) -> tuple[float, str]:
    try:
        number = float(str(given))
    except ValueError:
        raise UserError(
            "of frame scores a number is a threshold; a model's decoding is more than thresholds: "
            "score the events that it detects"
        ) from None
    if not 0 <= number <= 1:
        raise UserError(f"a threshold must lie in [0, 1], came as {given}")
    return number, f"{number}, above which frames are events"


def _thresholds(
    given: str | float | Path | None, class_names: Sequence[str]
) -> tuple[NDArray[np.float64] | float, str, str, frozenset[str]]:
    """One threshold for all classes or one each (K,), where from, and what they were tuned on."""
    if given is None:
        return DEFAULT_THRESHOLD, f"{DEFAULT_THRESHOLD}, for none were given", "", frozenset()
    try:
        number = float(str(given))
    except ValueError:
        limits, note, digests = _model_thresholds(named(str(given)), class_names)
        return limits, f"those of the model {given}", note, digests
    if not 0 <= number <= 1:
        raise UserError(f"a threshold must lie in [0, 1], came as {given}")
    return number, f"{number}", "", frozenset()


def _model_thresholds(
    folder: Path, class_names: Sequence[str]
) -> tuple[NDArray[np.float64], str, frozenset[str]]:
    # Read as plain JSON: the code for model folders takes seconds to import.
    path = fetched(folder) / "model.json"
    if not path.is_file():
        raise UserError(
            f"thresholds must be a number in [0, 1] or a model folder (with a model.json), "
            f"came as '{folder}'"
        )
    try:
        model = loads(path.read_text(encoding="utf-8"))
        limits = [float(rule["tag_threshold"]) for rule in model["decoding"]]
        if not all(0 <= limit <= 1 for limit in limits):
            raise ValueError("a threshold outside [0, 1]")
        of_class = dict(zip(model["class_names"], limits, strict=True))
        # A fused model says it at the top, any other beside its training.
        told = model if "thresholds" in model else model.get("training", {})
        note = str(told.get("thresholds", ""))
        digests = frozenset(map(str, dict(told.get("tuned_on", {})).values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"must hold class_names and for each a tag_threshold in decoding ({error!r})",
            where=path,
        ) from error
    if unknown := [name for name in class_names if name not in of_class]:
        raise UserError(
            f"the model has no class '{unknown[0]}' of the prediction; give the folder of the "
            "model that made it",
            where=path,
        )
    limits_of_classes = np.array([of_class[name] for name in class_names], np.float64)
    return limits_of_classes, note, digests


def _heard(
    audio: Path, table: LabelTable, rows: Mapping[str, LabelRow], match: Match
) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of every clip in a folder, from the headers; and the names in it of those known.

    Recordings that the reference leaves out are clips too.
    """
    # Loads what reads audio, which tables alone don't need.
    from earmark.audio import duration_seconds, find_recordings
    from earmark.data.labels import find_clips

    recordings = find_recordings([audio])
    seconds: dict[str, float] = {}
    also_called: dict[str, str] = {}
    if match == "stem":
        names = matched([name for name, _ in recordings], rows, match, audio)
        for name, path in recordings:
            seconds[names[name]] = duration_seconds(path)
        if rows.keys().isdisjoint(seconds):
            raise nothing_in_common(audio, seconds, table.path, rows, match)
        return seconds, also_called
    name_of = {path: name for name, path in recordings}
    clips, _ = find_clips(table, audio)
    for clip in clips:
        name = clip.name
        if clip.start_seconds is None or clip.stop_seconds is None:
            seconds[name] = duration_seconds(clip.path)
            also_called[name_of[clip.path]] = name
        else:
            seconds[name] = clip.stop_seconds - clip.start_seconds
    labelled = {clip.path for clip in clips}
    for name, path in recordings:
        if path not in labelled:
            seconds[name] = duration_seconds(path)
    return seconds, also_called


def _within(
    clip: str, events: Sequence[Event], seconds: float, where: Path
) -> tuple[list[Event], int]:
    """The events, cut at the clip's end where they go a little beyond it; and how many were."""
    inside, cut = [], 0
    for event in events:
        if event.offset_seconds > seconds + BEYOND_SECONDS:
            raise UserError(
                f"events must lie within their clip, but '{event.label}' from "
                f"{event.onset_seconds:g} to {event.offset_seconds:g} s ends after '{clip}', which "
                f"lasts {seconds:g} s; mend the times or the duration",
                where=where,
            )
        if event.offset_seconds > seconds:
            cut += 1
            event = replace(event, offset_seconds=seconds)
        if event.duration_seconds > 0:
            inside.append(event)
    return inside, cut


def _check_end(clip: str, track: ScoreTrack, seconds: float, where: Path) -> None:
    """A table ends with its clip: a frame early at most, and no frame begins after the clip."""
    edges = track.edges_seconds
    usual = float(np.median(np.diff(edges))) if len(edges) > 2 else 0.0
    slack = usual + BEYOND_SECONDS
    if edges[-1] < seconds - slack < math.inf:
        raise UserError(
            f"scores must last as long as their clip, but those of '{clip}' end at {edges[-1]:g} "
            f"of {seconds:g} s; detect it again, or mend the duration",
            where=where,
        )
    if len(edges) > 1 and (edges[-2] > seconds + BEYOND_SECONDS or edges[-1] > seconds + slack):
        raise UserError(
            f"scores must lie within their clip, but the last frame from {edges[-2]:g} to "
            f"{edges[-1]:g} s goes beyond '{clip}', which lasts {seconds:g} s; mend the times or "
            "the duration",
            where=where,
        )


def _check_classes(found: Prediction, table: LabelTable, extra: bool) -> None:
    """Refuses a class that only the prediction names: misspelt, or one that doesn't occur.

    Args:
        found: the prediction.
        table: the reference.
        extra: whether such classes may be, and count as false alarms.

    Raises:
        UserError: there is such a class, or none in common.
    """
    unknown = sorted(set(found.class_names) - set(table.class_names))
    missing = sorted(set(table.class_names) - set(found.class_names))
    if (
        found.class_names
        and table.class_names
        and len(missing) == len(table.class_names)
        and not extra
    ):
        raise UserError(
            f"no class is also in {table.path}: here {in_short(unknown)}, there "
            f"{in_short(missing)}; write them alike",
            where=found.path,
        )
    if unknown and not extra:
        raise UserError(
            f"{table.path} lacks {in_short(unknown)}, and has {in_short(table.class_names)}; "
            "write them alike or, if they never sound in it, pass --extra-classes to count them "
            "as false alarms",
            where=found.path,
        )
