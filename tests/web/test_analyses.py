"""Probabilities in files: the same as in memory, whatever part is asked for."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from earmark.config import ClassDecoding, DecodingSettings, FeatureSettings
from earmark.errors import UserError
from earmark.inference.decoding import decode
from earmark.inference.recogniser import Recogniser
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock
from earmark.web import analyses
from earmark.web.analyses import (
    Analyses,
    Analysis,
    Model,
    NotAnalysed,
    served_models,
    with_threshold,
)
from earmark.web.jobs import Cancelled
from earmark.web.library import Recording

CLOCK = FrameClock(1000, 60, 50)
NAMES = ("fox", "owl", "elk")
RULE = ClassDecoding(
    tag_threshold=0.4,
    threshold=0.6,
    low_threshold=0.3,
    max_gap_seconds=0.1,
    min_event_seconds=0.1,
)


class Told(Recogniser):
    """Says what it was told to, in blocks."""

    def __init__(self, track: ScoreTrack, size: int = 37) -> None:
        super().__init__(
            NAMES, CLOCK, [RULE] * 3, DecodingSettings(), FeatureSettings(), 10.0, rate_hz=1000
        )
        self._track = track
        self._size = size

    def blocks(self, recording: object, *, rate_hz: int | None = None) -> Iterator[ScoreTrack]:
        track = self._track
        frames = len(track.probabilities)
        for start in range(0, frames, self._size):
            stop = min(frames, start + self._size)
            last = stop == frames
            local = None if track.local_tags is None else track.local_tags[start:stop]
            yield ScoreTrack(
                track.probabilities[start:stop],
                NAMES,
                CLOCK,
                start,
                track.end_seconds if last else None,
                local,
                track.tags if last else None,
            )


def track(frames: int, seed: int = 0, *, gated: bool = True) -> ScoreTrack:
    random = np.random.default_rng(seed)
    smooth = random.random((frames + 6, 3)).cumsum(axis=0)
    probabilities = ((smooth[6:] - smooth[:-6]) / 6).astype(np.float32)
    local = random.random((frames, 3)).astype(np.float32) if gated else None
    tags = np.array([0.1, 0.5, 0.9], np.float32)
    return ScoreTrack(probabilities, NAMES, CLOCK, 0, frames * 0.05 + 0.01, local, tags)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    (tmp_path / "a.wav").write_bytes(b"content")
    return Recording("0" * 32, "a.wav", tmp_path / "a.wav", None, tmp_path / "kept")


def made(recording: Recording, told: ScoreTrack) -> Analysis:
    kept, model = Analyses(), Model("m", "digest", "cpu", Told(told))
    steps: list[float] = []
    kept.make(recording, model, told.end_seconds or 1.0, steps.append, 1e9)
    assert steps == sorted(steps)
    assert 0 <= steps[0] <= steps[-1] <= 1
    return kept.get(recording, model)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("frames", [1, 64, 1000])
def test_events_are_those_of_the_whole_track(
    recording: Recording, frames: int, gated: bool
) -> None:
    told = track(frames, gated=gated)
    analysis = made(recording, told)
    np.testing.assert_array_equal(analysis.probabilities, told.probabilities.T)
    assert analysis.tags == pytest.approx([0.1, 0.5, 0.9])
    rules = [RULE, with_threshold(RULE, 0.45), with_threshold(RULE, 0.0)]
    expected = decode(told, rules, tag_gate=True)
    assert analysis.events(rules) == expected
    assert analysis.events(rules) == expected  # as they are remembered
    assert expected or frames == 1


def test_little_is_remembered(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyses, "_MOST_REMEMBERED_EVENTS", 20)
    told = track(1000)
    analysis = made(recording, told)
    for threshold in np.linspace(0.3, 0.6, 30):
        rules = [with_threshold(RULE, float(threshold))] * 3
        assert analysis.events(rules) == decode(told, rules, tag_gate=True)
        assert sum(map(len, analysis._analyses._events.values())) == analysis._analyses._count <= 20


@settings(deadline=None, max_examples=40)
@given(
    st.floats(0, 60), st.floats(0.001, 60), st.integers(1, 40), st.sampled_from([1, 90, 700, 1000])
)
def test_curves_keep_every_peak(
    tmp_path_factory: pytest.TempPathFactory, start: float, span: float, most: int, frames: int
) -> None:
    folder = tmp_path_factory.mktemp("curves")
    (folder / "a.wav").write_bytes(b"content")
    told = track(frames)
    analysis = made(Recording("0", "a.wav", folder / "a.wav", None, folder / "kept"), told)
    part = analysis.curves(start, start + span, most)
    assert part.values.shape[0] == 3
    assert 1 <= part.values.shape[1] <= most
    hop, lead = 0.05, 0.005
    first = round((part.start_seconds - lead) / hop)
    size = round(part.step_seconds / hop)
    assert first % size == 0
    slow: list[NDArray[np.float32]] = [
        told.probabilities[first + n * size :][:size].max(axis=0)
        for n in range(part.values.shape[1])
    ]
    np.testing.assert_array_equal(part.values, np.stack(slow, axis=1))
    two = analysis.curves(start, start + span, most, [2, 0])
    np.testing.assert_array_equal(two.values, part.values[[2, 0]])
    if start < told.end_seconds:
        assert part.start_seconds <= max(start, lead)
        assert part.end_seconds >= min(start + span, told.end_seconds) - 1e-9


def test_a_threshold_takes_along_what_belongs_to_it() -> None:
    assert with_threshold(RULE, RULE.threshold) == RULE
    lower = with_threshold(RULE, 0.3)
    assert (lower.low_threshold, lower.gate_threshold) == pytest.approx((0.15, 0.2))
    higher = with_threshold(RULE, 0.9)
    assert (higher.low_threshold, higher.gate_threshold) == pytest.approx((0.45, 0.4))
    assert with_threshold(RULE.model_copy(update={"threshold": 0.0}), 0.5).threshold == 0.5
    assert RULE.tag_threshold == lower.tag_threshold


def test_nothing_stays_of_what_was_cancelled(recording: Recording) -> None:
    kept, model = Analyses(), Model("m", "digest", "cpu", Told(track(500)))

    def step(progress: float) -> None:
        if progress > 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        kept.make(recording, model, 25.0, step, 1e9)
    assert list(recording.kept.iterdir()) == []
    assert not kept.there(recording, model)


def test_an_analysis_is_of_one_model_and_one_state(recording: Recording) -> None:
    kept, told = Analyses(), track(100)
    model = Model("m", "digest", "cpu", Told(told))
    kept.make(recording, model, 5.0, lambda _: None, 1e9)
    assert kept.there(recording, model)
    assert not kept.there(recording, Model("m", "other", "cpu", Told(told)))
    assert not kept.there(recording, Model("m", "digest", "cuda", Told(told)))
    (recording.kept / "digest-cpu/analysis.json").write_text("{")
    assert not kept.there(recording, model)
    kept.make(recording, model, 5.0, lambda _: None, 1e9)
    recording.path.write_bytes(b"other content")
    with pytest.raises(NotAnalysed):
        kept.get(recording, model)


def test_a_model_is_the_same_one_wherever_it_works(model: Path, tmp_path: Path) -> None:
    """Else reviews would begin with another one's events on another device."""

    def told(_: Path) -> Recogniser:
        return Told(track(1))

    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "model.json").write_text((other / "model.json").read_text() + "\n")
    served = served_models([model, model, other], told, "cpu-float32")
    assert list(served) == [model.name, f"{model.name}-2", "other"]
    one, same, another = served.values()
    assert one.digest == same.digest != another.digest
    (elsewhere,) = served_models([model], told, "cuda-bfloat16").values()
    assert (elsewhere.digest, elsewhere.how) == (one.digest, "cuda-bfloat16")


def test_an_upload_that_is_longer_than_it_says(recording: Recording) -> None:
    sent = Recording("0", "a.wav", recording.path, None, recording.kept, uploaded=True)
    model = Model("m", "digest", "cpu", Told(track(4000)))
    with pytest.raises(UserError, match=r"a\.wav: lasts longer"):
        Analyses().make(sent, model, 1.0, lambda _: None, 60.0)
    assert list(recording.kept.iterdir()) == []
