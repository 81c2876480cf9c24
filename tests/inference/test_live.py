"""Sound bit by bit: the events of the whole, each soon after its end, in bounded memory."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import ABLE, Scenes, scenes
from hypothesis import given, settings
from hypothesis import strategies as st
from loudness import RATE, Loudness, rule, spoken

from earmark.audio import read
from earmark.data.labels import find_clips
from earmark.formats.labels import read_labels
from earmark.inference.decoding import decode
from earmark.inference.fusion import FusedRecogniser, load_recogniser
from earmark.inference.live import STEP_SECONDS, LiveDetector
from earmark.metrics.collars import event_scores
from earmark.metrics.segments import segment_scores


def listened(recogniser, samples, *, step_seconds=STEP_SECONDS, **more):
    """The events, and how much later than its end each was known."""
    detector = LiveDetector(recogniser, **more)
    step = round(step_seconds * recogniser.rate_hz)
    events, late = [], []
    for first in range(0, len(samples), step):
        for event in detector.push(samples[first : first + step]):
            events.append(event)
            waited = detector.heard_seconds - event.offset_seconds
            late.append(waited - detector.delay_seconds[event.label])
    return sorted([*events, *detector.finish()], key=lambda e: (e.onset_seconds, e.label)), late


RULES = st.builds(
    lambda gap, median, low, shortest: rule(
        max_gap_seconds=gap, median_seconds=median, low_threshold=low, min_event_seconds=shortest
    ),
    st.sampled_from([0.0, 0.2, 0.5]),
    st.sampled_from([0.0, 0.3, 0.5]),
    st.sampled_from([0.3, 0.5]),
    st.sampled_from([0.0, 0.3]),
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.4, 0.9, 1.0]), min_size=1, max_size=120),
    st.integers(1, 4),
    st.tuples(RULES, RULES),
    st.sampled_from([0.07, 0.25, 1.0, 9.0]),
)
def test_where_windows_agree_the_events_are_those_of_the_whole(levels, times, rules, step):
    samples = spoken(np.repeat(levels, times))
    recogniser = Loudness(rules)
    found, _ = listened(recogniser, samples, step_seconds=step)
    whole = decode(Loudness(rules).scores(samples), rules, tag_gate=False)
    assert [(e.label, e.score) for e in found] == [(e.label, e.score) for e in whole]
    for one, other in zip(found, whole, strict=True):
        assert one.onset_seconds == pytest.approx(other.onset_seconds)
        assert one.offset_seconds == pytest.approx(other.offset_seconds)


@pytest.mark.parametrize("median", [0.0, 0.5])
@pytest.mark.parametrize("gap", [0.0, 0.3, 1.0])
def test_an_event_is_known_soon_after_its_end(gap, median):
    rules = [rule(max_gap_seconds=gap, median_seconds=median), rule(threshold=1.0)]
    rng = np.random.default_rng(0)
    levels = np.repeat(rng.random(80) > 0.5, rng.integers(3, 30, 80)).astype(np.float32)
    detector = LiveDetector(Loudness(rules))
    assert detector.delay_seconds["a"] <= 1.0 + gap + median / 2
    found, late = listened(Loudness(rules), spoken(levels))
    assert len(found) > 10
    assert -STEP_SECONDS - 0.11 < max(late) <= 1e-9


def test_a_gate_that_opens_lets_in_what_has_begun():
    # The share of the window grows as the sound goes on: it opens half way through.
    rules = [rule(gate_threshold=0.3), rule(threshold=1.0)]
    samples = spoken([0] * 40 + [1] * 20 + [0] * 40)
    ((event,), _) = listened(Loudness(rules, tag_gate=True, share=True), samples)
    assert event.onset_seconds == pytest.approx(4.0)
    assert event.offset_seconds == pytest.approx(6.0)
    shut = [rule(gate_threshold=0.6), rules[1]]
    assert listened(Loudness(shut, tag_gate=True, share=True), samples)[0] == []


def test_silence_ends_boxes():
    rules = [rule(step_seconds=0.4, merge_ratio=0.5), rule(threshold=1.0)]
    levels = [0] * 30 + [1] * 20 + [0] * 30 + [1] * 10 + [0] * 30
    found, late = listened(Loudness(rules), spoken(levels))
    assert [(round(e.onset_seconds, 6), round(e.offset_seconds, 6)) for e in found] == [
        (3.0, 5.0),
        (8.0, 9.0),
    ]
    assert len(late) == 2
    assert max(late) <= 1e-9


def test_days_need_no_more_memory_than_minutes():
    recogniser = Loudness([rule(), rule(threshold=1.0)])
    detector = LiveDetector(recogniser)
    sizes = set()
    rng = np.random.default_rng(0)
    for _ in range(400):
        detector.push(spoken((rng.random(30) > 0.5).astype(np.float32)))
        sizes.add(sum(v.size for v in vars(detector).values() if isinstance(v, np.ndarray)))
    assert max(sizes) < 4 * (recogniser.window_seconds + 10) * RATE
    assert recogniser.longest <= recogniser.window_seconds * RATE
    assert detector.heard_seconds == pytest.approx(1200)


def test_a_sound_of_hours_is_one_event():
    rules = [rule(), rule(threshold=1.0)]
    ((event,), _) = listened(Loudness(rules), np.ones(60_000, np.float32), step_seconds=30)
    assert (event.onset_seconds, event.offset_seconds) == (0.0, pytest.approx(600))


def test_nothing_and_next_to_nothing():
    rules = [rule(), rule()]
    assert LiveDetector(Loudness(rules)).finish() == []
    ((event,), _) = listened(Loudness(rules), np.ones(3, np.float32), start_seconds=7.0)
    assert (event.label, event.onset_seconds) == ("a", 7.0)
    assert event.offset_seconds == pytest.approx(7.03)


def long_recording(scenes: Scenes, rate_hz):
    clips, _ = find_clips(read_labels(scenes.strong), scenes.audio)
    return np.concatenate([read(clip.path, rate_hz) for clip in clips])


@pytest.mark.slow
@pytest.mark.parametrize("step_seconds", [STEP_SECONDS, 0.9])
def test_a_trained_model_hears_live_what_it_detects_in_the_file(able_model, tmp_path, step_seconds):
    recogniser = load_recogniser(able_model)
    made = scenes(tmp_path / "made", 30, seed=12, seconds=4.0, labels=ABLE, longest=2.0)
    samples = long_recording(made, recogniser.rate_hz)
    found, late = listened(recogniser, samples, step_seconds=step_seconds)
    whole = recogniser.detect(samples)
    assert len(whole) >= 40
    assert max(late) <= step_seconds - STEP_SECONDS + 1e-9

    def agreement(events):
        both, names = ({"x": whole}, {"x": events}), recogniser.class_names
        segments = segment_scores(*both, names, 1.0).overall.f1
        return float(segments), float(event_scores(*both, names, 0.2, 0.2, 0.5).overall.f1)

    # Windows in other places say other things: detection doesn't agree with itself either.
    ahead = 1.3
    silence = np.zeros(round(ahead * recogniser.rate_hz), np.float32)
    elsewhere = [
        replace(e, onset_seconds=e.onset_seconds - ahead, offset_seconds=e.offset_seconds - ahead)
        for e in recogniser.detect(np.concatenate([silence, samples]))
        if e.onset_seconds >= ahead
    ]
    segments, events = agreement(found)
    print(segments, events, agreement(elsewhere))
    assert segments > 0.9
    assert events > agreement(elsewhere)[1] - 0.15


def test_a_fused_model_listens_too(model, held_out):
    one = load_recogniser(model)
    fused = FusedRecogniser([one, load_recogniser(model)])
    samples = long_recording(held_out, one.rate_hz)[: 12 * one.rate_hz]
    assert listened(fused, samples)[0] == [
        replace(event, score=pytest.approx(event.score)) for event in listened(one, samples)[0]
    ]
