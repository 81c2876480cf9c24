"""Engines: every one says what plain torch in float32 says, whatever the windows."""

import importlib.util
import logging
import math
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from earmark.config import settings_from
from earmark.errors import UserError
from earmark.features import Normaliser
from earmark.inference import engines, openvino_graph
from earmark.inference.engines import FoldedEngine, OpenVinoEngine, TorchEngine, choose_engine
from earmark.model.build import build
from earmark.model.masking import MaskedBatchNorm

CPU = torch.device("cpu")
BANDS, CLASSES = 16, 3
KINDS = ["attention", "attention_over_time", "linear_softmax", "mean", "max"]
LENGTHS = [1, 2, 7, 8, 9, 240, 241]
MAKERS = {
    "folded": lambda networks, dtype, workers=1: FoldedEngine(networks, CPU, dtype, 1),
    "openvino": lambda networks, dtype, workers=1: OpenVinoEngine(networks, dtype, 1, workers),
}
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 0.01}

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed"
)
each_engine = pytest.mark.parametrize(
    "make", [MAKERS["folded"], pytest.param(MAKERS["openvino"], marks=needs_openvino)], ids=MAKERS
)
each_dtype = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


def network(seed=0, **settings):
    """A network whose every part matters: statistics of batch norm, classes that differ."""
    if "kind" not in settings:
        settings = {"filters": 8, "recurrent_units": 8} | settings
    found = settings_from({"network": settings}).network
    torch.manual_seed(seed)
    made = build(found, BANDS, CLASSES, Normaliser(np.full(BANDS, -3.0), np.full(BANDS, 2.0)))
    for layer in made.modules():
        if isinstance(layer, MaskedBatchNorm):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.3, 2)
            layer.weight.data.uniform_(0.5, 2)
            layer.bias.data.normal_(0, 0.3)
    return made.eval().requires_grad_(False)


def windows(frames, count=2, seed=0):
    """Noise, with silence as the last of several windows."""
    rng = np.random.default_rng(seed)
    features = rng.normal(-3, 2, (count, frames, BANDS)).astype(np.float32)
    if count > 1:
        features[-1] = np.log(1e-10)
    return features


def assert_alike(found, expected, tolerance):
    assert found.frames.dtype == found.clips.dtype == np.float32
    assert found.weights.dtype == np.float64
    np.testing.assert_allclose(found.frames, expected.frames, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.clips, expected.clips, rtol=0, atol=tolerance)
    assert found.weights.shape == expected.weights.shape


@each_engine
@each_dtype
@pytest.mark.parametrize("pooling", [(1, 1, 1), (2, 2, 2), (3, 1, 1)], ids=str)
@pytest.mark.parametrize("activation", ["gated", "relu"])
def test_all_lengths_are_as_plain_torch(make, dtype, pooling, activation):
    networks = [network(time_pooling=pooling, activation=activation)]
    plain, engine = TorchEngine(networks, CPU, 1), make(networks, dtype)
    for frames in LENGTHS:
        given = windows(frames)
        expected, found = plain(given), engine(given)
        assert_alike(found, expected, TOLERANCES[dtype])
        np.testing.assert_allclose(found.weights, expected.weights, rtol=4 * TOLERANCES[dtype])
        assert len(found.frames[0]) == -(-frames // math.prod(pooling))


@each_engine
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recurrent", ["gru", "gated_gru", "none"])
def test_all_kinds_are_as_plain_torch(make, kind, recurrent):
    networks = [
        network(
            seed,
            localisation=kind,
            recurrent=recurrent,
            kernel_size=5,
            filters=filters,
            layers_per_block=layers,
            frequency_pooling=pool,
            background=kind == "max",
            exclusive=kind == "linear_softmax",
        )
        for seed, (filters, layers, pool) in enumerate(
            [((4, 8, 6), (1, 2, 3), (2, 2, 2)), (8, 2, (3, 1, 3))]
        )
    ]
    given = windows(33, count=3)
    expected = TorchEngine(networks, CPU, 1)(given)
    found = make(networks, torch.float32)(given)
    assert_alike(found, expected, 1e-5)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-4)
    assert found.frames.shape == (3, 33, 2 * CLASSES)
    assert found.clips.shape == (3, CLASSES)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "context_mlp", "context_frames": 5, "hidden_units": [6], "dropout": 0.0},
        {
            "kind": "frame_cnn",
            "filters": 6,
            "layers": 2,
            "kernel_frames": 5,
            "smoothing_frames": [2.0, 5.0],
            "dropout": 0.0,
        },
        {"kind": "multi_scale_cnn", "filters": [4, 6], "segment_frames": [0, 12], "dropout": 0.0},
    ],
    ids=lambda settings: settings["kind"],
)
@each_dtype
def test_the_other_systems_are_as_plain_torch(settings, dtype, caplog):
    networks = [network(**settings)]
    caplog.set_level(logging.INFO, "earmark")
    engine = choose_engine(networks, CPU, str(dtype).removeprefix("torch."))
    folded = FoldedEngine(networks, CPU, dtype, 1)
    for frames in (1, 7, 30):
        expected = TorchEngine(networks, CPU, 1)(windows(frames))
        assert_alike(folded(windows(frames)), expected, TOLERANCES[dtype])
        assert_alike(engine(windows(frames)), expected, TOLERANCES[dtype])


