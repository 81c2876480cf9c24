"""The layers of a GatedCRNN up to its localisation, written as a graph for OpenVINO.

Written rather than converted: tracing and converting a network takes half a second, this a
hundredth of one.
"""

import importlib
import sys
from collections.abc import Sequence
from itertools import islice
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from earmark.model.crnn import GatedCRNN
from earmark.model.gating import GatedConv, ReluConv
from earmark.model.recurrent import BiGru

TELEMETRY = "openvino_telemetry"

Node = Any  # of OpenVINO, which has no types
Numbers = NDArray[np.float32]


def import_openvino() -> ModuleType:
    """OpenVINO, kept from telling its makers that it is used.

    Raises:
        ImportError: it is not installed.
    """
    there = sys.modules.get("openvino")
    if there is not None:
        return there
    known = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # an import of it fails
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[TELEMETRY]
        if known is not None:
            sys.modules[TELEMETRY] = known


def graph(networks: Sequence[GatedCRNN], *, split: bool) -> Any:
    """A model of OpenVINO: the networks' maps (B, C, T, F) -> what each localisation reads.

    B and T are open. Batch norm is folded into the convolutions.

    Args:
        networks: of one system.
        split: whether the maps are those of ``split_maps``.
    """
    openvino = import_openvino()
    ops = importlib.import_module("openvino.opset14")
    channels = 2 if networks[0].settings.background else 1
    shape = [-1, 3 * channels if split else channels, -1, len(networks[0].mean)]
    maps = ops.parameter(shape, np.float32, name="maps")
    outputs = [_Layers(ops).network(network, maps, split) for network in networks]
    return openvino.Model(outputs, [maps], "earmark")


def split_maps(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, T, F) -> (B, 3 * C, T, F) that bfloat16 rounds to what has twice its digits.

    Features are the only numbers with an offset and a range of their own: without it, most of the
    error in bfloat16 would come of rounding them. The first layer's ``split_weight`` goes with it.
    """
    coarse = maps.bfloat16().float()
    return torch.cat([coarse, maps - coarse, coarse], dim=1)


def split_weight(weight: Numbers) -> Numbers:
    """(filters, C, ...) -> (filters, 3 * C, ...): coarse for both parts of maps, and the rest."""
    coarse = torch.from_numpy(weight).bfloat16().float().numpy()
    return np.concatenate([coarse, coarse, weight - coarse], axis=1)


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Numbers, Numbers]:
    """Weight and bias of the one convolution that does what both do in evaluation."""
    # By numpy: so small a sum is not worth waking torch's threads for.
    mean, variance, scale, shift, weight = (
        tensor.numpy(force=True).astype(np.float64)
        for tensor in (
            norm.running_mean,
            norm.running_var,
            norm.weight,
            norm.bias,
            convolution.weight,
        )
        if tensor is not None
    )
    scale /= np.sqrt(variance + norm.eps)
    folded_weight = np.ascontiguousarray(weight * scale[:, None, None, None], np.float32)
    return folded_weight, (shift - mean * scale).astype(np.float32)


class _Layers:
    """The layers by their names, in the operations of OpenVINO."""

    def __init__(self, ops: ModuleType) -> None:
        self.ops = ops

    def network(self, network: GatedCRNN, maps: Node, split: bool) -> Node:
        ops, settings = self.ops, network.settings
        layers = iter(network.layers)
        sizes = zip(settings.time_pooling, settings.frequency_pooling, strict=True)
        for count, size in zip(settings.layers_of_blocks, sizes, strict=True):
            for layer in islice(layers, count):
                assert isinstance(layer, GatedConv | ReluConv)
                maps = self.convolved(layer, maps, split and layer is network.layers[0])
            maps = self.pooled(maps, size)
        frames = ops.reshape(ops.transpose(maps, [0, 2, 1, 3]), [0, 0, -1], special_zero=True)
        if network.recurrent is None:
            return frames
        if isinstance(network.recurrent, BiGru):
            return self.gru(network.recurrent.gru, frames)
        gate = ops.sigmoid(self.gru(network.recurrent.gate.gru, frames))
        return ops.multiply(self.gru(network.recurrent.value.gru, frames), gate)

    def convolved(self, layer: GatedConv | ReluConv, maps: Node, split: bool) -> Node:
        """(B, C, T, F) -> (B, filters, T, F)."""
        ops = self.ops
        weight, bias = folded(layer.convolution, layer.norm)
        if split:
            weight = split_weight(weight)
        half = [size // 2 for size in weight.shape[2:]]

        def convolution(rows: slice) -> Node:
            kernels, shifts = ops.constant(weight[rows]), ops.constant(bias[rows, None, None])
            return ops.add(ops.convolution(maps, kernels, [1, 1], half, half, [1, 1]), shifts)

        if not isinstance(layer, GatedConv):
            return ops.relu(convolution(slice(None)))
        # Two convolutions, because the sigmoid is then done on the way out of the second.
        filters = len(bias) // 2
        gate = ops.sigmoid(convolution(slice(filters, None)))
        return ops.multiply(convolution(slice(filters)), gate)

    def pooled(self, maps: Node, size: tuple[int, int]) -> Node:
        """(B, C, T, F) -> (B, C, ceil(T / time), ceil(F / frequency))."""
        if size == (1, 1):
            return maps
        # Padding never wins, and by rounding up instead it would refuse maps smaller than a pool.
        end = [size[0] - 1, size[1] - 1]
        return self.ops.max_pool(maps, size, [1, 1], [0, 0], end, size, "floor").output(0)

    def gru(self, gru: nn.GRU, frames: Node) -> Node:
        """(B, T, C) -> (B, T, 2 * units)."""
        ops, units = self.ops, gru.hidden_size

        def both(name: str) -> Numbers:
            """A weight or bias (3 * units, ...) of either direction, the update gate first."""
            found = [_numbers(getattr(gru, f"{name}_l0{way}")) for way in ("", "_reverse")]
            reset, update, new = np.split(np.stack(found), 3, axis=1)
            return np.concatenate([update, reset, new], axis=1)

        of_input, of_state = both("bias_ih"), both("bias_hh")
        # Those of the gates are summed; the new state's are apart: the reset gate is between them.
        gates, new = slice(2 * units), slice(2 * units, None)
        bias = [of_input[:, gates] + of_state[:, gates], of_input[:, new], of_state[:, new]]
        shape = ops.shape_of(frames, "i32")
        clips, length = (ops.gather(shape, np.array([k]), 0) for k in (0, 1))
        sequence = ops.gru_sequence(
            frames,
            ops.broadcast(np.float32(0), ops.concat([clips, np.array([2, units], np.int32)], 0)),
            ops.broadcast(length, clips),
            ops.constant(both("weight_ih")),
            ops.constant(both("weight_hh")),
            ops.constant(np.concatenate(bias, axis=1)),
            units,
            "bidirectional",
            linear_before_reset=True,
        )
        states = ops.transpose(sequence.output(0), [0, 2, 1, 3])  # (B, T, 2, units)
        return ops.reshape(states, [0, 0, 2 * units], special_zero=True)


def _numbers(tensor: torch.Tensor) -> Numbers:
    numbers: Numbers = tensor.numpy(force=True)
    return numbers
