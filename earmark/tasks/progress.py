"""How long it takes: bars on a terminal, plain lines in a log, both on stderr."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """A line for people; results go to stdout instead."""
    console.print(line, markup=False)


class Step(Protocol):
    """Moves a bar on."""

    def __call__(self, steps: float = 1.0) -> None:
        """By so many steps."""


@contextmanager
def progress(what: str, total: int) -> Iterator[Step]:
    """A bar for ``total`` steps; what it gives is called after each step, or a share of one."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task(what, total=total)

        def step(steps: float = 1.0) -> None:
            bar.advance(task, steps)

        yield step


@contextmanager
def working(what: str) -> Iterator[None]:
    """A sign of life, while the block does what has no steps to count."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as it:
        it.add_task(what, total=None)
        yield


def lasting(seconds: float) -> str:
    """How long something takes, in words.

    >>> lasting(7.4), lasting(150), lasting(7500)
    ('7 s', '3 min', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = math.ceil(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def in_short(names: Sequence[str], shown: int = 3) -> str:
    """The first few names, and how many more there are, if more than one.

    >>> in_short("abcd"), in_short("abcde")
    ("'a', 'b', 'c', 'd'", "'a', 'b', 'c' and 2 more")
    """
    if len(names) == shown + 1:
        shown += 1
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(f"'{name}'" for name in names[:shown]) + more


def counted(number: int, what: str, several: str | None = None) -> str:
    """A number of things, in words.

    >>> counted(1, "event"), counted(2000, "event"), counted(2, "class", "classes")
    ('1 event', '2,000 events', '2 classes')
    """
    return f"{number:,} {what if number == 1 else several or what + 's'}"
