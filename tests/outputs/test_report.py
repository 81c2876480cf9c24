"""Reports: what is counted when, which examples are chosen, and that the page is only text."""

import io
import re
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from earmark import audio
from earmark.config import FeatureSettings
from earmark.events import Event
from earmark.outputs import report_page
from earmark.outputs.report import Recording, TimeCounts, by_date, by_hour, counts_of
from earmark.outputs.report_examples import SPREAD, SURE, UNSURE, Choice, choose, example
from earmark.outputs.report_page import Findings, page
from earmark.spectra import NumpyFeatures

EVIL = "<script>alert(1)</script>\x00'\"&"
START = datetime(2025, 1, 31, 22, 30)


def recording(name="a.wav", events=(), seconds=60.0, start=None):
    return Recording(name, Path(name), seconds, events, start)


def findings(recordings, names, **others):
    period, dates = by_date(recordings)
    told = {
        "title": EVIL,
        "totals": [(EVIL, EVIL)],
        "classes": counts_of(names, recordings),
        "thresholds": {},
        "hours": by_hour(recordings),
        "dates": dates,
        "period": period,
        "undated": sum(r.start is None for r in recordings),
        "recordings": recordings,
        "heard": (0.0, 8000.0),
        "failures": [EVIL],
        "remarks": [EVIL],
    }
    return Findings(**(told | others))


