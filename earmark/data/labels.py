"""From a table of labels to clips on disk, and to a training and a validation part."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import chain, islice
from pathlib import Path

import numpy as np
from scipy import sparse

from earmark.audio import find_recordings
from earmark.errors import UserError
from earmark.events import Event
from earmark.folders import as_compared
from earmark.formats.audioset import segment_of
from earmark.formats.label_table import LabelRow, LabelTable, clip_name
from earmark.formats.tables import no_collection

# Clips without tags are spread like those of a class; no class has an empty name.
_UNTAGGED = ""
# Units are in random order: of more than so many of a size, the first ones do.
_CANDIDATES = 20_000


@dataclass(frozen=True, slots=True)
class Clip:
    """A labelled unit: a file, or the part of it from ``start_seconds`` to ``stop_seconds``.

    It has the classes in ``labels``, and lacks those in ``absent``; None are all others.
    """

    path: Path
    filename: str
    start_seconds: float | None
    stop_seconds: float | None
    labels: frozenset[str]
    events: tuple[Event, ...] | None
    group: str | None
    absent: frozenset[str] | None = None

    @classmethod
    def of(cls, row: LabelRow, path: Path) -> "Clip":
        """A row of a table, and the file that it means."""
        return cls(
            path,
            row.filename,
            row.start_seconds,
            row.stop_seconds,
            row.labels,
            row.events,
            row.group,
            row.absent,
        )

    @property
    def name(self) -> str:
        """The file's name, with the times where a part of it is meant."""
        return clip_name(self.filename, self.start_seconds, self.stop_seconds)

    @property
    def span(self) -> tuple[float, float]:
        """From when to when in its file it lasts; to infinity where that is the file's end."""
        stop = math.inf if self.stop_seconds is None else self.stop_seconds
        return self.start_seconds or 0.0, stop

    def knows(self, label: str) -> bool:
        """Whether it is known to have a class, or to lack it."""
        return self.absent is None or label in self.labels or label in self.absent


@no_collection()
def find_clips(table: LabelTable, audio: Path) -> tuple[list[Clip], list[str]]:
    """The clips of a table whose audio is in a folder, and the filenames without any.

    A filename matches the recording whose path in the folder ends with it, folder by folder:
    ``b/c.wav`` matches ``a/b/c.wav``, not ``a/bb/c.wav``. Names are the same if they are so
    ``as_compared``. An absolute filename or one with ``..`` matches nothing. A clip of a video
    that no path matches so is also looked for by the video's id, and by its start where a
    recording's name says one (``segment_of``); the recording of a track without its suffix
    (``LabelTable.stems``).

    Raises:
        UserError: a filename matches two recordings, two filenames match one, or none matches
            any.
    """
    recordings = find_recordings([audio])
    index = Recordings(recordings, table.video_clips, table.stems)
    path_of: dict[str, Path | None] = {}
    filename_of: dict[Path, str] = {}
    clips = []
    for row in table.rows:
        if row.filename not in path_of:
            matches = index.matching(row.filename)
            if len(matches) > 1:
                raise UserError(
                    f"a filename must match one recording, but '{row.filename}' matches "
                    f"{matches[0]} and {matches[1]}; write more of the path, or keep one of them",
                    where=table.path,
                    line=row.line or None,
                )
            path_of[row.filename] = matches[0] if matches else None
            if matches and filename_of.setdefault(matches[0], row.filename) != row.filename:
                raise UserError(
                    f"a recording needs one name, but '{filename_of[matches[0]]}' and "
                    f"'{row.filename}' both match {matches[0]}; write one of them",
                    where=table.path,
                    line=row.line or None,
                )
        found = path_of[row.filename]
        if found is not None:
            clips.append(Clip.of(row, found))
    if not path_of:
        raise UserError("the table has no rows; add some below its header", where=table.path)
    if not clips:
        raise UserError(
            f"none of the files in the table is in {audio}: the table has "
            f"{_examples(path_of)}, the folder {_examples(name for name, _ in recordings)}; "
            "check the folder and the suffixes",
            where=table.path,
        )
    return clips, [filename for filename, path in path_of.items() if path is None]


class Recordings:
    """Recordings by the names that tables may have for them."""

    def __init__(
        self, recordings: Iterable[tuple[str, Path]], video_clips: bool, stems: bool = False
    ) -> None:
        self._by_base_name: dict[str, list[tuple[str, Path]]] = defaultdict(list)
        self._by_stem: dict[str, list[tuple[str, Path]]] = defaultdict(list)
        self._by_video: dict[str, list[tuple[int | None, Path]]] = defaultdict(list)
        for name, path in recordings:
            relative = as_compared(name)
            self._by_base_name[relative.rpartition("/")[2]].append((relative, path))
            if stems:
                bare = os.path.splitext(relative)[0]
                self._by_stem[bare.rpartition("/")[2]].append((bare, path))
            segment = segment_of(relative) if video_clips else None
            if segment is not None:
                self._by_video[segment[0]].append((segment[1], path))

    def matching(self, filename: str) -> list[Path]:
        """The recordings whose path ends with a filename, else those of its part of a video."""
        wanted = _relative(filename)
        matches: list[Path] = []
        for index in (self._by_base_name, self._by_stem):
            candidates = index.get(wanted.rpartition("/")[2], ())
            matches = matches or [
                path for name, path in candidates if name == wanted or name.endswith(f"/{wanted}")
            ]
        segment = segment_of(as_compared(filename)) if self._by_video and not matches else None
        if segment is None or segment[1] is None:
            return matches
        video, start = segment
        return [path for begins, path in self._by_video.get(video, ()) if begins in (None, start)]