def test_plain_torch_is_the_network_itself():
    networks = [network(seed) for seed in range(2)]
    given = windows(21)
    found = choose_engine(networks, CPU, "float32")(given)
    with torch.inference_mode():
        outputs = [one(torch.from_numpy(given)) for one in networks]
    for number, output in enumerate(outputs):
        columns = slice(number * CLASSES, (number + 1) * CLASSES)
        assert np.array_equal(found.frames[..., columns], output.frame_probabilities.numpy())
        weights = output.log_weights.double().exp().numpy()
        assert np.array_equal(found.weights[..., columns], weights)
    clips = torch.stack([output.clip_probabilities for output in outputs]).mean(dim=0)
    assert np.array_equal(found.clips, clips.numpy())


def test_weights_beyond_float32_stay_finite():
    one = network(localisation="attention_over_time")
    one.localisation.localiser.bias.fill_(200.0)
    for engine in (TorchEngine([one], CPU, 1), choose_engine([one], CPU)):
        weights = engine(windows(9)).weights
        assert np.isfinite(weights).all()
        assert weights.min() > np.finfo(np.float32).max


def test_bfloat16_reads_features_with_twice_its_digits():
    one = network()
    features = torch.from_numpy(windows(9)) * 5
    whole = ((features - one.mean) / one.deviation)[:, None]
    parts = openvino_graph.split_maps(whole)
    weight, _ = openvino_graph.folded(one.layers[0].convolution, one.layers[0].norm)
    weights = torch.from_numpy(openvino_graph.split_weight(weight))
    expected = torch.conv2d(whole, torch.from_numpy(weight))
    rounded = torch.conv2d(whole.bfloat16().float(), torch.from_numpy(weight).bfloat16().float())
    found = torch.conv2d(parts.bfloat16().float(), weights.bfloat16().float())
    assert (found - expected).abs().max() < (rounded - expected).abs().max() / 50
    folded = engines.with_folded_layers(one, torch.bfloat16).layers[0]
    finer = torch.relu_(one.layers[0](whole))
    assert (torch.relu_(folded(whole).float()) - finer).abs().max() < 0.01 * finer.max()


def test_folding_leaves_the_network_as_it_was():
    one = network()
    before = {name: tensor.clone() for name, tensor in one.state_dict().items()}
    choose_engine([one], CPU)(windows(9))
    FoldedEngine([one], CPU, torch.bfloat16, 1)(windows(9))
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_threads_at_once_find_what_one_does(precision):
    engine = choose_engine([network(seed) for seed in range(2)], CPU, precision, workers=4)
    given = [windows(frames, seed=frames) for frames in [5, 40, 17, 64] * 6]
    serial = [engine(one) for one in given]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine, given))
    for one, other in zip(serial, found, strict=True):
        for left, right in zip(one, other, strict=True):
            assert np.array_equal(left, right)


