"""A trained network's weights for other classes: known ones keep theirs, new ones are fresh."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from earmark.config import Section
from earmark.features import Normaliser
from earmark.model.build import build


def tensors_of_classes(settings: Section, bands: int) -> frozenset[str]:
    """The weights of a network that have a row for each class, by name."""
    nothing = Normaliser(np.zeros(bands), np.ones(bands))
    with torch.device("meta"):  # has shapes, and no memory
        of_one, of_two = (
            build(settings, bands, classes, nothing).state_dict() for classes in (1, 2)
        )
    return frozenset(name for name in of_one if of_one[name].shape != of_two[name].shape)


def with_classes(
    trained: Mapping[str, Tensor],
    trained_names: Sequence[str],
    fresh: Mapping[str, Tensor],
    names: Sequence[str],
    of_classes: frozenset[str],
) -> dict[str, Tensor]:
    """The weights of a network for the classes ``names``.

    Args:
        trained: those to go on from.
        trained_names: their classes.
        fresh: those of a new network for ``names``, which new classes keep.
        names: the classes that are wanted.
        of_classes: see ``tensors_of_classes``.
    """
    known = [k for k, name in enumerate(names) if name in trained_names]
    rows = [trained_names.index(names[k]) for k in known]
    weights = {}
    for name, tensor in fresh.items():
        weights[name] = tensor.clone() if name in of_classes else trained[name].to(tensor.device)
        if name in of_classes:
            weights[name][known] = trained[name][rows].to(tensor.device)
    return weights
