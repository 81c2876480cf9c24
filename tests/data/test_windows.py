"""Recordings cut into clips, as long as those that a model learns from."""

from pathlib import Path

import pytest

from earmark.data.labels import Clip
from earmark.data.windows import windows
from earmark.events import Event


def recording(*events: Event) -> Clip:
    labels = frozenset(event.label for event in events)
    return Clip(Path("a.wav"), "a.wav", None, None, labels, events, None)


def test_windows_follow_each_other_and_the_last_ends_with_the_recording() -> None:
    parts = list(windows(recording(), 2.5, 1.0))
    assert [part.start_seconds for part in parts] == [0.0, 1.0, 1.5]
    assert [part.stop_seconds for part in parts] == [1.0, 2.0, 2.5]


def test_a_whole_number_of_windows_overlaps_nowhere() -> None:
    assert [part.start_seconds for part in windows(recording(), 3.0, 1.0)] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("onset", "offset", "tagged"),
    [
        (0.2, 0.3, [True, False]),  # inside
        (0.9, 1.1, [True, True]),  # half and half
        (0.8, 1.1, [True, False]),  # two thirds before the cut
        (0.0, 2.0, [True, True]),  # fills both
        (0.6, 9.0, [False, True]),  # long: less than half of the first window
    ],
)
def test_an_event_tags_what_holds_half_of_it_or_what_it_half_fills(
    onset: float, offset: float, tagged: list[bool]
) -> None:
    parts = windows(recording(Event(onset, offset, "x")), 2.0, 1.0)
    assert [part.labels == {"x"} for part in parts] == tagged
