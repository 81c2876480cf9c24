"""The baseline of DCASE 2017: a perceptron on a few frames at a time (Mesaros et al. 2017)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from earmark.config import ContextMlpSettings
from earmark.features import Normaliser
from earmark.model.localisation import Localised, even_weights, inherit
from earmark.model.masking import frame_mask, widened
from earmark.model.network import Network


class ContextMlp(Network):
    """Frame probabilities from the frames around them; the clip's are a vote.

    In training every frame inherits the clip's tags. A clip's probability of a class is then the
    share of its frames that are more likely than not to have it.

    Shape:
        features (B, T, F), ``lengths`` (B,) frames of each clip or None -> Localised with T
        frames. T = 0 raises ValueError.
    """

    def __init__(
        self, settings: ContextMlpSettings, bands: int, classes: int, normaliser: Normaliser
    ) -> None:
        super().__init__(normaliser)
        self.beside = settings.context_frames // 2
        widths = (settings.context_frames * bands, *settings.hidden_units)
        layers: list[nn.Module] = []
        for width, units in pairwise(widths):
            layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(settings.dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], classes))

    def localise(self, features: Tensor, lengths: Tensor | None) -> Localised:
        if lengths is not None:  # as if silence of the mean level came after each clip
            inside = frame_mask(lengths, features.shape[1])[:, :, None]
            features = features.masked_fill(~inside, 0.0)
        padded = nn.functional.pad(features, (0, 0, self.beside, self.beside))
        starts = torch.arange(features.shape[1], device=features.device)
        places = starts[:, None] + torch.arange(2 * self.beside + 1, device=features.device)
        around = padded[:, places].transpose(2, 3).flatten(start_dim=2)  # (B, T, F * 5)
        frame_logits = widened(self.layers(around))
        log_weights = even_weights(frame_logits, lengths)
        if self.training:
            return Localised(frame_logits, log_weights, *inherit(frame_logits, log_weights))
        votes = ((frame_logits > 0) * log_weights.softmax(dim=1)).sum(dim=1).clamp(max=1.0)
        return Localised(frame_logits, log_weights, torch.log(votes), torch.log1p(-votes))
