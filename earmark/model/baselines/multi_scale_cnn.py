"""CNN-ensemble of DCASE 2017: VGG-like networks on several input lengths (Lee et al. 2017)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from earmark.config import MultiScaleCnnSettings
from earmark.features import Normaliser
from earmark.model.gating import ReluConv
from earmark.model.localisation import Localised, even_weights, inherit, pool
from earmark.model.masking import MaskedMaxPool, widened
from earmark.model.network import Network


class MultiScaleCnn(Network):
    """The mean of networks that see the whole clip, or segments of it by themselves.

    In training every segment inherits the clip's tags, and the loss is the mean of the networks'
    own. A frame's probability is the mean over the networks of that of its segment, a clip's the
    mean over its frames.

    Shape:
        features (B, T, F), ``lengths`` (B,) frames of each clip or None -> Localised with T
        frames. T = 0 raises ValueError.
    """

    def __init__(
        self, settings: MultiScaleCnnSettings, bands: int, classes: int, normaliser: Normaliser
    ) -> None:
        super().__init__(normaliser)
        self.segment_frames = settings.segment_frames
        self.members = nn.ModuleList(
            _Vgg(settings.filters, settings.dropout, classes) for _ in settings.segment_frames
        )

    def localise(self, features: Tensor, lengths: Tensor | None) -> Localised:
        logits = torch.stack(
            [
                self._of_frames(member, size, features, lengths)
                for member, size in zip(self.members, self.segment_frames, strict=True)
            ]
        )  # (members, B, T, K)
        # The logit of the mean probability, by logarithms that don't round it to 0 or 1.
        frame_logits = logsigmoid(logits).logsumexp(dim=0) - logsigmoid(-logits).logsumexp(dim=0)
        log_weights = even_weights(frame_logits, lengths)
        if self.training:
            losses = [inherit(of_member, log_weights) for of_member in logits]
            present, absent = (torch.stack(side).mean(dim=0) for side in zip(*losses, strict=True))
            return Localised(frame_logits, log_weights, present, absent)
        return Localised(frame_logits, log_weights, *pool(frame_logits, log_weights))

    @staticmethod
    def _of_frames(
        member: nn.Module, size: int, features: Tensor, lengths: Tensor | None
    ) -> Tensor:
        """(B, T, K) logits of the segment of ``size`` frames in which each frame lies.

        A size of 0 is the whole clip.
        """
        clips, frames, bands = features.shape
        if not size:
            of_clips: Tensor = member(features, lengths)
            return of_clips[:, None].expand(-1, frames, -1)
        count = (frames + size - 1) // size
        # A trace has to hold for all lengths, not for multiples of the size alone.
        if lengths is None and (torch.onnx.is_in_onnx_export() or frames % size):
            lengths = torch.full((clips,), frames, device=features.device)
        padded = nn.functional.pad(features, (0, 0, 0, count * size - frames))
        segments = padded.reshape(clips * count, size, bands)
        if lengths is None:
            logits = member(segments, None)
        else:
            starts = torch.arange(count, device=features.device) * size
            inside = (lengths[:, None] - starts).clamp(min=0, max=size).flatten()
            there = inside > 0
            of_there = member(segments[there], inside[there])
            logits = of_there.new_zeros(clips * count, of_there.shape[1])
            logits[there] = of_there
        of_segments = logits.reshape(clips, count, logits.shape[1])
        of_frames: Tensor = of_segments.repeat_interleave(size, dim=1)
        return of_frames[:, :frames]


class _Vgg(nn.Module):
    """Blocks of two convolutions and a pooling, then one vector a segment, then its classes.

    Shape:
        (N, T, F) -> (N, K) logits; ``lengths`` (N,) frames of each segment, at least 1, or None.
    """

    def __init__(self, filters: tuple[int, ...], dropout: float, classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        channels = 1
        for of_block in filters:
            self.layers.append(ReluConv(channels, of_block, 3))
            self.layers.append(ReluConv(of_block, of_block, 3))
            channels = of_block
        self.pool = MaskedMaxPool(2, 2)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * channels, classes)

    def forward(self, segments: Tensor, lengths: Tensor | None) -> Tensor:
        maps = segments[:, None]  # (N, 1, T, F)
        for number, layer in enumerate(self.layers):
            maps = layer(maps, lengths)
            if number % 2 == 1:
                maps, lengths = self.pool(maps, lengths)
        with torch.autocast(segments.device.type, enabled=False):
            frames = widened(maps).mean(dim=3).transpose(1, 2)  # (N, T', C)
            if lengths is None:
                mean, largest = frames.mean(dim=1), frames.amax(dim=1)
            else:  # beyond a segment there are zeros, and no value is below
                mean = frames.sum(dim=1) / lengths[:, None]
                largest = frames.amax(dim=1)
            logits: Tensor = self.classifier(self.dropout(torch.cat([mean, largest], dim=1)))
        return logits
