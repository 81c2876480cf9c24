"""Figures of an evaluation, as SVG: what a table of scores doesn't show."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.confusion import Confusion
from earmark.metrics.curves import PrecisionRecall, Reliability
from earmark.metrics.psds import Psds
from earmark.metrics.tagging import TaggingScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MOST_CLASSES = 40
"""Of more, those that occur most are drawn."""

LONGEST_NAME = 24
INK, LINE, POINT, GUIDE = "#333333", "#0072B2", "#D55E00", "#D0D0D0"
_COLUMNS = 5
_PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D31", "#7F7F7F")
_DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure and what one sees in it.

    Attributes:
        title: a heading.
        caption: a sentence or two.
        svg: the picture; names of classes are text in it, of any script.
    """

    title: str
    caption: str
    svg: str


def precision_recall_drawing(
    curves: Mapping[str, PrecisionRecall], scores: TaggingScores
) -> Drawing:
    """Precision over recall of each class, and where its threshold lies."""
    chosen = _most(scores.class_names, scores.counts.n_reference)
    rows = math.ceil(len(chosen) / _COLUMNS)
    with _figure(2.2 * _COLUMNS, 0.5 + 2.2 * rows) as (picture, svg):
        panels = picture.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False)
        for panel in panels.flat[len(chosen) :]:
            panel.set_visible(False)
        for panel, k in zip(panels.flat, chosen, strict=False):
            curve = curves[scores.class_names[k]]
            value = scores.average_precision[k]
            # Steps: up to a recall, the precision with which it is reached.
            panel.step(np.append(0, curve.recall), np.append(1, curve.precision), color=LINE)
            point = scores.counts.recall[k], scores.counts.precision[k]
            panel.plot(*point, "o", color=POINT, markersize=5, clip_on=False)
            known = "no clip" if math.isnan(value) else f"AP {100 * value:.1f}"
            panel.set_title(f"{shown(scores.class_names[k])}\n{known}", fontsize=9)
            panel.set(xlim=(0, 1), ylim=(0, 1.02))
            panel.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
            panel.set_yticks((0, 0.5, 1), ("0", "0.5", "1"))
            panel.grid(color=GUIDE, linewidth=0.6)
        picture.supxlabel("recall", fontsize=10)
        picture.supylabel("precision", fontsize=10)
    return Drawing(
        "Precision and recall",
        "Each curve goes over all thresholds of a class, from the highest at the left to the "
        "lowest; the nearer to the upper right corner, the better, and the area below is its "
        "average precision. The dot is where its threshold lies." + _left_out(scores, chosen),
        svg.getvalue(),
    )


def reliability_drawing(found: Reliability) -> Drawing:
    """Observed frequency over probability, and how many probabilities there are."""
    bins = len(found.counts)
    with _figure(6.5, 5.6) as (picture, svg):
        upper, lower = picture.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        upper.plot([0, 1], [0, 1], color=GUIDE, linewidth=1.2)
        filled = found.counts > 0
        upper.plot(
            found.mean_probability[filled], found.observed[filled], "o-", color=LINE, markersize=5
        )
        upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is true")
        upper.grid(color=GUIDE, linewidth=0.6)
        lower.bar((np.arange(bins) + 0.5) / bins, found.counts, 0.9 / bins, color=LINE)
        lower.set_yscale("symlog", linthresh=1)
        lower.set_ylim(0, None)
        lower.yaxis.set_major_formatter("{x:.0f}")
        lower.set(xlabel="probability", ylabel="clips x classes")
    error = found.calibration_error
    return Drawing(
        "Reliability",
        "Of all pairs of clip and class that were given about some probability, which share is "
        "true: on the diagonal, probabilities mean what they say; below it they are too high, "
        "above too low. The bars count the pairs, on a logarithmic scale. Expected calibration "
        f"error: {'-' if math.isnan(error) else f'{100 * error:.1f} %'}.",
        svg.getvalue(),
    )


