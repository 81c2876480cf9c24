"""Which clips make the next batch: balanced over the classes, or plain shuffled (paper, 2.2)."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def class_weights(counts: NDArray[np.int64], ratio: float) -> NDArray[np.float64]:
    """How often each class is drawn, relative to the rarest one.

    Weight of class k: (n_k / n_min) ** a with a = min(1, ln ratio / ln(n_max / n_min)), so that
    the most frequent class is drawn at most ``ratio`` times as often as the rarest, and the
    order of the classes stays. A class without clips is never drawn.

    >>> class_weights(np.array([100, 10_000]), ratio=5).round(9).tolist()
    [1.0, 5.0]
    """
    present = counts > 0
    weights = np.zeros(len(counts))
    if present.any():
        relative = counts[present] / counts[present].min()
        spread = math.log(relative.max())
        power = min(1.0, math.log(ratio) / spread) if spread > 0 else 1.0
        weights[present] = relative**power
    return weights


class _Deck:
    """Clips in random order, all of them used before any comes again."""

    def __init__(self, members: NDArray[np.int64], rng: np.random.Generator) -> None:
        self._members = members
        self._rng = rng
        self._order = members
        self._left = 0

    def draw(self) -> int:
        if not self._left:
            self._order = self._rng.permutation(self._members)
            self._left = len(self._order)
        self._left -= 1
        return int(self._order[self._left])


class BalancedSampler:
    """Batches in which the most frequent class comes at most ``ratio`` times as often as the
    rarest (paper, sec. 2.2).

    A batch draws a class for each of its places, then the next clip of that class's shuffled
    list. Clips without tags form one more list, drawn at their natural share. A drawn clip
    brings its other tags along, so the positives of a batch are less balanced than its draws.

    Args:
        tags: (N, K) True where clip n has class k, as an array or a sparse one; of millions of
            clips only the sparse one is small.
        batch_size: clips in every batch; there is never a short one.
        ratio: most to least frequent draws, at least 1 (1 is uniform).
        seed: the same seed gives the same batches.

    Attributes:
        draw_probabilities: (K + 1,) of each class's list, and of the clips without tags.
        positive_shares: (K,) of a batch's clips that have each class, on average.
    """

    def __init__(
        self, tags: NDArray[np.bool_] | sparse.csr_array, batch_size: int, ratio: float, seed: int
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self.batch_size = batch_size
        positives = sparse.csc_array(tags, dtype=np.int64)
        clips, classes = positives.shape
        self.batches_per_epoch = math.ceil(clips / batch_size)
        untagged = np.flatnonzero(np.bincount(positives.indices, minlength=clips) == 0)
        counts = np.diff(positives.indptr).astype(np.int64)
        weights = class_weights(counts, ratio)
        share = len(untagged) / clips
        shares = weights / max(weights.sum(), 1e-12) * (1 - share)
        self.draw_probabilities = np.append(shares, share)
        members = [*np.split(positives.indices, positives.indptr[1:-1])[:classes], untagged]
        self._decks = [_Deck(numbers, self._rng) for numbers in members]
        # How likely each clip is for a place, and by that each of its classes.
        of_clip = positives @ (shares / np.maximum(counts, 1))
        self.positive_shares = positives.T @ of_clip

    def epoch(self) -> Iterator[NDArray[np.int64]]:
        """The clip numbers (B,) of each batch of the next epoch."""
        for _ in range(self.batches_per_epoch):
            lists = self._rng.choice(
                len(self._decks), size=self.batch_size, p=self.draw_probabilities
            )
            yield np.array([self._decks[k].draw() for k in lists])


class ShuffledSampler:
    """Batches of clips in random order, each clip once before any comes again.

    Args:
        clips: N.
        batch_size: clips in every batch; there is never a short one.
        seed: the same seed gives the same batches.
    """

    def __init__(self, clips: int, batch_size: int, seed: int) -> None:
        self.batch_size = batch_size
        self.batches_per_epoch = math.ceil(clips / batch_size)
        self._deck = _Deck(np.arange(clips), np.random.default_rng(seed))

    def epoch(self) -> Iterator[NDArray[np.int64]]:
        """The clip numbers (B,) of each batch of the next epoch."""
        for _ in range(self.batches_per_epoch):
            yield np.array([self._deck.draw() for _ in range(self.batch_size)])
