"""What a training notes of its epochs, and which of them it keeps."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Epoch:
    """A line of the log: the mean loss, and the validation mAP (None if nothing is held out)."""

    number: int
    loss: float
    validation_map: float | None
    seconds: float


@dataclass(slots=True)
class Log:
    """The epochs so far, and the numbers of those whose weights are kept."""

    epochs: list[Epoch] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)

    def add(self, epoch: Epoch, keep: int, tag_epochs: int) -> None:
        """Takes in an epoch; keeps the ``keep`` best, or the last ones if nothing is held out.

        Any after the ``tag_epochs``, which learn from tags alone, are better than these.
        """

        def rank(epoch: Epoch) -> tuple[bool, float, int]:
            value = epoch.validation_map
            return (epoch.number > tag_epochs, -1.0 if value is None else value, epoch.number)

        self.epochs.append(epoch)
        best = sorted(self.epochs, key=rank, reverse=True)[:keep]
        self.kept = sorted(epoch.number for epoch in best)
