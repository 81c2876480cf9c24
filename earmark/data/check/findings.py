"""What is told of a labelled data set: a finding, its places, its words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Case:
    """One place where something was found, and what is there."""

    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know of a data set.

    Attributes:
        severity: an error is what training refuses, or what makes its results wrong.
        problem: which kind of finding it is, in a word or two.
        table: the tables concerned.
        what: what is so, in a sentence.
        remedy: what to do.
        cases: all places.
    """

    severity: Severity
    problem: str
    table: str
    what: str
    remedy: str
    cases: tuple[Case, ...] = ()


def tally(things: Sequence[object], what: str, several: str | None = None) -> str:
    """How many things there are, in words.

    >>> tally(["a"], "clip"), tally(["a", "b"], "class", "classes")
    ('1 clip', '2 classes')
    """
    return f"{len(things):,} {what if len(things) == 1 else several or what + 's'}"


def are(things: Sequence[object]) -> str:
    """The verb of ``tally``."""
    return "is" if len(things) == 1 else "are"


def have(things: Sequence[object]) -> str:
    """The verb of ``tally``."""
    return "has" if len(things) == 1 else "have"


def tags_text(labels: frozenset[str]) -> str:
    """The tags of a clip, in words."""
    return ",".join(sorted(labels)) or "no tag"
