"""The demonstration learns, and windows leave no seams in what its model says."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import earmark
from earmark.audio import read
from earmark.errors import UserError
from earmark.events import Event
from earmark.inference.decoding import decode
from earmark.inference.recogniser import Recogniser
from earmark.scores import ScoreTrack
from earmark.tasks.demonstration import Demonstration, demo


@dataclass
class Demo:
    report: Demonstration
    recogniser: Recogniser
    samples: np.ndarray

    def decode(self, track: ScoreTrack) -> list[Event]:
        return decode(track, self.recogniser.description.decoding, tag_gate=True)


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    report = demo(tmp_path_factory.mktemp("demo") / "demo", device="cpu")
    recogniser = earmark.load(report.out / "model", "cpu")
    path = next((report.out / "recording" / "audio").iterdir())
    return Demo(report, recogniser, read(path, recogniser.clock.rate_hz))


@pytest.mark.slow
def test_it_finds_the_events_of_unseen_clips(demonstration: Demo) -> None:
    report = demonstration.report
    assert float(report.detection.scores.overall.f1) >= 0.8
    assert (report.out / "recording.png").stat().st_size > 10_000
    assert "recording.csv" in report.text()


@pytest.mark.slow
@pytest.mark.parametrize("shift_frames", [37, 60, 101])
def test_another_grid_of_windows_says_the_same(demonstration: Demo, shift_frames: int) -> None:
    """Without its first frames, every window of the recording lies elsewhere."""
    recogniser, samples = demonstration.recogniser, demonstration.samples
    track = recogniser.scores(samples)
    hop = recogniser.description.settings.features.hop_samples
    later = recogniser.scores(samples[shift_frames * hop :])
    shift_seconds = shift_frames * hop / recogniser.clock.rate_hz

    differences = np.abs(track.probabilities[shift_frames:] - later.probabilities)
    assert np.mean(differences.max(axis=1) <= 0.02) >= 0.95

    thresholds = {
        name: rule.threshold
        for name, rule in zip(recogniser.class_names, recogniser.description.decoding, strict=True)
    }
    two_frames = 2 * float(recogniser.clock.hop_seconds) + 1e-6
    found = demonstration.decode(later)
    whole = [e for e in demonstration.decode(track) if e.onset_seconds > shift_seconds + 1]
    assert whole
    for event in whole:
        if (event.score or 0) <= thresholds[event.label] + 0.05:
            continue
        assert any(
            abs(other.onset_seconds + shift_seconds - event.onset_seconds) <= two_frames
            and abs(other.offset_seconds + shift_seconds - event.offset_seconds) <= two_frames
            for other in found
            if other.label == event.label
        ), event


def test_it_touches_nothing_of_others(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="new or empty"):
        demo(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
