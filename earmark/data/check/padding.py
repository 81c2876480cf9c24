"""Does padding give classes away? A network learns that before it learns a sound."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from earmark.data.check.classes import FEW_CLIPS, class_counts
from earmark.data.check.findings import Case, Finding, tally
from earmark.data.check.hearing import Heard
from earmark.data.check.tables import LabelledSet

GIVEN_AWAY = 0.5
"""A class is given away by padding that is so much more, or less, usual in its clips."""


def of_padding(of_set: LabelledSet, heard: Mapping[Path, Heard]) -> Iterator[Finding]:
    """Classes whose clips are padded with digital silence where the others are not."""
    padded = [
        (clip, heard[clip.path].padded(*clip.span)) for clip in of_set.clips if clip.path in heard
    ]
    told = []
    for name in sorted(class_counts(of_set)):
        groups = [
            [holds for clip, holds in padded if clip.knows(name) and (name in clip.labels) == has]
            for has in (True, False)
        ]
        if min(map(len, groups)) < FEW_CLIPS:
            continue
        with_it, without = (sum(group) / len(group) for group in groups)
        if abs(with_it - without) >= GIVEN_AWAY:
            told.append(Case(name, f"{with_it:.0%} of its clips, {without:.0%} of the others"))
    if told:
        yield Finding(
            "warning",
            "padding that gives classes away",
            of_set.name,
            f"digital silence in a clip tells {tally(told, 'class', 'classes')} from the others, "
            "and will be learnt in place of the sound",
            "cut it off, as clips may be of any length, or pad no class more than another",
            tuple(told),
        )
