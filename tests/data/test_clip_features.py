"""Features of clips: computed once, found again, and read in batches."""

import os

import numpy as np
import pytest
import soundfile

from earmark.audio import AudioError
from earmark.config import FeatureSettings
from earmark.data.clips import clip_features
from earmark.data.labels import Clip
from earmark.errors import UserError
from earmark.features import FeatureExtractor

SMALL = FeatureSettings(rate_hz=1000, window_samples=50, hop_samples=20, mel_bands=5, high_hz=500)


@pytest.fixture
def clips(tmp_path):
    """Three files of 0.3, 0.7 and 1 s, and the middle of the last."""
    found = []
    for number, samples in enumerate((300, 700, 1000)):
        path = tmp_path / f"{number}.wav"
        noise = np.random.default_rng(number).normal(0, 0.1, samples)
        soundfile.write(path, noise.astype(np.float32), 1000, subtype="FLOAT")
        found.append(Clip(path, path.name, None, None, frozenset(), None, None))
    found.append(Clip(found[2].path, "2.wav", 0.2, 0.6, frozenset(), None, None))
    return found


class Counting(FeatureExtractor):
    clips = 0

    def of_clips(self, clips):
        self.clips += len(clips)
        return super().of_clips(clips)


def compute(clips, folder, extractor=None, **options):
    extractor = extractor or Counting(SMALL)
    return clip_features(clips, extractor, folder, **({"max_clip_seconds": 30.0} | options))


def test_features_are_those_of_each_clip(clips, tmp_path):
    steps = []
    found = compute(clips, tmp_path / "f", after_clip=lambda: steps.append(1))
    assert len(steps) == 4
    assert found.failures == ()
    assert found.readable.tolist() == [0, 1, 2, 3]
    read = []
    for clip, start, length in zip(clips, found.starts, found.lengths, strict=True):
        samples = soundfile.read(clip.path, dtype="float32")[0]
        if clip.start_seconds is not None:
            samples = samples[200:600]
        expected = FeatureExtractor(SMALL).of_clips([samples])[0]
        assert length == len(expected)
        np.testing.assert_allclose(found.frames[start : start + length], expected, atol=5e-3)
        read.append(samples)
    # As one batch, in which the last digit of float32 is what it is in the fit.
    frames = np.concatenate(FeatureExtractor(SMALL).of_clips(read)).astype(np.float64)
    np.testing.assert_allclose(found.normaliser.mean, frames.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.normaliser.deviation, frames.std(axis=0))


def test_a_batch_is_padded_with_zeros(clips, tmp_path):
    found = compute(clips, tmp_path / "f")
    features, lengths = found.batch(np.array([2, 0, 0]))
    assert lengths.tolist() == [found.lengths[2], found.lengths[0], found.lengths[0]]
    assert features.shape == (3, found.lengths[2], 5)
    assert features.dtype == np.float32
    assert (features[1:, found.lengths[0] :] == 0).all()
    assert np.array_equal(features[1, : found.lengths[0]], found.frames[: found.lengths[0]])
    equal, none = found.batch(np.array([0, 0]))
    assert none is None
    assert equal.shape[1] == found.lengths[0]


def test_features_are_found_again_until_something_changes(clips, tmp_path):
    extractor = Counting(SMALL)
    folder = tmp_path / "f"
    first = compute(clips, folder, extractor)
    again = compute(clips, folder, extractor)
    assert extractor.clips == 4
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.normaliser.mean, again.normaliser.mean)
    compute(clips[:3], folder, extractor)
    assert extractor.clips == 7
    status = clips[0].path.stat()
    os.utime(clips[0].path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    compute(clips[:3], folder, extractor)
    assert extractor.clips == 10
    other = Counting(SMALL.model_copy(update={"hop_samples": 25}))
    assert len(compute(clips[:3], folder, other).frames) < len(first.frames)
    with pytest.raises(UserError, match=r"a clip may last 0.5 s"):
        compute(clips[:3], folder, other, max_clip_seconds=0.5)


def test_a_computation_that_broke_is_done_again(clips, tmp_path):
    def fail():
        raise KeyboardInterrupt

    folder = tmp_path / "f"
    compute(clips[:1], folder)
    with pytest.raises(KeyboardInterrupt):
        compute(clips, folder, after_clip=fail)
    assert len(compute(clips, folder).lengths) == 4


def test_clips_that_cannot_be_read_are_left_out_and_named(clips, tmp_path):
    clips[1].path.write_bytes(b"no sound")
    found = compute(clips, tmp_path / "f")
    assert found.readable.tolist() == [0, 2, 3]
    (failure,) = found.failures
    assert "1.wav" in failure
    assert compute(clips, tmp_path / "f").failures == found.failures
    with pytest.raises(AudioError, match="none of 1 clips can be read"):
        compute(clips[1:2], tmp_path / "g")


def test_a_clip_that_is_too_long_is_named(clips, tmp_path):
    with pytest.raises(UserError, match=r"2.wav: a clip may last 0.8 s"):
        compute(clips, tmp_path / "f", max_clip_seconds=0.8)
    long = Clip(clips[2].path, "2.wav", 0.0, 0.9, frozenset(), None, None)
    with pytest.raises(UserError, match=r"may last 0\.8 s"):
        compute([long], tmp_path / "f", max_clip_seconds=0.8)
    assert len(compute(clips, tmp_path / "f", max_clip_seconds=1.0).lengths) == 4
