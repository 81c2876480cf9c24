"""Eqs. 3-4: clip probabilities as weighted means of frame probabilities, and the alternatives.

Every way to pool is the same weighted mean; they differ in the weights alone:

    clip[k] = sum_t weight[t, k] * frame[t, k] / sum_t weight[t, k]

Everything is kept as a logarithm until the end, so that neither the clip probability nor its
complement is ever rounded to 0 and eq. 1 needs no clipping.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from earmark.model.masking import frame_mask, widened


class Localised(NamedTuple):
    """What the network says of a batch.

    Attributes:
        frame_logits: (B, T, K) O(t) before its sigmoid: does class k sound in frame t?
        log_weights: (B, T, K) logarithm of Z(t): how much does frame t count for class k?
            -inf beyond a clip.
        log_present: (B, K) logarithm of the clip probability of each class.
        log_absent: (B, K) logarithm of its complement.
    """

    frame_logits: Tensor
    log_weights: Tensor
    log_present: Tensor
    log_absent: Tensor

    @property
    def frame_probabilities(self) -> Tensor:
        """(B, T, K) O(t)."""
        return torch.sigmoid(self.frame_logits)

    @property
    def clip_probabilities(self) -> Tensor:
        """(B, K)."""
        return self.log_present.exp()


def pool(frame_logits: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the clip probability and of its complement, (B, K) each (eq. 4).

    Args:
        frame_logits: (B, T, K).
        log_weights: (B, T, K), -inf where a frame does not count.
    """
    log_total = torch.logsumexp(log_weights, dim=1)
    log_present = torch.logsumexp(logsigmoid(frame_logits) + log_weights, dim=1)
    log_absent = torch.logsumexp(logsigmoid(-frame_logits) + log_weights, dim=1)
    # The mean of numbers below 1 may be rounded above it.
    return (log_present - log_total).clamp(max=0.0), (log_absent - log_total).clamp(max=0.0)


def inherit(frame_logits: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the frames' log-probabilities and of their complements', (B, K) each.

    Eq. 1 of these is the mean of the frames' own cross-entropies with the clip's tags: how
    systems are trained whose frames inherit the tags of their clip.

    Args:
        frame_logits: (B, T, K).
        log_weights: (B, T, K), -inf where a frame does not count.
    """
    share = log_weights.softmax(dim=1)
    present = (share * logsigmoid(frame_logits)).sum(dim=1)
    return present, (share * logsigmoid(-frame_logits)).sum(dim=1)


def even_weights(frame_logits: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, T, K) log-weights that are the same for every frame of a clip, -inf beyond it."""
    weights = torch.zeros_like(frame_logits)
    if lengths is None:
        return weights
    beyond = ~frame_mask(lengths, frame_logits.shape[1])[:, :, None]
    return weights.masked_fill(beyond, -torch.inf)


_NO_MORE_THAN_HALF = -0.69  # just above the logarithm of a half


def one_at_a_time(logits: Tensor) -> Tensor:
    """(B, T, K) logits of frames in which one class sounds, or none: they share one probability.

    Of a softmax over the classes and 0, which stands for none, the logit of each class.
    """
    none = torch.zeros_like(logits[..., :1])
    log_share = logits - torch.cat([logits, none], dim=-1).logsumexp(dim=-1, keepdim=True)
    likeliest = logits.argmax(dim=-1, keepdim=True)
    chosen = torch.zeros_like(logits).scatter(-1, likeliest, 1.0) > 0
    # Only the likeliest has more than half, and might have so much that float32 doesn't know the
    # rest: that is summed without it.
    others = torch.cat([logits.masked_fill(chosen, -torch.inf), none], dim=-1)
    of_likeliest = logits - others.logsumexp(dim=-1, keepdim=True)
    log_share = log_share.clamp(max=_NO_MORE_THAN_HALF)
    return torch.where(chosen, of_likeliest, log_share - torch.log(1 - log_share.exp()))


class Localisation(nn.Module):
    """Frame classifier O(t), frame weights Z(t), and the clip's probabilities (eqs. 3-4).

    Only the clip is supervised; the frames are what detection reads. ``kind`` names Z:
    ``attention`` a softmax over the classes of a second dense layer, as the paper;
    ``attention_over_time`` a softmax of it over the frames; ``linear_softmax`` O itself;
    ``mean`` the same for every frame; ``max`` the surest frame alone. ``exclusive`` frames hold
    one class at most.

    Shape:
        (B, T, C) -> Localised; ``lengths`` (B,) frames of each clip, or None.
        T = 0 raises ValueError.
    """

    def __init__(self, channels: int, classes: int, kind: str, exclusive: bool = False) -> None:
        super().__init__()
        self.kind = kind
        self.exclusive = exclusive
        self.classifier = nn.Linear(channels, classes)
        self.localiser = nn.Linear(channels, classes) if kind.startswith("attention") else None

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Localised:
        if inputs.shape[1] == 0:
            raise ValueError("localisation needs at least one frame")
        frame_logits: Tensor = widened(self.classifier(inputs))
        if self.exclusive:
            frame_logits = one_at_a_time(frame_logits)
        beyond = None if lengths is None else ~frame_mask(lengths, inputs.shape[1])[:, :, None]
        log_weights = self._log_weights(inputs, frame_logits, beyond)
        if beyond is not None:
            log_weights = log_weights.masked_fill(beyond, -torch.inf)
        return Localised(frame_logits, log_weights, *pool(frame_logits, log_weights))

    def _log_weights(self, inputs: Tensor, frame_logits: Tensor, beyond: Tensor | None) -> Tensor:
        if self.localiser is not None:
            attention: Tensor = widened(self.localiser(inputs))
            # Over time, the softmax's denominator cancels in eq. 4.
            return attention.log_softmax(dim=2) if self.kind == "attention" else attention
        if self.kind == "linear_softmax":
            return logsigmoid(frame_logits)
        if self.kind == "mean":
            return torch.zeros_like(frame_logits)
        inside = frame_logits
        if beyond is not None:
            inside = frame_logits.masked_fill(beyond, -torch.inf)
        surest = inside.argmax(dim=1, keepdim=True)
        return torch.full_like(frame_logits, -torch.inf).scatter(1, surest, 0.0)
