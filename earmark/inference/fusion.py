"""Several systems as one: the mean of their posteriors (paper, sec. 2.4), on one clock.

No torch here until a model folder is loaded.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from earmark.config import ClassCalibration, ClassDecoding, DecodingSettings
from earmark.errors import UserError
from earmark.inference.recogniser import Recogniser, Samples
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock

if TYPE_CHECKING:
    import torch

DEEPEST = 8  # fused models in fused models


def load_recogniser(
    folder: Path,
    device: "str | torch.device" = "cpu",
    precision: str = "float32",
    *,
    depth: int = DEEPEST,
) -> Recogniser:
    """The recogniser of a model folder, fused or not; ``precision`` as of ``choose_engine``."""
    # Torch has no part in what is fused, and there may be none: see ``earmark.runtime``.
    from earmark.inference.system import SystemRecogniser
    from earmark.model.bundle import (
        ClockDescription,
        Description,
        load,
        members_of,
        read_description,
    )

    description = read_description(folder)
    if isinstance(description, Description):
        return SystemRecogniser(load(folder), device, precision)
    if not depth:
        raise UserError(f"fused models may be {DEEPEST} deep, and this one is deeper", where=folder)
    members = [
        load_recogniser(member, device, precision, depth=depth - 1)
        for member in members_of(folder, description)
    ]
    if members[0].class_names != description.class_names:
        raise UserError("the classes must be the first member's, in its order", where=folder)
    check_classes(members, description.members)
    fused = FusedRecogniser(
        members,
        description.decoding,
        description.decoding_settings,
        description.calibration.classes,
    )
    if ClockDescription.of(fused.clock) != description.clock:
        raise UserError("the clock is not the finest of the members'", where=folder)
    return fused


def check_classes(members: Sequence[Recogniser], names: Sequence[str]) -> None:
    """Refuses members, called ``names``, whose classes differ."""
    first = set(members[0].class_names)
    for member, name in zip(members, names, strict=True):
        if differing := sorted(first ^ set(member.class_names)):
            raise UserError(
                f"members must have the same classes, but only one of {names[0]} and {name} has "
                f"'{differing[0]}'"
            )


class FusedRecogniser(Recogniser):
    """The mean of the posteriors of its members, clip and frame, each as that member gives them.

    Members may differ in features, frame rate and network: their frames are brought to the clock
    of the finest, each of its frames taking the mean over its time of what a member says.

    Args:
        members: at least one, all of the same classes.
        rules: what their mean is decided by; without, the mean of the members' rules.
        decoding: what the rules follow; without, the first member's.
        calibration: of the mean, on top of the members' own; without, it stays as it is.
    """

    def __init__(
        self,
        members: Sequence[Recogniser],
        rules: Sequence[ClassDecoding] | None = None,
        decoding: DecodingSettings | None = None,
        calibration: Sequence[ClassCalibration] = (),
    ) -> None:
        finest = min(members, key=lambda member: member.clock.hop_seconds)
        drawn = next((m for m in members if m.features.kind == "log_mel"), members[0])
        names = members[0].class_names
        super().__init__(
            names,
            finest.clock,
            mean_rules([_in_order(m, names) for m in members]) if rules is None else rules,
            decoding or members[0].decoding,
            drawn.features,
            max(member.window_seconds for member in members),
            rate_hz=max(member.rate_hz for member in members),
            votes=any(member.votes for member in members),
            calibration=calibration,
        )
        self.members = tuple(members)
        self._finest = self.members.index(finest)

    def uncalibrated(self) -> Self:
        other = self.with_calibration(())
        other.members = tuple(member.uncalibrated() for member in self.members)
        return other

    def raw_blocks(
        self, recording: str | Path | Samples, *, rate_hz: int | None = None
    ) -> Iterator[ScoreTrack]:
        finest = self.members[self._finest]
        rate_hz = rate_hz or self.rate_hz
        others = [
            _OnClock(member.blocks(recording, rate_hz=rate_hz), self.class_names, member.clock)
            for number, member in enumerate(self.members)
            if number != self._finest
        ]
        for block in finest.blocks(recording, rate_hz=rate_hz):
            theirs = [other.over(block) for other in others]
            yield _mean(_columns(block, self.class_names), theirs)


def mean_rules(rules: Sequence[Sequence[ClassDecoding]]) -> list[ClassDecoding]:
    """The mean of the members' rules, class by class; of equal ones exactly these.

    Where some find events as boxes and others as runs, it is as the first does.
    """
    means = []
    for of_class in zip(*rules, strict=True):
        first = of_class[0].model_dump()
        alike = [
            rule for rule in of_class if (rule.step_seconds > 0) == (first["step_seconds"] > 0)
        ]
        numbers = [rule.model_dump() for rule in of_class]
        of_boxes = [rule.model_dump() for rule in alike]
        values = {
            key: _mean_of([n[key] for n in (of_boxes if key in _BOXES else numbers)])
            for key in first
        }
        means.append(ClassDecoding(**values))
    return means


_BOXES = ("step_seconds", "merge_ratio", "merge_difference")


def _mean_of(values: Sequence[float]) -> float:
    return values[0] + sum(value - values[0] for value in values) / len(values)


def _in_order(member: Recogniser, names: Sequence[str]) -> list[ClassDecoding]:
    return [member.rules[member.class_names.index(name)] for name in names]


class _OnClock:
    """A member's blocks, given out over the frames of another track."""

    def __init__(
        self, blocks: Iterator[ScoreTrack], class_names: tuple[str, ...], clock: FrameClock
    ) -> None:
        self._blocks = blocks
        self._class_names = class_names
        self._clock = clock
        self._held: ScoreTrack | None = None  # what was read and is still needed

    def over(self, block: ScoreTrack) -> ScoreTrack:
        """The member's track over the frames of ``block``, on its clock."""
        edges = block.edges_seconds
        last = block.end_seconds is not None
        while (more := self._needs_more(edges[-1], last)) is not None:
            self._held = more if self._held is None else ScoreTrack.join([self._held, more])
        held = self._held
        assert held is not None
        if self._clock == block.clock:
            first = block.start_frame - held.start_frame
            here: slice | None = slice(first, first + len(block.probabilities))
            found = held.probabilities[here]
            local = None if held.local_tags is None else held.local_tags[here]
        else:
            # From the first edge to the last, whatever rounding did to the recording's end.
            own = held.edges_seconds
            if held.end_seconds is not None:
                own[-1] = max(own[-1], edges[-1])
            found = _means_between(edges, own, held.probabilities)
            local = None if held.local_tags is None else _means_between(edges, own, held.local_tags)
        track = ScoreTrack(
            found,
            held.class_names,
            block.clock,
            block.start_frame,
            block.end_seconds,
            local,
            held.tags if last else None,
        )
        self._forget_before(edges[-1])
        return track

    def _needs_more(self, end_seconds: float, last: bool) -> ScoreTrack | None:
        """The next block if what is held ends before ``end_seconds``, or if all is wanted."""
        held = self._held
        covered = held is not None and held.edges_seconds[-1] >= end_seconds
        if covered and not last:
            return None
        more = next(self._blocks, None)
        return None if more is None else _columns(more, self._class_names)

    def _forget_before(self, seconds: float) -> None:
        held = self._held
        assert held is not None
        done = int(np.searchsorted(held.edges_seconds[1:], seconds, side="right"))
        self._held = ScoreTrack(
            held.probabilities[done:],
            held.class_names,
            held.clock,
            held.start_frame + done,
            held.end_seconds,
            None if held.local_tags is None else held.local_tags[done:],
            held.tags,
        )


