"""Training steps to be timed: ours as ``earmark train`` takes them, and the plain network's."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.plain import PlainNetwork, tag_loss
from earmark.config import CrnnSettings, Settings
from earmark.features import Normaliser
from earmark.model.build import build
from earmark.model.crnn import GatedCRNN
from earmark.model.network import Network
from earmark.recipes import systems
from earmark.training.devices import choose_device, choose_precision, keep_freed_memory
from earmark.training.loop import Batch, train_epoch

CLASSES = 17
CLIP_SECONDS = 10
SEED = 2017
LEAST_SECONDS = 3.0
WARM_UP_STEPS = {"cpu": 1, "cuda": 10}
STEPS_COMPARED = 2

Step = Callable[[Batch], float]


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to train the network of a recipe: ours, or the plain one with one thing changed."""

    recipe: str
    ours: bool = False
    keeps_memory: bool = False
    autocast: bool = False
    channels_last: bool = False

    @property
    def how(self) -> str:
        """In words."""
        changed = {
            ", freed memory kept": self.keeps_memory,
            ", bfloat16 autocast": self.autocast,
            ", channels last": self.channels_last,
        }
        words = "".join(word for word, does in changed.items() if does)
        return f"{'Earmark' if self.ours else 'plain'}{words}"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a batch, and how long steps are timed at the least."""

    clips: int
    frames: int
    bands: int
    least_seconds: float = LEAST_SECONDS


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of a turn.

    Attributes:
        step_seconds: the mean of the timed steps.
        losses: of the first steps, which both networks of a recipe start from the same weights.
    """

    step_seconds: float
    losses: tuple[float, ...]


def settings_of(recipe: str) -> Settings:
    """The settings of a recipe of a single system."""
    (settings,) = systems(recipe, {}).values()
    return settings


def sizes_of(settings: Settings, *, quick: bool) -> Sizes:
    """Batches as in the settings, of clips of 10 s; ``quick`` for tiny ones."""
    bands, clock = settings.features.mel_bands, settings.features.clock
    if quick:
        return Sizes(2, 16, bands, 0.0)
    frames = clock.frame_count(CLIP_SECONDS * clock.rate_hz)
    return Sizes(settings.training.batch_size, frames, bands)


def turn(contender: Contender, sizes: Sizes, device_name: str) -> Turn:
    """Trains for a few steps; changes how this process uses memory if the contender does so."""
    if device_name == "cpu" and (contender.ours or contender.keeps_memory):
        keep_freed_memory()
    device = choose_device(device_name)
    settings = settings_of(contender.recipe)
    torch.manual_seed(SEED)
    network = fresh_network(settings, sizes.bands, CLASSES)
    if contender.ours:
        step = our_step(network, settings, device)
    else:
        plain = plain_twin(network, settings)
        if contender.channels_last:
            for layer in plain.convolutions:
                layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        step = plain_step(plain, settings, device, autocast=contender.autocast)
    rng = np.random.default_rng(SEED)
    batch = Batch(
        torch.from_numpy(rng.normal(size=(sizes.clips, sizes.frames, sizes.bands)).astype("f4")),
        None,
        torch.from_numpy((rng.random((sizes.clips, CLASSES)) < 2 / CLASSES).astype("f4")),
    )
    losses = [step(batch) for _ in range(WARM_UP_STEPS[device_name])]
    taken: list[float] = []
    while not taken or sum(taken) < sizes.least_seconds:
        started = time.perf_counter()
        losses.append(step(batch))  # reading the loss waits for the device
        taken.append(time.perf_counter() - started)
    return Turn(statistics.fmean(taken), tuple(losses[:STEPS_COMPARED]))


def fresh_network(settings: Settings, bands: int, classes: int) -> Network:
    """With weights of torch's seed, for features that are normal already."""
    return build(settings.network, bands, classes, Normaliser(np.zeros(bands), np.ones(bands)))


def plain_twin(network: Network, settings: Settings) -> PlainNetwork:
    """The plain network with the weights of ours, which is a gated one."""
    how = settings.network
    assert isinstance(network, GatedCRNN)
    assert isinstance(how, CrnnSettings)
    classes = network.localisation.classifier.out_features
    bands, units = len(network.mean), how.recurrent_units
    plain = PlainNetwork(classes, how.time_pooling, how.filters[0], bands, units)
    plain.load_from(network)
    return plain


def our_step(network: Network, settings: Settings, device: torch.device) -> Step:
    """A step of the loop of ``earmark train``, set up as there; gives the loss."""
    network = network.to(device)
    optimiser = torch.optim.Adam(network.parameters(), settings.training.learning_rate)
    precision = choose_precision(settings.training.precision, device)
    return lambda batch: train_epoch(network, [batch], optimiser, precision=precision)


def plain_step(
    network: PlainNetwork, settings: Settings, device: torch.device, *, autocast: bool = False
) -> Step:
    """A step as anyone would write it; gives the loss."""
    network = network.to(device).train()
    optimiser = torch.optim.Adam(network.parameters(), settings.training.learning_rate)

    def step(batch: Batch) -> float:
        features, tags = batch.features.to(device), batch.tags.to(device)
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            _, clips = network(features)
        loss = tag_loss(clips, tags)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.item()

    return step
