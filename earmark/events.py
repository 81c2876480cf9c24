"""Events: who sounds, from when to when. Intervals are half-open, in seconds."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

TIE_SECONDS = 1e-9
"""Boundaries are float seconds: what differs by less is equal, so that rounding decides nothing."""


@dataclass(frozen=True, slots=True)
class Event:
    """One sound of class ``label`` in [``onset_seconds``, ``offset_seconds``)."""

    onset_seconds: float
    offset_seconds: float
    label: str
    score: float | None = None

    @property
    def duration_seconds(self) -> float:
        return self.offset_seconds - self.onset_seconds


def in_order(events: Iterable[Event]) -> list[Event]:
    """Events by onset, then label, then offset: the order of every table we write."""
    return sorted(events, key=lambda e: (e.onset_seconds, e.label, e.offset_seconds))


def union(events: Iterable[Event], max_gap_seconds: float = 0.0) -> list[Event]:
    """Events of each label, joined where they overlap, touch or lie at most a gap apart.

    A joined event keeps the highest score of its parts; a score of None counts as lowest.

    >>> union([Event(0, 2, "a"), Event(1, 3, "a"), Event(1, 3, "b")])[0].offset_seconds
    3
    """
    joined: dict[str, list[Event]] = {}
    for event in in_order(events):
        of_label = joined.setdefault(event.label, [])
        last = of_label[-1] if of_label else None
        if last is None or event.onset_seconds - last.offset_seconds > max_gap_seconds:
            of_label.append(event)
            continue
        scores = [score for score in (last.score, event.score) if score is not None]
        of_label[-1] = replace(
            last,
            offset_seconds=max(last.offset_seconds, event.offset_seconds),
            score=max(scores, default=None),
        )
    return in_order(event for of_label in joined.values() for event in of_label)
