"""A trained model that another training starts from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from earmark.config import ClassCalibration, ClassDecoding, Settings, merge, settings_from
from earmark.data.check.classes import folded
from earmark.errors import UserError
from earmark.features import Normaliser
from earmark.formats.tables import digest
from earmark.model.bundle import Description, load
from earmark.model.hub import fetched, on_hub
from earmark.model.network import Network
from earmark.model.transfer import tensors_of_classes, with_classes
from earmark.tasks.progress import say

SLOWER = 3
"""By how much the learning rate falls of a model that starts with weights that have learnt.

Learning 20 steps from 8 clips of synthetic sounds, two models that knew their classes came from
an mAP of 0.914 and 0.944 to 0.943 and 0.968 at a third of their rate, to 0.940 and 0.949 at a
tenth, and to 0.928 and 0.958 at all of it, which after 80 steps made the first one worse than it
was; fresh ones had 0.56 and 0.57. Of classes that are new to a model all of it is better: 0.79,
against 0.71 at a third.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """A model to start from.

    Attributes:
        name: of its folder.
        digest: the SHA-256 of its weights.
        description: of the model.
        weights: of the last of its epochs.
    """

    name: str
    digest: str
    description: Description
    weights: dict[str, Tensor]

    @property
    def normaliser(self) -> Normaliser:
        """What its weights are used to."""
        of_bands = self.description.normaliser
        return Normaliser(np.array(of_bands.mean), np.array(of_bands.deviation))

    def settings(self, own: Mapping[str, Any]) -> Settings:
        """Its settings with a lower learning rate, and settings of one's own.

        Raises:
            UserError: features or network would be others than those that its weights are for.
        """
        base = self.description.settings.model_dump(mode="json")
        for section in ("features", "network"):
            for key, value in own.get(section, {}).items():
                if key in base[section] and _listed(base[section][key]) != _listed(value):
                    raise UserError(
                        f"with --from, features and network are the model's: {section}.{key} is "
                        f"{base[section][key]}, came as {value}; leave it out, or train without "
                        "--from"
                    )
        rate = base["training"]["learning_rate"]
        if not self.description.training.started_from:  # else it has fallen already
            rate /= SLOWER
        base["training"]["learning_rate"] = rate
        base["tuning"]["max_false_events_per_hour"] = None  # of recordings that aren't here
        return settings_from(merge(base, own))

    def weights_for(self, network: Network, names: Sequence[str]) -> dict[str, Tensor]:
        """Its weights, and of new classes a fresh network's, for the classes ``names``."""
        of_model, settings = self.description.class_names, self.description.settings
        of_classes = tensors_of_classes(settings.network, settings.features.mel_bands)
        fresh = network.state_dict()
        return with_classes(self.weights, of_model, fresh, names, of_classes)

    def share_of_new(self, names: Sequence[str]) -> float:
        """How many of the classes ``names`` it doesn't know, in [0, 1]."""
        return len({*names} - {*self.description.class_names}) / len(names)

    def rules_for(self, names: Sequence[str]) -> dict[int, ClassDecoding]:
        """How it decides on those of the classes ``names`` that it knows, by their numbers."""
        of_model = self.description.class_names
        return {
            k: self.description.decoding[of_model.index(name)]
            for k, name in enumerate(names)
            if name in of_model
        }

    def calibration_for(self, names: Sequence[str]) -> dict[int, ClassCalibration]:
        """What those rules are for, likewise."""
        classes = dict(
            zip(self.description.class_names, self.description.calibration.classes, strict=False)
        )
        return {k: classes[name] for k, name in enumerate(names) if name in classes}

    def licence_with(self, licence: str) -> str:
        """The licences of all that was learnt from."""
        return "; ".join(sorted({licence, self.description.licence_of_training_data}))

    def twins(self, names: Sequence[str]) -> dict[str, str]:
        """New classes that the model only writes in another way, with how it does.

        Raises:
            UserError: a class would be there twice, as it is written here and in the model.
        """
        of_model = self.description.class_names
        written = {folded(name): name for name in of_model}
        new = [name for name in names if name not in of_model]
        found = {name: written[folded(name)] for name in new if folded(name) in written}
        for name, own in found.items():
            if own in names:
                raise UserError(
                    f"'{name}' is '{own}' in {self.name}, and the model would have both: write it "
                    "so in the labels"
                )
        return found

    def say_classes(self, names: Sequence[str]) -> None:
        """Says which classes it brings along, and which not."""
        of_model = self.description.class_names
        known = [name for name in names if name in of_model]
        new = [name for name in names if name not in of_model]
        dropped = [name for name in of_model if name not in names]
        say(f"starting from {self.name}: knows {', '.join(known) or 'none of these classes'}")
        for name, own in self.twins(names).items():
            say(f"'{name}' is '{own}' in {self.name}: write it so to go on from it")
        if new:
            say(f"learns anew: {', '.join(new)}")
        if dropped:
            say(f"drops, as no clip has them (--keep-classes keeps them): {', '.join(dropped)}")


def _listed(value: Any) -> Any:
    """Where a list may stand, a single value is a list of one."""
    return value if isinstance(value, list) else [value]


def read_start(model: Path) -> Start:
    """A model folder to start from.

    Raises:
        UserError: it is none, a damaged one, or a fused one, which has no weights of its own.
    """
    bundle = load(model)
    # Of averaged epochs, the one that has learnt longest.
    weights = bundle.networks[-1].state_dict()
    folder = fetched(model)
    name = str(model) if on_hub(model) else folder.resolve().name
    return Start(name, digest(folder / "model.safetensors"), bundle.description, weights)
