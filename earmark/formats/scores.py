"""Score tables as sed_scores_eval has them, one TSV a recording: ``onset offset class1 ...``."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.formats.tables import TAB, read_table, write_table
from earmark.scores import ScoreTrack

# Edges that differ by less were rounded differently, they are no gap.
_ROUNDING_SECONDS = 2e-6


def write_scores(path: Path, track: ScoreTrack | Iterable[ScoreTrack]) -> None:
    """A row a frame, gapless; of a track, or of consecutive blocks that are never held together.

    Times have 6 decimals; probabilities as many as bring the same float32 back.
    """
    blocks = iter([track] if isinstance(track, ScoreTrack) else track)
    first = next(blocks, None)
    if first is None:
        raise ValueError("write_scores needs at least one block")
    header = ["onset", "offset", *first.class_names]
    rows = chain.from_iterable(map(_rows, chain([first], blocks)))
    write_table(path, chain([header], rows), TAB)


def read_scores(path: Path) -> tuple[NDArray[np.float64], tuple[str, ...], NDArray[np.float64]]:
    """Frame edges in seconds (T + 1,), class names (K) and probabilities (T, K).

    Every column after ``onset`` and ``offset`` is a class, whatever it is called. Of a table
    without rows the edges are [0].

    Raises:
        UserError: a value is no finite number, or a frame doesn't start where the last one ends.
    """
    table = read_table(path)
    names = table.records[0].cells
    if names[:2] != ["onset", "offset"]:
        raise table.error(
            "a score table must start with the columns onset and offset, "
            f"came with {', '.join(names)[:80]}"
        )
    class_names = names[2:]
    if len(set(class_names)) < len(class_names) or not all(class_names):
        raise table.error("each class column needs a name of its own")
    edges = np.zeros(len(table.rows) + 1)
    probabilities = np.zeros((len(table.rows), len(class_names)))
    for frame, row in enumerate(table.rows):
        start, stop = table.interval(row, 0, 1)
        if frame == 0:
            edges[0] = start
        elif abs(start - edges[frame]) > _ROUNDING_SECONDS:
            raise table.error(
                f"a frame must start where the last one ends, at {edges[frame]:g}, "
                f"came as {start:g}",
                row,
            )
        edges[frame + 1] = stop
        for index in range(len(class_names)):
            probabilities[frame, index] = table.number(row, index + 2)
    return edges, tuple(class_names), probabilities


def _rows(track: ScoreTrack) -> Iterator[list[str]]:
    edges = [f"{edge:.6f}" for edge in track.edges_seconds]
    for frame, values in enumerate(track.probabilities.tolist()):
        yield [edges[frame], edges[frame + 1], *(f"{value:.9g}" for value in values)]
