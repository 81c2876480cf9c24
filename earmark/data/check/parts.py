"""Is what judges apart from what is learnt: no clip, copy, group or source in both?"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from earmark.data.check.findings import Case, Finding, Severity, are, tally
from earmark.data.check.hearing import Heard
from earmark.data.check.tables import LabelledSet
from earmark.data.labels import split
from earmark.errors import UserError
from earmark.formats.audioset import segment_of
from earmark.formats.label_table import LabelTable

MOST_OF_A_SOURCE = 0.25
"""What more clips of a table have in their names is no source, but a habit of naming."""

_NUMBER_OF_PART = re.compile(r"(?:0[0-9]*|[0-9]{1,4}|[A-Za-z])\Z", re.ASCII)


def of_hold_out(learnt: LabelledSet) -> Iterator[Finding]:
    """A table of which nothing can be held out to judge by."""
    if not any(clip.labels for clip in learnt.clips):
        return
    try:
        split(learnt.clips, 0.15, 0)
    except UserError as error:
        yield Finding(
            "error",
            "nothing to hold out",
            learnt.name,
            str(error),
            "training holds out 15 % of the clips if it isn't given others; see --validation",
        )


def of_leaks(
    one: LabelledSet, other: LabelledSet, heard: Mapping[Path, Heard]
) -> Iterator[Finding]:
    """What two tables share: clips, parts, copies, groups, or sources."""
    tables = f"{one.name} and {other.name}"
    parts: defaultdict[Path, list[tuple[float, float]]] = defaultdict(list)
    for clip in one.clips:
        parts[clip.path].append(clip.span)
    apart = [clip for clip in other.clips if clip.path not in parts]
    shared: list[Case] = []
    neighbours: list[Case] = []
    for clip in other.clips:
        if clip.path not in parts:
            continue
        start, stop = clip.span
        overlaps = any(start < end and begin < stop for begin, end in parts[clip.path])
        (shared if overlaps else neighbours).append(Case(clip.name))
    if shared:
        yield _leak("error", "clips in both", tables, "clip", shared, "keep each in one of them")
    if neighbours:
        yield _leak(
            "warning",
            "parts of one recording in both",
            tables,
            "part",
            neighbours,
            "put all parts of a recording into one table: they sound alike, and scores look better "
            "than they are",
            "{0} of recordings {1} in one table, and others of these in the other",
        )
    file_of = {
        heard[clip.path].digest: clip.filename
        for clip in one.clips
        if clip.path in heard and not heard[clip.path].silent()
    }
    copies = {
        clip.filename: file_of[heard[clip.path].digest]
        for clip in apart
        if clip.path in heard and heard[clip.path].digest in file_of
    }
    if copies:
        yield _leak(
            "error",
            "copies in both",
            tables,
            "recording",
            [Case(name, f"the same samples as {first}") for name, first in copies.items()],
            "keep each in one of them: scores look better than they are",
            "{0} {1} in both tables, under different names",
        )
    groups = {clip.group for clip in one.clips} & {clip.group for clip in other.clips} - {None}
    if groups:
        yield _leak(
            "error",
            "groups in both",
            tables,
            "group",
            [Case(str(group)) for group in sorted(map(str, groups))],
            "keep all clips of a group in one table",
        )
    sources = _sources(one)
    names = {
        clip.filename: _source(clip.filename, other.table)
        for clip in apart
        if clip.filename not in copies
    }
    alike = [
        Case(name, f"like {sources[source]}")
        for name, source in names.items()
        if source is not None and source in sources
    ]
    if alike:
        yield _leak(
            "warning",
            "sources in both",
            tables,
            "recording",
            alike,
            "look whether these are from one source, and keep a source in one table",
            "{0} {1} by the name from a source that the other table has, too",
        )


def _leak(
    severity: Severity,
    problem: str,
    tables: str,
    unit: str,
    cases: Sequence[Case],
    remedy: str,
    what: str = "{0} {1} in both tables",
) -> Finding:
    said = what.format(tally(cases, unit), are(cases))
    return Finding(severity, problem, tables, said, remedy, tuple(cases))


def _sources(of_set: LabelledSet) -> dict[str, str]:
    """A filename of each source that the filenames tell."""
    files = {clip.filename: _source(clip.filename, of_set.table) for clip in of_set.clips}
    counts = Counter(source for source in files.values() if source is not None)
    most = max(1.0, MOST_OF_A_SOURCE * len(files))
    return {
        source: name
        for name, source in files.items()
        if source is not None and counts[source] <= most
    }


def _source(filename: str, table: LabelTable) -> str | None:
    """The video that a clip is of, or a name with a number, without that of a part."""
    if table.video_clips:
        segment = segment_of(filename)
        return None if segment is None else segment[0]
    parts = re.split(r"[-_. ]", Path(filename).stem)
    while len(parts) > 1 and _NUMBER_OF_PART.match(parts[-1]):
        parts.pop()
    source = "-".join(parts)
    return source if any(letter.isdigit() for letter in source) else None
