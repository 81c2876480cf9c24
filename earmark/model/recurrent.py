"""The recurrent layer: what a frame means given the frames around it (paper, sec. 2.1)."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class BiGru(nn.Module):
    """One bidirectional GRU that skips what lies beyond a clip.

    Shape:
        (B, T, C) -> (B, T, 2 * units); ``lengths`` (B,) frames of each clip, or None.
    """

    def __init__(self, channels: int, units: int) -> None:
        super().__init__()
        self.gru = nn.GRU(channels, units, batch_first=True, bidirectional=True)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            outputs: Tensor = self.gru(inputs)[0]
            return outputs
        packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(
            self.gru(packed)[0], batch_first=True, total_length=inputs.shape[1]
        )[0]


class GatedBiGru(nn.Module):
    """A BiGRU let through by the sigmoid of a second one (the paper's released code).

    Shape:
        (B, T, C) -> (B, T, 2 * units); ``lengths`` (B,) frames of each clip, or None.
    """

    def __init__(self, channels: int, units: int) -> None:
        super().__init__()
        self.value = BiGru(channels, units)
        self.gate = BiGru(channels, units)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        value: Tensor = self.value(inputs, lengths)
        return value * torch.sigmoid(self.gate(inputs, lengths))
