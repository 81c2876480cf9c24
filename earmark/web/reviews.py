"""What a person said of recordings: which events are right, what is absent, what was looked at.

Kept in one file a recording that is whole at any time, whatever happens to the server.
"""

import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from earmark.errors import UserError
from earmark.events import Event, in_order
from earmark.formats.tables import TAB, seconds_text, write_table
from earmark.formats.weak import join_labels
from earmark.web.library import Recording
from earmark.web.messages import Absent, Reviewed, ReviewEvent, Stretch
from earmark.writing import replacing, writing

AUDIBLE_SECONDS = 0.1
"""An event that reaches into a part by less says nothing of the part, unless it is as short."""


class OtherVersion(Exception):
    """What is kept is not of the version that was meant."""

    def __init__(self, version: int) -> None:
        super().__init__(f"version {version}")
        self.version = version


@dataclass(frozen=True, slots=True)
class Kept:
    """A review as it is kept.

    Attributes:
        name: of the recording, in tables.
        seconds: how long it is.
        model: by its digest, whose events those are that nobody decided on.
        version: goes up by one with each change.
        class_names: those that were looked for wherever something was reviewed.
        window_seconds: about the length of the parts that weak labels are given for.
        said: the events, and the rest.
    """

    name: str
    seconds: float
    model: str
    version: int
    class_names: tuple[str, ...]
    window_seconds: float
    said: Reviewed

    def decided(self) -> list[Event]:
        """Those that a person has confirmed, corrected or added, in order."""
        return in_order(_as_event(event) for event in self.said.events if event.state in _TRUE)

    def covers(self, event: ReviewEvent) -> bool:
        """Whether an event lies where its class was looked for."""
        reviewed = within(event.onset, event.offset, self.said.reviewed)
        return reviewed and event.label in self.class_names

    @property
    def whole(self) -> bool:
        """Whether the recording was reviewed from start to end."""
        stretches = _joined(self.said.reviewed)
        return (
            not any(event.state == "detected" for event in self.said.events)
            and len(stretches) == 1
            and stretches[0].start <= AUDIBLE_SECONDS
            and stretches[0].end >= self.seconds - AUDIBLE_SECONDS
        )


_TRUE = ("confirmed", "corrected", "added")


class Reviews:
    """The reviews of all recordings that were ever reviewed in a work folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        with writing(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def get(self, recording_id: str) -> Kept | None:
        """The review of a recording. Raises UserError if what is kept of it is damaged."""
        path = self._path(recording_id)
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            return _from_json(kept)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise UserError(
                "the review can't be read; move the file away to begin anew", where=path.name
            ) from error

    def version(self, recording_id: str) -> int:
        """0 where there is none yet."""
        kept = self.get(recording_id)
        return 0 if kept is None else kept.version

    def put(
        self,
        recording: Recording,
        seconds: float,
        model: str,
        class_names: Sequence[str],
        window_seconds: float,
        said: Reviewed,
        version: int,
    ) -> int:
        """Keeps a review in place of the ``version`` that it was made from; gives its own.

        Raises:
            OtherVersion: another one was kept meanwhile.
            UserError: it can't be written.
        """
        with self._lock:
            before = self.get(recording.id)
            now = 0 if before is None else before.version
            if now != version:
                raise OtherVersion(now)
            kept = {
                "name": recording.name,
                "seconds": seconds,
                "model": model,
                "version": now + 1,
                "class_names": _looked_for(before, class_names, said),
                "window_seconds": window_seconds,
                "said": said.model_dump(mode="json"),
            }
            path = self._path(recording.id)
            beside = path.with_suffix(".part")
            with replacing(path, beside=beside, lasting=True) as part:
                part.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
            return now + 1

    def remove(self, recording_id: str) -> None:
        """Forgets what was said of a recording."""
        with self._lock, writing(self._folder):
            self._path(recording_id).unlink(missing_ok=True)

    def _path(self, recording_id: str) -> Path:
        return self._folder / f"{recording_id}.json"


def begun(model: str, kept: Kept | None, detected: Sequence[ReviewEvent]) -> Reviewed:
    """What there is to review for a model.

    What was decided stays, whichever model was at work then. Of the model's own events those are
    added that touch nothing decided of their class and lie in no stretch that was reviewed for it,
    as far as they reach out of stretches without the class.
    """
    if kept is None:
        return Reviewed(events=list(detected))
    if kept.model == model:
        return kept.said
    decided = [event for event in kept.said.events if event.state != "detected"]
    fresh = [
        part
        for event in detected
        if not any(e.label == event.label and _overlap(e, event) > 0 for e in decided)
        and not kept.covers(event)
        for part in _audible(event, kept.said.absent)
    ]
    names = {event.id for event in decided}
    fresh = [e.model_copy(update={"id": _free(e.id, names)}) for e in fresh]
    events = sorted([*decided, *fresh], key=lambda e: (e.onset, e.label, e.offset))
    return kept.said.model_copy(update={"events": events, "rules": {}})


def within(onset: float, offset: float, stretches: Iterable[Stretch]) -> bool:
    """Whether an event's middle lies in a stretch."""
    middle = (onset + offset) / 2
    return any(stretch.start <= middle < stretch.end for stretch in stretches)


