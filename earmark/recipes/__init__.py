"""The recipes: one TOML file a system, only its differences from the defaults, with reasons."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import reduce
from importlib.resources import files
from pathlib import Path
from typing import Any

from earmark.config import Settings, merge, read_toml, settings_from
from earmark.errors import UserError

DEFAULT = "best-small"


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


def tables(recipe: str, *, named_in: str | None = None) -> dict[str, Any]:
    """The settings of a recipe in the box, or of a TOML file of one's own, over those of its base.

    Where it names a ``base``, another recipe, it says only how it differs from that one.

    Args:
        recipe: a name, or a file that ends in .toml.
        named_in: the recipe that names it, for errors.
    """
    levels: list[dict[str, Any]] = []
    named = [recipe]
    while True:
        own = _own_tables(named[-1], named[-2] if len(named) > 1 else named_in)
        base = own.pop("base", None)
        levels.insert(0, own)
        if base is None:
            break
        if not isinstance(base, str):
            raise UserError(f"base must be the name of a recipe, came as {base!r}", where=named[-1])
        base = _beside(base, named[-1])
        if base in named:
            raise UserError(f"its base '{base}' is, in the end, itself", where=named[-1])
        named.append(base)
    if len(levels) > 1 and any("members" in level for level in levels):
        raise UserError("a recipe has either members or a base, one system", where=recipe)
    return reduce(merge, levels)


def _own_tables(recipe: str, named_in: str | None = None) -> dict[str, Any]:
    if recipe.endswith(".toml"):
        return read_toml(Path(recipe))
    return read_toml(Path(str(files(__package__).joinpath(f"{_known(recipe, named_in)}.toml"))))


def _beside(named: str, recipe: str) -> str:
    """A recipe that another one names: a file lies beside that one's."""
    return str(Path(recipe).parent / named) if named.endswith(".toml") else named


def systems(recipe: str, own: Mapping[str, Any]) -> dict[str, Settings]:
    """The checked settings of each system of a recipe: of itself, or of the ``members`` it fuses.

    A member that is there again, as NAME-2 and so on, differs from the first by chance alone.

    Args:
        recipe: in the box, or a TOML file; a TOML file that it names lies beside it.
        own: settings of one's own, above the recipe's.
    """
    above = tables(recipe)
    members = above.pop("members", None)
    if members is None:
        settings_from(above, where=recipe)
        return {recipe: settings_from(merge(above, own), where=f"{recipe} with --set")}
    if not (isinstance(members, list) and members and all(isinstance(m, str) for m in members)):
        raise UserError("members must be a list of recipes", where=recipe)
    times = {member: members.count(member) for member in members}
    names = [Path(name).stem for member in times for name in _each(member, times[member])]
    if len(set(names)) < len(names):
        raise UserError("members must differ in name", where=recipe)
    if unfit := [name for name in names if not re.fullmatch(r"\w[\w.-]*", name)]:
        raise UserError(
            f"a member's name may have letters, digits and '_.-', came as '{unfit[0]}'",
            where=recipe,
        )
    found = {}
    for member, count in times.items():
        member = _beside(member, recipe)
        below = tables(member, named_in=recipe)
        if "members" in below:
            raise UserError(f"a member can't itself have members, as '{member}' has", where=recipe)
        settings_from(merge(below, above), where=recipe)
        merged = merge(merge(below, above), own)
        for draw, name in enumerate(_each(member, count)):
            of_draw = merge(merged, {"training": {"draw": draw}}) if draw else merged
            found[name] = settings_from(of_draw, where=f"{name} with --set")
    return found


def _each(member: str, count: int) -> list[str]:
    """The names of a member that is there so many times."""
    path = Path(member)
    again = [str(path.with_stem(f"{path.stem}-{number}")) for number in range(2, count + 1)]
    return [member, *again]


def _known(name: str, named_in: str | None = None) -> str:
    if name in names():
        return name
    close = get_close_matches(name, names(), n=1)
    hint = f"did you mean '{close[0]}'?" if close else "a file of your own must end in .toml;"
    raise UserError(
        f"there is no recipe '{name}'; {hint} `earmark recipes` says what each is: "
        f"{', '.join(names())}",
        where=named_in,
    )
