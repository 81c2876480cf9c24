"""Do the rows of a table and the recordings of a folder fit, and the rows each other?"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from earmark.data.check.findings import Case, Finding, are, have, tags_text, tally
from earmark.data.labels import Clip, Recordings
from earmark.errors import UserError
from earmark.formats.label_table import LabelRow, LabelTable
from earmark.formats.tables import seconds_text


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """A table, and what of it lies in the folder.

    Attributes:
        name: what the table is called.
        table: its rows; a file may have several.
        clips: those with a recording.
        missing: rows without one.
        unclear: rows whose recording can't be told, and why.
        matched: every recording that a row may mean.
        defects: why other rows can't be read.
        learnt: whether a model is to learn from it; others judge.
    """

    name: str
    table: LabelTable
    clips: list[Clip]
    missing: list[LabelRow]
    unclear: list[tuple[LabelRow, str]]
    matched: set[Path]
    defects: list[UserError]
    learnt: bool


def match(
    name: str,
    table: LabelTable,
    defects: Sequence[UserError],
    recordings: Sequence[tuple[str, Path]],
    *,
    learnt: bool,
) -> LabelledSet:
    """The recordings of a table; what ``find_clips`` refuses is set aside, and told."""
    index = Recordings(recordings, table.video_clips, table.stems)
    found = LabelledSet(name, table, [], [], [], set(), list(defects), learnt)
    matches_of: dict[str, list[Path]] = {}
    filename_of: dict[Path, str] = {}
    for row in table.rows:
        if row.filename not in matches_of:
            matches_of[row.filename] = index.matching(row.filename)
            found.matched.update(matches_of[row.filename])
        matches = matches_of[row.filename]
        if not matches:
            found.missing.append(row)
        elif len(matches) > 1:
            found.unclear.append((row, f"matches {matches[0]} and {matches[1]}"))
        elif (first := filename_of.setdefault(matches[0], row.filename)) != row.filename:
            found.unclear.append((row, f"is {matches[0]}, and so is '{first}'"))
        else:
            found.clips.append(Clip.of(row, matches[0]))
    return found


def of_rows(of_set: LabelledSet, recordings: Sequence[tuple[str, Path]]) -> Iterator[Finding]:
    """Rows that can't be read or matched, repeat or contradict each other, or say nothing."""
    name = of_set.name
    if of_set.defects:
        yield Finding(
            "error",
            "rows that can't be read",
            name,
            f"{tally(of_set.defects, 'row')} of the table can't be read",
            "mend or remove them",
            tuple(Case(str(error)) for error in of_set.defects),
        )
    if of_set.missing:
        names = list(dict.fromkeys(row.filename for row in of_set.missing))
        there = next((name for name, _ in recordings), "")
        hint = "" if of_set.clips else f"; the folder has names like '{there}'"
        yield Finding(
            "error",
            "missing recordings",
            name,
            f"{tally(names, 'file')} of the table {are(names)} not in the folder",
            f"add them, or leave them out with --skip-missing{hint}",
            tuple(map(Case, names)),
        )
    if of_set.unclear:
        yield Finding(
            "error",
            "unclear recordings",
            name,
            f"of {tally(of_set.unclear, 'row')} it can't be told which recording is meant",
            "write more of the path, and one name for each recording",
            tuple(Case(row.filename, why) for row, why in of_set.unclear),
        )
    if not any(clip.labels for clip in of_set.clips):
        yield Finding("error", "no tags", name, "no clip has a tag", "label some")
    elif untagged := [
        clip.name for clip in of_set.clips if clip.absent is None and not clip.labels
    ]:
        yield Finding(
            "note",
            "clips without tags",
            name,
            f"{tally(untagged, 'clip')} of {len(of_set.clips):,} {have(untagged)} no tag",
            "right if none of the classes sounds there; if they are unlabelled, remove them",
            tuple(map(Case, untagged)),
        )
    yield from _of_repetitions(of_set)
    if count := of_set.table.zero_length_events:
        yield Finding(
            "warning",
            "events of 0 s",
            name,
            f"{count:,} {'event lasts' if count == 1 else 'events last'} 0 s and will be left out",
            "give them an offset behind their onset",
        )


def _of_repetitions(of_set: LabelledSet) -> Iterator[Finding]:
    rows: defaultdict[tuple[str, float | None, float | None], list[LabelRow]] = defaultdict(list)
    for row in of_set.table.rows:
        rows[row.filename, row.start_seconds, row.stop_seconds].append(row)
    repeated, contradictory = [], []
    for of_clip in rows.values():
        if len(of_clip) == 1:
            continue
        lines = ", ".join(str(row.line) for row in of_clip[:5])
        if any(_contradict(one, other) for one, other in combinations(of_clip, 2)):
            tags = " against ".join(sorted({tags_text(row.labels) for row in of_clip}))
            contradictory.append(Case(of_clip[0].clip_name, f"lines {lines}: {tags}"))
        elif len({(row.labels, row.absent) for row in of_clip}) == 1:
            repeated.append(Case(of_clip[0].clip_name, f"lines {lines}"))
    if contradictory:
        yield Finding(
            "error",
            "contradictory rows",
            of_set.name,
            f"{tally(contradictory, 'clip')} {have(contradictory)} rows with different tags",
            "decide which is right, or join them",
            tuple(contradictory),
        )
    if repeated:
        parts = any(row.start_seconds is not None for row in of_set.table.rows)
        yield Finding(
            "warning" if parts else "error",
            "repeated rows",
            of_set.name,
            f"{tally(repeated, 'clip')} {have(repeated)} several equal rows",
            "keep one of them",
            tuple(repeated),
        )
    twice = [
        Case(row.filename, f"{label} at {seconds_text(onset)} s")
        for row in of_set.table.rows
        for (label, onset, _), count in Counter(
            (event.label, event.onset_seconds, event.offset_seconds) for event in row.events or ()
        ).items()
        if count > 1
    ]
    if twice:
        yield Finding(
            "warning",
            "repeated events",
            of_set.name,
            f"{tally(twice, 'event')} {are(twice)} in the table more than once",
            "keep one row of each",
            tuple(twice),
        )


def _contradict(one: LabelRow, other: LabelRow) -> bool:
    """Whether one has a class that the other lacks."""
    return any(
        (label not in b.labels) if b.absent is None else (label in b.absent)
        for a, b in ((one, other), (other, one))
        for label in a.labels
    )
