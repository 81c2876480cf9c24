"""What a folder of recordings turned out to hold: counts by class, by hour and by date."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Literal

from earmark.events import Event, union

HOURS_OF_A_DAY = 24
MOST_PERIODS = 31
"""Of more days weeks are counted, of more weeks months, and of more of these years."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording and what was found in it.

    Attributes:
        name: as the table has it, or its path in the folder.
        path: the file.
        duration_seconds: how long it lasts.
        events: by onset.
        start: when it was begun, by the recorder's clock; None where that isn't known.
    """

    name: str
    path: Path
    duration_seconds: float
    events: Sequence[Event]
    start: datetime | None = None

    def clock_time(self, seconds: float) -> datetime | None:
        """When it was so many seconds after its start; None as well beyond the year 9999."""
        try:
            return None if self.start is None else self.start + timedelta(seconds=seconds)
        except OverflowError:
            return None


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """What was found of a class.

    Attributes:
        name: the class.
        events: how many.
        recordings: how many have one.
        seconds: how long it sounds in all.
        median_seconds: of the lengths of its events; NaN without any.
        highest, middle: score and median of the scores; NaN where there are none.
    """

    name: str
    events: int
    recordings: int
    seconds: float
    median_seconds: float
    highest: float
    middle: float


def counts_of(class_names: Iterable[str], recordings: Iterable[Recording]) -> list[ClassCounts]:
    """What was found of each class, in the order of ``class_names``."""
    lengths: dict[str, list[float]] = defaultdict(list)
    scores: dict[str, list[float]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    within: Counter[str] = Counter()
    for recording in recordings:
        within.update({event.label for event in recording.events})
        for event in recording.events:
            lengths[event.label].append(event.duration_seconds)
            if event.score is not None:
                scores[event.label].append(event.score)
        for event in union(recording.events):  # two that overlap don't sound twice as long
            seconds[event.label] += event.duration_seconds
    nothing = float("nan")
    return [
        ClassCounts(
            name,
            len(lengths[name]),
            within[name],
            seconds[name],
            median(lengths[name] or [nothing]),
            max(scores[name], default=nothing),
            median(scores[name] or [nothing]),
        )
        for name in class_names
    ]


@dataclass(frozen=True, slots=True)
class TimeCounts:
    """Events over bins of time, beside how long was recorded in these.

    Attributes:
        bins: their names.
        recorded_seconds: in each bin.
        counts: by class, in each bin.
    """

    bins: Sequence[str]
    recorded_seconds: list[float]
    counts: Mapping[str, list[int]] = field(default_factory=dict)

    def shade(self, name: str, place: int, levels: int) -> int:
        """How often a class was heard in an hour of recording: 0 for never, ``levels`` where it
        was most often."""
        rates = [
            count / seconds if seconds else 0.0
            for count, seconds in zip(self.counts[name], self.recorded_seconds, strict=True)
        ]
        most = max(rates)
        # Rounded up: a single event is not nothing. Equal quotients may differ by a bit.
        return math.ceil(levels * rates[place] / most - 1e-9) if most else 0


def by_hour(recordings: Iterable[Recording]) -> TimeCounts:
    """Events by the hour of the day in which they begin, of recordings whose start is known."""
    hours = [f"{hour:02d}" for hour in range(HOURS_OF_A_DAY)]
    return _counted(recordings, hours, lambda moment: moment.hour)


Period = Literal["day", "week", "month", "year"]


def by_date(recordings: Sequence[Recording]) -> tuple[Period, TimeCounts]:
    """Events by the date on which they begin: by day, week, month or year, as is a table's size.

    Periods without recordings are there too, so that a gap is seen, unless there are decades.
    """
    days = sorted({begin.date() for r in recordings for begin, _ in _hours(r)})
    if not days:
        return "day", TimeCounts([], [])
    for period in ("day", "week", "month", "year"):
        first, last = _first(days[0], period), _first(days[-1], period)
        bins = [first]
        while bins[-1] < last and len(bins) <= MOST_PERIODS:
            bins.append(_next(bins[-1], period))
        if len(bins) <= MOST_PERIODS:
            break
    else:
        bins = sorted({_first(day, "year") for day in days})
    index = {begin: place for place, begin in enumerate(bins)}
    names = [_named(begin, period) for begin in bins]
    return period, _counted(recordings, names, lambda at: index.get(_first(at.date(), period)))


def _counted(
    recordings: Iterable[Recording],
    names: Sequence[str],
    place_of: Callable[[datetime], int | None],
) -> TimeCounts:
    recorded = [0.0] * len(names)
    counts: dict[str, list[int]] = {}
    for recording in recordings:
        for begin, seconds in _hours(recording):
            if (place := place_of(begin)) is not None:
                recorded[place] += seconds
        for event in recording.events:
            moment = recording.clock_time(event.onset_seconds)
            if moment is not None and (place := place_of(moment)) is not None:
                counts.setdefault(event.label, [0] * len(names))[place] += 1
    return TimeCounts(names, recorded, counts)


def _hours(recording: Recording) -> Iterator[tuple[datetime, float]]:
    """The parts of a recording between full hours: when each begins and how long it lasts."""
    done = 0.0
    while done < recording.duration_seconds:
        begin = recording.clock_time(done)
        if begin is None:
            return
        past = (begin.minute * 60 + begin.second) + begin.microsecond / 1e6
        part = min(3600 - past, recording.duration_seconds - done)
        yield begin, part
        done += part


def _first(day: date, period: Period) -> date:
    match period:
        case "day":
            return day
        case "week":
            return day - timedelta(days=min(day.weekday(), (day - date.min).days))
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)


def _next(begin: date, period: Period) -> date:
    match period:
        case "day":
            return begin + timedelta(days=1)
        case "week":
            return begin + timedelta(days=7)
        case "month":
            return _first(begin + timedelta(days=31), "month")
        case "year":
            return begin.replace(year=begin.year + 1)


def _named(begin: date, period: Period) -> str:
    text = begin.isoformat()
    return {"day": text, "week": text, "month": text[:7], "year": text[:4]}[period]
