"""Tuned rules: never worse than what they replace, as the real decoder and metric count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark import tuning
from earmark.config import DecodingSettings, TuningSettings
from earmark.events import Event
from earmark.inference.decoding import decode
from earmark.metrics.segments import segment_scores
from earmark.metrics.tagging import tagging_scores
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock
from earmark.tuning import tuned_on_events, tuned_on_tags, untuned

CLOCK = FrameClock(100, 20, 10)
NAMES = ("a", "b")


def scores_of(rules, tracks, references, decoding, resolution=1.0):
    numbers = [str(number) for number in range(len(tracks))]
    events = [decode(track, rules, tag_gate=decoding.tag_gate) for track in tracks]
    return segment_scores(
        dict(zip(numbers, references, strict=True)),
        dict(zip(numbers, events, strict=True)),
        NAMES,
        resolution,
    )


def validation(seed, crowded=False, clips=3, gated=True):
    """Tracks whose scores follow the references, with noise, and the references."""
    rng = np.random.default_rng(seed)
    tracks, references = [], []
    for _ in range(clips):
        frames = int(rng.integers(5, 80))
        end = frames * 0.1 + 0.07
        events = [
            Event(onset, onset + length, str(rng.choice(NAMES)))
            for onset, length in zip(
                rng.uniform(0, end, 3).round(2).tolist(),
                rng.choice([0.0, 0.3, 1.0, 2.5], 3).tolist(),
                strict=True,
            )
        ]
        middles = np.arange(frames) * 0.1 + 0.1
        heard = np.zeros((frames, 2))
        for event in events:
            inside = (event.onset_seconds <= middles) & (middles < event.offset_seconds)
            heard[inside, NAMES.index(event.label)] = 1
        logits = 3 * heard - 1 + rng.normal(0, 1.2, heard.shape)
        table = 1 / (1 + np.exp(-logits))
        if crowded:
            table = 1 - 1e-4 * (1 - table)
        local = rng.uniform(0.3, 1, (frames, 2)).astype(np.float32) if gated else None
        tracks.append(ScoreTrack(table.astype(np.float32), NAMES, CLOCK, 0, end, local))
        references.append(events)
    return tracks, references


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 10_000),
    st.booleans(),
    st.sampled_from(["macro", "micro"]),
    st.sampled_from([1.0, 0.3]),
    st.sampled_from([1.0, 0.6]),
    st.booleans(),
)
def test_tuned_is_never_worse_than_untuned(seed, crowded, average, resolution, low_ratio, gate):
    tracks, references = validation(seed, crowded)
    decoding = DecodingSettings(low_ratio=low_ratio, tag_gate=gate)
    rules = untuned(2, decoding)
    how = TuningSettings(average=average, resolution_seconds=resolution)
    tuned = tuned_on_events(rules, tracks, references, decoding, how)
    before = scores_of(rules, tracks, references, decoding, resolution)
    after = scores_of(tuned, tracks, references, decoding, resolution)
    if average == "macro":
        assert (after.counts.f1 >= before.counts.f1).all()
    else:
        assert after.overall.f1 >= before.overall.f1


@settings(deadline=None, max_examples=12)
@given(
    st.integers(0, 10_000),
    st.booleans(),
    st.sampled_from([1.0, 0.1]),
    st.booleans(),
    st.sampled_from([0.2, 30.0]),
)
def test_what_tuning_counts_is_what_the_metric_counts(seed, crowded, resolution, gate, gap):
    tracks, references = validation(seed, crowded)
    decoding = DecodingSettings(tag_gate=gate, low_ratio=0.8, max_gap_seconds=gap)
    rules = untuned(2, decoding)
    counted = []
    choose = tuning.maximise_ratio
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tuning,
            "maximise_ratio",
            lambda above, below: counted.append((above[0], below[0])) or choose(above, below),
        )
        how = TuningSettings(resolution_seconds=resolution)
        tuned = tuned_on_events(rules, tracks, references, decoding, how)
    before = scores_of(rules, tracks, references, decoding, resolution).counts
    counts = scores_of(tuned, tracks, references, decoding, resolution).counts
    for k, (above, below) in enumerate(counted):
        assert above[0] == 2 * before.tp[k]
        assert below[0] == 2 * before.tp[k] + before.fp[k] + before.fn[k]
        pairs = set(zip(above.tolist(), below.tolist(), strict=True))
        assert (2 * counts.tp[k], 2 * counts.tp[k] + counts.fp[k] + counts.fn[k]) in pairs
        best = max(a / b if b else 0.0 for a, b in pairs)
        assert counts.f1[k] == pytest.approx(best, abs=1e-12)


def test_a_rule_that_none_of_the_candidates_reaches_is_kept():
    table = np.full((90, 2), 0.01, np.float32)
    table[::7] = 0.3  # nothing sounds here
    table[40:80] = 0.3  # it sounds here, and is sure of it once
    table[41] = 0.9
    tracks = [ScoreTrack(table, NAMES, CLOCK, 0, 9.1)]
    references = [[Event(CLOCK.start_seconds(40), CLOCK.start_seconds(80), "a")]]
    (rule,) = untuned(1, DecodingSettings(low_ratio=0.4))
    tuned = tuned_on_events(
        [rule] * 2, tracks, references, DecodingSettings(), TuningSettings(resolution_seconds=0.1)
    )
    assert tuned == [rule] * 2


@pytest.mark.parametrize("crowded", [False, True])
def test_tuning_finds_what_is_there(crowded):
    tracks, references = validation(3, crowded, clips=12, gated=False)
    decoding = DecodingSettings()
    rules = untuned(2, decoding)
    tuned = tuned_on_events(rules, tracks, references, decoding, TuningSettings())
    before = scores_of(rules, tracks, references, decoding)
    after = scores_of(tuned, tracks, references, decoding)
    assert after.macro_f1 > before.macro_f1 + 0.02
    if crowded:
        assert all(rule.threshold > 0.9998 for rule in tuned)


def test_a_perfect_track_is_tuned_to_a_perfect_score():
    table = np.full((50, 2), 0.01, np.float32)
    table[10:30, 0] = 0.02
    references = [[Event(CLOCK.start_seconds(10), CLOCK.start_seconds(30), "a")]]
    tracks = [ScoreTrack(table, NAMES, CLOCK, 0, 5.1)]
    decoding = DecodingSettings()
    tuned = tuned_on_events(untuned(2, decoding), tracks, references, decoding, TuningSettings())
    (event,) = decode(tracks[0], tuned, tag_gate=True)
    assert [event.onset_seconds, event.offset_seconds] == [
        references[0][0].onset_seconds,
        references[0][0].offset_seconds,
    ]


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_a_class_without_references_keeps_its_rule(average):
    tracks, references = validation(1)
    only_a = [[event for event in events if event.label == "a"] for events in references]
    decoding = DecodingSettings(threshold=0.37)
    rules = untuned(2, decoding)
    how = TuningSettings(average=average)
    tuned = tuned_on_events(rules, tracks, only_a, decoding, how)
    assert tuned[1] == rules[1]
    assert tuned[0] != rules[0]
    assert all(t.tag_threshold == r.tag_threshold for t, r in zip(tuned, rules, strict=True))


def test_references_past_the_end_stay_with_their_recording():
    table = np.full((10, 2), 0.9, np.float32)
    tracks = [ScoreTrack(table, NAMES, CLOCK, 0, 1.1)] * 2
    references = [[Event(0.0, 9.0, "a")], [Event(0.0, 30.0, "a")]]
    decoding = DecodingSettings()
    how = TuningSettings(resolution_seconds=0.5)
    rules = untuned(2, decoding)
    line = tuning._Timeline(tracks, [references, [[], []]], 0.5)
    (candidate, *_) = tuning._candidates(
        np.concatenate([np.append(t.probabilities[:, 0], 0) for t in tracks]),
        rules[0],
        line,
        references,
        decoding,
    )
    counts = scores_of(rules, tracks, references, decoding, 0.5).counts
    assert candidate.numerator == 2 * counts.tp[0] == 12
    assert candidate.denominator - candidate.numerator == counts.fn[0] == 72
    assert tuned_on_events(rules, tracks, references, decoding, how)[0].tag_threshold == 0.5


def test_untuned_rules_are_the_settings():
    found = DecodingSettings(threshold=0.4, low_ratio=0.5, max_gap_seconds=0.3, min_event_seconds=0)
    (rule,) = untuned(1, found)
    assert (rule.tag_threshold, rule.threshold, rule.low_threshold) == (0.4, 0.4, 0.2)
    assert (rule.max_gap_seconds, rule.min_event_seconds) == (0.3, 0.0)


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_tag_thresholds_are_never_worse_than_one_half(average):
    rng = np.random.default_rng(0)
    tags = rng.random((60, 2)) < [0.3, 0.6]
    crowd = 0.999 + 0.001 / (1 + np.exp(-(3 * tags - 2 + rng.normal(0, 1, tags.shape))))
    probabilities = crowd.astype(np.float32)
    rules = tuned_on_tags(tags, probabilities, DecodingSettings(), TuningSettings(average=average))
    assert [rule.threshold for rule in rules] == [rule.tag_threshold for rule in rules]
    thresholds = np.array([rule.tag_threshold for rule in rules])
    tuned = tagging_scores(tags, probabilities, thresholds, NAMES)
    plain = tagging_scores(tags, probabilities, np.full(2, 0.5), NAMES)
    if average == "macro":
        assert tuned.macro_f1 > plain.macro_f1
    else:
        assert tuned.micro.f1 > plain.micro.f1
