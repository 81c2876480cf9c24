"""A model folder in; the same on the Hugging Face hub, for others to use."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earmark.errors import UserError, first_line

if TYPE_CHECKING:
    from earmark.model.bundle import Description, FusedDescription


@dataclass(frozen=True, slots=True)
class Pushed:
    """A model on the hub.

    Attributes:
        address: by which ``--model`` and ``earmark.load`` find it.
        page: for people.
        private: whether only those who may see it do.
    """

    address: str
    page: str
    private: bool

    def text(self) -> str:
        """Where it is and how to use it, in two lines."""
        return (
            f"pushed, {'private' if self.private else 'public'}: {self.page}\n"
            f"earmark detect RECORDINGS --model {self.address} --out events.csv"
        )


def push(model: Path, name: str, *, private: bool = False) -> Pushed:
    """Puts a model on the Hugging Face hub, for others to use.

    ``hf auth login``, or the variable HF_TOKEN, says who you are; HF_ENDPOINT names another server
    than huggingface.co. Only the model's own files are sent, with the card: read it before.

    Args:
        model: a model folder, fused or not.
        name: USER/NAME of the model on the hub, new or yours.
        private: nobody else sees it.

    Raises:
        UserError: no model, or a damaged one, or the hub can't be reached or refuses it.
    """
    from earmark.inference.fusion import load_recogniser
    from earmark.model.hub import NAME, SCHEME, fetched, import_hub, is_offline

    name = name.removeprefix(SCHEME)
    if not NAME.fullmatch(name):
        raise UserError(f"a model on the hub is called USER/NAME, came as '{name}'")
    if is_offline():
        raise UserError("push sends files: leave out --offline and HF_HUB_OFFLINE")
    load_recogniser(model, "cpu", "float32")  # refuses what others couldn't load
    folder = fetched(model)
    files = _files(folder, name)
    hub = import_hub()
    try:
        page, is_private = _send(hub, name, files, private)
    except UserError:
        raise
    except Exception as error:  # of which the client has many kinds, without a common one
        raise UserError(_explained(name, error)) from error
    return Pushed(f"{SCHEME}{name}", page, is_private)


def _send(hub: Any, name: str, files: dict[str, bytes | Path], private: bool) -> tuple[str, bool]:
    """Makes the model's place on the hub, and puts the files there, all at once."""
    from importlib.metadata import version
    from os import environ

    api = hub.HfApi(
        environ.get("HF_ENDPOINT") or None,
        library_name="earmark",
        library_version=version("earmark"),
    )
    page = str(api.create_repo(name, private=private or None, exist_ok=True))
    is_private = bool(api.repo_info(name).private)
    if private and not is_private:
        raise UserError(
            f"{name} is there already, and public; make it private on its page, leave out "
            "--private, or give another name"
        )
    operations = [hub.CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit(name, operations, commit_message="A model of earmark")
    return page, is_private


def _files(folder: Path, name: str) -> dict[str, bytes | Path]:
    """What prediction needs of a model folder, and its cards, by their paths on the hub."""
    from earmark.model.bundle import Description, members_of, read_description

    files: dict[str, bytes | Path] = {}

    def add(at: Path, prefix: str) -> None:
        description = read_description(at)
        files[f"{prefix}model.json"] = at / "model.json"
        if isinstance(description, Description):
            files[f"{prefix}model.safetensors"] = at / "model.safetensors"
        else:
            found = zip(members_of(at, description), description.members, strict=True)
            for member, below in found:
                add(member, f"{prefix}{below}/")
        files[f"{prefix}README.md"] = _card(at, description, f"hf://{name}")

    add(folder, "")
    return files


def _card(folder: Path, description: "Description | FusedDescription", address: str) -> bytes:
    """The folder's card with the model's address in it, and with what the hub goes by in front."""
    from earmark.outputs.card import card, earlier_card, front_matter

    text = earlier_card(folder) or card(description)
    if not text.startswith("---\n"):
        text = f"{front_matter(description)}\n{text}"
    text = text.replace("--model THIS_FOLDER", f"--model {address}")
    return text.encode("utf-8", "replace")  # the hub takes no other bytes than those of text


def _explained(name: str, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"the hub lets nobody write to {name} without being its owner: `hf auth login`, or set "
            "HF_TOKEN, with a token that may write"
        )
    return (
        f"{name} can't be pushed: {first_line(error)}; see that the hub can be reached, and try "
        "again"
    )
