"""What a model is called in, its folder out: of one on the hub, that in the hub's cache.

``bundled`` is the model that comes with the package. A model's address on the Hugging Face hub is
``hf://USER/NAME``, or ``hf://USER/NAME@REVISION`` for a branch, a tag or a commit. Nothing is
fetched but the files of the model, each only after what came before it has been checked; what is in
the cache is not fetched again.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from earmark.errors import UserError, first_line

logger = logging.getLogger("earmark")

BUNDLED = Path("bundled")
"""What the model that comes with the package is called; a folder of that name is ``./bundled``."""

_PACKAGED = Path(__file__).parents[1] / "bundled"

SCHEME = "hf://"
NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
"""USER/NAME of a model."""

OFFLINE = "HF_HUB_OFFLINE"


def named(model: str | Path) -> Path:
    """The path of a model that somebody typed: ``./bundled`` is a folder, as paths can't tell.

    >>> named("bundled") == BUNDLED, named("./bundled") == Path.cwd() / "bundled"
    (True, True)
    """
    path = Path(model)
    return path.absolute() if path == BUNDLED and str(model) != str(BUNDLED) else path


def fetched(model: Path) -> Path:
    """The model's folder: of ``bundled`` that in the package, of one on the hub the copy in the
    cache, of any other as it came.

    ``HF_HUB_OFFLINE=1`` in the environment lets nothing be fetched; ``HF_ENDPOINT`` names another
    server that speaks as the hub does.

    Raises:
        UserError: there is no such model, or the hub can't be reached, or what is fetched is no
            model, or the package huggingface_hub is not installed.
    """
    if model == BUNDLED:
        return _PACKAGED
    if not on_hub(model):
        return model
    address = "/".join(model.parts[1:])
    return _fetched(address, _endpoint(), is_offline())


def on_hub(model: Path) -> bool:
    """Whether a path is an address of the hub; a path has one slash of the two."""
    return model.parts[:1] == (SCHEME.rstrip("/"),)


def refuse_to_write(model: Path) -> None:
    """Refuses to make or change a model that is not in a folder of one's own.

    Raises:
        UserError: it is on the hub, or in the package.
    """
    if on_hub(model):
        raise UserError("a model on the hub is not changed; copy its folder", where=model)
    if model.resolve() == _PACKAGED.resolve() or model == BUNDLED:
        raise UserError(
            "the model that comes with the program is called so, and not changed; copy its folder, "
            f"{_PACKAGED}, or say ./{BUNDLED} for one of your own",
            where=model,
        )


def is_offline() -> bool:
    """Whether the environment forbids to fetch anything."""
    return os.environ.get(OFFLINE, "").lower() in ("1", "on", "yes", "true")


@contextmanager
def offline() -> Iterator[None]:
    """Lets nothing be fetched in the block, and in processes that it starts."""
    before = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[OFFLINE]
        else:
            os.environ[OFFLINE] = before


def import_hub() -> ModuleType:
    """The hub's own package, kept from telling it more than what is asked for."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise UserError("huggingface_hub is not installed: pip install 'earmark[hub]'") from error
    if not sys.stderr.isatty():
        disable_progress_bars()
    return huggingface_hub


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


@cache  # of errors nothing is kept
def _fetched(address: str, endpoint: str | None, is_offline: bool) -> Path:
    name, at, revision = address.partition("@")
    if not NAME.fullmatch(name) or (at and not revision) or ".." in revision:
        raise UserError(
            f"a model on the hub is hf://USER/NAME or hf://USER/NAME@REVISION, came as "
            f"{SCHEME}{address}"
        )
    copy = _Copy(name, revision or None, endpoint, is_offline)
    folder = copy.file("model.json", _largest_description()).parent
    # A branch may move meanwhile; a commit doesn't.
    _Rest(_Copy(name, folder.name, endpoint, is_offline), folder).fetch(folder)
    return folder


def _largest_description() -> int:
    from earmark.model.bundle import LARGEST_DESCRIPTION_BYTES

    return LARGEST_DESCRIPTION_BYTES


class _Rest:
    """What prediction needs of a model beside the description that is there."""

    def __init__(self, copy: "_Copy", top: Path) -> None:
        self._copy = copy
        self._top = top

    def fetch(self, folder: Path, depth: int = 8) -> None:
        from earmark.model.bundle import Description, read_description, weights_bytes

        description = read_description(folder)
        prefix = folder.relative_to(self._top).as_posix()
        prefix = "" if prefix == "." else f"{prefix}/"
        if isinstance(description, Description):
            self._copy.file(
                f"{prefix}model.safetensors", weights_bytes(description, folder / "model.json")
            )
            return
        if not depth:
            raise UserError("its fused models are too deep in each other", where=self._copy.model)
        for member in description.members:
            found = self._copy.file(f"{prefix}{member}/model.json", _largest_description())
            self.fetch(found.parent, depth - 1)


class _Copy:
    """Files of one model on the hub, at one revision, in the hub's cache."""

    def __init__(
        self, name: str, revision: str | None, endpoint: str | None, is_offline: bool
    ) -> None:
        self.model = f"{SCHEME}{name}"
        self._name = name
        self._revision = revision
        self._endpoint = endpoint
        self._is_offline = is_offline
        self._hub = import_hub()

    def file(self, path: str, largest_bytes: int) -> Path:
        """The file, which is fetched if it isn't there and not larger than that.

        Where the hub can't be reached, what is in the cache has to do.
        """
        kept = self._hub.try_to_load_from_cache(self._name, path, revision=self._revision)
        cached = Path(kept) if isinstance(kept, str) else None
        if cached is not None and (self._is_offline or self._revision == _commit(cached, path)):
            return cached
        if self._is_offline:
            raise UserError(
                f"{path} is not in the cache, and nothing may be fetched: leave out --offline and "
                f"{OFFLINE} once",
                where=self.model,
            )
        about = {"library_name": "earmark", "library_version": version("earmark")}
        place = {"revision": self._revision, "endpoint": self._endpoint}
        try:
            url = self._hub.hf_hub_url(self._name, path, **place)
            size = self._hub.get_hf_file_metadata(url, **about).size or 0
            if not 0 <= size <= largest_bytes:
                raise UserError(
                    f"{path} is larger than that of a model: {size} bytes, instead of at most "
                    f"{largest_bytes}; it is not fetched",
                    where=self.model,
                )
            return Path(self._hub.hf_hub_download(self._name, path, **place, **about))
        except UserError:
            raise
        except Exception as error:  # of which the client has many kinds, without a common one
            explained = self._explained(path, error)
            if explained is None and cached is not None:
                logger.info("%s: from the cache, as it can't be fetched: %s", self.model, error)
                return cached
            message = explained or (
                f"can't be fetched: {first_line(error)}; see that the hub can be reached, and try "
                "again"
            )
            raise UserError(message, where=self.model) from error

    def _explained(self, path: str, error: Exception) -> str | None:
        """What the hub says against it; None if it says nothing."""
        errors = self._hub.errors
        match error:
            case errors.GatedRepoError():
                return "its owner wants to be asked: ask on its page, and `hf auth login`"
            case errors.RepositoryNotFoundError():
                return (
                    "there is no such model on the hub, or it is private: look for its name, or "
                    "`hf auth login`"
                )
            case errors.RevisionNotFoundError():
                return f"has no revision '{self._revision}'"
            case errors.RemoteEntryNotFoundError():
                return f"was not made by earmark, or is not whole: it has no {path}"
        return None


def _commit(file: Path, path: str) -> str:
    """The commit that a file of the cache is of: the folder of its snapshot."""
    return file.parents[path.count("/")].name
