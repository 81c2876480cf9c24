"""Files appear whole or not at all, and an error says why in a line."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from earmark.errors import UserError
from earmark.writing import filling, replacing, unfinished, writing


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("beside", [None, ".own.partial"])
def test_a_file_is_replaced_at_the_end(tmp_path: Path, lasting: bool, beside: str | None) -> None:
    path = tmp_path / "table.csv"
    own = None if beside is None else tmp_path / beside
    path.write_text("before")
    with replacing(path, beside=own, lasting=lasting) as part:
        part.write_text("after")
        assert path.read_text() == "before"
        assert own in (None, part)
    assert path.read_text() == "after"
    assert names(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt, ValueError])
def test_whatever_stops_it_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "table.csv"
    path.write_text("before")

    def stopped() -> None:
        with replacing(path) as part:
            part.write_text("aft")
            raise error

    with pytest.raises(UserError if isinstance(error, OSError) else error):
        stopped()
    assert path.read_text() == "before"
    assert names(tmp_path) == ["table.csv"]


KILLED = """
import os, sys
from pathlib import Path
from earmark.writing import replacing, unfinished
path = Path("table.csv")
with replacing(path, beside=unfinished(path) if sys.argv[1] == "alone" else None) as part:
    part.write_text("aft")
    os._exit(9)
"""


@pytest.mark.parametrize(
    ("writers", "pattern", "stays"),
    [("alone", ".table.csv.partial", False), ("many", ".table.csv.*.part", True)],
)
def test_what_a_killed_process_leaves(
    tmp_path: Path, writers: str, pattern: str, stays: bool
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("before")
    killed = subprocess.run([sys.executable, "-c", KILLED, writers], cwd=tmp_path, check=False)
    assert killed.returncode == 9
    assert path.read_text() == "before"
    assert len(list(tmp_path.glob(pattern))) == 1
    with replacing(path, beside=unfinished(path) if writers == "alone" else None) as part:
        part.write_text("after")
    assert path.read_text() == "after"
    assert len(names(tmp_path)) == 1 + stays


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EFBIG, "free some space"),
        (errno.EACCES, "mend that"),
        (errno.EROFS, "mend that"),
    ],
)
def test_an_error_says_what_to_do(number: int, remedy: str) -> None:
    reason = os.strerror(number)
    with (
        pytest.raises(UserError, match=f"^a/b: can't be written: {reason}; {remedy}, or write"),
        writing(Path("a/b")),
    ):
        raise OSError(number, reason)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_device_is_written_to(tmp_path: Path) -> None:
    with replacing(Path("/dev/null")) as part:
        assert part == Path("/dev/null")
    with (
        pytest.raises(UserError, match=r"^/dev/full: can't be written: No space left on device"),
        replacing(Path("/dev/full")) as part,
    ):
        part.write_text("text")
    with pytest.raises(UserError, match="Is a directory"), replacing(tmp_path) as part:
        part.write_text("text")


def test_what_a_link_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("old")
    (tmp_path / "link").symlink_to("real/file")
    with replacing(tmp_path / "link") as part:
        part.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_text() == "new"
    assert names(tmp_path / "real") == ["file"]


def test_a_folder_that_holds_something_is_not_filled(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="must be new or empty"), filling(tmp_path):
        raise AssertionError("the block ran")
    assert names(tmp_path) == ["mine"]


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_left_as_it_was(tmp_path: Path, there: bool) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()

    def fill(error: BaseException | None) -> None:
        with filling(folder):
            (folder / "below").mkdir(parents=True)
            (folder / "below" / "file").touch()
            (folder / "link").symlink_to(outside)
            if error is not None:
                raise error

    if there:
        folder.mkdir()
    for error in (UserError("no"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fill(error)
        assert folder.exists() == there
        assert not there or not names(folder)
        assert names(outside) == ["file"]
    fill(None)
    assert names(folder) == ["below", "link"]
