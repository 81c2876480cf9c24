"""The course of a training: how fast each step learns, and which weights are kept of all steps."""

import copy
import math

import torch

from earmark.config import TrainingSettings
from earmark.model.network import Network

_RISE = 0.05
"""The share of the steps over which the learning rate rises, where it is to fall later."""

_REACH = 0.1
"""How far back the average of the weights reaches at most, as a share of the steps so far."""


def share_of_rate(step: int, steps: int, schedule: str) -> float:
    """How much of the learning rate the given one of ``steps`` steps has, the first being 0.

    >>> [round(share_of_rate(n, 100, "cosine"), 3) for n in (0, 4, 50, 99)]
    [0.2, 0.996, 0.5, 0.0]
    """
    if schedule == "constant":
        return 1.0
    rise = min(1.0, (step + 1) / (_RISE * steps))
    return rise * (1 + math.cos(math.pi * step / steps)) / 2


class Course:
    """Sets the learning rate of every step, and averages the weights after it.

    Epochs in which frames are labelled have a course of their own, which starts from the weights
    that the first one has led to; these stay their teacher.

    Args:
        network: learns.
        optimiser: of its weights.
        settings: learning rate, schedule, average and epochs.
        steps_per_epoch: how many.

    Attributes:
        averaged: a network with an exponential moving average of the weights and of batch norm's
            statistics; None if the last ones are kept.
        teacher: the network that labels frames, once there is one.
    """

    def __init__(
        self,
        network: Network,
        optimiser: torch.optim.Optimizer,
        settings: TrainingSettings,
        steps_per_epoch: int,
    ) -> None:
        self._network = network
        self._optimiser = optimiser
        self._settings = settings
        self._steps_per_epoch = steps_per_epoch
        self._done = 0
        self._start = 0  # the step that the course with a teacher began with
        self.averaged: Network | None = None
        self.teacher: Network | None = None
        if settings.average_decay:
            self.averaged = copy.deepcopy(network).requires_grad_(False).eval()
        self.goes_on_after(0)

    @property
    def kept(self) -> Network:
        """The network that is kept of all."""
        return self._network if self.averaged is None else self.averaged

    def goes_on_after(self, epochs: int) -> None:
        """Takes up the course where so many epochs have led; what they had is put back after it."""
        self._done = epochs * self._steps_per_epoch
        if epochs > self._settings.tag_epochs:
            self._start = self._settings.tag_epochs * self._steps_per_epoch
            self.teacher = copy.deepcopy(self.kept)
        self._set_rate()

    def begins(self, epoch: int) -> None:
        """To be called before an epoch, the first of which is 1."""
        if epoch == self._settings.tag_epochs + 1:
            self._start = self._done
            self.teacher = copy.deepcopy(self.kept).requires_grad_(False).eval()
            self._network.load_state_dict(self.teacher.state_dict())
            self._set_rate()

    def after_step(self) -> None:
        """To be called after every step."""
        self._done += 1
        self._average()
        self._set_rate()

    def _set_rate(self) -> None:
        settings = self._settings
        of_tags = settings.tag_epochs
        epochs = of_tags if self.teacher is None else settings.epochs - of_tags
        steps = epochs * self._steps_per_epoch
        share = share_of_rate(self._done - self._start, steps, settings.schedule)
        for group in self._optimiser.param_groups:
            group["lr"] = self._settings.learning_rate * share

    @torch.no_grad()
    def _average(self) -> None:
        if self.averaged is None:
            return
        # Not held up by what the network was before it had learnt anything.
        before = self._done - self._start - 1
        stays = min(self._settings.average_decay, before / (before + 1 / _REACH))
        now = self._network.state_dict()
        for name, mean in self.averaged.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(now[name], 1 - stays)
            else:
                mean.copy_(now[name])