@no_collection()
def tag_matrix(clips: Sequence[Clip], class_names: Sequence[str]) -> sparse.csr_array:
    """(N, K) True where a clip has a class; sparse, as of millions of clips few tags are True."""
    return _matrix((clip.labels for clip in clips), class_names)


@no_collection()
def known_matrix(clips: Sequence[Clip], class_names: Sequence[str]) -> sparse.csr_array | None:
    """(N, K) True where it is known whether a clip has a class; None if everything is.

    Sparse, as of millions of clips with tags for few of hundreds of classes little is known.
    """
    if all(clip.absent is None for clip in clips):
        return None
    return _matrix(
        (class_names if clip.absent is None else clip.labels | clip.absent for clip in clips),
        class_names,
    )


def _matrix(rows: Iterable[Iterable[str]], class_names: Sequence[str]) -> sparse.csr_array:
    column = {name: k for k, name in enumerate(class_names)}
    columns = [[column[label] for label in labels if label in column] for labels in rows]
    starts = np.cumsum([0, *map(len, columns)])
    indices = np.fromiter(chain.from_iterable(columns), np.int32, count=starts[-1])
    values = np.ones(len(indices), np.bool_)
    return sparse.csr_array((values, indices, starts), shape=(len(columns), len(class_names)))


@no_collection()
def split(clips: Sequence[Clip], fraction: float, seed: int) -> tuple[list[Clip], list[Clip]]:
    """Training and validation clips, about ``fraction`` of them for validation.

    Clips of one group stay together, and so do, where they have none, clips of one file. Classes
    are spread as evenly as that permits, the rarest first (after Sechidis et al., "On the
    stratification of multi-label data", 2011), and each keeps a clip in training. The order of
    the clips and the folder that they lie in don't matter, except for the order of the results.

    Raises:
        UserError: the fraction is not in [0, 1), or nothing can be set aside.
    """
    if not 0 <= fraction < 1:
        raise UserError(f"a validation fraction must be in [0, 1), came as {fraction:g}")
    if fraction == 0:
        return list(clips), []
    units = _units(clips)
    way_out = "give labels for validation by themselves, or set the fraction to 0"
    if len(units) < 2:
        group = units[0].name if units else ""
        came = f"all are of '{group}'" if units else "there are none"
        raise UserError(f"clips of at least two groups or files are needed, {came}; {way_out}")
    shuffled = [units[index] for index in np.random.default_rng(seed).permutation(len(units))]
    division = _Division(shuffled, fraction)
    division.stratify()
    division.repair()
    if not any(division.for_validation):
        raise UserError(
            "no clip can be set aside for validation without taking a class's last one from "
            f"training; {way_out}"
        )
    validation = {
        index
        for unit, chosen in zip(shuffled, division.for_validation, strict=True)
        if chosen
        for index in unit.clips
    }
    return (
        [clip for index, clip in enumerate(clips) if index not in validation],
        [clip for index, clip in enumerate(clips) if index in validation],
    )


@dataclass(slots=True)
class _Unit:
    """Clips that a split may not part, by index, and how many of them have each class."""

    name: str
    clips: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def _units(clips: Sequence[Clip]) -> list[_Unit]:
    """The units, in an order that doesn't depend on that of the clips."""
    units: dict[tuple[str, str], _Unit] = {}
    for index in sorted(range(len(clips)), key=lambda index: _place(clips[index])):
        clip = clips[index]
        key = ("file", str(clip.path)) if clip.group is None else ("group", clip.group)
        unit = units.setdefault(key, _Unit(clip.filename if clip.group is None else clip.group))
        unit.clips.append(index)
        unit.counts.update(clip.labels or (_UNTAGGED,))
    return list(units.values())


def _place(clip: Clip) -> tuple[str, str, str]:
    return clip.group or "", clip.filename, str(clip.path)


