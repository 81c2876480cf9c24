"""What runs the networks of a system: OpenVINO, torch with its layers folded, or plain torch.

Plain torch in float32 is the reference. The others say the same to about 1e-6 in float32, and in
bfloat16 to 0.01 in a probability; what they are quicker for is in BENCHMARKS.md.
"""

import copy
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earmark.config import Precision
from earmark.errors import UserError
from earmark.inference.openvino_graph import (
    folded,
    graph,
    import_openvino,
    split_maps,
    split_weight,
)
from earmark.inference.windowed import Outputs
from earmark.model.crnn import GatedCRNN
from earmark.model.gating import GatedConv, ReluConv
from earmark.model.localisation import Localised
from earmark.model.masking import zero_beyond
from earmark.model.network import Network
from earmark.model.precision import native_bfloat16

logger = logging.getLogger("earmark")


class Engine(ABC):
    """Runs the networks of a system over windows; several threads may call it at once.

    Attributes:
        name: of what runs them.
        precision: of the convolutions, and with OpenVINO of the recurrent layer.
        threads: that each call uses.
    """

    name: str
    precision: str
    threads: int

    @abstractmethod
    def __call__(self, features: NDArray[np.float32]) -> Outputs:
        """What the networks say of windows (B, T, F), T >= 1, whose array must be writable."""


