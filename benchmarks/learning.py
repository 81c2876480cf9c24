"""Whether ours and the plain network learn alike: their losses, step by step, on a made set."""

import sys
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.steps import (
    CLASSES,
    Sizes,
    fresh_network,
    our_step,
    plain_step,
    plain_twin,
    settings_of,
    sizes_of,
)
from earmark.config import CrnnSettings
from earmark.training.devices import choose_device, choose_precision
from earmark.training.loop import Batch

STEPS, SEEDS, BLOCKS = 300, 5, 12
SMALL_FILTERS, SMALL_CLASSES = 16, 6
SMALL_SIZES = Sizes(clips=16, frames=40, bands=16)

Losses = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curves:
    """Losses of steps, (seeds, steps) each, and what was trained, in words."""

    ours: Losses
    plain: Losses
    what: str


def learnt(recipe: str, steps: int, seeds: int, device_name: str, *, full: bool) -> Curves:
    """Trains both from the same weights on the same batches, once for each seed.

    Args:
        recipe: of a gated network.
        steps: of each.
        seeds: of weights and batches; at least two, to know what they change.
        device_name: cpu or cuda.
        full: the network of the recipe and clips of 10 s, instead of small ones.
    """
    device = choose_device(device_name)
    settings = settings_of(recipe)
    how = settings.network
    assert isinstance(how, CrnnSettings)
    classes, sizes = CLASSES, sizes_of(settings, quick=False)
    if not full:
        how = how.model_copy(update={"filters": (SMALL_FILTERS,)})
        settings = settings.model_copy(update={"network": how})
        classes, sizes = SMALL_CLASSES, SMALL_SIZES
    ours, plain = np.zeros((seeds, steps)), np.zeros((seeds, steps))
    for seed in range(seeds):
        print(f"{device_name}, learning with seed {seed} ...", file=sys.stderr, flush=True)
        torch.manual_seed(seed)
        network = fresh_network(settings, sizes.bands, classes)
        their_step = plain_step(plain_twin(network, settings), settings, device)
        own_step = our_step(network, settings, device)
        rng = np.random.default_rng(seed)
        for number in range(steps):
            batch = made_batch(rng, sizes, classes)
            ours[seed, number] = own_step(batch)
            plain[seed, number] = their_step(batch)
    precision = choose_precision(settings.training.precision, device)
    what = (
        f"{steps} steps of batches of {sizes.clips} made clips of {sizes.frames} x {sizes.bands}, "
        f"{classes} classes, {how.filters[0]} filters, ours in {precision}"
    )
    return Curves(ours, plain, what)


def made_batch(rng: np.random.Generator, sizes: Sizes, classes: int) -> Batch:
    """Noise, in which each class of a clip raises bands of its own for a while."""
    tags = rng.random((sizes.clips, classes)) < 2 / classes
    features = rng.normal(size=(sizes.clips, sizes.frames, sizes.bands)).astype("f4")
    edges = np.linspace(0, sizes.bands, classes + 1).round().astype(int)
    lasting = sizes.frames // 4
    for clip, label in np.argwhere(tags):
        start = rng.integers(0, sizes.frames - lasting + 1)
        features[clip, start : start + lasting, edges[label] : edges[label + 1]] += 2
    return Batch(torch.from_numpy(features), None, torch.from_numpy(tags.astype("f4")))


def verdict(curves: Curves) -> str:
    """How far the means over the seeds lie apart, in words."""
    ours, plain = _in_blocks(curves.ours), _in_blocks(curves.plain)
    gap = np.abs(ours.mean(axis=0) - plain.mean(axis=0))
    spread = plain.std(axis=0, ddof=1)
    worst = int((gap / spread).argmax())
    seeds, blocks = ours.shape
    within = "within" if gap[worst] <= spread[worst] else "beyond"
    return (
        f"Learning: {curves.what}; {seeds} seeds, for each of which both start from the same "
        f"weights and see the same batches. From the first to the last of {blocks} blocks of "
        f"steps, the mean loss went from {ours[:, 0].mean():.4f} to {ours[:, -1].mean():.4f} for "
        f"ours and from {plain[:, 0].mean():.4f} to {plain[:, -1].mean():.4f} for the plain "
        f"network. The means over the seeds differ by {gap.max():.4f} at most; where the "
        f"difference is largest against the standard deviation between the plain network's seeds, "
        f"it is {gap[worst] / spread[worst]:.2f} of it ({gap[worst]:.4f} of {spread[worst]:.4f}): "
        f"{within} seed noise."
    )


def _in_blocks(losses: Losses) -> Losses:
    """(seeds, blocks) means of consecutive steps."""
    parts = np.array_split(losses, min(BLOCKS, losses.shape[1]), axis=1)
    return np.stack([part.mean(axis=1) for part in parts], axis=1)
