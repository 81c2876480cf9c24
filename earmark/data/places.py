"""Where shards lie: a folder, or an object storage by its address (s3://bucket/x, say)."""

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from earmark.errors import UserError, first_line
from earmark.writing import replacing, writing

CONTENTS = "shards.json"
"""The file that says what shards there are."""

VALIDATION = "validation"
"""The place, in that of shards, of those to judge by."""

# A path has one slash of the two, and a drive one letter.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):[/\\]+(.*)", re.DOTALL)


def frames_file(name: str) -> str:
    """The file of a shard's frames."""
    return f"{name}.f16"


class Place(Protocol):
    """Files by name, each whole or not there; ``str`` gives a path or an address.

    What can't be read or written raises UserError.
    """

    def at(self, name: str) -> str:
        """What a file is called in an error."""

    def below(self, name: str) -> "Place":
        """The place of that name in this one."""

    def size(self, name: str) -> int | None:
        """The bytes of a file, None if it isn't there."""

    def read(self, name: str) -> bytes:
        """The content of a file."""

    def making(self, name: str) -> AbstractContextManager[Path]:
        """A file to fill, which appears at the end of the block if that doesn't fail."""

    def remove(self, name: str) -> None:
        """Has a file, if it is there, be gone."""

    def local(self, name: str, folder: Path, digest: str) -> Path:
        """A file to map into memory, fetched into ``folder`` if it isn't on this machine.

        What is fetched must have that ``digest``; a file that is here is not read for it.
        """


def place(where: Path | str) -> Place:
    """A folder, or what is at an address, whose slashes a path may have made one."""
    found = _ADDRESS.fullmatch(str(where))
    if found is None:
        return Folder(Path(where))
    scheme, rest = found[1].lower(), found[2].replace("\\", "/").rstrip("/")
    return Folder(Path(f"/{rest}")) if scheme == "file" else Remote(f"{scheme}://{rest}")


class Folder:
    """Files in a folder of this machine, or of a network's disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def at(self, name: str) -> str:
        return str(self.path / name)

    def below(self, name: str) -> "Folder":
        return Folder(self.path / name)

    def size(self, name: str) -> int | None:
        try:
            return (self.path / name).stat().st_size
        except OSError:
            return None

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise UserError(f"can't be read: {error.strerror}", where=self.path / name) from error

    def making(self, name: str) -> AbstractContextManager[Path]:
        return replacing(self.path / name, lasting=True)

    def remove(self, name: str) -> None:
        with writing(self.path):
            (self.path / name).unlink(missing_ok=True)

    def local(self, name: str, folder: Path, digest: str) -> Path:
        return self.path / name

    def make(self) -> None:
        """Makes the folder; of one that is there, removes what a killed process left in it."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for part in self.path.glob(".[0-9]*.part"):
                part.unlink()


class Remote:
    """Files of an object storage, which fsspec knows how to reach.

    Raises:
        UserError: fsspec, or what it needs for that kind of address, is not installed.
    """

    def __init__(self, address: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise UserError("needs fsspec: pip install 'earmark[remote]'", where=address) from error
        self._address = address
        self._files: Any
        try:
            self._files, self._root = url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise UserError(f"can't be reached: {first_line(error)}", where=address) from error

    def __str__(self) -> str:
        return self._address

    def at(self, name: str) -> str:
        return f"{self._address}/{name}"

    def below(self, name: str) -> "Remote":
        return Remote(self.at(name))

    def size(self, name: str) -> int | None:
        with self._reaching(name), suppress(FileNotFoundError):
            return int(self._files.info(self._path(name))["size"])
        return None

    def read(self, name: str) -> bytes:
        with self._reaching(name):
            found: bytes = self._files.cat_file(self._path(name))
        return found

    @contextmanager
    def making(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / name
            yield part
            with self._reaching(name, "written"):
                self._files.put_file(str(part), self._path(name))

    def remove(self, name: str) -> None:
        with self._reaching(name, "removed"), suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))

    def local(self, name: str, folder: Path, digest: str) -> Path:
        path = folder / name
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            with self._reaching(name):
                self._files.get_file(self._path(name), str(part))
            with open(part, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise UserError(
                        "isn't what was prepared; prepare the shards again", where=self.at(name)
                    )
        return path

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _reaching(self, name: str, what: str = "read") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise UserError(f"can't be {what}: it is not there", where=self.at(name)) from error
        except Exception as error:  # each storage has its own
            raise UserError(f"can't be {what}: {first_line(error)}", where=self.at(name)) from error
