"""The paper's unified network, wired: gated convolutions, recurrent layer, localisation."""

from itertools import islice

import torch
from torch import Tensor, nn

from earmark.config import CrnnSettings
from earmark.features import Normaliser
from earmark.model.gating import GatedConv, ReluConv
from earmark.model.localisation import Localisation, Localised
from earmark.model.masking import MaskedMaxPool, frame_mask, widened
from earmark.model.network import Network
from earmark.model.recurrent import BiGru, GatedBiGru

_QUIET = 5
"""A fifth of a clip is taken for its background."""


class GatedCRNN(Network):
    """From features to frame and clip probabilities (paper, Fig. 1).

    Its AT and SED forms differ in ``settings.time_pooling`` alone.

    Shape:
        features (B, T, F), ``lengths`` (B,) frames of each clip or None -> Localised with
        ceil(T / total time pooling) frames. T = 0 raises ValueError.
    """

    def __init__(
        self, settings: CrnnSettings, bands: int, classes: int, normaliser: Normaliser
    ) -> None:
        super().__init__(normaliser)
        self.settings = settings
        layer = GatedConv if settings.activation == "gated" else ReluConv
        self.layers = nn.ModuleList()  # of all blocks, one after another
        self.pools = nn.ModuleList()
        channels = 2 if settings.background else 1
        for filters, layers, time, frequency in zip(
            settings.filters_of_blocks,
            settings.layers_of_blocks,
            settings.time_pooling,
            settings.frequency_pooling,
            strict=True,
        ):
            for _ in range(layers):
                self.layers.append(layer(channels, filters, settings.kernel_size))
                channels = filters
            self.pools.append(MaskedMaxPool(time, frequency))
            bands = -(-bands // frequency)
        width = channels * bands
        self.recurrent: BiGru | GatedBiGru | None = None
        if settings.recurrent != "none":
            recurrent = BiGru if settings.recurrent == "gru" else GatedBiGru
            self.recurrent = recurrent(width, settings.recurrent_units)
            width = 2 * settings.recurrent_units
        self.localisation = Localisation(width, classes, settings.localisation, settings.exclusive)

    def localise(self, features: Tensor, lengths: Tensor | None) -> Localised:
        frames, lengths = self._frames(features, lengths)
        with torch.autocast(features.device.type, enabled=False):
            frames = widened(frames)
            if self.recurrent is not None:
                frames = self.recurrent(frames, lengths)
            frames = nn.functional.dropout(frames, self.settings.dropout, self.training)
            localised: Localised = self.localisation(frames, lengths)
        return localised

    def maps(self, features: Tensor, lengths: Tensor | None) -> Tensor:
        """What the first layer hears (B, C, T, F) of normalised features (B, T, F)."""
        if not self.settings.background:
            return features[:, None]
        return torch.stack([features, features - _background(features, lengths)], dim=1)

    def _frames(self, features: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Convolved features (B, T', C * F') and the clips' lengths in these frames."""
        maps = self.maps(features, lengths)
        layers = iter(self.layers)
        for count, pool in zip(self.settings.layers_of_blocks, self.pools, strict=True):
            for layer in islice(layers, count):
                maps = layer(maps, lengths)
            maps, lengths = pool(maps, lengths)
            maps = nn.functional.dropout(maps, self.settings.dropout, self.training)
        return maps.transpose(1, 2).flatten(start_dim=2), lengths


def _background(features: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, 1, F) the value of each band that a fifth of a clip's frames (B, T, F) lies below."""
    frames = features.shape[1]
    if lengths is None:
        if torch.onnx.is_in_onnx_export():  # can't write kthvalue, which is thrice as fast
            return features.sort(dim=1).values[:, frames // _QUIET][:, None]
        return features.kthvalue(frames // _QUIET + 1, dim=1, keepdim=True).values
    beyond = ~frame_mask(lengths, frames)[:, :, None]
    rising = features.masked_fill(beyond, torch.inf).sort(dim=1).values
    place = (lengths // _QUIET)[:, None, None].expand(-1, 1, features.shape[2])
    return rising.gather(1, place)
