"""What an evaluation found: as a page of text, and as numbers by stable names."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.bootstrap import LEVEL, Comparison, Interval
from earmark.metrics.segments import SegmentScores
from earmark.metrics.tagging import TaggingScores
from earmark.outputs.scorecards import EventCard, Scorecard, Table, TagCard, comparison_table

SIGNIFICANT_DIGITS = 12

_REMARKS = {
    "clips_missing_from_prediction": "clips without a row in the prediction, taken as empty",
    "clips_missing_from_reference": "clips without a row in the reference, taken as empty",
    "predicted_clips_outside_list": "predicted clips that are not in the clip list, left out",
    "reference_clips_outside_list": "reference clips that are not in the clip list, left out",
    "classes_missing_from_prediction": "classes missing from the prediction, missed throughout",
    "classes_missing_from_reference": (
        "classes missing from the reference, false alarms, left out of rankings and PSDS"
    ),
    "zero_length_events_in_reference": "reference events of 0 s, set aside",
    "zero_length_events_in_prediction": "predicted events of 0 s, set aside",
    "cut_events_in_reference": "reference events that end just beyond their clip, cut there",
    "cut_events_in_prediction": "predicted events that end just beyond their clip, cut there",
}
_EXAMPLES = 5


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One prediction's scores, and what they rest on.

    Attributes:
        path: the table, or folder of score tables, that is scored.
        cards: its scores, of one kind or two.
        thresholds_from: where the thresholds of probabilities come from; None where there are
            no probabilities.
        tuned_on: what the model whose thresholds these are says of the data they were tuned on.
        left_out: how many clips, classes and events were left out or repaired, by what.
        strange_classes: the classes that only one side names, by the remark on them.
    """

    path: Path
    cards: tuple[Scorecard, ...]
    thresholds_from: str | None
    tuned_on: str
    left_out: Mapping[str, int]
    strange_classes: Mapping[str, Sequence[str]]

    def statistics(self, weights: NDArray[np.int64] | None = None) -> dict[str, float]:
        """The headline scores by name, in any draw of the clips."""
        return {k: v for card in self.cards for k, v in card.statistics(weights).items()}

    def numbers(self, class_names: Sequence[str]) -> dict[str, Any]:
        """All scores by stable names, those of the classes last."""
        content: dict[str, Any] = {
            "left_out": dict(self.left_out),
            "strange_classes": {name: list(names) for name, names in self.strange_classes.items()},
        }
        if self.thresholds_from is not None:
            content["thresholds_from"] = self.thresholds_from
            content["thresholds_tuned_on"] = self.tuned_on or None
        by_class: dict[str, NDArray[Any]] = {}
        for card in self.cards:
            content |= card.numbers()
            by_class |= card.class_numbers()
        content["classes"] = {
            name: {key: values[k] for key, values in by_class.items()}
            for k, name in enumerate(class_names)
        }
        return content

    def remarks(self) -> list[str]:
        """A line for each kind of thing that was left out or repaired."""
        lines = []
        for name, count in self.left_out.items():
            names = self.strange_classes.get(name, ())
            if count:
                more = ", ..." if len(names) > _EXAMPLES else ""
                shown = f" ({', '.join(names[:_EXAMPLES])}{more})" if names else ""
                lines.append(" ".join(f"{_REMARKS[name]}: {count}{shown}".split()))
        return lines


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The scores of one prediction, perhaps beside another's, and what they rest on.

    Attributes:
        reference: the table that is taken as true.
        kind: tags, events or frame scores.
        class_names: the K classes of both sides together.
        clips: how many clips were scored.
        sources: how many of them, or of the groups that they come from, were drawn.
        scored: the prediction.
        intervals: of the headline scores, by name; none of a single source.
        resamples: how many draws of sources they rest on.
        seed: of the draws.
        against: the other prediction, if there is one.
        differences: the prediction's scores less the other's, by name.
    """

    reference: Path
    kind: str
    class_names: tuple[str, ...]
    clips: int
    sources: int
    scored: Scored
    intervals: Mapping[str, Interval]
    resamples: int
    seed: int
    against: Scored | None
    differences: Mapping[str, Comparison]

    @property
    def scores(self) -> TaggingScores | SegmentScores:
        """Of tags, or of events in segments; ValueError for frame scores alone."""
        for card in self.scored.cards:
            if isinstance(card, TagCard | EventCard):
                return card.scores
        raise ValueError("frame scores without a threshold have neither tags nor events")

    def title(self) -> str:
        """What is held against what."""
        kind = f"{self.kind[0].upper()}{self.kind[1:]}"
        return f"{kind} of {self.scored.path} against {self.reference}"

    def about(self) -> list[str]:
        """What must be known to read the tables."""
        lines = [
            f"clips: {self.clips}, classes: {len(self.class_names)}; "
            "F1, precision, recall, AP and the like in percent"
        ]
        if (origin := self.scored.thresholds_from) is not None:
            tuned = f", tuned on: {self.scored.tuned_on}" if self.scored.tuned_on else ""
            both = "" if self.against is None else " (for both predictions)"
            lines.append(f"thresholds: {origin}{both}{tuned}")
        if self.intervals:
            drawn = "clips" if self.sources == self.clips else "sources that the clips come from,"
            lines.append(
                f"intervals: {self.resamples} bootstrap draws of the {self.sources} {drawn} with "
                f"seed {self.seed}"
            )
        for card in self.scored.cards:
            if isinstance(card, EventCard):
                lines += card.about(self.intervals)
        return lines

    def tables(self) -> list[Table]:
        """Headline scores, the comparison if there is one, then classes."""
        found = [table for card in self.scored.cards for table in card.tables(self.intervals)]
        if self.against is not None:
            table = comparison_table(
                self.scored.statistics(), self.against.statistics(), self.differences
            )
            found.insert(len(found) - 1, table)
        return [_without_empty_columns(table) for table in found]

    def remarks(self) -> list[str]:
        """What was left out or repaired, a line each."""
        lines = self.scored.remarks()
        if self.against is not None:
            lines += [f"{self.against.path}: {line}" for line in self.against.remarks()]
        return lines

    def text(self) -> str:
        """A report of one page: headline numbers, a class table, what was left out."""
        head = [self.title(), *self.about()]
        if self.against is not None:
            head.append(f"compared with {self.against.path}, on the same draws of clips")
        blocks = [head, *(_aligned(table) for table in self.tables()), self.remarks()]
        return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """Everything by stable names, as fractions; None for what has no finite value."""
        content: dict[str, Any] = {
            "task": {"tags": "tagging", "events": "segments", "frame scores": "frame_scores"}[
                self.kind
            ],
            "reference": str(self.reference),
            "prediction": str(self.scored.path),
            "clips": self.clips,
            **self.scored.numbers(self.class_names),
            "bootstrap": {
                "resamples": self.resamples,
                "level": LEVEL,
                "seed": self.seed,
                "sources": self.sources,
            },
            "intervals": {
                name: {"low": ends.low, "high": ends.high, "draws_left_out": ends.left_out}
                for name, ends in self.intervals.items()
            },
        }
        if self.against is not None:
            ours, theirs = self.scored.statistics(), self.against.statistics()
            content["against"] = {
                "prediction": str(self.against.path),
                **self.against.numbers(self.class_names),
                "differences": {
                    name: {
                        "difference": float(ours[name]) - float(theirs[name]),
                        "low": found.difference.low,
                        "high": found.difference.high,
                        "share_above": found.share_above,
                        "p_value": found.p_value,
                    }
                    for name, found in self.differences.items()
                },
            }
        plain: dict[str, Any] = _plain(content)
        return plain


def _without_empty_columns(table: Table) -> Table:
    """A table without the columns that hold nothing below their header."""
    kept = [place for place, (_, *cells) in enumerate(zip(*table, strict=True)) if any(cells)]
    return [[row[place] for place in kept] for row in table] if len(table) > 1 else table


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, the first column to the left, numbers to the right."""
    # A class name may hold a line break; a name's leading spaces are its place below another.
    names = [
        f"{row[0][: len(row[0]) - len(row[0].lstrip(' '))]}{' '.join(row[0].split())}"
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    width = max(map(len, names))
    return [
        "  ".join(
            [name.ljust(width), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for name, row in zip(names, rows, strict=True)
    ]


def _plain(value: Any) -> Any:
    """Values as JSON has them: numbers with 12 digits, None for one that is not finite."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None
    return value
