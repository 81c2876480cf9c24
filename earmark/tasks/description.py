"""What a model folder holds, and what recipes there are."""

from pathlib import Path

from earmark.errors import printable
from earmark.recipes import names, summary
from earmark.recipes import text as recipe_text


def info(model: Path) -> str:
    """Says what a model knows, where it comes from and how it decides.

    The scores that its card has, as evaluate --card writes them, come last.

    Args:
        model: a model folder.

    Raises:
        UserError: it is not a model folder, or a damaged one.
    """
    from earmark.model.bundle import read_description
    from earmark.model.hub import fetched
    from earmark.outputs.card import about_model, earlier_card, sections_of_scores

    about = [about_model(read_description(model))]
    for section in sections_of_scores(earlier_card(fetched(model))):
        about += [*map(printable, section.splitlines()), ""]
    return "\n".join([*about, f"{parameters_of(model):,} parameters"])


def parameters_of(model: Path, *, one_epoch: bool = False) -> int:
    """How many numbers a model learnt, of all its members, and of all epochs or of one."""
    from earmark.model.bundle import FusedDescription, load, members_of, read_description

    description = read_description(model)
    if isinstance(description, FusedDescription):
        members = members_of(model, description)
        return sum(parameters_of(member, one_epoch=one_epoch) for member in members)
    networks = load(model).networks[: 1 if one_epoch else None]
    return sum(p.numel() for network in networks for p in network.parameters())


def training_seconds(model: Path) -> float:
    """How long a model was trained, all its members together."""
    from earmark.model.bundle import FusedDescription, members_of, read_description

    description = read_description(model)
    if isinstance(description, FusedDescription):
        return sum(training_seconds(member) for member in members_of(model, description))
    return description.training.seconds


def recipes(name: str | None = None) -> str:
    """Lists the recipes, or shows one.

    Args:
        name: the recipe to show.

    Raises:
        UserError: there is no such recipe.
    """
    if name is not None:
        return recipe_text(name).rstrip()
    width = max(map(len, names()))
    return "\n".join(f"{name:{width}}  {summary(name)}" for name in names())
