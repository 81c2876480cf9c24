"""Recordings with events -> clips with tags, as long as those that a model learns from."""

import math
from collections.abc import Iterator
from dataclasses import replace

from earmark.data.labels import Clip
from earmark.events import TIE_SECONDS, Event


def windows(clip: Clip, duration_seconds: float, window_seconds: float) -> Iterator[Clip]:
    """A recording as consecutive clips of ``window_seconds``, the last one at its end.

    An event tags a clip that holds at least half of it, or that it fills at least half of.

    Args:
        clip: a whole recording with its events.
        duration_seconds: how long it lasts, longer than a window.
        window_seconds: how long a clip shall last.
    """
    for number in range(math.ceil(duration_seconds / window_seconds)):
        start = min(number * window_seconds, duration_seconds - window_seconds)
        stop = start + window_seconds
        heard = (event for event in clip.events or () if _sounds_in(event, start, stop))
        labels = frozenset(event.label for event in heard)
        # What the recording has and the window has not, the window is known to lack.
        absent = None if clip.absent is None else (clip.absent | clip.labels) - labels
        yield replace(clip, start_seconds=start, stop_seconds=stop, labels=labels, absent=absent)


def _sounds_in(event: Event, start: float, stop: float) -> bool:
    inside = min(event.offset_seconds, stop) - max(event.onset_seconds, start)
    return inside >= min(event.duration_seconds, stop - start) / 2 - TIE_SECONDS