def choose_engine(
    networks: Sequence[Network],
    device: torch.device,
    precision: str = "auto",
    workers: int = 1,
) -> Engine:
    """The quickest engine that this machine has for networks in a precision.

    On a CPU that is OpenVINO, where it is installed and the networks are of its kind, and else
    torch with folded layers. The logger ``earmark`` says at INFO which it is, and why not OpenVINO.

    Args:
        networks: of one system, in the mode for evaluation.
        device: where they run; they are moved there.
        precision: float32 is plain torch, to the bit; bfloat16 is as said; auto is bfloat16 where
            the device multiplies it natively, and float32 elsewhere.
        workers: threads that call the engine at the same time. Each call uses as many threads as
            torch would, divided by them.

    Raises:
        UserError: no such precision.
    """
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise UserError(f"precision must be one of {known}, came as '{precision}'")
    networks = [network.to(device) for network in networks]
    threads = max(1, torch.get_num_threads() // workers)
    engine = _chosen(networks, device, precision, threads, workers)
    logger.info(
        "%s on %s by %s, %s, %s",
        _counted(len(networks), "network"),
        device,
        engine.name,
        engine.precision,
        _counted(engine.threads * workers, "thread"),
    )
    return engine


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _chosen(
    networks: Sequence[Network], device: torch.device, precision: str, threads: int, workers: int
) -> Engine:
    if precision == "float32":
        return TorchEngine(networks, device, threads)
    quick = torch.bfloat16 if _is_bfloat16(precision, device) else torch.float32
    if device.type == "cpu":
        try:
            return OpenVinoEngine(networks, quick, threads, workers)
        except ImportError:
            logger.info("OpenVINO is not installed: pip install 'earmark[fast]' makes this faster")
        except Exception as error:  # whatever it can't do, torch can
            logger.info("OpenVINO can't run this model: %s", _last_line(error))
    return FoldedEngine(networks, device, quick, threads)


def _is_bfloat16(precision: str, device: torch.device) -> bool:
    return precision == "bfloat16" or (precision == "auto" and native_bfloat16(device))


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


class TorchEngine(Engine):
    """Plain torch in float32: what every other engine is measured against."""

    name = "torch"
    precision = "float32"

    def __init__(self, networks: Sequence[Network], device: torch.device, threads: int) -> None:
        self.threads = threads
        self._device = device
        self._networks = networks

    @torch.inference_mode()
    def __call__(self, features: NDArray[np.float32]) -> Outputs:
        windows = torch.from_numpy(features).to(self._device)
        with _torch_threads(self.threads):
            return _joined([network(windows) for network in self._networks])


class FoldedEngine(TorchEngine):
    """Torch with batch norm folded into the convolutions before it, and those in ``dtype``.

    All that follows the convolutions stays in float32.
    """

    name = "torch with folded layers"

    def __init__(
        self, networks: Sequence[Network], device: torch.device, dtype: torch.dtype, threads: int
    ) -> None:
        super().__init__(
            [with_folded_layers(network, dtype) for network in networks], device, threads
        )
        self.precision = str(dtype).removeprefix("torch.")


class OpenVinoEngine(Engine):
    """OpenVINO on a CPU for all layers of GatedCRNNs but the last, the localisation.

    Making it takes about a tenth of a second, and nothing is told to anybody.

    Args:
        networks: on the CPU.
        dtype: of the layers, float32 or bfloat16; a processor without it takes float32.
        threads: that each call uses.
        workers: calls at the same time.

    Raises:
        ImportError: OpenVINO is not installed.
        ValueError: a network is of another kind.
    """

    def __init__(
        self, networks: Sequence[Network], dtype: torch.dtype, threads: int, workers: int
    ) -> None:
        gated = [network for network in networks if isinstance(network, GatedCRNN)]
        if len(gated) < len(networks):
            raise ValueError("its networks are not of kind crnn")
        openvino = import_openvino()
        self._networks = gated
        self._split = dtype == torch.bfloat16
        self._compiled = _core(openvino).compile_model(
            graph(gated, split=self._split),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if self._split else "f32",
                "INFERENCE_NUM_THREADS": threads * workers,
                "NUM_STREAMS": workers,
                # Processes beside this one would be pinned to the same cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        hint = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        self.precision = "bfloat16" if hint == openvino.Type.bf16 else "float32"
        self.name = f"OpenVINO {openvino.__version__.partition('-')[0]}"
        self.threads = threads
        self._idle: deque[Any] = deque()  # requests that no thread uses

    @torch.inference_mode()
    def __call__(self, features: NDArray[np.float32]) -> Outputs:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        # What is left to torch is little, and its threads would wait for more on OpenVINO's cores.
        with _torch_threads(1):
            first = self._networks[0]  # the members of a system have one normaliser
            maps = first.maps((torch.from_numpy(features) - first.mean) / first.deviation, None)
            request.infer([(split_maps(maps) if self._split else maps).numpy()])
            read = [
                torch.from_numpy(request.get_output_tensor(k).data)
                for k in range(len(self._networks))
            ]
            found = _joined(
                [one.localisation(own) for one, own in zip(self._networks, read, strict=True)]
            )
        self._idle.append(request)  # whose memory nothing of ``found`` shares
        return found


@cache
def _core(openvino: ModuleType) -> Any:
    """The one core of this process, which lasts as long.

    With a core of its own, each engine would also have the thread that made it take signals on a
    stack of that core's, and of several the last one gone leaves the thread with a stack that is
    freed: the next Ctrl-C would end in a segmentation fault.
    """
    return openvino.Core()


def _joined(found: Sequence[Localised]) -> Outputs:
    frames = torch.cat([of.frame_probabilities for of in found], dim=2)
    weights = torch.cat([of.log_weights.cpu().double().exp() for of in found], dim=2)
    clips = torch.stack([of.clip_probabilities for of in found]).mean(dim=0)
    return Outputs(frames.cpu().numpy(), weights.numpy(), clips.cpu().numpy())


def with_folded_layers(network: Network, dtype: torch.dtype) -> Network:
    """A copy for evaluation, its convolutional layers with their batch norm in them."""
    copied = copy.deepcopy(network)
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if isinstance(child, GatedConv | ReluConv):
                first = name == "0"  # in the list of layers that every network has
                setattr(parent, name, _FoldedConv(child, dtype, first))
    return copied


class _FoldedConv(nn.Module):
    """A convolution with the batch norm that follows it, then the gate or the ReLU.

    Shape:
        (B, C, T, F) -> (B, filters, T, F); ``lengths`` (B,) frames of each clip, or None.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: GatedConv | ReluConv, dtype: torch.dtype, first: bool) -> None:
        super().__init__()
        weight, bias = folded(layer.convolution, layer.norm)
        self.split = first and dtype == torch.bfloat16
        if self.split:
            weight = split_weight(weight)
        innermost = torch.from_numpy(weight).to(dtype, memory_format=torch.channels_last)
        self.register_buffer("weight", innermost.to(layer.convolution.weight.device))
        self.register_buffer("bias", torch.from_numpy(bias).to(self.weight.device, dtype))
        self.padding = [size // 2 for size in weight.shape[2:]]
        self.gated = isinstance(layer, GatedConv)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        if self.split:
            inputs = split_maps(inputs)
        inside = zero_beyond(inputs.to(self.weight.dtype), lengths)
        normed = nn.functional.conv2d(inside, self.weight, self.bias, padding=self.padding)
        return nn.functional.glu(normed, dim=1) if self.gated else torch.relu_(normed)


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Lets torch use ``count`` threads in this one; what other threads use stays as it is."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
