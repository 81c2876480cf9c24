"""Features of clips: computed once, found again, and read in batches."""

import multiprocessing
import os
import time

import numpy as np
import pytest
import soundfile

from earmark.audio import AudioError
from earmark.config import FeatureSettings
from earmark.data import clips as module
from earmark.data.clips import ClipFeatures, clip_features
from earmark.data.labels import Clip
from earmark.errors import UserError
from earmark.features import FeatureExtractor, Normaliser

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


@pytest.fixture
def settled(monkeypatch):
    """As if every file had been written long ago, and whatever is written now later."""
    monkeypatch.setattr(module, "_TICK_NS", -(10**12))


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that are hashed, in order."""
    names = []
    real = module._digest

    def spy(path):
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(module, "_digest", spy)
    return names


class Counting(FeatureExtractor):
    def __init__(self, settings):
        super().__init__(settings)
        self.counted = []

    @property
    def clips(self):
        return len(self.counted)

    def of_clips(self, clips):
        self.counted += clips  # whole in one step, whichever thread it is
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
    other = Counting(SMALL.model_copy(update={"hop_samples": 25}))
    assert len(compute(clips[:3], folder, other).frames) < len(first.frames)
    with pytest.raises(UserError, match=r"a clip may last 0.5 s"):
        compute(clips[:3], folder, other, max_clip_seconds=0.5)


def write(path, seed, seconds=0.3):
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * 1000))
    soundfile.write(path, noise.astype(np.float32), 1000, subtype="FLOAT")


def test_a_change_that_hides_behind_size_and_time_is_noticed(clips, tmp_path, settled):
    extractor, folder = Counting(SMALL), tmp_path / "f"
    first = compute(clips, folder, extractor)
    before = clips[0].path.stat()
    with open(clips[0].path, "r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(np.float32(0.9).tobytes())
    os.utime(clips[0].path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = clips[0].path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    changed = compute(clips, folder, extractor)
    assert extractor.clips == 8
    assert changed.key != first.key
    assert not np.array_equal(changed.frames, first.frames)


def test_what_was_just_written_is_hashed_again(clips, tmp_path, hashed):
    # It might be written to again without the clock of the file system ticking.
    extractor, folder = Counting(SMALL), tmp_path / "f"
    compute(clips, folder, extractor)
    hashed.clear()
    compute(clips, folder, extractor)
    assert sorted(hashed) == ["0.wav", "1.wav", "2.wav"]
    assert extractor.clips == 4


def test_a_file_is_hashed_once_however_many_clips_it_has(clips, tmp_path, settled, hashed):
    compute(clips, tmp_path / "f")
    assert sorted(hashed) == ["0.wav", "1.wav", "2.wav"]
    compute(clips, tmp_path / "f")
    compute(clips[:2], tmp_path / "f")
    compute(clips[:2], tmp_path / "f", max_clip_seconds=29.0)
    assert len(hashed) == 3


def test_a_touch_a_copy_and_another_name_compute_nothing(clips, tmp_path, settled, hashed):
    extractor, folder = Counting(SMALL), tmp_path / "f"
    first = compute(clips, folder, extractor)
    os.utime(clips[0].path)
    copy = clips[1].path.with_name("copy.wav")
    copy.write_bytes(clips[1].path.read_bytes())
    moved = [clips[0], Clip(copy, "copy.wav", *[None] * 2, frozenset(), None, None), *clips[2:]]
    hashed.clear()
    again = compute(moved, folder, extractor)
    assert sorted(hashed) == ["0.wav", "copy.wav"]
    assert extractor.clips == 4
    assert again.key == first.key


def test_other_parts_an_other_order_and_other_numbers_are_computed(clips, tmp_path, monkeypatch):
    extractor, folder = Counting(SMALL), tmp_path / "f"
    compute(clips[3:], folder, extractor)
    part = Clip(clips[3].path, "2.wav", 0.2, 0.7, frozenset(), None, None)
    compute([part], folder, extractor)
    assert extractor.clips == 2
    compute(clips[:2], folder, extractor)
    compute(clips[1::-1], folder, extractor)
    assert extractor.clips == 6
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    compute(clips[1::-1], folder, extractor)
    assert extractor.clips == 8


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1}', b'{"a": ["b"]}', b"\xff"])
def test_a_damaged_record_of_contents_is_made_anew(clips, tmp_path, settled, hashed, content):
    extractor, folder = Counting(SMALL), tmp_path / "f"
    compute(clips, folder, extractor)
    (folder / "contents.json").write_bytes(content)
    for _ in range(2):
        compute(clips, folder, extractor)
    assert len(hashed) == 6
    assert extractor.clips == 4


def test_a_file_that_changes_while_it_is_read_is_named(clips, tmp_path):
    def change():
        write(clips[1].path, 77, 0.7)

    with pytest.raises(UserError, match=r"1\.wav: changed while it was read"):
        compute(clips, tmp_path / "f", after_clip=change)
    extractor = Counting(SMALL)
    compute(clips, tmp_path / "f", extractor)
    assert extractor.clips == 4


@pytest.mark.parametrize("cores", [1, 3])
def test_the_number_of_threads_changes_no_bit(clips, tmp_path, monkeypatch, cores):
    many = clips * 8
    first = compute(many, tmp_path / "f")
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    again = compute(many, tmp_path / "g")
    assert (tmp_path / "f/features.f16").read_bytes() == (tmp_path / "g/features.f16").read_bytes()
    assert np.array_equal(first.normaliser.mean, again.normaliser.mean)
    assert np.array_equal(first.normaliser.deviation, again.normaliser.deviation)


def slow(clips, folder, together, done):
    """Computes with a pause after each clip, and tells how many were computed."""
    extractor = Counting(SMALL)
    together.wait()
    compute(clips, folder, extractor, after_clip=lambda: time.sleep(0.05))
    done.put(extractor.clips)


@pytest.mark.slow
def test_two_processes_compute_once(clips, tmp_path):
    fresh = multiprocessing.get_context("spawn")
    given = clips, tmp_path / "f", fresh.Barrier(2), (done := fresh.Queue())
    both = [fresh.Process(target=slow, args=given) for _ in range(2)]
    for process in both:
        process.start()
    computed = sorted(done.get(timeout=120) for _ in both)
    for process in both:
        process.join()
    assert computed == [0, 4]


def test_features_in_use_survive_that_others_are_computed(clips, tmp_path):
    first = compute(clips, tmp_path / "f")
    kept = first.frames.copy()
    compute(clips[:1], tmp_path / "f")
    assert np.array_equal(first.frames, kept)


def killed(clips, folder):
    """Ends as if by SIGKILL after the second clip."""
    steps = []

    def step():
        steps.append(1)
        if len(steps) == 2:
            os._exit(9)

    compute(clips, folder, after_clip=step)


def test_a_killed_computation_is_done_again(clips, tmp_path):
    process = multiprocessing.get_context("spawn").Process(
        target=killed, args=(clips, tmp_path / "f")
    )
    process.start()
    process.join()
    assert process.exitcode == 9
    assert not (tmp_path / "f/index.npz").exists()
    extractor = Counting(SMALL)
    found = compute(clips, tmp_path / "f", extractor)
    assert extractor.clips == 4
    assert np.array_equal(found.frames, compute(clips, tmp_path / "g").frames)


def test_batches_of_two_million_clips_start_at_once():
    lengths = np.ones(2_000_000, np.int64)
    frames = np.zeros((2_000_000, 1), np.float16)
    frames[1_999_999] = 3
    features = ClipFeatures(frames, lengths, Normaliser(*[np.ones(1)] * 2), lengths, (), "")
    assert features.starts is features.starts
    found, none = features.batch(np.array([0, 1_999_999]))
    assert found.tolist() == [[[0.0]], [[3.0]]]
    assert none is None


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
    # Found again under another name, it is told by that.
    other = clips[1].path.rename(tmp_path / "no  sound.wav")
    clips[1] = Clip(other, other.name, None, None, frozenset(), None, None)
    (failure,) = compute(clips, tmp_path / "f").failures
    assert failure.count("sound.wav") == 1
    other.unlink()
    (failure,) = compute(clips, tmp_path / "f").failures
    assert "there is no such file" in failure
    with pytest.raises(AudioError, match="none of 1 clips can be read"):
        compute(clips[1:2], tmp_path / "g")


def test_a_clip_that_is_too_long_is_named(clips, tmp_path):
    with pytest.raises(UserError, match=r"2.wav: a clip may last 0.8 s"):
        compute(clips, tmp_path / "f", max_clip_seconds=0.8)
    long = Clip(clips[2].path, "2.wav", 0.0, 0.9, frozenset(), None, None)
    with pytest.raises(UserError, match=r"may last 0\.8 s"):
        compute([long], tmp_path / "f", max_clip_seconds=0.8)
    assert len(compute(clips, tmp_path / "f", max_clip_seconds=1.0).lengths) == 4