def write_strong_labels(path: Path, reviews: Iterable[Kept], *, whole: bool) -> None:
    """A strong TSV of the events that people confirmed, corrected or added.

    A recording in which nothing sounds is a row by itself if it was reviewed from start to end.

    Args:
        path: the file.
        reviews: of the recordings.
        whole: leaves out recordings that were not reviewed from start to end for every class that
            was looked for in any of them. Of others, what isn't in the table may sound all the
            same.
    """
    rows: list[list[str]] = [["filename", "onset", "offset", "event_label"]]
    reviews = list(reviews)
    names = {name for kept in reviews if kept.whole for name in kept.class_names}
    for kept in reviews:
        covered = kept.whole
        if whole and not (covered and names <= set(kept.class_names)):
            continue
        events = kept.decided()
        rows += [
            [kept.name, seconds_text(e.onset_seconds), seconds_text(e.offset_seconds), e.label]
            for e in events
        ]
        if covered and not events:
            rows.append([kept.name, "", "", ""])
    write_table(path, rows, TAB)


def write_weak_labels(path: Path, reviews: Iterable[Kept]) -> None:
    """A TSV of what is known of parts: which classes sound in them, and which don't.

    The columns are ``filename onset offset event_labels absent_labels``; a class in neither is
    unknown there.
    """
    rows: list[list[str]] = [["filename", "onset", "offset", "event_labels", "absent_labels"]]
    for kept in reviews:
        for (start, end), (present, absent) in _parts(kept).items():
            times = [seconds_text(start), seconds_text(end)]
            rows.append([kept.name, *times, join_labels(present), join_labels(absent)])
    write_table(path, rows, TAB)


def _parts(kept: Kept) -> dict[tuple[float, float], tuple[set[str], set[str]]]:
    """What is known of the parts of a recording: classes that sound, classes that don't.

    A stretch that was reviewed is cut into windows in which every class is known that was looked
    for, but for those of which an undecided event reaches in. Elsewhere each event that was
    decided on is a part of its own, and so is a stretch without a class.
    """
    parts: dict[tuple[float, float], tuple[set[str], set[str]]] = {}
    events = kept.decided()
    reviewed = _joined(kept.said.reviewed)
    names = set(kept.class_names)
    undecided = [event for event in kept.said.events if event.state == "detected"]
    for stretch in reviewed:
        for start, end in _windows(stretch.start, stretch.end, kept.window_seconds):
            present: set[str] = set()
            unknown = {e.label for e in undecided if e.onset < end and e.offset > start}
            for event in events:
                inside = min(end, event.offset_seconds) - max(start, event.onset_seconds)
                if inside <= 0:
                    continue
                sure = inside >= min(AUDIBLE_SECONDS, event.duration_seconds / 2)
                (present if sure else unknown).add(event.label)
            parts[start, end] = present, names - present - unknown

    def tell(start: float, end: float, label: str) -> None:
        # Windows tell of the classes that were looked for.
        for first, last in _outside(start, end, reviewed if label in names else ()):
            for part in _windows(first, last, kept.window_seconds):
                parts.setdefault(part, (set(), set()))[1].add(label)

    for event in events:
        if not within(event.onset_seconds, event.offset_seconds, reviewed):
            part = (event.onset_seconds, event.offset_seconds)
            parts.setdefault(part, (set(), set()))[0].add(event.label)
    silent: defaultdict[str, list[Stretch]] = defaultdict(list)
    for said in kept.said.events:
        if said.state == "deleted":
            silent[said.label].append(Stretch(start=said.onset, end=said.offset))
    for absent in kept.said.absent:
        silent[absent.label].append(absent)
    for label, stretches in silent.items():
        for stretch in _joined(stretches):
            for left in _less(stretch, events, label):
                tell(left.start, left.end, label)
    return {part: parts[part] for part in sorted(parts)}