def test_counts_of_a_class():
    recordings = [
        recording("a", [Event(0, 2, "dog", 0.9), Event(1, 4, "dog", 0.2), Event(0, 1, "cat")]),
        recording("b", [Event(5, 6, "dog", 0.4)]),
    ]
    dog, cat, owl = counts_of(("dog", "cat", "owl"), recordings)
    assert (dog.events, dog.recordings, dog.highest, dog.middle) == (3, 2, 0.9, 0.4)
    assert dog.seconds == 5  # what overlaps sounds once
    assert dog.median_seconds == 2
    assert (cat.events, np.isnan(cat.middle)) == (1, True)
    assert (owl.events, owl.seconds, np.isnan(owl.median_seconds)) == (0, 0, True)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.datetimes(datetime(2024, 1, 1), datetime(2026, 12, 31)),
            st.floats(0.5, 200_000),
            st.lists(st.floats(0, 1, exclude_max=True), max_size=4),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_every_second_and_every_event_is_counted_once(given_recordings):
    recordings = [
        recording(str(n), [Event(at * length, length, "x") for at in events], length, start)
        for n, (start, length, events) in enumerate(given_recordings)
    ]
    moments = [r.clock_time(e.onset_seconds) for r in recordings for e in r.events]
    hours, (period, dates) = by_hour(recordings), by_date(recordings)
    for counted in (hours, dates):
        total = sum(r.duration_seconds for r in recordings)
        assert sum(counted.recorded_seconds) == pytest.approx(total)
        assert sum(counted.counts.get("x", [])) == len(moments)
    twin = Counter(moment.hour for moment in moments)
    assert hours.counts.get("x", [0] * 24) == [twin[hour] for hour in range(24)]
    assert len(dates.bins) <= 31
    assert dates.bins == sorted(dates.bins)
    named = {"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}
    if period in named:
        by_name = Counter(moment.strftime(named[period]) for moment in moments)
        assert dates.counts.get("x", [0] * len(dates.bins)) == [by_name[b] for b in dates.bins]


def test_hours_and_dates_of_a_recording_over_midnight():
    night = recording("n", [Event(10, 11, "owl"), Event(3600, 3601, "owl")], 7200, START)
    hours = by_hour([night])
    assert hours.counts["owl"][22:] == [1, 1]
    assert [hours.recorded_seconds[h] for h in (21, 22, 23, 0, 1)] == [0, 1800, 3600, 1800, 0]
    period, dates = by_date([night, recording("later", (), 60, START + timedelta(days=3))])
    assert (period, dates.bins[0], dates.bins[-1]) == ("day", "2025-01-31", "2025-02-03")
    assert dates.counts["owl"] == [2, 0, 0, 0]
    for days, period in ((100, "week"), (500, "month"), (3000, "year")):
        assert by_date([night, recording("l", (), 60, START + timedelta(days=days))])[0] == period
    assert by_date([recording()]) == ("day", TimeCounts([], []))


def test_the_end_of_time_is_no_error():
    last = recording("l", [Event(0, 1, "x"), Event(90, 91, "x")], 100, datetime.max)
    assert sum(by_hour([last]).counts["x"]) == 1
    by_date([last])
    by_date([recording("f", (), 9e5, datetime.min), last])


def test_the_shade_is_of_the_rate_not_of_the_count():
    times = TimeCounts(["a", "b", "c", "d"], [3600, 360, 360, 0], {"x": [10, 10, 1, 0]})
    assert [times.shade("x", place, 5) for place in range(4)] == [1, 5, 1, 0]
    third = TimeCounts(["a", "b"], [1 / 3, 0.1 / 3 * 10], {"x": [1, 1]})
    assert max(third.shade("x", place, 5) for place in range(2)) == 5


def of_scores(*scores, name="a"):
    return recording(name, [Event(n, n + 1, "x", score) for n, score in enumerate(scores)])


def test_the_surest_and_the_least_sure_by_turns():
    source = of_scores(0.5, 0.9, 0.1, 0.7, 0.3, 0.8)
    chosen = list(choose(("x",), [source], 2))
    assert [(c.event.score, c.why) for c in chosen] == [
        (0.9, SURE),
        (0.1, UNSURE),
        (0.8, SURE),
        (0.3, UNSURE),
    ]
    few = [(c.event.score, c.why) for c in choose(("x",), [of_scores(0.5, 0.9, 0.1)], 5)]
    assert few == [(0.9, SURE), (0.1, UNSURE), (0.5, SURE)]
    assert [c.why for c in choose(("x",), [of_scores(0.5)], 5)] == [SURE]
    assert list(choose(("x", "y"), [of_scores()], 5)) == []


def test_examples_are_from_as_many_recordings_as_there_are():
    sources = [of_scores(*([0.99] * 9), name="loud"), of_scores(0.9, name="b"), of_scores(0.8)]
    chosen = [c.recording.name for c in choose(("x",), sources, 3) if c.why == SURE]
    assert chosen == ["loud", "b", "a"]


def test_one_of_each_class_comes_before_the_next():
    both = recording("a", [Event(n, n + 1, label, 0.5) for n in range(6) for label in "xy"])
    assert [c.event.label for c in choose(("x", "y"), [both], 3)][:4] == ["x", "y", "x", "y"]


def test_without_scores_examples_are_from_all_over():
    source = of_scores(*([None] * 50))
    chosen = list(choose(("x",), [source], 3))
    assert {c.why for c in chosen} == {SPREAD}
    assert [c.event.onset_seconds for c in chosen] == [0, 10, 20, 29, 39, 49]


def test_what_is_heard_stays_within_the_recording():
    whole = recording(seconds=100)
    for (onset, offset), heard in {
        (0.5, 2): (0, 3),
        (98, 99.5): (97, 100),
        (10, 90): (9, 17),
    }.items():
        choice = Choice(Event(onset, offset, "x"), whole, SURE)
        assert (choice.start_seconds, choice.stop_seconds) == heard


@pytest.fixture(scope="module")
def tone(tmp_path_factory):
    """Ten seconds of silence, with 1 kHz from 4 to 6 s."""
    rate = 16_000
    seconds = np.arange(10 * rate) / rate
    path = tmp_path_factory.mktemp("tone") / "tone.wav"
    sounding = (seconds >= 4) & (seconds < 6)
    audio.write(path, 0.5 * np.sin(2 * np.pi * 1000 * seconds) * sounding, rate)
    return path


def shown(path, label="x", name="tone.wav", score=0.5):
    source = Recording(name, path, 10.0, (), START)
    features = NumpyFeatures(FeatureSettings(hop_samples=256))
    return example(Choice(Event(4, 6, label, score), source, SURE), features)


def test_an_example_sounds_and_looks_like_what_was_recorded(tone):
    found = shown(tone)
    heard, rate = soundfile.read(io.BytesIO(found.sound))
    assert rate == 22_050
    assert len(heard) / rate == pytest.approx(4, abs=0.1)
    energy = (heard**2).reshape(-1)
    inside = energy[int(1.2 * rate) : int(2.8 * rate)].mean()
    assert inside == pytest.approx(0.125, rel=0.1)
    assert energy[: int(0.8 * rate)].mean() < 1e-4 * inside
    spectrum = np.abs(np.fft.rfft(heard))
    assert spectrum.argmax() * rate / len(heard) == pytest.approx(1000, abs=2)
    picture = imread(io.BytesIO(found.picture))
    assert picture.shape[:2] == (found.bands, found.columns)
    level = picture[..., :3].sum(axis=2)
    loud = level.max(axis=0) > 0.8 * level.max()
    edges = np.flatnonzero(loud)[[0, -1]] / found.columns * 4
    assert edges == pytest.approx([1, 3], abs=0.1)
    # 1 kHz is in the lower half of the mel bands, and the lowest band is at the bottom.
    assert level.sum(axis=1).argmax() > found.bands / 2


def test_a_shortest_and_a_silent_recording_are_shown(tmp_path):
    path = tmp_path / "a.wav"
    audio.write(path, np.zeros(8), 8000)
    source = Recording("a.wav", path, 0.001, ())
    found = example(Choice(Event(0, 0.001, "x"), source, SURE), NumpyFeatures(FeatureSettings()))
    assert imread(io.BytesIO(found.picture)).shape[0] == found.bands
    assert soundfile.read(io.BytesIO(found.sound))[1] == 22_050


class Seen(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self):
        super().__init__()
        self.elements, self.attributes, self.text = Counter(), [], ""

    def handle_starttag(self, tag, attrs):
        self.elements[tag] += 1
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def test_a_page_is_whole_by_itself_and_takes_names_literally(tone):
    events = [Event(4, 6, EVIL, 0.5)]
    sources = [Recording(EVIL, tone, 10.0, events, START), recording("b", (), 3600)]
    text, count = page(findings(sources, (EVIL,)), [shown(tone, EVIL, EVIL)])
    assert count == 1
    seen = Seen()
    seen.feed(text)
    assert seen.elements["script"] == 1
    assert seen.elements["audio"] == 1
    assert "link" not in seen.elements
    assert seen.text.count("<script>alert(1)</script>") >= 10
    for name, value in seen.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "href") or value.startswith(("data:", "#"))
        assert name != "style"
    policy = next(v for k, v in seen.attributes if k == "content" and "default-src" in v)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http:" not in text.replace("http://www.w3.org", "")
    assert "https:" not in text
    assert "\x00" not in text
    assert "2025-01-31 22:30:04" in seen.text