def _means_between(
    edges: NDArray[np.float64], own_edges: NDArray[np.float64], values: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(T, K) means over the time between ``edges`` of steps (U, K) between ``own_edges``."""
    widths = np.diff(own_edges)[:, None]
    integral = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values * widths, axis=0)])
    at_edges = np.stack([np.interp(edges, own_edges, column) for column in integral.T], axis=1)
    means = np.diff(at_edges, axis=0) / np.maximum(np.diff(edges), np.finfo(float).tiny)[:, None]
    return np.clip(means, 0.0, 1.0).astype(np.float32)


def _columns(track: ScoreTrack, class_names: tuple[str, ...]) -> ScoreTrack:
    """The track with its classes in the order of ``class_names``."""
    return track.of_classes([track.class_names.index(name) for name in class_names])


def _mean(first: ScoreTrack, others: Sequence[ScoreTrack]) -> ScoreTrack:
    """The mean of tracks over the same frames."""
    tracks = [first, *others]

    def mean(arrays: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
        known = [array for array in arrays if array is not None]
        if len(known) < len(arrays):
            return None
        return np.asarray(np.mean(known, axis=0, dtype=np.float64), np.float32)

    probabilities = mean([track.probabilities for track in tracks])
    assert probabilities is not None
    return ScoreTrack(
        probabilities,
        first.class_names,
        first.clock,
        first.start_frame,
        first.end_seconds,
        mean([track.local_tags for track in tracks]),
        mean([track.tags for track in tracks]),
    )
