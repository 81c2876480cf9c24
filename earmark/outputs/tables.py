"""The paper's two tables, with what was measured beside what was published."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

ROWS = (
    "dcase2017-baseline",
    "crnn-logmel-unbalanced",
    "crnn-logmel",
    "gated-crnn-logmel-at",
    "gated-crnn-logmel",
    "gated-crnn-mfcc-at",
    "gated-crnn-mfcc",
    "fusion-at",
    "fusion",
    "multi-scale-cnn-ensemble",
    "frame-cnn",
)
"""The recipes of the paper's systems, in the order of its tables."""

# Xu, Kong, Wang and Plumbley 2018, Tables 1 and 2, percent but for the error rate.
PUBLISHED_TAGGING = {
    "dcase2017-baseline": ("10.9 / 7.8 / 17.5", "18.2 / 15.0 / 23.1"),
    "crnn-logmel-unbalanced": ("42.0 / 47.1 / 38.0", ""),
    "crnn-logmel": ("52.8 / 49.9 / 56.1", ""),
    "gated-crnn-logmel-at": ("56.7 / 53.8 / 60.1", "54.2 / 58.9 / 50.2"),
    "gated-crnn-mfcc-at": ("52.1 / 51.7 / 52.5", ""),
    "fusion-at": ("57.7 / 56.5 / 58.9", "55.6 / 61.4 / 50.8"),
    "multi-scale-cnn-ensemble": ("", "52.6 / 69.7 / 42.3"),
    "frame-cnn": ("", "49.0 / 53.8 / 45.0"),
}
PUBLISHED_EVENTS = {
    "dcase2017-baseline": ("13.8 / 1.02", "28.4 / 0.93"),
    "gated-crnn-logmel": ("47.2 / 0.76", "47.5 / 0.78"),
    "fusion": ("49.7 / 0.72", "51.8 / 0.73"),
    "multi-scale-cnn-ensemble": ("", "55.5 / 0.66"),
}


@dataclass(frozen=True, slots=True)
class Spread:
    """A number over the seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def deviation(self) -> float:
        """The sample's standard deviation; NaN of a single value."""
        return stdev(self.values) if len(self.values) > 1 else math.nan

    def text(self, scale: float = 100.0, digits: int = 1) -> str:
        """``mean ± deviation``."""
        mean = f"{self.mean * scale:.{digits}f}"
        if len(self.values) < 2:
            return mean
        return f"{mean} ± {self.deviation * scale:.{digits}f}"


def summary(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Every number of every recipe over its seeds: values, mean and deviation.

    Args:
        cells: what was measured for one recipe and seed each, as ``compare`` keeps it.
    """
    found: dict[str, Any] = {}
    for recipe, of_recipe in _by_recipe(cells).items():
        numbers = {
            f"{section}.{name}": Spread(tuple(cell[section][name] for cell in of_recipe))
            for section in _sections(of_recipe)
            for name in of_recipe[0][section]
        }
        found[recipe] = {
            "seeds": [cell["seed"] for cell in of_recipe],
            **{
                name: {
                    "mean": spread.mean,
                    "deviation": None if math.isnan(spread.deviation) else spread.deviation,
                    "values": list(spread.values),
                }
                for name, spread in numbers.items()
            },
        }
    return found


def markdown(cells: Sequence[Mapping[str, Any]]) -> str:
    """Both tables; a recipe that was not measured has no row."""
    by_recipe = _by_recipe(cells)
    if not by_recipe:
        return "Nothing was measured yet.\n"
    sections = [s for s in _sections([*cells]) if s != "cost"]
    seeds = {len(of_recipe) for of_recipe in by_recipe.values()}
    shown = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    counts = sorted({int(cell["test"]["recordings"]) for cell in cells})
    recordings = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    lines = [
        "Percent, but for the error rate (ER); mean ± standard deviation over the seeds "
        f"({shown} a row), of {recordings} recordings. Tagging is micro-averaged; `F of means` is "
        "the F1 of the classes' mean precision and mean recall (in brackets), as in the scoring "
        "script of DCASE 2017. Published: development and evaluation set of DCASE 2017 Task 4.",
        "",
        "**Table 1, audio tagging**",
        "",
        *_table(
            [
                "system",
                "F1",
                "precision",
                "recall",
                "F of means (P / R)",
                "mAP",
                "parameters",
                "training",
            ],
            ["published F1 / P / R (dev)", "(eval)"],
            {
                recipe: [
                    *(
                        _spread(of_recipe, "test", name).text()
                        for name in (
                            "tagging_f1",
                            "tagging_precision",
                            "tagging_recall",
                        )
                    ),
                    f"{_spread(of_recipe, 'test', 'tagging_f1_of_means').text()} "
                    f"({_spread(of_recipe, 'test', 'tagging_macro_precision').mean:.1%} / "
                    f"{_spread(of_recipe, 'test', 'tagging_macro_recall').mean:.1%})".replace(
                        "%", ""
                    ),
                    _spread(of_recipe, "test", "tagging_map").text(),
                    f"{of_recipe[0]['cost']['parameters']:,}",
                    f"{_spread(of_recipe, 'cost', 'training_seconds').mean / 60:.0f} min",
                ]
                for recipe, of_recipe in by_recipe.items()
            },
            PUBLISHED_TAGGING,
        ),
        "",
        "**Table 2, sound event detection**, segment-based",
        "",
        *_table(
            ["system", *(f"{_WORDS[s]} F1 / ER" for s in sections)],
            ["published F1 / ER (dev)", "(eval)"],
            {
                recipe: [
                    f"{_spread(of_recipe, s, 'segment_f1').text()} / "
                    f"{_spread(of_recipe, s, 'segment_error_rate').text(1.0, 3)}"
                    for s in sections
                ]
                for recipe, of_recipe in by_recipe.items()
            },
            PUBLISHED_EVENTS,
        ),
    ]
    return "\n".join(lines) + "\n"


_WORDS = {
    "test": "test",
    "tags_alone": "with rules from tags alone",
    "tuned_on": "on the recordings that tuned the frames (their own labels!)",
}
"""Sections of what was measured, in words."""


def _by_recipe(cells: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Cells in the order of the paper's rows, then of the alphabet; by seed within."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: int(cell["seed"])):
        found[cell["recipe"]].append(cell)

    def place(recipe: str) -> tuple[int, str]:
        return (ROWS.index(recipe) if recipe in ROWS else len(ROWS), recipe)

    return {recipe: found[recipe] for recipe in sorted(found, key=place)}


def _sections(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sections of numbers that every cell has."""
    return [name for name in (*_WORDS, "cost") if all(name in cell for cell in cells)]


def _spread(cells: Sequence[Mapping[str, Any]], section: str, name: str) -> Spread:
    return Spread(tuple(cell[section][name] for cell in cells))


def _table(
    head: Sequence[str],
    published_head: Sequence[str],
    rows: Mapping[str, Sequence[str]],
    published: Mapping[str, tuple[str, str]],
) -> list[str]:
    lines = [
        f"| {' | '.join([*head, *published_head])} |",
        "|" + "---|" * (len(head) + len(published_head)),
    ]
    for recipe, values in rows.items():
        lines.append(
            f"| {' | '.join([Path(recipe).stem, *values, *published.get(recipe, ('', ''))])} |"
        )
    return lines
