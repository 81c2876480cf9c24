"""Which of several processes makes which result."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def claimed(out: Path, name: str) -> Iterator[Path | None]:
    """The file of a result to make; None where it is there, or another process is at it.

    Args:
        out: the folder of ``results`` and ``locks``, which are made if need be.
        name: of the result.
    """
    for folder in ("results", "locks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    result = out / "results" / f"{name}.json"
    lock = FileLock(out / "locks" / name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield None
        return
    with lock:
        yield None if result.exists() else result