class _Division:
    """Units on their way into two parts."""

    def __init__(self, units: Sequence[_Unit], fraction: float) -> None:
        self.units = units
        self.fraction = fraction
        self.for_validation = [False] * len(units)
        self.count = 0
        """Units in validation."""
        self._of_size: dict[tuple[int, bool], dict[int, None]] = defaultdict(dict)
        for index, unit in enumerate(units):
            self._of_size[len(unit.clips), False][index] = None
        self.totals: Counter[str] = Counter()
        for unit in units:
            self.totals.update(unit.counts)
        self.in_training = self.totals.copy()
        """Clips of each class that are, or may still come, in training."""
        self.wanted = fraction * sum(len(unit.clips) for unit in units)
        """Clips that validation still lacks; below 0 where it has too many."""

    def stratify(self) -> None:
        """Places every unit, the units of the rarest class first."""
        units_with: dict[str, list[int]] = defaultdict(list)
        for index, unit in enumerate(self.units):
            for label in unit.counts:
                units_with[label].append(index)
        waiting = self.totals.copy()
        waiting_clips = sum(len(unit.clips) for unit in self.units)
        wanted = {label: self.fraction * count for label, count in self.totals.items()}
        placed = [False] * len(self.units)
        # The rarest first; entries that are no longer right are passed over.
        rarity = [(waiting[label], label) for label in units_with]
        heapify(rarity)
        while units_with:
            count_of_rarest, rarest = heappop(rarity)
            if rarest not in units_with or count_of_rarest != waiting[rarest]:
                continue
            # Large units first: small ones can still even out what those leave.
            of_class = sorted(
                units_with.pop(rarest), key=lambda index: -self.units[index].counts[rarest]
            )
            for index in of_class:
                if placed[index]:
                    continue
                unit = self.units[index]
                size, count = len(unit.clips), unit.counts[rarest]
                lead = 2 * wanted[rarest] - waiting[rarest]
                if abs(lead) >= count:
                    chosen = lead > 0
                else:  # The class leaves it open; rounding must not add up over many classes.
                    on_schedule = self.wanted >= self.fraction * waiting_clips
                    chosen = on_schedule and size < 2 * self.wanted
                if chosen and self._keeps_classes(None, index):
                    self._move(index)
                    for label, number in unit.counts.items():
                        wanted[label] -= number
                placed[index] = True
                waiting.subtract(unit.counts)
                for label in unit.counts.keys() & units_with.keys():
                    heappush(rarity, (waiting[label], label))
                waiting_clips -= size

    def repair(self) -> None:
        """Moves or swaps units for as long as that brings the size nearer to the one wanted."""
        # Sizes are whole numbers: from half a clip off nothing comes nearer.
        while abs(self.wanted) > 0.5 or not any(self.for_validation):
            change = self._nearer()
            if not change:
                return
            for index in change:
                self._move(index)

    def _nearer(self) -> list[int]:
        """The units to take to the other part, at most one from each; none if none helps."""
        chosen: dict[int, Sequence[int | None]] = {0: [None]}
        others: dict[int, Sequence[int | None]] = {0: [None]}
        for (size, for_validation), units in self._of_size.items():
            if units:
                few = islice(units, _CANDIDATES) if len(units) > _CANDIDATES else sorted(units)
                (chosen if for_validation else others)[size] = list(few)
        count = self.count
        exchanges = sorted(
            (abs(self.wanted + back - away), back, away) for back in chosen for away in others
        )
        for error, back, away in exchanges:
            if count and error > abs(self.wanted) - 1e-6:
                break
            if away == 0 and (back == 0 or count == 1):
                continue
            for one in sorted(chosen[back], key=lambda index: self._cost(index, None)):
                options = [
                    (self._cost(one, other), place)
                    for place, other in enumerate(others[away])
                    if self._keeps_classes(one, other)
                ]
                if options:
                    exchange = (one, others[away][min(options)[1]])
                    return [index for index in exchange if index is not None]
        return []

    def _keeps_classes(self, back: int | None, away: int | None) -> bool:
        """Whether training keeps a clip of each class if one unit comes back and one leaves."""
        come, leave = self._counts(back), self._counts(away)
        return all(self.in_training[label] + come[label] > count for label, count in leave.items())

    def _move(self, index: int) -> None:
        """Takes a unit to the other part."""
        unit = self.units[index]
        sign = -1 if self.for_validation[index] else 1
        self.for_validation[index] = sign > 0
        self.count += sign
        self._of_size[len(unit.clips), sign < 0].pop(index)
        self._of_size[len(unit.clips), sign > 0][index] = None
        self.wanted -= sign * len(unit.clips)
        for label, count in unit.counts.items():
            self.in_training[label] -= sign * count

    def _cost(self, back: int | None, away: int | None) -> float:
        """How much further from their shares this takes the classes, squared."""
        come, leave = self._counts(back), self._counts(away)
        cost = 0.0
        for label in sorted(come.keys() | leave.keys()):
            total = self.totals[label]
            now = self.in_training[label] - (1 - self.fraction) * total
            after = now + come[label] - leave[label]
            cost += (after**2 - now**2) / total
        return cost

    def _counts(self, index: int | None) -> Counter[str]:
        return Counter() if index is None else self.units[index].counts


def _relative(filename: str) -> str:
    """A path in its shortest form, nothing of an absolute one; ``..`` stays, and matches none."""
    filename = as_compared(filename)
    if filename.startswith("/"):
        return ""
    return "/".join(part for part in filename.split("/") if part not in ("", "."))


def _examples(names: Iterable[str]) -> str:
    first = [f"'{name}'" for name, _ in zip(names, range(2), strict=False)]
    return " and ".join(first) or "no rows"
