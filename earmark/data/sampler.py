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
        min_clips: how many an epoch has at least.

    Attributes:
        draw_probabilities: (K + 1,) of each class's list, and of the clips without tags.
        positive_shares: (K,) of a batch's clips that have each class, on average.
    """

    def __init__(
        self,
        tags: NDArray[np.bool_] | sparse.csr_array,
        batch_size: int,
        ratio: float,
        seed: int,
        min_clips: int = 1,
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self.batch_size = batch_size
        positives = sparse.csc_array(tags, dtype=np.int64)
        clips, classes = positives.shape
        self.batches_per_epoch = math.ceil(max(clips, min_clips) / batch_size)
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
        min_clips: how many an epoch has at least.
    """

    def __init__(self, clips: int, batch_size: int, seed: int, min_clips: int = 1) -> None:
        self.batch_size = batch_size
        self.batches_per_epoch = math.ceil(max(clips, min_clips) / batch_size)
        self._deck = _Deck(np.arange(clips), np.random.default_rng(seed))

    def epoch(self) -> Iterator[NDArray[np.int64]]:
        """The clip numbers (B,) of each batch of the next epoch."""
        for _ in range(self.batches_per_epoch):
            yield np.array([self._deck.draw() for _ in range(self.batch_size)])


class ShardedSampler:
    """Batches from a few open shards at a time, with the weights of the whole set.

    An epoch goes through the shards in a new random order, a window of ``open_shards`` of them at
    a time, which moves on by one and round to the start again: each shard is open equally long. A
    place of a batch draws a class as ``BalancedSampler`` does, among those that are open; then a
    shard, by how many clips of that class it has; then the next of the shuffled list of that
    class in that shard. Where all shards can be open, use ``BalancedSampler``.

    Args:
        tags: (N, K) True where clip n has class k.
        shard_of: (N,) the shard of each clip.
        open_shards: fewer than there are shards.
        batch_size: clips in every batch; there is never a short one.
        ratio: most to least frequent draws; None draws every clip alike.
        seed: the same seed gives the same batches.
        min_clips: how many an epoch has at least.

    Attributes:
        draw_probabilities, positive_shares: as of ``BalancedSampler``, of the whole set.
        open: the shards that the next batch is of, and then the one that comes next, if any.
    """

    def __init__(
        self,
        tags: sparse.csr_array,
        shard_of: NDArray[np.int32],
        open_shards: int,
        batch_size: int,
        ratio: float | None,
        seed: int,
        min_clips: int = 1,
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self.batch_size = batch_size
        clips = tags.shape[0]
        self.batches_per_epoch = math.ceil(max(clips, min_clips) / batch_size)
        if ratio is None:
            tags = sparse.csr_array((clips, 0), dtype=np.bool_)
        whole = BalancedSampler(tags, batch_size, 1.0 if ratio is None else ratio, seed)
        self.draw_probabilities = whole.draw_probabilities
        self.positive_shares = whole.positive_shares
        self._most = open_shards
        self._shards = np.unique(shard_of)
        sizes = np.bincount(shard_of)
        self._sizes = {shard: int(sizes[shard]) for shard in self._shards.tolist()}
        self._decks: list[dict[int, _Deck]] = []
        self._counts: list[dict[int, int]] = []
        columns = sparse.csc_array(tags)
        lists = [*np.split(columns.indices, columns.indptr[1:-1])[: tags.shape[1]]]
        lists.append(np.flatnonzero(np.diff(sparse.csr_array(tags).indptr) == 0))
        for numbers in lists:
            of_list = shard_of[numbers]
            parts = {int(s): numbers[of_list == s] for s in np.unique(of_list)}
            self._decks.append({s: _Deck(part, self._rng) for s, part in parts.items()})
            self._counts.append({s: len(part) for s, part in parts.items()})
        self.open: tuple[int, ...] = ()

    def epoch(self) -> Iterator[NDArray[np.int64]]:
        """The clip numbers (B,) of each batch of the next epoch."""
        order = self._rng.permutation(self._shards).tolist()
        clips = sum(self._sizes.values())
        passed = done = 0
        for first, leaving in enumerate(order):
            window = [order[(first + n) % len(order)] for n in range(self._most)]
            coming = [order[(first + self._most) % len(order)]] if first + 1 < len(order) else []
            passed += self._sizes[leaving]
            until = self.batches_per_epoch * passed // clips
            if until > done:
                self.open = (*window, *coming)
                choices, shares = self._lists(window)
                while done < until:
                    done += 1
                    drawn = self._rng.choice(len(choices), size=self.batch_size, p=shares)
                    yield np.array([choices[number].draw() for number in drawn])

    def _lists(self, window: list[int]) -> tuple[list[_Deck], NDArray[np.float64]]:
        """The lists of classes and open shards, and how likely each is drawn."""
        choices, shares = [], []
        for decks, counts, share in zip(
            self._decks, self._counts, self.draw_probabilities.tolist(), strict=True
        ):
            there = [shard for shard in window if shard in decks]
            of_all = sum(counts[shard] for shard in there)
            for shard in there:
                choices.append(decks[shard])
                shares.append(share * counts[shard] / of_all)
        found = np.array(shares)
        if not found.sum():  # of what is open nothing would be drawn
            found = np.ones(len(shares))
        return choices, found / found.sum()
