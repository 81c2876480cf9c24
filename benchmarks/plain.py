"""The paper's network as anyone would write it: the peer of every speed of training and detection.

Eager float32 PyTorch of ready-made layers in the usual layout, with no masks, no logarithms kept
and no precision chosen. Given the weights of ours it says the same.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from earmark.model.crnn import GatedCRNN

PAPER = "gated-crnn-logmel"
"""The recipe whose network this is."""

TINY = 1e-7


class PlainNetwork(nn.Module):
    """Gated convolutions, a bidirectional GRU, and localisation (paper, Fig. 1, eqs. 2-4).

    Shape:
        features (B, T, F) -> frame probabilities (B, T', K), clip probabilities (B, K).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        classes: int,
        time_pooling: tuple[int, ...] = (1, 1, 1),
        filters: int = 64,
        bands: int = 64,
        units: int = 128,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("deviation", torch.ones(bands))
        self.bands = bands
        self.time_pooling = time_pooling
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        self.pools = nn.ModuleList()
        channels = 1
        for time in time_pooling:
            for _ in range(2):
                self.convolutions.append(nn.Conv2d(channels, 2 * filters, 3, padding=1))
                self.norms.append(nn.BatchNorm2d(2 * filters))
                channels = filters
            self.pools.append(nn.MaxPool2d((time, 2), ceil_mode=True))
            bands = -(-bands // 2)
        self.gru = nn.GRU(filters * bands, units, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(2 * units, classes)
        self.localiser = nn.Linear(2 * units, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        maps = ((features - self.mean) / self.deviation)[:, None]
        for number, (convolution, norm) in enumerate(
            zip(self.convolutions, self.norms, strict=True)
        ):
            maps = functional.glu(norm(convolution(maps)), dim=1)
            if number % 2:
                maps = self.pools[number // 2](maps)
        frames, _ = self.gru(maps.transpose(1, 2).flatten(start_dim=2))
        probabilities = torch.sigmoid(self.classifier(frames))
        weights = torch.softmax(self.localiser(frames), dim=2)
        clips = (weights * probabilities).sum(dim=1) / weights.sum(dim=1)
        return probabilities, clips

    def load_from(self, network: GatedCRNN) -> None:
        """Takes over the weights and the normaliser of ours; its shapes must be the same."""
        state = {name: torch.zeros_like(old) for name, old in self.state_dict().items()}
        state |= {"mean": network.mean, "deviation": network.deviation}
        for name, tensor in network.state_dict().items():
            part, _, rest = name.partition(".")
            if part == "layers":
                number, kind, key = rest.split(".")
                rest = f"{kind}s.{number}.{key}"
            state[rest] = tensor
        self.load_state_dict(state)


def tag_loss(clip_probabilities: Tensor, tags: Tensor) -> Tensor:
    """Mean binary cross-entropy with the tags (paper, eq. 1), both (B, K)."""
    clipped = clip_probabilities.float().clamp(TINY, 1 - TINY)
    return functional.binary_cross_entropy(clipped, tags)


@dataclass(frozen=True, slots=True)
class Work:
    """What one clip costs, going forward; a training step costs three times as much.

    Attributes:
        operations: two for each multiplication with its addition; all else is left out.
        numbers: read and written at the least: the input and the output of each layer, where norm,
            gate and pool cost nothing. The weights are left out, which a batch shares.
    """

    operations: int
    numbers: int


def work_of(network: PlainNetwork, frames: int) -> Work:
    """Counted from the shapes of the layers, for a clip of so many frames."""
    bands = network.bands
    operations = 0
    numbers = frames * bands
    for number, layer in enumerate(network.convolutions):
        assert isinstance(layer, nn.Conv2d)
        operations += 2 * frames * bands * layer.weight.numel()
        if number % 2:
            frames, bands = -(-frames // network.time_pooling[number // 2]), -(-bands // 2)
        # The gate halves the filters, and the next layer reads what this one writes.
        numbers += 2 * frames * bands * layer.out_channels // 2
    dense = (network.classifier, network.localiser)
    operations += 2 * frames * sum(layer.weight.numel() for layer in dense)
    recurrent = (values for name, values in network.gru.named_parameters() if "weight" in name)
    operations += 2 * frames * sum(values.numel() for values in recurrent)
    numbers += 2 * frames * 2 * network.gru.hidden_size
    numbers += frames * sum(layer.out_features for layer in dense)
    return Work(operations, numbers)
