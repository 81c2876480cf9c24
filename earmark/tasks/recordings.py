"""The same work on many recordings: bad ones are listed, the others done."""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from earmark.audio import AudioError, find_recordings
from earmark.errors import UserError
from earmark.inference.pipeline import side_by_side
from earmark.tasks.progress import progress

Result = TypeVar("Result")


def each_recording(
    recordings: Sequence[Path], what: str, work: Callable[[str, Path], Result], at_once: int = 1
) -> tuple[dict[str, Result], list[str]]:
    """What ``work(name, path)`` gives for each recording by name, and a line for each failure.

    Both are in the order of the recordings, however many are worked on at once.

    Args:
        recordings: files, and folders that are searched.
        what: for the progress bar.
        work: raises AudioError for a recording that can't be read; called in threads.
        at_once: how many recordings are worked on at a time.

    Raises:
        AudioError: if no recording at all could be read.
        UserError: if there is none to read.
    """
    if not recordings:
        raise UserError("give at least one recording, or a folder of them")
    found = find_recordings(recordings)
    results: dict[str, Result] = {}
    failures: list[AudioError] = []

    def of_one(recording: tuple[str, Path]) -> Result:
        name, path = recording
        if not _is_unicode(name):
            raise AudioError(f"{name!r}: a recording's name must be Unicode; rename it")
        return work(name, path)

    with (
        progress(what, len(found)) as step,
        closing(side_by_side(of_one, found, min(at_once, len(found)))) as all_of_them,
    ):
        for (name, _), done in zip(found, all_of_them, strict=True):
            try:
                results[name] = done.result()
            except AudioError as error:
                failures.append(error)
            step()
    if failures and not results:
        if len(failures) == 1:
            raise failures[0]
        raise AudioError(f"none of {len(failures)} recordings can be read; first: {failures[0]}")
    return results, [str(failure) for failure in failures]


def failure_lines(failures: Sequence[str], what: str = "could not be read") -> list[str]:
    """What a report says of failures: nothing, or a heading and a line for each."""
    if not failures:
        return []
    return [f"{len(failures)} {what}:", *(f"  {failure}" for failure in failures)]


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


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
