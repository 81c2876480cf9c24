"""False events per hour: what is found where nothing is."""

import numpy as np

from earmark.events import Event
from earmark.metrics.false_events import FalseEvents

REFERENCE = {"x": [Event(0, 1, "a")], "quiet": [], "still": []}
FOUND = {
    "x": [Event(2, 3, "a"), Event(2, 3, "b")],  # false, too, but not where nothing is
    "quiet": [Event(0, 1, "a"), Event(2, 3, "a"), Event(0, 1, "b")],
}
SECONDS = {"x": 3600.0, "quiet": 1800.0, "still": 5400.0}


def test_events_in_clips_without_any_are_counted():
    found = FalseEvents(REFERENCE, FOUND, ("a", "b", "c"), SECONDS)
    assert found.hours == 2
    assert found.per_hour().tolist() == [1.0, 0.5, 0.0]


def test_a_draw_of_clips_is_as_the_clips_themselves():
    found = FalseEvents(REFERENCE, FOUND, ("a", "b"), SECONDS)
    assert found.per_hour(np.array([5, 2, 0])).tolist() == [4.0, 2.0]
    assert np.isnan(found.per_hour(np.array([5, 0, 0]))).all()


def test_without_such_clips_there_is_no_number():
    found = FalseEvents({"x": [Event(0, 1, "a")]}, FOUND, ("a", "b"), SECONDS)
    assert found.hours == 0
    assert np.isnan(found.per_hour()).all()
    assert found.per_hour().shape == (2,)