def test_a_page_stays_within_its_bound(tone):
    found = shown(tone)
    told = findings([Recording("tone.wav", tone, 10.0, [Event(4, 6, "x", 0.5)], START)], ("x",))
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield found

    bound = len(page(told, [])[0].encode()) + 300_000
    text, count = page(told, endless(), bound)
    assert 0.6 * bound < len(text.encode()) <= bound
    assert count == text.count("<audio ") == len(asked) - 1 > 2
    assert "no room for more" in text
    assert "no room for more" not in page(told, [found])[0]


def test_examples_lie_in_the_order_of_their_scores(tone):
    told = findings([Recording("tone.wav", tone, 10.0, [Event(4, 6, "x", 0.5)], START)], ("x",))
    found = shown(tone)
    given = [(0.7, SURE), (0.1, UNSURE), (0.9, SURE), (0.3, UNSURE), (0.2, UNSURE), (0.8, SURE)]
    examples = [
        replace(found, choice=Choice(Event(4, 6, "x", score), found.choice.recording, why))
        for score, why in given
    ]
    text, _ = page(told, examples)
    scores = [float(score) for score in re.findall(r"score (0\.\d+)", text)]
    assert scores == [0.9, 0.8, 0.7, 0.1, 0.2, 0.3]


def test_of_many_recordings_those_with_most_events_are_listed(monkeypatch):
    monkeypatch.setattr(report_page, "MOST_RECORDINGS", 2)
    sources = [of_scores(*([0.5] * n), name=f"r{n}") for n in (1, 5, 3, 0)]
    text, _ = page(findings(sources, ("x",)), [])
    rows = re.findall(r'<th scope="row">(r\d)</th>', text)
    assert rows == ["r3", "r5"]
    assert "The 2 with the most events; 2 are left out." in text
    assert "No recording says when it was begun" in text
