"""The recipes: one TOML file a system, only its differences from the defaults, with reasons."""

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from earmark.config import read_toml
from earmark.errors import UserError

DEFAULT = "gated-crnn-logmel"


def names() -> list[str]:
    """The recipes in the box, by name."""
    found = (item.name for item in files(__package__).iterdir())
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def text(name: str) -> str:
    """The TOML text of a recipe in the box."""
    return files(__package__).joinpath(f"{_known(name)}.toml").read_text(encoding="utf-8")


def summary(name: str) -> str:
    """The first line of a recipe: what it is."""
    return text(name).partition("\n")[0].lstrip("# ")


def tables(recipe: str) -> dict[str, Any]:
    """The settings of a recipe in the box, or of a TOML file of one's own."""
    if recipe.endswith(".toml"):
        return read_toml(Path(recipe))
    return read_toml(Path(str(files(__package__).joinpath(f"{_known(recipe)}.toml"))))


def _known(name: str) -> str:
    if name in names():
        return name
    close = get_close_matches(name, names(), n=1)
    hint = f"did you mean '{close[0]}'?" if close else "a file of your own must end in .toml;"
    raise UserError(f"there is no recipe '{name}'; {hint} known: {', '.join(names())}")