def _less(stretch: Stretch, events: Iterable[Event], label: str) -> list[Stretch]:
    """A stretch without what true events of a class cover of it."""
    covered = [
        Stretch(start=e.onset_seconds, end=e.offset_seconds) for e in events if e.label == label
    ]
    found = _outside(stretch.start, stretch.end, _joined(covered))
    return [Stretch(start=start, end=end) for start, end in found]


def _joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Stretches in order, those that touch as one."""
    joined: list[Stretch] = []
    for stretch in sorted(stretches, key=lambda s: (s.start, s.end)):
        if joined and stretch.start <= joined[-1].end:
            end = max(joined[-1].end, stretch.end)
            joined[-1] = Stretch(start=joined[-1].start, end=end)
        else:
            joined.append(Stretch(start=stretch.start, end=stretch.end))
    return joined


def _outside(start: float, end: float, stretches: Sequence[Stretch]) -> list[tuple[float, float]]:
    """What of an interval no stretch covers; they are in order and apart."""
    left = []
    for stretch in stretches:
        if stretch.end <= start or stretch.start >= end:
            continue
        if stretch.start > start:
            left.append((start, stretch.start))
        start = stretch.end
    return [*left, (start, end)] if start < end else left


def _windows(start: float, end: float, seconds: float) -> list[tuple[float, float]]:
    """An interval in equal parts no longer than so many seconds."""
    count = max(1, ceil((end - start) / seconds - 1e-9))
    edges = [start + (end - start) * number / count for number in range(count)] + [end]
    return list(pairwise(edges))


def _looked_for(before: Kept | None, class_names: Sequence[str], said: Reviewed) -> list[str]:
    """The classes that were looked for in all stretches that are reviewed now."""
    if before is None or not before.said.reviewed:
        return list(class_names)
    known = _joined(before.said.reviewed)
    if any(_outside(stretch.start, stretch.end, known) for stretch in said.reviewed):
        return [name for name in class_names if name in before.class_names]

    def decided(review: Reviewed, label: str) -> set[tuple[float, float, str]]:
        events = (e for e in review.events if e.label == label and e.state != "detected")
        return {(event.onset, event.offset, event.state) for event in events}

    # Nobody saw what became of a class that this model doesn't know.
    return [
        name
        for name in before.class_names
        if name in class_names or decided(before.said, name) == decided(said, name)
    ]


def _audible(event: ReviewEvent, absent: Iterable[Absent]) -> list[ReviewEvent]:
    """What of an event lies in no stretch without its class."""
    silent = _joined(stretch for stretch in absent if stretch.label == event.label)
    return [
        event.model_copy(update={"onset": onset, "offset": offset})
        for onset, offset in _outside(event.onset, event.offset, silent)
    ]


def _overlap(one: ReviewEvent, other: ReviewEvent) -> float:
    return min(one.offset, other.offset) - max(one.onset, other.onset)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    taken.add(name)
    return name


def _as_event(event: ReviewEvent) -> Event:
    return Event(event.onset, event.offset, event.label, event.score)


def _from_json(kept: Any) -> Kept:
    return Kept(
        str(kept["name"]),
        float(kept["seconds"]),
        str(kept["model"]),
        int(kept["version"]),
        tuple(kept["class_names"]),
        float(kept["window_seconds"]),
        Reviewed.model_validate(kept["said"]),
    )
