"""Score tracks: the probability of every class in every frame, the one artefact that travels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from earmark.timeline import FrameClock


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTrack:
    """Frame probabilities of a recording, or of consecutive frames of a long one.

    Attributes:
        probabilities: (T, K) in [0, 1]: class k sounds in frame t.
        class_names: the K classes.
        clock: when the frames sound.
        start_frame: the first row's frame in the recording.
        end_seconds: the recording's end if the last row is its last frame, else None.
        local_tags: (T, K) largest clip probability among the windows that cover a frame, what
            the tag gate looks at; None where nothing is known of it.
        tags: (K,) clip probabilities of the whole recording, with its last frame, else None.
    """

    probabilities: NDArray[np.float32]
    class_names: tuple[str, ...]
    clock: FrameClock
    start_frame: int = 0
    end_seconds: float | None = None
    local_tags: NDArray[np.float32] | None = None
    tags: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.probabilities.ndim != 2 or self.probabilities.shape[1] != len(self.class_names):
            raise ValueError(
                f"probabilities must be (T, {len(self.class_names)}), "
                f"came as {self.probabilities.shape}"
            )

    @property
    def edges_seconds(self) -> NDArray[np.float64]:
        """(T + 1,) boundaries of the frames."""
        return self.clock.edges_seconds(len(self.probabilities), self.end_seconds, self.start_frame)

    @property
    def stop_seconds(self) -> float:
        """Where the last frame ends."""
        stop = self.start_frame + len(self.probabilities)
        return self.clock.start_seconds(stop) if self.end_seconds is None else self.end_seconds

    def of_classes(self, numbers: Sequence[int]) -> "ScoreTrack":
        """The track of some of its classes, in that order."""
        if list(numbers) == list(range(len(self.class_names))):
            return self
        chosen = list(numbers)
        return replace(
            self,
            probabilities=self.probabilities[:, chosen],
            class_names=tuple(self.class_names[k] for k in chosen),
            local_tags=None if self.local_tags is None else self.local_tags[:, chosen],
            tags=None if self.tags is None else self.tags[chosen],
        )

    @staticmethod
    def join(blocks: Iterable["ScoreTrack"]) -> "ScoreTrack":
        """One track of consecutive blocks. Raises ValueError if there is none, or a gap."""
        parts = list(blocks)
        if not parts:
            raise ValueError("join needs at least one block")
        frame = parts[0].start_frame
        for part in parts:
            if part.start_frame != frame:
                raise ValueError(f"a block should start at frame {frame}, not {part.start_frame}")
            frame += len(part.probabilities)
        gates = [part.local_tags for part in parts if part.local_tags is not None]
        return ScoreTrack(
            np.concatenate([part.probabilities for part in parts]),
            parts[0].class_names,
            parts[0].clock,
            parts[0].start_frame,
            parts[-1].end_seconds,
            np.concatenate(gates) if len(gates) == len(parts) else None,
            parts[-1].tags,
        )
