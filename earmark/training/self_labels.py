"""What a network hears in the frames of its training clips, as labels for a training to follow.

Tags say that a class is in a clip and not where; a network that has learnt from them knows a good
part of the rest. Told as labels of the frames, this teaches more than the tags alone: self-training
with pseudo strong labels (arXiv 2501.03740).
"""

import torch
from torch import Tensor

from earmark.data.augment import Augmentation
from earmark.model.masking import frame_mask
from earmark.model.network import Network
from earmark.training.loop import FrameLabels

LEAST_SHARE = 0.05
"""A frame holds a class whose probability is this share of the class's highest in the clip.

Pooled by itself, a frame that doesn't count stays near 0, while an undecided one counts.
"""


@torch.inference_mode()
def frame_labels(
    teacher: Network,
    features: Tensor,
    lengths: Tensor | None,
    tags: Tensor,
    *,
    to_one: int,
    precision: str,
) -> Tensor:
    """(B, T', K) 1 where the teacher hears a class that the clip has, else 0.

    Args:
        teacher: features (B, T, F) -> T' frames.
        features: (B, T, F) on the device of the teacher.
        lengths: (B,) frames of each clip, or None where all clips fill the batch.
        tags: (B, K) 0 or 1.
        to_one: frames of the features in one of the output.
        precision: of the convolutions, as in training.
    """
    teacher.eval()
    with torch.autocast(features.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        heard = teacher(features, lengths).frame_probabilities * tags[:, None, :]
    inside = _inside(lengths, to_one, heard.shape[1])
    if inside is not None:
        heard = heard * inside[:, :, None]
    highest = heard.amax(dim=1, keepdim=True)
    labels: Tensor = (heard >= LEAST_SHARE * highest) & (heard > 0)
    return labels.float()


def changed_with_frames(
    augment: Augmentation,
    features: Tensor,
    lengths: Tensor | None,
    tags: Tensor,
    known: Tensor | None,
    heard: Tensor,
    *,
    to_one: int,
) -> tuple[Tensor, Tensor, Tensor | None, FrameLabels]:
    """What ``augment`` makes of clips, and of the labels of their frames, (B, T', K) ``heard``.

    These follow a clip into a mixture as its tags do, frame by frame: to the augmentation they are
    tags like others.
    """
    classes = tags.shape[1]
    labels = torch.cat([tags, heard.flatten(1)], dim=1)
    told = None
    if known is not None:
        told = torch.cat([known, known[:, None, :].expand_as(heard).flatten(1)], dim=1)
    changed, labels, told = augment(features, lengths, labels, told)
    inside = _inside(lengths, to_one, heard.shape[1])
    of_frames = None if inside is None else inside[:, :, None].expand_as(heard).float()
    if told is not None:
        known, own = told[:, :classes], told[:, classes:].reshape(heard.shape)
        of_frames = own if of_frames is None else own * of_frames
    values = FrameLabels(labels[:, classes:].reshape(heard.shape), of_frames)
    return changed, labels[:, :classes], known, values


def _inside(lengths: Tensor | None, to_one: int, frames: int) -> Tensor | None:
    """(B, T') which of the output's frames lie inside their clip, None where all do."""
    return None if lengths is None else frame_mask(-(-lengths // to_one), frames)
