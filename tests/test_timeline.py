"""Seconds and frames: gapless, exact, and never a frame late."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.config import FeatureSettings
from earmark.features import FeatureExtractor
from earmark.timeline import FrameClock

PAPER = FrameClock(16_000, 1024, 664)


@st.composite
def clocks(draw):
    hop = draw(st.integers(1, 2000))
    window = hop + draw(st.integers(0, 2000))
    return FrameClock(draw(st.integers(1000, 96_000)), window, hop, draw(st.integers(1, 9)))


def test_ten_seconds_are_240_frames_or_30():
    assert PAPER.frame_count(160_000) == 240
    assert PAPER.coarser(8).frame_count(160_000) == 30
    assert PAPER.coarser(2).coarser(4) == PAPER.coarser(8)
    assert PAPER.hop_seconds == Fraction(83, 2000)


@pytest.mark.parametrize(
    ("samples", "frames"),
    [
        (1, 1),
        (1023, 1),
        (1024 + 331, 1),
        (1024 + 332, 2),
        (1024 + 664, 2),
        (1024 + 10 * 664 + 331, 11),
        (1024 + 10 * 664 + 332, 12),
    ],
)
def test_a_tail_of_half_a_hop_adds_a_frame(samples, frames):
    assert PAPER.frame_count(samples) == frames


@settings(deadline=None, max_examples=60)
@given(clocks(), st.integers(1, 200_000))
def test_frames_are_gapless_from_start_to_end(clock, samples):
    frames = clock.frame_count(samples)
    end = samples / clock.rate_hz
    edges = clock.edges_seconds(frames, end)
    assert len(edges) == frames + 1
    assert edges[0] == 0
    assert edges[-1] == end
    assert (np.diff(edges) > 0).all()
    if frames > 2:
        np.testing.assert_allclose(np.diff(edges)[1:-1], float(clock.hop_seconds), rtol=1e-9)


@settings(deadline=None, max_examples=60)
@given(clocks(), st.integers(0, 10**7), st.integers(1, 50))
def test_edges_of_a_block_are_those_of_the_whole_to_the_last_bit(clock, first, frames):
    edges = clock.edges_seconds(frames, first=first)
    exact = [
        0.0 if t == 0 else clock.lead_seconds + t * clock.hop_seconds
        for t in range(first, first + frames + 1)
    ]
    assert edges.tolist() == [float(edge) for edge in exact]
    assert edges.tolist() == [clock.start_seconds(first + t) for t in range(frames + 1)]


@settings(deadline=None, max_examples=60)
@given(clocks(), st.integers(1, 2000))
def test_whole_windows_span_what_gives_as_many_frames(clock, windows):
    plain = FrameClock(clock.rate_hz, clock.window_samples, clock.hop_samples)
    assert plain.frame_count(plain.samples_for(windows)) == windows
    assert plain.samples_for(windows + 1) - plain.samples_for(windows) == clock.hop_samples


@settings(deadline=None, max_examples=30)
@given(clocks(), st.integers(1, 500_000))
def test_a_pooled_frame_covers_its_frames(clock, samples):
    plain = FrameClock(clock.rate_hz, clock.window_samples, clock.hop_samples)
    frames = plain.frame_count(samples)
    assert clock.frame_count(samples) == -(-frames // clock.pooling)
    pooled = clock.edges_seconds(clock.frame_count(samples))
    assert pooled[:-1].tolist() == plain.edges_seconds(frames)[:-1][:: clock.pooling].tolist()


@pytest.mark.parametrize("place", [0.0, 0.1, 0.4, 0.6, 0.9])
@pytest.mark.parametrize("frame", [1, 7, 22])
def test_a_click_lies_in_the_frame_that_says_so(frame, place):
    edges = PAPER.edges_seconds(24)
    click = edges[frame] + place * (edges[frame + 1] - edges[frame])
    samples = np.zeros(16_000, np.float32)
    samples[int(np.ceil(click * 16_000))] = 1.0
    log_mel = FeatureExtractor(FeatureSettings()).of_clips([samples])[0]
    assert int(log_mel.mean(axis=1).argmax()) == frame
