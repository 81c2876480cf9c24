"""Graphs say what the networks say, of any number of windows of any length, with any front end."""

import sys

import numpy as np
import pytest
import torch

from earmark.config import FeatureSettings, settings_from
from earmark.errors import UserError
from earmark.features import FeatureExtractor, Normaliser
from earmark.model.build import build
from earmark.model.masking import MaskedBatchNorm
from earmark.outputs.onnx_export import _FrontEnd, write_graph

onnxruntime = pytest.importorskip("onnxruntime")

BANDS, CLASSES = 16, 3
FEATURES = FeatureSettings(mel_bands=BANDS, window_samples=512, hop_samples=320)
NETWORKS = {
    **{kind: {"localisation": kind} for kind in ("attention", "attention_over_time", "max")},
    "linear_softmax, pooled time": {"localisation": "linear_softmax", "time_pooling": [2, 2, 2]},
    "mean, pooled by 3": {"localisation": "mean", "time_pooling": [3, 1, 1]},
    "relu": {"activation": "relu", "recurrent": "none"},
    "gated_gru": {"recurrent": "gated_gru"},
    "background": {"background": True, "filters": [4, 6, 8]},
    "one at a time": {"exclusive": True, "localisation": "linear_softmax"},
    "context_mlp": {
        "kind": "context_mlp",
        "context_frames": 5,
        "hidden_units": [7],
        "dropout": 0.1,
    },
    "frame_cnn": {
        "kind": "frame_cnn",
        "filters": 8,
        "layers": 2,
        "kernel_frames": 5,
        "smoothing_frames": [1.0, 4.0],
        "dropout": 0.1,
    },
    "multi_scale_cnn": {
        "kind": "multi_scale_cnn",
        "segment_frames": [0, 8, 37],
        "filters": [4, 8],
        "dropout": 0.1,
    },
}


def network(seed, settings):
    """One whose every part matters: statistics of batch norm, classes that differ."""
    if "kind" not in settings:
        settings = {"filters": 8, "recurrent_units": 8} | settings
    found = settings_from({"network": settings}).network
    torch.manual_seed(seed)
    made = build(found, BANDS, CLASSES, Normaliser(np.full(BANDS, -3.0), np.full(BANDS, 2.0)))
    for layer in made.modules():
        if isinstance(layer, MaskedBatchNorm):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.3, 2)
    return made.eval().requires_grad_(False)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)


@pytest.mark.parametrize("front_end", [None, FEATURES], ids=["features", "samples"])
@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
def test_a_graph_says_what_the_networks_say(settings, front_end, tmp_path):
    networks = [network(seed, settings) for seed in (0, 1)]
    write_graph(tmp_path / "model.onnx", networks, front_end)
    found = session(tmp_path / "model.onnx")
    for count, frames in [(1, 1), (3, 2), (2, 7), (1, 8), (1, 50), (2, 113)]:
        rng = np.random.default_rng(frames)
        length = FEATURES.clock.samples_for(frames)
        samples = rng.normal(0, 0.1, (count, length)).astype(np.float32)
        features = FeatureExtractor(FEATURES)(torch.from_numpy(samples))
        given = {"features": features.numpy()} if front_end is None else {"samples": samples}
        clips, means, each, log_weights = found.run(None, given)
        outputs = [one(features) for one in networks]
        of_frames = torch.cat([one.frame_probabilities for one in outputs], dim=2).numpy()
        of_clips = torch.stack([one.clip_probabilities for one in outputs]).mean(dim=0).numpy()
        weights = torch.cat([one.log_weights for one in outputs], dim=2).exp().numpy()
        np.testing.assert_allclose(each, of_frames, rtol=0, atol=2e-6)
        np.testing.assert_allclose(clips, of_clips, rtol=0, atol=2e-6)
        np.testing.assert_allclose(np.exp(log_weights), weights, rtol=1e-3, atol=1e-6)
        first, second = np.split(of_frames, 2, axis=2)
        np.testing.assert_allclose(means, (first + second) / 2, rtol=0, atol=2e-6)
        assert abs(first - second).max() > 1e-3


@pytest.mark.parametrize("kind", ["log_mel", "mfcc"])
@pytest.mark.parametrize(
    ("window", "hop"), [(1024, 664), (512, 512), (250, 100), (241, 80), (2, 1), (3, 2)]
)
def test_features_in_the_graph_are_the_features(kind, window, hop):
    settings = FeatureSettings(
        kind=kind,
        rate_hz=8000,
        window_samples=window,
        hop_samples=hop,
        mel_bands=12,
        high_hz=4000,
        window="hann" if window == 250 else "hamming",
    )
    rng = np.random.default_rng(window)
    for length in (1, hop, window, window + hop // 2, window + hop, 4000):
        samples = torch.from_numpy(rng.normal(0, 0.1, (2, length)).astype(np.float32))
        expected = FeatureExtractor(settings)(samples)
        found = _FrontEnd(settings)(samples)
        assert found.shape == expected.shape
        # What is filled up with zeros has bands with little in them, which rounding shows in.
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=2e-3)


def test_silence_is_exactly_silent():
    silence = torch.zeros(1, 5000)
    assert torch.equal(_FrontEnd(FEATURES)(silence), FeatureExtractor(FEATURES)(silence))


def test_a_window_of_a_large_prime_is_refused(tmp_path):
    settings = FEATURES.model_copy(update={"window_samples": 10_007})
    with pytest.raises(UserError, match="export without --features"):
        write_graph(tmp_path / "model.onnx", [network(0, {})], settings)


def test_without_the_package_onnx(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'earmark\[onnx\]'"):
        write_graph(tmp_path / "model.onnx", [network(0, {})])
    assert not (tmp_path / "model.onnx").exists()
