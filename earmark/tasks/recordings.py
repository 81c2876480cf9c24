"""The same work on many recordings: bad ones are listed, the others done."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from earmark.audio import AudioError, duration_seconds, find_recordings
from earmark.errors import UserError
from earmark.inference.pipeline import side_by_side
from earmark.tasks import progress
from earmark.tasks.progress import Step

Reached = Callable[[float], None]
"""Is told, while a recording is worked on, how many of its seconds are done."""

SOON_SECONDS = 1.0
"""What is done sooner moves a bar at its end alone: a length may cost a look through the file."""


def found_recordings(recordings: Sequence[Path]) -> dict[str, Path]:
    """Files, and those in folders, by name. Raises UserError if there is none."""
    if not recordings:
        raise UserError("give at least one recording, or a folder of them")
    return dict(find_recordings(recordings))


def each_recording(
    recordings: Mapping[str, Path],
    what: str,
    work: Callable[[str, Path, Reached], None],
    at_once: int = 1,
) -> list[str]:
    """Does ``work(name, path, reached)`` for each recording; gives a line for each failure.

    Args:
        recordings: files by name.
        what: for the progress bar.
        work: raises AudioError for a recording that can't be read; called in threads.
        at_once: how many recordings are worked on at a time.
    """
    failures = []

    def of_one(recording: tuple[str, Path]) -> None:
        name, path = recording
        with one_recording(path, step) as reached:
            work(name, path, reached)

    if not recordings:
        return []
    with (
        progress.progress(what, len(recordings)) as step,
        closing(side_by_side(of_one, recordings.items(), min(at_once, len(recordings)))) as all_,
    ):
        for done in all_:
            try:
                done.result()
            except AudioError as error:
                failures.append(str(error))
    return failures


@contextmanager
def one_recording(path: Path, step: Step) -> Iterator[Reached]:
    """Moves a bar by one step in all, bit by bit as far as the block says how much is done."""
    told, length, began = 0.0, 0.0, time.monotonic()

    def reached(seconds: float) -> None:
        nonlocal told, length
        if not progress.console.is_terminal or time.monotonic() - began < SOON_SECONDS:
            return
        with suppress(AudioError):  # a damaged one, of which as much is done as can be read
            length = length or duration_seconds(path)
            share = max(told, min(1.0, seconds / length))
            step(share - told)
            told = share

    try:
        yield reached
    finally:
        step(1.0 - told)


def refuse_name(name: str) -> None:
    """Raises AudioError for a recording whose name can't be written to a table."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise AudioError(f"{name!r}: a recording's name must be Unicode; rename it") from None


def refuse_if_all_failed(failures: Sequence[str], done: int) -> None:
    """Raises AudioError if no recording at all could be read."""
    if failures and not done:
        if len(failures) == 1:
            raise AudioError(failures[0])
        raise AudioError(f"none of {len(failures)} recordings can be read; first: {failures[0]}")


def failure_lines(failures: Sequence[str], what: str = "could not be read") -> list[str]:
    """What a report says of failures: nothing, or a heading and a line for each."""
    if not failures:
        return []
    return [f"{len(failures)} {what}:", *(f"  {failure}" for failure in failures)]


def refuse_model(out: Path) -> None:
    """Raises UserError for a model folder, in which results would lie among the model's files."""
    if (out / "model.json").exists():
        raise UserError("is a model folder, and stays one; name another", where=out)


def made_folder(folder: Path) -> Path:
    """The folder, which exists now."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder can't be made: {error.strerror}", where=folder) from error
    return folder


def in_made_folder(path: Path) -> Path:
    """The path, in a folder that exists now."""
    made_folder(path.parent)
    return path
