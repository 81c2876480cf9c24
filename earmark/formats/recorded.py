"""What every table of detected events is written of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from earmark.errors import UserError
from earmark.events import Event

FIELDS = ("filename", "onset", "offset", "event_label", "score")
START_TIME = "start_time"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording, and the events that were found in it.

    Attributes:
        filename: what tables call it, with ``/``.
        events: by onset, label and offset.
        start: when it began by the clock; None where nobody knows.
        path: where it lies, for those who write that.
        duration_seconds: how long it lasts, for those who count on over recordings.
        rate_hz: its own sampling rate, for those who draw boxes up to half of it.
    """

    filename: str
    events: Sequence[Event]
    start: datetime | None = None
    path: Path | None = None
    duration_seconds: float = 0.0
    rate_hz: float = 0.0

    def clock_time(self, event: Event) -> str:
        """When an event starts, to a millisecond in ISO 8601; empty where nobody knows.

        >>> night = Recorded("a.wav", (), datetime(2025, 1, 31, 23, 59, 59))
        >>> night.clock_time(Event(1.25, 2, "owl"))
        '2025-02-01T00:00:00.250'
        """
        if self.start is None:
            return ""
        onset = timedelta(milliseconds=round(event.onset_seconds * 1000))
        return (self.start + onset).isoformat(timespec="milliseconds")


def score_text(event: Event) -> str:
    """Its score with 4 decimals; nothing if it has none."""
    return "" if event.score is None else f"{event.score:.4f}"


def refuse_unless_plain(texts: Iterable[str], what: str, format: str) -> None:
    """Raises UserError for a text that a format without quotes can't hold."""
    for text in texts:
        if text != text.strip() or any(mark in text for mark in "\t\n\r"):
            raise UserError(
                f"{what} in the format '{format}' can hold no tab or line break, and no white "
                f"space at its ends, came as {text!r}; rename it, or write another format"
            )
