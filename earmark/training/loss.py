"""Eq. 1: binary cross-entropy between clip probabilities and tags (paper, sec. 2.1)."""

import torch
from torch import Tensor


def tag_loss(
    log_present: Tensor,
    log_absent: Tensor,
    tags: Tensor,
    known: Tensor | None = None,
    cells: int | None = None,
) -> Tensor:
    """Mean binary cross-entropy over clips and classes, a scalar.

    The paper sums over the clips of a batch; a mean keeps the learning rate's meaning when the
    batch size changes. Log-probabilities come in, so nothing overflows, whatever the precision.

    Args:
        log_present: (B, K) logarithm of the clip probabilities, float32; or (B, T, K) of frames,
            and all else with them.
        log_absent: (B, K) logarithm of their complements, float32.
        tags: (B, K) 1 where the clip has the class, else 0.
        known: (B, K) 1 where it is known whether the clip has the class, else 0, which doesn't
            count; all is known without. Where nothing is, the loss is 0.
        cells: how many of clip and class count in the whole batch, where these are a part of it,
            which may be empty: the losses of the parts then add up to that of the batch.
    """
    # 0 * -inf would be nan where a probability is exactly 0 or 1.
    floor = -1e4
    present = tags * log_present.clamp(min=floor)
    absent = (1 - tags) * log_absent.clamp(min=floor)
    both = present + absent
    if known is None:
        return -both.mean() if cells is None else -both.sum() / cells
    count = known.sum() if cells is None else torch.tensor(float(cells), device=known.device)
    return -(both * known).sum() / count.clamp(min=1.0)
