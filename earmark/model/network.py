"""What every network is: features in, frame and clip probabilities out."""

import torch
from torch import Tensor, nn

from earmark.features import Normaliser
from earmark.model.localisation import Localised


class Network(nn.Module):
    """From features to frame and clip probabilities; a system says how in ``localise``.

    Shape:
        features (B, T, F), ``lengths`` (B,) frames of each clip or None -> Localised.
        T = 0 raises ValueError.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, normaliser: Normaliser) -> None:
        super().__init__()
        # Not among the weights: a model folder keeps the normaliser in its description.
        for name, values in (("mean", normaliser.mean), ("deviation", normaliser.deviation)):
            tensor = torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Localised:
        if features.shape[1] == 0:
            raise ValueError("the network needs at least one frame")
        return self.localise((features - self.mean) / self.deviation, lengths)

    def localise(self, features: Tensor, lengths: Tensor | None) -> Localised:
        """What ``forward`` gives, of normalised features."""
        raise NotImplementedError
