"""Fused models: the mean of what their members say, on one clock."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.calibration import calibrated
from earmark.config import (
    ClassCalibration,
    ClassDecoding,
    DecodingSettings,
    FeatureSettings,
    LogitLine,
)
from earmark.errors import UserError
from earmark.inference.fusion import FusedRecogniser, check_classes, mean_rules
from earmark.inference.recogniser import Recogniser
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock

NAMES = ("horn", "siren")


def rule(threshold: float = 0.5) -> ClassDecoding:
    return ClassDecoding(
        tag_threshold=threshold,
        threshold=threshold,
        low_threshold=threshold / 2,
        max_gap_seconds=0.2,
        min_event_seconds=0.1,
    )


class Told(Recogniser):
    """Says a track that it was given, in blocks of some lengths."""

    def __init__(self, track: ScoreTrack, cuts=(), threshold: float = 0.5) -> None:
        rate = track.clock.rate_hz
        features = FeatureSettings(rate_hz=rate, high_hz=rate / 2, window_samples=2, hop_samples=1)
        rules = [rule(threshold)] * len(track.class_names)
        super().__init__(
            track.class_names, track.clock, rules, DecodingSettings(), features, 10.0, rate_hz=rate
        )
        self.track = track
        self.cuts = [0, *cuts, len(track.probabilities)]

    def raw_blocks(self, recording, *, rate_hz=None) -> Iterator[ScoreTrack]:
        for start, stop in zip(self.cuts, self.cuts[1:], strict=False):
            last = stop == self.cuts[-1]
            yield replace(
                self.track,
                probabilities=self.track.probabilities[start:stop],
                local_tags=self.track.local_tags[start:stop],
                start_frame=start,
                end_seconds=self.track.end_seconds if last else None,
                tags=self.track.tags if last else None,
            )


def track(clock: FrameClock, samples: int, seed: int, names=NAMES) -> ScoreTrack:
    random = np.random.default_rng(seed)
    frames = clock.frame_count(samples)
    shape = (frames, len(names))
    return ScoreTrack(
        random.random(shape, np.float32),
        names,
        clock,
        0,
        samples / clock.rate_hz,
        random.random(shape, np.float32),
        random.random(len(names), np.float32),
    )


def cut(draw, frames: int) -> list[int]:
    """Boundaries of blocks; all but the last have a frame."""
    return sorted(draw(st.sets(st.integers(1, frames - 1), max_size=5))) if frames > 1 else []


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_model_fused_with_itself_is_itself(data: st.DataObject) -> None:
    clock = FrameClock(1000, 64, 40)
    said = track(clock, data.draw(st.integers(1, 3000)), data.draw(st.integers(0, 99)))
    members = [Told(said, cut(data.draw, len(said.probabilities))) for _ in range(3)]
    fused = FusedRecogniser(members)
    found = fused.scores("any")
    assert np.array_equal(found.probabilities, said.probabilities)
    assert np.array_equal(found.local_tags, said.local_tags)
    assert np.array_equal(found.tags, said.tags)
    assert found.end_seconds == said.end_seconds
    assert list(fused.rules) == list(members[0].rules)
    assert fused.detect("any") == members[0].detect("any")


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_other_clocks_by_a_slow_twin(data: st.DataObject) -> None:
    """Each frame of the finest takes the mean over its time of what the others say."""
    clocks = [
        FrameClock(1000, 64, 40),
        FrameClock(1000, 64, 40, pooling=data.draw(st.integers(2, 8))),
        FrameClock(data.draw(st.sampled_from([700, 1000, 2205])), 300, 111),
    ]
    seconds = data.draw(st.floats(0.05, 4.0))
    said = [
        track(clock, max(1, round(seconds * clock.rate_hz)), seed)
        for seed, clock in enumerate(clocks)
    ]
    order = data.draw(st.permutations(range(3)))
    members = [Told(said[i], cut(data.draw, len(said[i].probabilities))) for i in order]
    found = FusedRecogniser(members).scores("any")
    finest = said[min(order, key=lambda i: clocks[i].hop_seconds)]
    assert found.clock == finest.clock
    assert len(found.probabilities) == len(finest.probabilities)
    edges = finest.edges_seconds
    for frame in range(0, len(edges) - 1, max(1, len(edges) // 7)):
        means = [mean_over(s, edges[frame], edges[frame + 1]) for s in said]
        assert np.allclose(found.probabilities[frame], np.mean(means, axis=0), atol=1e-5)
    assert np.allclose(found.tags, np.mean([s.tags for s in said], axis=0))


def mean_over(said: ScoreTrack, start: float, stop: float) -> np.ndarray:
    edges = said.edges_seconds
    edges[-1] = max(edges[-1], stop)
    total = np.zeros(len(said.class_names))
    for left, right, row in zip(edges[:-1], edges[1:], said.probabilities, strict=True):
        total += max(0.0, min(right, stop) - max(left, start)) * row
    return total / (stop - start)


def test_classes_are_matched_by_name() -> None:
    clock = FrameClock(1000, 64, 40)
    first = track(clock, 900, 0)
    second = track(clock, 900, 1, names=NAMES[::-1])
    found = FusedRecogniser([Told(first), Told(second)]).scores("any")
    assert found.class_names == NAMES
    expected = (first.probabilities + second.probabilities[:, ::-1]) / 2
    assert np.allclose(found.probabilities, expected)


def test_other_classes_are_refused() -> None:
    clock = FrameClock(1000, 64, 40)
    members = [Told(track(clock, 900, 0)), Told(track(clock, 900, 0, ("horn", "bell")))]
    with pytest.raises(UserError, match="only one of a and b has 'bell'"):
        check_classes(members, ["a", "b"])


def test_rules_are_means() -> None:
    means = mean_rules([[rule(0.2)], [rule(0.4)], [rule(0.9)]])
    assert means[0].threshold == pytest.approx(0.5)
    assert means[0].max_gap_seconds == 0.2
    assert mean_rules([[rule(0.1)]] * 3) == [rule(0.1)]


def test_boxes_and_runs_are_not_mixed() -> None:
    boxes = [
        rule(0.4).model_copy(update={"step_seconds": s, "merge_ratio": 0.6}) for s in (0.5, 0.7)
    ]
    (mean,) = mean_rules([[boxes[0]], [rule(0.2)], [boxes[1]]])
    assert (mean.step_seconds, mean.merge_ratio) == (pytest.approx(0.6), 0.6)
    assert mean.threshold == pytest.approx(1 / 3)
    (mean,) = mean_rules([[rule(0.2)], [boxes[0]]])
    assert (mean.step_seconds, mean.merge_ratio) == (0.0, rule().merge_ratio)


def test_members_are_calibrated_before_their_mean_and_it_after() -> None:
    clock = FrameClock(1000, 64, 40)
    said = [track(clock, 900, seed) for seed in range(2)]
    of_one = [
        ClassCalibration(clips=LogitLine(scale=2), frames=LogitLine(shift=1)),
        ClassCalibration(),
    ]
    of_mean = [
        ClassCalibration(),
        ClassCalibration(clips=LogitLine(shift=-1), frames=LogitLine(scale=0.5)),
    ]
    members = [Told(said[0]).with_calibration(of_one), Told(said[1])]
    fused = FusedRecogniser(members, calibration=of_mean)
    found = fused.scores("any")
    for name, kind in (("probabilities", "frames"), ("local_tags", "clips"), ("tags", "clips")):
        one, other = (getattr(of, name) for of in said)
        mean = np.mean([calibrated([getattr(c, kind) for c in of_one], one), other], axis=0)
        expected = calibrated([getattr(c, kind) for c in of_mean], mean)
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-6)
    assert fused.tag("any")["siren"] == pytest.approx(float(found.tags[1]))

    own_alone = fused.with_calibration(()).scores("any").tags
    np.testing.assert_allclose(own_alone[0], found.tags[0])
    assert own_alone[1] > found.tags[1]
    raw = fused.uncalibrated().scores("any")
    assert np.array_equal(raw.tags, FusedRecogniser([Told(of) for of in said]).scores("any").tags)
    assert np.array_equal(fused.scores("any").tags, found.tags)  # which stays as it was
