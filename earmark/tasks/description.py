"""What a model folder holds, and what recipes there are."""

from pathlib import Path

from earmark.recipes import names, summary
from earmark.recipes import text as recipe_text


def info(model: Path) -> str:
    """Says what a model knows, where it comes from and how it decides.

    Args:
        model: a model folder.

    Raises:
        UserError: it is not a model folder, or a damaged one.
    """
    from earmark.model.bundle import load
    from earmark.outputs.card import card

    bundle = load(model)
    parameters = sum(p.numel() for network in bundle.networks for p in network.parameters())
    return f"{card(bundle.description)}\n{parameters:,} parameters"


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
