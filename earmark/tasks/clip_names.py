"""Which clip a name means: tables and recordings may call one clip in several ways."""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal

from earmark.errors import UserError
from earmark.folders import as_compared
from earmark.formats.audioset import segment_of
from earmark.formats.labels import LabelRow, LabelTable

Match = Literal["exact", "stem"]

_SUFFIX = re.compile(r"\.(?=[0-9]*[A-Za-z])\w{2,5}\Z", re.ASCII)
_PART = re.compile(r" \([0-9.]+-[0-9.]+ s\)\Z")


def by_clip(table: LabelTable) -> dict[str, LabelRow]:
    """The rows by clip: a filename, with its times where a part of the file is meant."""
    rows: dict[str, LabelRow] = {}
    for row in table.rows:
        clip = row.clip_name
        if clip in rows:
            raise UserError(
                f"a clip may have one row, but '{clip}' has one in line {rows[clip].line} too; "
                "join them or remove one",
                where=table.path,
                line=row.line,
            )
        rows[clip] = row
    return rows


def matched(
    names: Iterable[str],
    clips: Iterable[str],
    match: Match,
    where: Path,
    also_called: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The clip that each name means, or the name itself where none does.

    Raises:
        UserError: two clips or two names can't be told apart by their stems.
    """
    known = dict.fromkeys(clips)
    if match == "exact":
        other = {as_compared(clip): clip for clip in known} | dict(also_called or {})
        meant = {
            name: name if name in known else other.get(name) or other.get(as_compared(name), name)
            for name in names
        }
    else:
        clip_of: dict[str, str] = {}
        for clip in known:
            if (first := clip_of.setdefault(stem(clip), clip)) != clip:
                raise UserError(
                    f"clips must differ in their stems, but '{first}' and '{clip}' do not; match "
                    "them exactly"
                )
        meant = {name: clip_of.get(stem(name), name) for name in names}
    taken: dict[str, str] = {}
    for name, clip in meant.items():
        if (first := taken.setdefault(clip, name)) != name:
            raise UserError(
                f"a clip may be named in one way, but '{first}' and '{name}' both mean '{clip}'; "
                "keep one of them",
                where=where,
            )
    return meant


def stem(name: str) -> str:
    """A name without folder, suffix and a leading Y; of a part of a video, that part.

    >>> stem("audio/Y-0RWZT-miFs_420.000_430.000.wav"), stem("-0RWZT-miFs_420000")
    ('-0RWZT-miFs at 420000', '-0RWZT-miFs at 420000')
    >>> stem("Yabc.flac"), stem("x/abc.mp3"), stem("day.wav (0.000-10.000 s)")
    ('abc', 'abc', 'day (0.000-10.000 s)')
    """
    base = as_compared(name).rpartition("/")[2]
    part = match[0] if (match := _PART.search(base)) else ""
    plain = _SUFFIX.sub("", base.removesuffix(part))
    segment = segment_of(f"{plain}.wav")
    if segment is None:
        return plain.removeprefix("Y") + part
    video, start = segment
    return f"{video}{part}" if start is None else f"{video} at {start}{part}"


def nothing_in_common(
    path: Path, clips: Collection[str], other: object, others: Collection[str], match: Match
) -> UserError:
    """The complaint, with two names of each side and the usual causes."""
    here, there = (", ".join(f"'{clip}'" for clip in sorted(side)[:2]) for side in (clips, others))
    way_out = "" if match == "stem" else ", or match them by their stems (--match stem)"
    return UserError(
        f"no clip is also in {other}: here {here}, there {there}; write them alike{way_out} "
        "(usual causes are a leading 'Y', a folder, another suffix, or times of parts of files)",
        where=path,
    )
