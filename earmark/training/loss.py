"""Eq. 1: binary cross-entropy between clip probabilities and tags (paper, sec. 2.1)."""

from torch import Tensor


def tag_loss(
    log_present: Tensor, log_absent: Tensor, tags: Tensor, clips: int | None = None
) -> Tensor:
    """Mean binary cross-entropy over clips and classes, a scalar.

    The paper sums over the clips of a batch; a mean keeps the learning rate's meaning when the
    batch size changes. Log-probabilities come in, so nothing overflows, whatever the precision.

    Args:
        log_present: (B, K) logarithm of the clip probabilities, float32.
        log_absent: (B, K) logarithm of their complements, float32.
        tags: (B, K) 1 where the clip has the class, else 0.
        clips: of the whole batch, where these are a part of it, which may be empty: the losses of
            the parts then add up to that of the batch.
    """
    # 0 * -inf would be nan where a probability is exactly 0 or 1.
    floor = -1e4
    present = tags * log_present.clamp(min=floor)
    absent = (1 - tags) * log_absent.clamp(min=floor)
    both = present + absent
    return -both.mean() if clips is None else -both.sum() / (clips * tags.shape[1])
