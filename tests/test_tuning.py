"""Tuned rules: never worse than what they replace, as the real decoder and metric count."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.calibration import calibrated, calibrated_track
from earmark.config import ClassCalibration, DecodingSettings, LogitLine, TuningSettings
from earmark.events import Event
from earmark.inference.decoding import decided_scores, decode
from earmark.metrics.collars import event_scores
from earmark.metrics.psds import PSDS1, PSDS2, psds_from_scores
from earmark.metrics.segments import segment_scores
from earmark.metrics.tagging import tagging_scores
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock
from earmark.tuning import candidates, choice
from earmark.tuning.axis import Axis
from earmark.tuning.candidates import Candidates, ClassOnAxis, Segments
from earmark.tuning.events import tuned_on_events
from earmark.tuning.rules import (
    PRIOR_TAGS,
    moved_rule,
    rule_for,
    rules_of_tags,
    tuned_on_tags,
    untuned,
)

CLOCK = FrameClock(100, 20, 10)
NAMES = ("a", "b")
TARGETS = ("segment_f1", "error_rate", "event_f1", "psds1", "psds2")
FEW = {
    "THRESHOLDS_TRIED": 3,
    "LOW_RATIOS_TRIED": (0.5,),
    "GAPS_TRIED": (0.0, 0.5),
    "LENGTHS_TRIED": (0.0, 0.3),
    "MEDIANS_TRIED": (0.0, 0.4),
    "STEPS_SECONDS_TRIED": (0.4,),
    "MERGES_TRIED": ((0.6, 0.0), (0.0, 0.0)),
}


def few(patch):
    for name, values in FEW.items():
        patch.setattr(candidates, name, values)


def value_of(rules, tracks, references, decoding, how):
    """What is tuned for, as the decoder and the metrics have it; more is better."""
    numbered = {str(number): events for number, events in enumerate(references)}
    if how.target.startswith("psds"):
        shown = {
            str(n): decided_scores(track, rules, tag_gate=decoding.tag_gate)
            for n, track in enumerate(tracks)
        }
        seconds = {str(n): track.end_seconds for n, track in enumerate(tracks)}
        parameters = PSDS1 if how.target == "psds1" else PSDS2
        return psds_from_scores(numbered, shown, seconds, NAMES, parameters).value
    segments = scores_of(rules, tracks, references, decoding, how.resolution_seconds)
    if how.target == "error_rate":
        return -segments.error_rate
    scores = segments
    if how.target == "event_f1":
        scores = events_of(rules, tracks, references, decoding, how)
    return scores.macro_f1 if how.average == "macro" else float(scores.overall.f1)


def events_of(rules, tracks, references, decoding, how):
    found = {str(n): decode(t, rules, tag_gate=decoding.tag_gate) for n, t in enumerate(tracks)}
    numbered = {str(number): events for number, events in enumerate(references)}
    collar = how.collar_seconds
    return event_scores(numbered, found, NAMES, collar, collar, how.collar_ratio)


def classes_of(rules, tracks, references, decoding, how):
    axis = Axis(tracks, references, how)
    return [ClassOnAxis(axis, k, rule, decoding) for k, rule in enumerate(rules)]


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


HOW = st.builds(
    TuningSettings,
    target=st.sampled_from(TARGETS),
    average=st.sampled_from(["macro", "micro"]),
    resolution_seconds=st.sampled_from([1.0, 0.3]),
    collar_seconds=st.sampled_from([0.2, 0.5, 4.0]),
    collar_ratio=st.sampled_from([0.0, 0.5]),
)
DECODING = st.builds(
    DecodingSettings,
    low_ratio=st.sampled_from([1.0, 0.6]),
    tag_gate=st.booleans(),
    max_gap_seconds=st.sampled_from([0.2, 30.0]),
    median_seconds=st.sampled_from([0.0, 0.5]),
    method=st.sampled_from(["threshold", "bounding_boxes"]),
    merge_difference=st.sampled_from([0.0, 0.1]),
)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.booleans(), DECODING, HOW)
def test_tuned_is_never_worse_than_untuned(seed, crowded, decoding, how):
    tracks, references = validation(seed, crowded)
    rules = untuned(2, decoding)
    with pytest.MonkeyPatch.context() as patch:
        few(patch)
        tuned = tuned_on_events(rules, tracks, references, decoding, how)
    before = value_of(rules, tracks, references, decoding, how)
    after = value_of(tuned, tracks, references, decoding, how)
    assert np.isnan(before) or after >= before - 1e-9


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.booleans(), DECODING, HOW)
def test_what_tuning_counts_is_what_the_metric_counts(seed, crowded, decoding, how):
    tracks, references = validation(seed, crowded)
    rules = untuned(2, decoding)
    classes = classes_of(rules, tracks, references, decoding, how)
    with pytest.MonkeyPatch.context() as patch:
        few(patch)
        tried = [of_class.candidates() for of_class in classes]
    rng = np.random.default_rng(seed)
    for _ in range(6):
        some = [int(rng.integers(len(of_class.rules))) for of_class in tried]
        asked = [of_class.rules[n] for of_class, n in zip(tried, some, strict=True)]
        scores = scores_of(asked, tracks, references, decoding, how.resolution_seconds)
        if how.target == "event_f1":
            scores = events_of(asked, tracks, references, decoding, how)
        for k, (of_class, n) in enumerate(zip(tried, some, strict=True)):
            assert of_class.hits[n] == scores.counts.tp[k]
            assert of_class.given[n] == scores.counts.tp[k] + scores.counts.fp[k]
            assert of_class.judge.wanted == scores.counts.n_reference[k]
    for of_class, tried_of_class in zip(classes, tried, strict=True):
        assert tried_of_class.rules[0] == of_class.own
        assert len(of_class.references) == 0 or len(tried_of_class.rules) > 1


@pytest.mark.parametrize("target", ["segment_f1", "event_f1"])
@pytest.mark.parametrize("average", ["macro", "micro"])
def test_no_combination_of_candidates_is_better(monkeypatch, target, average):
    few(monkeypatch)
    monkeypatch.setattr(candidates, "THRESHOLDS_TRIED", 2)
    monkeypatch.setattr(candidates, "MEDIANS_TRIED", (0.0,))
    monkeypatch.setattr(candidates, "LENGTHS_TRIED", (0.0,))
    tracks, references = validation(5, clips=2)
    decoding = DecodingSettings()
    how = TuningSettings(target=target, average=average)
    rules = untuned(2, decoding)
    tuned = tuned_on_events(rules, tracks, references, decoding, how)
    best = value_of(tuned, tracks, references, decoding, how)
    tried = [c.candidates().rules for c in classes_of(rules, tracks, references, decoding, how)]
    assert len(set(tried[0])) >= 6
    values = [value_of(pair, tracks, references, decoding, how) for pair in product(*tried)]
    assert best == pytest.approx(max(values))
    assert len({round(value, 9) for value in values}) > 3


def test_no_class_alone_lowers_the_error_rate(monkeypatch):
    few(monkeypatch)
    tracks, references = validation(7, clips=4)
    decoding, rules = DecodingSettings(), untuned(2, DecodingSettings())
    how = TuningSettings(target="error_rate", resolution_seconds=0.3)
    tuned = tuned_on_events(rules, tracks, references, decoding, how)
    best = value_of(tuned, tracks, references, decoding, how)
    of_f1 = TuningSettings(average="micro", resolution_seconds=0.3)
    for_f1 = tuned_on_events(rules, tracks, references, decoding, of_f1)
    assert best > value_of(for_f1, tracks, references, decoding, how)
    for k, of_class in enumerate(classes_of(rules, tracks, references, decoding, how)):
        for rule in of_class.candidates().rules:
            changed = [*tuned[:k], rule, *tuned[k + 1 :]]
            assert value_of(changed, tracks, references, decoding, how) <= best + 1e-9


def test_psds_takes_the_best_shape_of_every_class(monkeypatch):
    few(monkeypatch)
    tracks, references = validation(2, clips=20, gated=False)
    decoding = DecodingSettings()
    rules = untuned(2, decoding)
    for target in ("psds1", "psds2"):
        how = TuningSettings(target=target)
        tuned = tuned_on_events(rules, tracks, references, decoding, how)
        best = value_of(tuned, tracks, references, decoding, how)
        before = value_of(rules, tracks, references, decoding, how)
        assert best >= before + (0.002 if target == "psds1" else 0)
        for k, of_class in enumerate(classes_of(tuned, tracks, references, decoding, how)):
            for other in of_class.with_shapes(tuned[k].gate_threshold):
                changed = [*tuned[:k], other.own, *tuned[k + 1 :]]
                assert value_of(changed, tracks, references, decoding, how) <= best + 1e-9


def test_flicker_is_filtered():
    rng = np.random.default_rng(0)
    table = np.full((400, 2), 0.05, np.float32)
    events = [Event(CLOCK.start_seconds(n), CLOCK.start_seconds(n + 20), "a") for n in (50, 250)]
    for event in events:
        inside = slice(round(event.onset_seconds * 10), round(event.offset_seconds * 10))
        table[inside, 0] = 0.9
    flicker = rng.random(400) < 0.15
    table[flicker, 0] = np.where(table[flicker, 0] > 0.5, 0, 0.95)
    tracks = [ScoreTrack(table, NAMES, CLOCK, 0, 40.1)]
    decoding, how = DecodingSettings(), TuningSettings(target="event_f1")
    (rule, _) = tuned_on_events(untuned(2, decoding), tracks, [events], decoding, how)
    assert rule.median_seconds or rule.step_seconds
    assert value_of([rule] * 2, tracks, [events], decoding, how) == pytest.approx(0.5)  # "b" is 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.7, 0.95, 1.0]))
def test_the_lowest_thresholds_at_a_precision(seed, precision):
    rng = np.random.default_rng(seed)
    tags = rng.random((25, 2)) < 0.4
    tags[0] = True
    grid = rng.integers(0, 11, tags.shape) / 10
    probabilities = np.clip(grid + 0.3 * tags, 0, 1).astype(np.float32)
    how = TuningSettings(precision=precision)
    found = tuned_on_tags(tags, probabilities, DecodingSettings(), how)
    for k, rule in enumerate(found):
        hits, given_ = [], []
        cuts = [-1.0, *np.unique(probabilities[:, k]).tolist()[:-1]]
        for cut in cuts:
            if cut >= 0 or probabilities[:, k].min() > 0:
                given_.append((probabilities[:, k] > cut).sum())
                hits.append((tags[:, k] & (probabilities[:, k] > cut)).sum())
        reached = np.array(hits) / np.array(given_)
        is_given = probabilities[:, k] > rule.tag_threshold
        own = (tags[:, k] & is_given).sum()
        if (reached >= precision).any():
            assert own / is_given.sum() >= precision
            assert own == np.array(hits)[reached >= precision].max()
        else:
            assert own / is_given.sum() == reached.max()


@pytest.mark.parametrize("precision", [0.8, 1.0])
def test_events_of_the_highest_recall_at_a_precision(monkeypatch, precision):
    few(monkeypatch)
    tracks, references = validation(5, clips=4)
    decoding, how = DecodingSettings(), TuningSettings(precision=precision)
    rules = untuned(2, decoding)
    tuned = tuned_on_events(rules, tracks, references, decoding, how)
    found = scores_of(tuned, tracks, references, decoding).counts
    for k, of_class in enumerate(classes_of(rules, tracks, references, decoding, how)):
        hits, total = np.array(of_class.candidates().hits), np.array(of_class.candidates().given)
        reached = hits / np.maximum(total, 1)
        if (reached >= precision).any():
            assert found.precision[k] >= precision
            assert found.tp[k] == hits[reached >= precision].max()
        else:
            assert found.precision[k] == reached.max()


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
    (candidates, _) = [c.candidates() for c in classes_of(rules, tracks, references, decoding, how)]
    counts = scores_of(rules, tracks, references, decoding, 0.5).counts
    assert candidates.hits[0] == counts.tp[0] == 6
    assert candidates.judge.wanted - candidates.hits[0] == counts.fn[0] == 72
    assert tuned_on_events(rules, tracks, references, decoding, how)[0].tag_threshold == 0.5


def test_events_of_one_recording_match_none_of_the_next():
    silence, sound = np.zeros((10, 2), np.float32), np.zeros((10, 2), np.float32)
    sound[2:5] = 0.9
    tracks = [ScoreTrack(table, NAMES, CLOCK, 0, 1.1) for table in (silence, sound)]
    how = TuningSettings(target="event_f1", collar_seconds=4.0, resolution_seconds=0.1)
    references = [[Event(0.5, 1.0, "a")], []]
    rules = untuned(2, DecodingSettings())
    (of_class, _) = classes_of(rules, tracks, references, DecodingSettings(), how)
    candidates = of_class.candidates()
    assert candidates.given[0] == 1
    assert max(candidates.hits) == 0


def test_untuned_rules_are_the_settings():
    found = DecodingSettings(threshold=0.4, low_ratio=0.5, max_gap_seconds=0.3, min_event_seconds=0)
    (rule,) = untuned(1, found)
    assert (rule.tag_threshold, rule.threshold, rule.low_threshold) == (0.4, 0.4, 0.2)
    assert (rule.max_gap_seconds, rule.min_event_seconds) == (0.3, 0.0)


def test_boxes_are_asked_for_by_name():
    asked = DecodingSettings(method="bounding_boxes", step_seconds=0.4, merge_ratio=0.7)
    (rule,) = untuned(1, asked)
    assert (rule.step_seconds, rule.merge_ratio, rule.gate_threshold) == (0.4, 0.7, 0.5)
    (rule,) = untuned(1, asked.model_copy(update={"method": "threshold"}))
    assert (rule.step_seconds, rule.merge_ratio) == (0.0, 1.0)


def test_shares_of_frames_say_nothing_of_a_frame():
    for votes, threshold in ((False, 0.1), (True, 0.5)):
        rule = rule_for(0.1, DecodingSettings(low_ratio=0.5), votes)
        assert (rule.tag_threshold, rule.gate_threshold) == (0.1, 0.1)
        assert (rule.threshold, rule.low_threshold) == (threshold, threshold / 2)
    assert rules_of_tags([rule], DecodingSettings(low_ratio=0.5), True) == [rule]


def test_a_precision_is_found_where_scores_are_sure_but_brief():
    """Each event is one sure frame amid a long reference; much weaker noise is everywhere."""
    rng = np.random.default_rng(0)
    tracks, references = [], []
    for _ in range(20):
        scores = rng.uniform(0.3, 0.6, (300, 1)).astype(np.float32)
        peaks = rng.choice(100, 3, replace=False) + 100
        scores[peaks] = rng.uniform(0.9, 0.95, (3, 1))
        end = CLOCK.samples_for(300) / 100
        tracks.append(ScoreTrack(scores, ("a",), CLOCK, 0, end, np.ones_like(scores), np.ones(1)))
        references.append([Event(10.0, 20.0, "a")])
    decoding, how = DecodingSettings(), TuningSettings(precision=0.9)
    tuned = tuned_on_events(untuned(1, decoding), tracks, references, decoding, how)
    numbered = {str(n): events for n, events in enumerate(references)}
    found = {str(n): decode(t, tuned, tag_gate=True) for n, t in enumerate(tracks)}
    scored = segment_scores(numbered, found, ("a",)).overall
    by_hand = [tuned[0].model_copy(update={"threshold": 0.7, "low_threshold": 0.7})]
    found = {str(n): decode(t, by_hand, tag_gate=True) for n, t in enumerate(tracks)}
    expected = segment_scores(numbered, found, ("a",)).overall
    assert scored.precision >= 0.9
    assert scored.recall >= expected.recall


def test_of_equal_recall_the_more_precise_threshold():
    tags = np.array([[True], [True], [False]])
    probabilities = np.array([[0.9], [0.8], [0.7]], np.float32)
    how = TuningSettings(precision=0.6)
    (rule,) = tuned_on_tags(tags, probabilities, DecodingSettings(), how)
    assert 0.7 < rule.tag_threshold < 0.8


def test_a_precision_has_no_other_target():
    with pytest.raises(ValueError, match="leave target at segment_f1"):
        TuningSettings(target="psds1", precision=0.9)


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


def quiet_recordings(seed, clips=3):
    """Tracks in which something seems to sound and nothing does."""
    tracks, _ = validation(seed, clips=clips, gated=False)
    return tracks


def false_events(rules, tracks, decoding):
    """How many events of each class the decoder gives."""
    found = [e.label for t in tracks for e in decode(t, rules, tag_gate=decoding.tag_gate)]
    return [found.count(name) for name in NAMES]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6),
    HOW,
    DECODING,
    st.integers(0, 12),
    st.booleans(),
    st.sampled_from([None, 0.9]),
)
def test_false_events_stay_within_the_bound(seed, how, decoding, most, beside, precision):
    tracks, references = validation(seed, gated=False)
    if beside:
        negatives = quiet_recordings(seed + 1)
    else:
        negatives, tracks = [], [*tracks, *quiet_recordings(seed + 1)]
        references = [*references, [], [], []]
    quiet = [t for t, events in zip(tracks, references, strict=False) if not events] + negatives
    hours = sum(track.end_seconds for track in quiet) / 3600
    other = {} if precision is None else {"target": "segment_f1", "precision": precision}
    bounded = how.model_copy(update={"max_false_events_per_hour": most / hours * 1.001} | other)
    rules = untuned(2, decoding)
    with pytest.MonkeyPatch.context() as patch:
        few(patch)
        tuned = tuned_on_events(rules, tracks, references, decoding, bounded, negatives)
    assert sum(false_events(tuned, quiet, decoding)) <= most


def product_of_f1(rules, tracks, references):
    """Of the classes, each at least what counts as nothing to lose."""
    counts = scores_of(
        rules, tracks, references, DecodingSettings(), TuningSettings().resolution_seconds
    ).counts
    return float(
        np.prod(
            np.maximum(2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn), choice.LEAST_F1)
        )
    )


def test_the_bound_costs_no_more_than_it_must():
    """The best that two classes can give together, by trying every pair of candidates."""
    tracks, references = validation(5, gated=False, clips=6)
    negatives = quiet_recordings(6, clips=6)
    hours = sum(track.end_seconds for track in negatives) / 3600
    rules = untuned(2, DecodingSettings())
    costs = []
    with pytest.MonkeyPatch.context() as patch:
        few(patch)
        free = TuningSettings(max_false_events_per_hour=1e9)
        for most in (0, 2, 5, 9, 14):
            how = TuningSettings(max_false_events_per_hour=(most + 0.5) / hours)
            axis = Axis(tracks, references, free, negatives)
            of_classes = [
                ClassOnAxis(axis, k, rule, DecodingSettings()).candidates()
                for k, rule in enumerate(rules)
            ]
            ratios = [of.ratio() for of in of_classes]
            both = [
                (np.array(of.false), np.maximum(above / np.maximum(below, 1), choice.LEAST_F1))
                for of, (above, below) in zip(of_classes, ratios, strict=True)
            ]
            fits = both[0][0][:, None] + both[1][0] <= most
            best = np.where(fits, both[0][1][:, None] * both[1][1], -1).max()
            found = tuned_on_events(rules, tracks, references, DecodingSettings(), how, negatives)
            assert sum(false_events(found, negatives, DecodingSettings())) <= most
            value = product_of_f1(found, tracks, references)
            assert value == pytest.approx(best)
            costs.append(value)
        unbounded = tuned_on_events(rules, tracks, references, DecodingSettings(), TuningSettings())
    assert costs == sorted(costs)
    # Within a bound there are more thresholds to choose from.
    assert costs[0] < costs[-1] <= product_of_f1(unbounded, tracks, references) + 0.05


def test_a_high_bound_is_kept_in_coarser_steps(monkeypatch):
    tracks, references = validation(5, gated=False, clips=6)
    negatives = quiet_recordings(6, clips=6)
    hours = sum(track.end_seconds for track in negatives) / 3600
    few(monkeypatch)
    values = []
    for steps in (1000, 4):
        monkeypatch.setattr(choice, "STEPS", steps)
        how = TuningSettings(max_false_events_per_hour=14.5 / hours)
        rules = untuned(2, DecodingSettings())
        found = tuned_on_events(rules, tracks, references, DecodingSettings(), how, negatives)
        assert 0 < sum(false_events(found, negatives, DecodingSettings())) <= 14
        values.append(product_of_f1(found, tracks, references))
    assert values[1] <= values[0]


def test_negatives_count_for_the_bound_alone():
    tracks, references = validation(7, gated=False)
    negatives = quiet_recordings(8)
    rules = untuned(2, DecodingSettings())
    for target in ("segment_f1", "error_rate", "event_f1"):
        how = TuningSettings(target=target, max_false_events_per_hour=1e9)
        with pytest.MonkeyPatch.context() as patch:
            few(patch)
            of_clips = classes_of(rules, tracks, references, DecodingSettings(), how)[0]
            axis = Axis(tracks, references, how, negatives)
            own = of_clips.own
            beside = ClassOnAxis(axis, 0, own, DecodingSettings())
            scores = of_clips.candidates(), beside.candidates()
        for name in ("hits", "given"):
            assert getattr(scores[0], name)[0] == getattr(scores[1], name)[0]
        assert scores[0].judge.wanted == scores[1].judge.wanted


def test_without_times_rules_only_rise_within_the_bound():
    negatives = quiet_recordings(9, clips=5)
    hours = sum(track.end_seconds for track in negatives) / 3600
    decoding = DecodingSettings(threshold=0.2)
    rules = untuned(2, decoding)
    before = sum(false_events(rules, negatives, decoding))
    how = TuningSettings(max_false_events_per_hour=(before - 0.5) / hours)
    found = tuned_on_events(rules, [], [], decoding, how, negatives)
    assert 0 < sum(false_events(found, negatives, decoding)) < before
    for rule, was in zip(found, rules, strict=True):
        assert rule.threshold >= was.threshold
        assert rule.model_copy(update={"threshold": was.threshold}) == was
    loose = TuningSettings(max_false_events_per_hour=(before + 0.5) / hours)
    assert tuned_on_events(rules, [], [], decoding, loose, negatives) == rules
    one = ONE.model_copy(update={"max_false_events_per_hour": 1e9})
    unlike = [rule_for(level, decoding) for level in (0.2, 0.5)]
    assert tuned_on_events(unlike, [], [], decoding, one, negatives) == unlike
    never = TuningSettings(max_false_events_per_hour=0)
    silent = tuned_on_events(rules, [], [], decoding, never, negatives)
    assert false_events(silent, negatives, decoding) == [0, 0]
    assert all(rule.threshold < 1 for rule in silent)  # a louder sound is still one


def test_a_frame_threshold_is_that_of_tags_before_calibration():
    of_class = ClassCalibration(clips=LogitLine(shift=-2), frames=LogitLine(scale=2))
    raw = 0.7
    tag = float(calibrated([of_class.clips], np.array([raw]))[0])
    rule = rule_for(tag, DecodingSettings(), calibration=of_class)
    assert rule.tag_threshold == tag
    assert rule.threshold == pytest.approx(calibrated([of_class.frames], np.array([raw]))[0])
    (alone,) = rules_of_tags([rule], DecodingSettings(), False, [of_class])
    assert alone == rule
    assert rule_for(tag, DecodingSettings(), True, of_class).threshold == 0.5


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.booleans())
def test_a_moved_rule_gives_the_same_events(seed, gated):
    tracks, references = validation(seed, gated=gated)
    was = [ClassCalibration(), ClassCalibration(clips=LogitLine(scale=0.5))]
    now = [
        ClassCalibration(clips=LogitLine(shift=1), frames=LogitLine(scale=0.5)),
        ClassCalibration(frames=LogitLine(scale=1.5, shift=-1)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        few(patch)
        patch.setattr(candidates, "STEPS_SECONDS_TRIED", ())
        patch.setattr(candidates, "MEDIANS_TRIED", (0.0,))  # no two scores, and no threshold, equal
        start = [calibrated_track(was, track) for track in tracks]
        rules = tuned_on_events(
            untuned(2, DecodingSettings()), start, references, DecodingSettings(), TuningSettings()
        )
    moved = [moved_rule(*each) for each in zip(rules, was, now, strict=True)]
    for track, before in zip(tracks, start, strict=True):
        after = calibrated_track(now, track)
        found, expected = (
            [(e.onset_seconds, e.offset_seconds, e.label) for e in decode(t, of, tag_gate=gated)]
            for t, of in ((after, moved), (before, rules))
        )
        assert found == expected


def test_a_candidate_with_fewer_false_events_stays():
    tracks, references = validation(1)
    axis = Axis(tracks, references, TuningSettings())
    rules, decoding = untuned(2, DecodingSettings()), DecodingSettings()
    of_class = classes_of(rules, tracks, references, decoding, TuningSettings())[0]
    found = Candidates(axis, Segments(of_class))
    for number, (hits, wrong, false) in enumerate(
        [(3, 3, 3), (5, 2, 4), (5, 2, 4), (4, 3, 1), (4, 3, 4), (4, 1, 5), (2, 9, 0)]
    ):
        found.rules.append(rules[0].model_copy(update={"threshold": number / 10}))
        found.hits.append(hits)
        found.given.append(hits + wrong)
        found.packed.append(None)
        found.false.append(false)
    kept = found.undominated()
    assert [round(10 * rule.threshold) for rule in kept.rules] == [0, 1, 5, 3, 6]
    assert kept.false == [3, 4, 5, 1, 0]


ONE = TuningSettings(average="micro", one_rule=True)


def test_one_rule_is_the_best_of_those_that_all_classes_can_share():
    tracks, references = validation(7, clips=6)
    decoding = DecodingSettings(tag_gate=False)
    start = untuned(2, decoding)
    one, other = tuned_on_events(start, tracks, references, decoding, ONE)
    assert one == other
    own = tuned_on_events(
        start, tracks, references, decoding, ONE.model_copy(update={"one_rule": False})
    )
    shared = value_of([one, other], tracks, references, decoding, ONE)
    assert shared >= value_of(start, tracks, references, decoding, ONE)
    for rule in own:  # each is the best of its class, and so a fair one for all
        assert shared >= value_of([rule, rule], tracks, references, decoding, ONE) - 0.03


def test_one_rule_keeps_tag_thresholds_and_is_for_a_class_that_does_not_occur():
    tracks, references = validation(3, clips=4)
    references = [[e for e in events if e.label == NAMES[0]] for events in references]
    decoding = DecodingSettings()
    start = [rule_for(0.3, decoding), rule_for(0.6, decoding)]
    one, other = tuned_on_events(start, tracks, references, decoding, ONE)
    assert (one.tag_threshold, other.tag_threshold) == (0.3, 0.6)
    assert one.model_copy(update={"tag_threshold": 0.6}) == other
    # But for a class that has a rule of its own which nothing here speaks against.
    (alone,) = tuned_on_events(
        start[:1], [t.of_classes([0]) for t in tracks], references, decoding, ONE
    )
    assert tuned_on_events(start, tracks, references, decoding, ONE, kept=[0, 1]) == [
        alone,
        start[1],
    ]
    nothing = [[] for _ in tracks]
    assert tuned_on_events(start, tracks, nothing, decoding, ONE, kept=[0, 1]) == start


def test_a_bound_raises_the_thresholds_of_classes_above_the_one_rule():
    tracks, references = validation(5, clips=8)
    references = [events if n % 2 else [] for n, events in enumerate(references)]
    decoding = DecodingSettings(tag_gate=False)
    start = untuned(2, decoding)
    quiet = [t for t, events in zip(tracks, references, strict=True) if not events]
    hours = sum(track.stop_seconds for track in quiet) / 3600

    free = tuned_on_events(start, tracks, references, decoding, ONE)
    before = false_events(free, quiet, decoding)
    assert sum(before) > 2
    most = sum(before) - 2
    bounded = ONE.model_copy(update={"max_false_events_per_hour": most / hours * 1.001})
    rules = tuned_on_events(start, tracks, references, decoding, bounded)
    assert 0 < sum(false_events(rules, quiet, decoding)) <= most
    for rule, was in zip(rules, free, strict=True):
        assert rule.threshold >= was.threshold
        assert rule.model_copy(update={"threshold": was.threshold}) == was
    loose = ONE.model_copy(update={"max_false_events_per_hour": (most + 2) / hours * 1.001})
    assert tuned_on_events(start, tracks, references, decoding, loose) == free
    # Negatives count, too.
    silent = ONE.model_copy(update={"max_false_events_per_hour": 0.0})
    busy = [track for track, events in zip(tracks, references, strict=True) if events]
    held = [events for events in references if events]
    found = tuned_on_events(start, busy, held, decoding, silent, quiet)
    assert false_events(found, quiet, decoding) == [0, 0]


def test_one_tag_threshold_is_the_best_of_all_classes_pooled():
    rng = np.random.default_rng(0)
    tags = rng.random((60, 3)) < 0.4
    probabilities = (0.3 * tags + 0.7 * rng.random((60, 3))).astype(np.float32)
    rules = tuned_on_tags(tags, probabilities, DecodingSettings(), ONE)
    (drawn,) = {rule.tag_threshold for rule in rules}
    # Before it was drawn towards the settings' threshold, as far as so few tags are.
    towards, count = DecodingSettings().threshold, tags.sum()
    odds = [value / (1 - value) for value in (drawn, towards)]
    best = odds[0] * (odds[0] / odds[1]) ** (PRIOR_TAGS / count)
    threshold = best / (1 + best)
    assert abs(drawn - towards) < abs(threshold - towards)

    def f1(cut):
        given = probabilities > cut
        return 2 * (given & tags).sum() / (given.sum() + tags.sum())

    assert f1(threshold) == pytest.approx(max(f1(p - 1e-6) for p in probabilities.ravel()))
    kept = tuned_on_tags(tags, probabilities, DecodingSettings(), ONE, kept={1: 0.9})
    assert kept[1].tag_threshold == 0.9
    assert kept[0].tag_threshold == kept[2].tag_threshold


def test_one_tag_threshold_of_a_few_clips_stays_near_the_settings():
    tags = np.array([[True, False], [False, True]])
    sure = np.array([[0.02, 0.01], [0.01, 0.02]], np.float32)
    settings = DecodingSettings(threshold=0.4)
    few, many = (
        tuned_on_tags(np.tile(tags, (n, 1)), np.tile(sure, (n, 1)), settings, ONE)[0].tag_threshold
        for n in (1, 500)
    )
    assert 0.25 < few < 0.4
    assert many == pytest.approx(0.015, abs=0.001)


@pytest.mark.parametrize("other", [{"precision": 0.9}, {"target": "error_rate"}])
def test_but_for_f1_each_class_has_its_own_rule(other):
    tracks, references = validation(7, clips=6)
    rng = np.random.default_rng(0)
    tags = rng.random((60, 2)) < 0.4
    probabilities = (0.3 * tags + 0.7 * rng.random((60, 2))).astype(np.float32)
    shared = ONE.model_copy(update=other)
    own = shared.model_copy(update={"one_rule": False})
    decoding = DecodingSettings()
    rules = tuned_on_tags(tags, probabilities, decoding, shared)
    assert rules[0] != rules[1]
    assert rules == tuned_on_tags(tags, probabilities, decoding, own)
    found = tuned_on_events(rules, tracks, references, decoding, shared)
    assert found == tuned_on_events(rules, tracks, references, decoding, own)


def test_one_rule_is_for_pooled_f1():
    with pytest.raises(ValueError, match="set average to micro"):
        TuningSettings(one_rule=True, average="macro")