def psd_roc_drawing(scores: Sequence[tuple[str, Psds]]) -> Drawing:
    """Hits over false alarms, of each class and as the score takes them together."""
    known = [
        k
        for k in range(len(scores[0][1].class_names))
        if any(score.curves[k] is not None for _, score in scores)
    ]
    chosen = known[:MOST_CLASSES]
    with _figure(11, 4.6 + 0.22 * math.ceil(len(chosen) / 5)) as (picture, svg):
        panels = picture.subplots(1, len(scores), sharey=True, squeeze=False)[0]
        lines: dict[str, Line2D] = {}
        for panel, (name, score) in zip(panels, scores, strict=True):
            limit = score.parameters.max_efpr_per_hour
            for place, k in enumerate(chosen):
                curve = score.curves[k]
                if curve is not None:
                    (line,) = panel.step(
                        np.append(curve.efpr_per_hour, limit),
                        np.append(curve.tp_ratio, curve.tp_ratio[-1]),
                        where="post",
                        color=_PALETTE[place % len(_PALETTE)],
                        linestyle=_DASHES[place // len(_PALETTE)],
                        linewidth=1,
                    )
                    lines[score.class_names[k]] = line
            whole = score.effective
            rates = np.append(whole.efpr_per_hour, limit)
            ratios = np.append(whole.tp_ratio, whole.tp_ratio[-1])
            panel.fill_between(rates, ratios, step="post", color=INK, alpha=0.12)
            (thick,) = panel.step(rates, ratios, where="post", color=INK, linewidth=2.2)
            panel.set(xlim=(0, limit), ylim=(0, 1.02), xlabel="effective false alarms an hour")
            panel.set_title(f"{name}: {score.value:.3f}", fontsize=11)
            panel.grid(color=GUIDE, linewidth=0.6)
        panels[0].set_ylabel("share of events that is found")
        # A legend that finds names by itself leaves out those that start with an underscore.
        picture.legend(
            [*lines.values(), thick],
            [*map(shown, lines), "all, as the score has"],
            loc="outside lower center",
            ncols=5,
            fontsize=8,
            frameon=False,
        )
    left = len(known) - len(chosen)
    return Drawing(
        "PSD-ROC",
        "How many events of a class are found at so many false alarms an hour, at whichever "
        "threshold is best. The thick curve is the mean of the classes less their deviation, and "
        "the area below it, in parts of the whole, is the score."
        + (f" {left} further classes are in the score but not drawn." if left else ""),
        svg.getvalue(),
    )


def confusion_drawing(found: Confusion, unit: str) -> Drawing:
    """Which class is predicted where which is true; ``unit`` is clips or segments."""
    shares = found.shares
    columns = _most(found.class_names, found.totals[:-1])
    rows = [*columns, len(found.class_names)] if found.totals[-1] > 0 else columns
    cells = 100 * shares[np.ix_(rows, columns)]
    side = max(4.5, 2.4 + 0.42 * len(columns))
    with _figure(side + 1.5, side + 0.2) as (picture, svg):
        axes = picture.subplots()
        axes.imshow(cells, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for (row, column), value in np.ndenumerate(cells):
            if value >= 0.5:
                colour = "white" if value > 60 else INK
                axes.text(
                    column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=8
                )
        names = [shown(found.class_names[k]) for k in columns]
        axes.set_xticks(range(len(columns)), names, rotation=90, fontsize=9)
        axes.set_yticks(
            range(len(rows)), names + ["none of them"] * (len(rows) - len(columns)), fontsize=9
        )
        axes.set(xlabel="predicted", ylabel="true")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return Drawing(
        "Confusion of classes",
        f"A row is the {unit} in which a class is true. On the diagonal stands in which percentage "
        "of them it was found; elsewhere, in which another class was predicted that is not true "
        "there. A dark cell off the diagonal is a class that is taken for another."
        + _left_out(found, columns),
        svg.getvalue(),
    )


def shown(name: str) -> str:
    """A name in one line that is not too long, without what XML can't hold."""
    line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 1]}…"


def _most(class_names: Sequence[str], occurring: NDArray[Any]) -> list[int]:
    """The classes to draw, in their order."""
    first = np.argsort(-np.asarray(occurring, np.float64), kind="stable")[:MOST_CLASSES]
    return sorted(int(k) for k in first)


def _left_out(scores: TaggingScores | Confusion, chosen: Sequence[int]) -> str:
    left = len(scores.class_names) - len(chosen)
    return f" The {left} classes that occur least are not drawn." if left else ""


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple["Figure", StringIO]]:
    """A figure of so many inches to draw into, and the SVG of it afterwards."""
    from matplotlib import style
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none",  # text stays text, so that the browser's fonts draw any script
        "svg.hashsalt": "earmark",
        "text.parse_math": False,
        "axes.edgecolor": "#909090",
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    svg = StringIO()
    with style.context(["default", settings]), warnings.catch_warnings():
        # Only the space that such letters take is guessed.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        picture = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        yield picture, svg
        picture.savefig(svg, format="svg", metadata={"Date": None})