def test_a_call_keeps_its_thread_count_to_itself():
    assert choose_engine([network()], CPU, "float32", workers=10**6).threads == 1
    engine, counts = TorchEngine([network()], CPU, 1), []

    def work():
        torch.set_num_threads(3)
        engine(windows(5))
        counts.append(torch.get_num_threads())

    before = torch.get_num_threads()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    torch.set_num_threads(before)
    assert counts == [3]


def test_float32_is_plain_torch_and_a_misspelling_is_refused():
    assert type(choose_engine([network()], CPU, "float32")) is TorchEngine
    with pytest.raises(UserError, match="one of auto, float32, bfloat16, came as 'float16'"):
        choose_engine([network()], CPU, "float16")


def said(caplog, networks, precision="auto"):
    caplog.set_level(logging.INFO, "earmark")
    engine = choose_engine(networks, CPU, precision)
    return engine, [record.message for record in caplog.records]


@needs_openvino
def test_openvino_is_used_by_itself(caplog):
    engine, lines = said(caplog, [network(), network(1)])
    assert isinstance(engine, OpenVinoEngine)
    assert len(lines) == 1
    assert lines[0].startswith("2 networks on cpu by OpenVINO 20")
    assert f", {engine.precision}, {engine.threads} thread" in lines[0]


@pytest.mark.parametrize("native", [True, False])
def test_without_openvino_torch_is_used_and_says_why(caplog, monkeypatch, native):
    for name in [*sys.modules]:
        if name.partition(".")[0] == "openvino":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(engines, "native_bfloat16", lambda _: native)
    engine, lines = said(caplog, [network()])
    assert type(engine) is FoldedEngine
    assert engine.precision == ("bfloat16" if native else "float32")
    assert lines[0].startswith("OpenVINO is not installed: pip install 'earmark[fast]'")
    assert lines[1].startswith(
        f"1 network on cpu by torch with folded layers, {engine.precision}, "
    )


@needs_openvino
def test_what_openvino_can_not_do_torch_does(caplog, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("Exception from src/x.cpp:1:\nno such layer\n")

    monkeypatch.setattr(engines, "graph", fails)
    engine, lines = said(caplog, [network()])
    assert type(engine) is FoldedEngine
    assert lines[0] == "OpenVINO can't run this model: no such layer"


@needs_openvino
def test_many_lengths_are_as_good_as_one():
    """Shapes that were not seen before cost neither memory for good nor a wrong result."""
    one = [network()]
    plain, engine = TorchEngine(one, CPU, 1), OpenVinoEngine(one, torch.float32, 1, 1)
    for frames in [*range(1, 51), *range(50, 0, -7)]:
        given = windows(frames, count=1 + frames % 3, seed=frames)
        assert_alike(engine(given), plain(given), 1e-5)
    assert len(engine._idle) == 1


@pytest.mark.slow
@needs_openvino
def test_nothing_is_told_to_anybody():
    program = """
import socket, sys
def refuse(*arguments, **named):
    sys.exit("tried to reach the network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from earmark.inference.openvino_graph import import_openvino
import_openvino()
assert "openvino" in sys.modules
assert not [name for name in sys.modules if name.partition(".")[0] == "openvino_telemetry"]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_openvino
def test_an_openvino_that_is_there_already_is_taken(monkeypatch):
    there = object()
    monkeypatch.setitem(sys.modules, "openvino", there)
    assert openvino_graph.import_openvino() is there


ENGINES_THAT_GO = """
import signal
import numpy as np
import torch
from earmark.config import CrnnSettings
from earmark.features import Normaliser
from earmark.inference.engines import OpenVinoEngine
from earmark.model.build import build

settings = CrnnSettings(filters=2, recurrent_units=2)
network = build(settings, 8, 2, Normaliser(np.zeros(8), np.ones(8))).eval()
first, second = (OpenVinoEngine([network], torch.float32, 1, 1) for _ in range(2))
del first
del second
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.slow
@needs_openvino
@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_a_program_can_be_stopped_when_its_engines_are_gone():
    done = subprocess.run(
        [sys.executable, "-c", ENGINES_THAT_GO], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGINT, done.stderr
    assert "KeyboardInterrupt" in done.stderr
