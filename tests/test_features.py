"""Features: equal to librosa's, to physics, and to themselves however they are computed."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

import earmark.features as module
from earmark.config import FeatureSettings
from earmark.features import FeatureExtractor, NormaliserFit, cosine_transform, mel_filters

PAPER = FeatureSettings()
OTHER = FeatureSettings(
    rate_hz=32_000,
    window_samples=512,
    hop_samples=256,
    window="hann",
    mel_bands=40,
    low_hz=300,
    high_hz=10_000,
)
SMALL = FeatureSettings(rate_hz=1000, window_samples=50, hop_samples=20, mel_bands=5, high_hz=500)


@pytest.fixture(scope="module")
def librosa():
    with warnings.catch_warnings():
        # What librosa's own dependencies raise while they are imported is not ours to mend.
        warnings.simplefilter("ignore")
        import librosa.feature

        return librosa


def signals(rate_hz):
    rng = np.random.default_rng(0)
    t = np.arange(rate_hz) / rate_hz
    tones = 0.5 * np.sin(2 * np.pi * 440 * t) + 0.3 * np.sin(2 * np.pi * 2500 * t)
    return {
        "noise": rng.normal(0, 0.2, rate_hz),
        "quiet noise": rng.normal(0, 1e-4, rate_hz),
        "tones": tones + rng.normal(0, 1e-2, rate_hz),
        "silence": np.zeros(rate_hz),
        "clipping": np.sign(np.sin(2 * np.pi * 100 * t)),
    }


def reference(librosa, samples, given):
    whole = 1 + (len(samples) - given.window_samples) // given.hop_samples
    mel = librosa.feature.melspectrogram(
        y=samples.astype(np.float64),
        sr=given.rate_hz,
        n_fft=given.window_samples,
        hop_length=given.hop_samples,
        window=given.window,
        center=False,
        power=1,
        n_mels=given.mel_bands,
        fmin=given.low_hz,
        fmax=given.high_hz,
    )
    return np.log(mel + 1e-8).T, whole


@pytest.mark.parametrize("name", signals(8000))
@pytest.mark.parametrize("kind", ["log_mel", "mfcc"])
@pytest.mark.parametrize("form", [PAPER, OTHER], ids=["paper", "other"])
def test_features_are_librosas(librosa, form, kind, name):
    given = form.model_copy(update={"kind": kind})
    samples = signals(given.rate_hz)[name].astype(np.float32)
    log_mel, whole = reference(librosa, samples, given)
    ours = FeatureExtractor(given).of_clips([samples])[0][:whole]
    if kind == "log_mel":
        np.testing.assert_allclose(ours, log_mel, atol=1e-4, rtol=0)
    else:
        mfcc = librosa.feature.mfcc(S=log_mel.T, n_mfcc=given.mel_bands, dct_type=2, norm="ortho").T
        np.testing.assert_allclose(ours, mfcc, atol=1e-3, rtol=0)


def test_pure_tones_are_librosas_to_the_rounding_of_float32(librosa):
    # The side lobes of a Hann window fall below what float32 resolves beside the main one.
    t = np.arange(32_000) / 32_000
    samples = np.sin(2 * np.pi * 2500 * t).astype(np.float32)
    log_mel, whole = reference(librosa, samples, OTHER)
    ours = np.exp(FeatureExtractor(OTHER).of_clips([samples])[0][:whole].astype(np.float64))
    np.testing.assert_allclose(ours, np.exp(log_mel), atol=3e-7 * np.exp(log_mel.max()), rtol=1e-5)


def test_mel_filters_are_librosas(librosa):
    for given in (PAPER, OTHER):
        theirs = librosa.filters.mel(
            sr=given.rate_hz,
            n_fft=given.window_samples,
            n_mels=given.mel_bands,
            fmin=given.low_hz,
            fmax=given.high_hz,
            dtype=np.float64,
        )
        np.testing.assert_allclose(mel_filters(given), theirs, atol=1e-12)


def test_cosine_transform_is_orthonormal():
    matrix = cosine_transform(64)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(64), atol=1e-12)
    np.testing.assert_allclose(matrix[0], 1 / 8)


def test_ten_seconds_are_240_frames_of_64_bands():
    assert FeatureExtractor(PAPER)(torch.zeros(2, 160_000)).shape == (2, 240, 64)


@pytest.mark.parametrize("tone_hz", [150, 1000, 4000])
def test_a_tone_lights_its_band(tone_hz):
    samples = 0.1 * np.sin(2 * np.pi * tone_hz * np.arange(16_000) / 16_000).astype(np.float32)
    filters = mel_filters(PAPER)
    expected = int(filters[:, round(tone_hz * 1024 / 16_000)].argmax())
    features = FeatureExtractor(PAPER).of_clips([samples])[0]
    assert set(features[:-1].argmax(axis=1)) <= {expected}
    assert features[:, expected].min() > features[:, (expected + 20) % 64].max() + 3


def test_silence_stays_at_the_floor_and_twice_as_loud_is_log_2_more():
    extractor = FeatureExtractor(PAPER)
    silent = extractor.of_clips([np.zeros(5000, np.float32)])[0]
    np.testing.assert_allclose(silent, math.log(1e-8), rtol=1e-6)
    noise = np.random.default_rng(1).normal(0, 0.1, 5000).astype(np.float32)
    one, two = extractor.of_clips([noise, 2 * noise])
    np.testing.assert_allclose(two - one, math.log(2), atol=1e-4)


@settings(deadline=None, max_examples=25)
@drawn(st.integers(1, 400), st.lists(st.integers(0, 400), max_size=6), st.integers(0, 99))
def test_a_stream_in_any_blocks_is_the_whole(length, cuts, seed):
    samples = np.random.default_rng(seed).normal(0, 1, length).astype(np.float32)
    bounds = [0, *sorted(min(cut, length) for cut in cuts), length]
    blocks = [samples[a:b] for a, b in itertools.pairwise(bounds)]
    extractor = FeatureExtractor(SMALL)
    parts = list(extractor.stream(blocks))
    whole = extractor.of_clips([samples])[0]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=2e-5, rtol=0)
    assert len(whole) == SMALL.clock.frame_count(length)


def test_a_stream_of_single_samples_works():
    samples = np.random.default_rng(0).normal(0, 1, 131).astype(np.float32)
    extractor = FeatureExtractor(SMALL)
    parts = list(extractor.stream(samples[i : i + 1] for i in range(131)))
    np.testing.assert_allclose(np.concatenate(parts), extractor.of_clips([samples])[0], atol=2e-5)


@settings(deadline=None, max_examples=20)
@drawn(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.integers(0, 99))
def test_a_clip_in_a_batch_is_itself_alone(lengths, seed):
    rng = np.random.default_rng(seed)
    clips = [rng.normal(0, 1, length).astype(np.float32) for length in lengths]
    extractor = FeatureExtractor(SMALL)
    for together, clip in zip(extractor.of_clips(clips), clips, strict=True):
        alone = extractor.of_clips([clip])[0]
        np.testing.assert_allclose(together, alone, atol=2e-5, rtol=0)


def slow_log_mel(samples, given, frames):
    """By loops over the sums that define it, in float64."""
    window = given.window_samples
    filled = [*samples.tolist(), *[0.0] * (frames * given.hop_samples + window)]
    filters = mel_filters(given)
    found = np.zeros((frames, given.mel_bands))
    for t in range(frames):
        windowed = [
            filled[t * given.hop_samples + n] * (0.54 - 0.46 * math.cos(2 * math.pi * n / window))
            for n in range(window)
        ]
        for bin_number in range(window // 2 + 1):
            turn = -2 * math.pi * bin_number / window
            value = sum(
                x * complex(math.cos(turn * n), math.sin(turn * n)) for n, x in enumerate(windowed)
            )
            found[t] += abs(value) * filters[:, bin_number]
    return np.log(found + given.log_offset)


LENGTHS = [1, *(50 + 20 * more + d for more in range(3) for d in (-11, -10, -9, -1, 0, 1, 9, 10))]


@pytest.mark.parametrize("length", LENGTHS)
def test_features_are_the_sums_that_define_them(length):
    samples = np.random.default_rng(length).normal(0, 0.3, length).astype(np.float32)
    frames = max(1, 1 + (2 * (length - 50) + 20) // 40)
    ours = FeatureExtractor(SMALL).of_clips([samples])[0]
    assert ours.shape == (frames, 5)
    np.testing.assert_allclose(ours, slow_log_mel(samples, SMALL, frames), atol=1e-4)


@pytest.mark.parametrize("at", [0, 24, 37, 49])
def test_an_impulse_has_every_frequency_alike(at):
    samples = np.zeros(50, np.float32)
    samples[at] = 1
    height = 0.54 - 0.46 * math.cos(2 * math.pi * at / 50)
    expected = np.log(height * mel_filters(SMALL).sum(axis=1) + 1e-8)
    np.testing.assert_allclose(
        FeatureExtractor(SMALL).of_clips([samples])[0][0], expected, atol=1e-5
    )


MANY_BANDS = SMALL.model_copy(update={"mel_bands": 40})  # some without a bin
WIDE = SMALL.model_copy(update={"window_samples": 400, "mel_bands": 37})


@settings(deadline=None, max_examples=25)
@drawn(
    st.sampled_from([SMALL, MANY_BANDS, WIDE]),
    st.integers(1, 3),
    st.integers(400, 1999),
    st.integers(1, 1000),
    st.sampled_from([0.0, 1e-4, 1.0]),
)
def test_blocks_are_the_whole_at_once(given, rows, length, block_samples, loudness):
    # As every other device computes it.
    extractor = FeatureExtractor(given)
    samples = torch.from_numpy(
        np.random.default_rng(length).normal(0, loudness, (rows, length)).astype(np.float32)
    )
    framed = samples.unfold(-1, given.window_samples, given.hop_samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_SAMPLES", block_samples)
        found = extractor.windows(samples)
    expected = torch.log(extractor._mel_at_once(framed) + given.log_offset)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_clip_shorter_than_a_window_is_filled_with_zeros():
    extractor = FeatureExtractor(SMALL)
    clip = np.ones(7, np.float32)
    filled = np.pad(clip, (0, 43))
    np.testing.assert_array_equal(extractor.of_clips([clip])[0], extractor.of_clips([filled])[0])
    assert extractor.of_clips([clip])[0].shape == (1, 5)


@settings(deadline=None, max_examples=25)
@drawn(st.lists(st.integers(1, 29), max_size=5), st.integers(0, 99))
def test_the_normaliser_is_mean_and_deviation_of_all_frames(cuts, seed):
    rng = np.random.default_rng(seed)
    frames = (rng.normal(0, 1, (30, 4)) * [1, 5, 0.1, 2] + [0, -12, 1e4, 3]).astype(np.float32)
    fit = NormaliserFit(4)
    bounds = sorted({0, 30, *cuts})
    for start, stop in itertools.pairwise(bounds):
        fit.add(frames[start:stop])
    found = fit.result()
    exact = frames.astype(np.float64)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.deviation, exact.std(axis=0), rtol=1e-9)


def test_a_band_that_never_changes_is_not_amplified():
    fit = NormaliserFit(2)
    fit.add(np.array([[-18.4, 0], [-18.4, 2]], np.float32))
    assert fit.result().deviation.tolist() == [1.0, 1.0]
    assert fit.result().mean[0] == pytest.approx(-18.4)
