"""Training clips changed at random, so that a network hears more than what was recorded."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from earmark.config import AugmentationSettings

_A_DECIBEL = math.log(10) / 20  # of the logarithms of magnitudes that features are


class Augmentation:
    """Changes log mel features, and tags with them, as the settings say.

    Args:
        settings: each of which does nothing at its default.
        generator: what is drawn from.
    """

    def __init__(self, settings: AugmentationSettings, generator: torch.Generator) -> None:
        self.settings = settings
        self._generator = generator

    def __call__(
        self, features: Tensor, lengths: Tensor | None, tags: Tensor, known: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Other features, tags, and what is known of these; lengths stay, and so do shapes.

        All but ``turned``, which comes before it, so that frames can be labelled between. Tags may
        be of frames, too: each is a label of its own.

        Args:
            features: (B, T, F) logarithms of magnitudes.
            lengths: (B,) frames of each clip, or None where all clips fill the batch.
            tags: (B, K) 0 or 1.
            known: (B, K) 1 where a tag is known, else 0; None where all are.
        """
        settings, clips = self.settings, len(features)
        if not clips:
            return features, tags, known
        if lengths is None:
            lengths = _full(features)
        if settings.pitch_bands or settings.pitch_stretch:
            features = self._pitched(features)
        if settings.filter_db:
            features = features + self._curves(features) * _A_DECIBEL
        if settings.level_db:
            features = features + self._even(settings.level_db, clips, 1, 1) * _A_DECIBEL
        if settings.mixed_share:
            features, tags, known = self._mixed(features, lengths, tags, known)
        return features, tags, known

    def _even(self, most: float, *shape: int) -> Tensor:
        """Numbers of equal chance in [-most, most)."""
        return most * (2 * torch.rand(shape, generator=self._generator) - 1)

    def turned(self, features: Tensor, lengths: Tensor | None) -> Tensor:
        """Clips (B, T, F) turned in time: what leaves at the end comes in at the start."""
        clips, frames, bands = features.shape
        if not (self.settings.shift and clips):
            return features
        if lengths is None:
            lengths = _full(features)
        by = (torch.rand(clips, generator=self._generator) * lengths).long()[:, None]
        places = torch.arange(frames).expand(clips, frames)
        turned = (places - by) % lengths.clamp(min=1)[:, None]
        taken = torch.where(places < lengths[:, None], turned, places)
        return features.gather(1, taken[:, :, None].expand(clips, frames, bands))

    def _pitched(self, features: Tensor) -> Tensor:
        """Clips whose bands are moved and spread, straight between them."""
        clips, frames, bands = features.shape
        spread = 1 + self._even(self.settings.pitch_stretch, clips, 1)
        at = torch.arange(bands) * spread + self._even(self.settings.pitch_bands, clips, 1)
        at = at.clamp(0, bands - 1)
        below = at.long()
        above = (below + 1).clamp(max=bands - 1)

        def taken(band: Tensor) -> Tensor:
            return features.gather(2, band[:, None, :].expand(clips, frames, bands))

        return torch.lerp(taken(below), taken(above), (at - below)[:, None, :])

    def _curves(self, features: Tensor) -> Tensor:
        """(B, 1, F) decibels, straight between a few bands."""
        clips, _, bands = features.shape
        knots = int(torch.randint(3, 8, (), generator=self._generator))
        drawn = self._even(self.settings.filter_db, clips, 1, knots)
        return functional.interpolate(drawn, size=bands, mode="linear", align_corners=True)

    def _mixed(
        self, features: Tensor, lengths: Tensor, tags: Tensor, known: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Some clips sound together with another one, and have the tags of both."""
        clips, frames, _ = features.shape
        other = torch.randperm(clips, generator=self._generator)
        chosen = torch.rand(clips, generator=self._generator) < self.settings.mixed_share
        chosen &= lengths[other] <= lengths  # a clip that is cut might lose what its tags are of
        added = features[other] + self._even(self.settings.mixed_db, clips, 1, 1) * _A_DECIBEL
        inside = chosen[:, None] & (torch.arange(frames) < lengths[other][:, None])
        features = torch.where(inside[:, :, None], torch.logaddexp(features, added), features)
        both = torch.maximum(tags, tags[other])
        if known is not None:  # a tag that one has is known of both, else what is known of both
            of_both = torch.where(both > 0, both, known * known[other])
            known = torch.where(chosen[:, None], of_both, known)
        return features, torch.where(chosen[:, None], both, tags), known


def _full(features: Tensor) -> Tensor:
    return torch.full((len(features),), features.shape[1])
