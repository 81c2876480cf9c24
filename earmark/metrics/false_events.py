"""Events found where there are none: in recordings that hold none of the classes."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from earmark.events import Event


class FalseEvents:
    """The events found in clips without a reference event, by class.

    Args:
        reference: the events of every clip that is scored.
        estimate: events of the same clips; one that is left out has none.
        class_names: the K classes.
        durations_seconds: of every clip.
    """

    def __init__(
        self,
        reference: Mapping[str, Sequence[Event]],
        estimate: Mapping[str, Sequence[Event]],
        class_names: Sequence[str],
        durations_seconds: Mapping[str, float],
    ) -> None:
        index = {name: k for k, name in enumerate(class_names)}
        clips = list(reference)
        self._quiet = np.array([n for n, clip in enumerate(clips) if not reference[clip]], np.int64)
        self._hours = np.array([durations_seconds[clips[n]] / 3600 for n in self._quiet])
        self._counts = np.zeros((len(self._quiet), len(class_names)), np.int64)
        for row, n in enumerate(self._quiet):
            for event in estimate.get(clips[n], ()):
                self._counts[row, index[event.label]] += 1

    @property
    def hours(self) -> float:
        """How long the clips without an event last, all together."""
        return float(self._hours.sum())

    def per_hour(self, weights: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """(K,) of each class; NaN where no such clip is there.

        Args:
            weights: (N,) how often each clip of ``reference`` is there; without, once.
        """
        of_quiet = np.ones(len(self._quiet)) if weights is None else weights[self._quiet]
        hours = float(of_quiet @ self._hours)
        if not hours:
            return np.full(self._counts.shape[1], np.nan)
        return np.asarray(of_quiet @ self._counts / hours)
