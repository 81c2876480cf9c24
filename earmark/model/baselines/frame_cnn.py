"""Frame-CNN of DCASE 2017: convolutions that keep time (Chou, Jang and Yang 2017)."""

import torch
from torch import Tensor, nn

from earmark.config import FrameCnnSettings
from earmark.features import Normaliser
from earmark.model.gating import ReluConv
from earmark.model.localisation import Localised, pool
from earmark.model.masking import frame_mask, widened
from earmark.model.network import Network

REACH = 3  # a Gaussian filter ends where it has fallen to 1 % of its height


class FrameCnn(Network):
    """Frame scores smoothed by Gaussian filters; the clip's are their weighted mean.

    Shape:
        features (B, T, F), ``lengths`` (B,) frames of each clip or None -> Localised with T
        frames. T = 0 raises ValueError.
    """

    def __init__(
        self, settings: FrameCnnSettings, bands: int, classes: int, normaliser: Normaliser
    ) -> None:
        super().__init__(normaliser)
        kernel = (settings.kernel_frames, 1)
        # The bands are the first layer's channels: every filter sees the whole spectrum.
        self.layers = nn.ModuleList(
            ReluConv(bands if number == 0 else settings.filters, settings.filters, kernel)
            for number in range(settings.layers)
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.classifier = nn.Linear(settings.filters, classes)
        self.localiser = nn.Linear(settings.filters, classes)
        self.smoothing = GaussianSmoothing(settings.smoothing_frames, classes)

    def localise(self, features: Tensor, lengths: Tensor | None) -> Localised:
        maps = features.transpose(1, 2)[:, :, :, None]  # (B, F, T, 1)
        for layer in self.layers:
            maps = self.dropout(layer(maps, lengths))
        frames = widened(maps[:, :, :, 0].transpose(1, 2))  # (B, T, C)
        with torch.autocast(features.device.type, enabled=False):
            frame_logits = self.smoothing(self.classifier(frames), lengths)
            log_weights: Tensor = self.localiser(frames)
        if lengths is not None:
            beyond = ~frame_mask(lengths, frames.shape[1])[:, :, None]
            log_weights = log_weights.masked_fill(beyond, -torch.inf)
        return Localised(frame_logits, log_weights, *pool(frame_logits, log_weights))


class GaussianSmoothing(nn.Module):
    """Each class's frame scores as a learned mixture of Gaussian means of several widths.

    What lies beyond a clip has no part in a mean.

    Shape:
        (B, T, K) -> (B, T, K); ``lengths`` (B,) frames of each clip, or None.
    """

    filters: Tensor

    def __init__(self, widths_frames: tuple[float, ...], classes: int) -> None:
        super().__init__()
        reach = max(1, round(REACH * max(widths_frames)))
        places = torch.arange(-reach, reach + 1, dtype=torch.float32)
        filters = torch.stack([torch.exp(-0.5 * (places / width) ** 2) for width in widths_frames])
        filters[filters < torch.exp(torch.tensor(-0.5 * REACH**2))] = 0.0
        self.register_buffer("filters", filters[:, None], persistent=False)  # (W, 1, taps)
        self.mixture = nn.Parameter(torch.zeros(classes, len(widths_frames)))

    def forward(self, scores: Tensor, lengths: Tensor | None) -> Tensor:
        clips, frames, classes = scores.shape
        inside = scores.new_ones(clips, frames)
        if lengths is not None:
            inside = frame_mask(lengths, frames).to(scores.dtype)
        rows = (scores * inside[:, :, None]).transpose(1, 2).reshape(-1, 1, frames)  # (B * K, 1, T)
        sums = self._smoothed(rows).view(clips, classes, len(self.filters), frames)
        weights = self._smoothed(inside[:, None])[:, None]  # (B, 1, W, T)
        means = sums / weights.clamp(min=torch.finfo(scores.dtype).tiny)
        mixed: Tensor = (means * self.mixture.softmax(dim=1)[:, :, None]).sum(dim=2)
        return mixed.transpose(1, 2)

    def _smoothed(self, rows: Tensor) -> Tensor:
        return nn.functional.conv1d(rows, self.filters, padding=self.filters.shape[2] // 2)
