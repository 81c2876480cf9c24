"""The page of an evaluation: one HTML file that needs nothing else, no network and no script."""

from collections.abc import Sequence

from earmark.outputs.evaluation_figures import Drawing
from earmark.outputs.html import data_url, document, listed, table, text
from earmark.outputs.scorecards import Table


def page(
    title: str,
    about: Sequence[str],
    tables: Sequence[Table],
    drawings: Sequence[Drawing],
    remarks: Sequence[str],
) -> str:
    """The page as text: what was scored, tables, figures, and what was left out or repaired.

    All texts are taken literally, whatever marks the name of a class holds.
    """
    parts = [
        f"<h1>{text(title)}</h1>",
        *(f"<p>{text(line)}</p>" for line in about),
        *(table(rows, f"scores: {rows[0][0]}, table {n}") for n, rows in enumerate(tables, 1)),
        *(_figure(drawing) for drawing in drawings),
    ]
    if remarks:
        parts.append(f"<h2>Left out or repaired</h2>\n{listed(remarks)}")
    return document(title, parts)


def _figure(drawing: Drawing) -> str:
    # As an image of its own, so that no two pictures share ids, and nothing in it can run.
    return (
        f"<h2>{text(drawing.title)}</h2>\n<figure>\n<figcaption><p>{text(drawing.caption)}</p>"
        f'</figcaption>\n<img alt="{text(drawing.title)}" '
        f'src="{data_url(drawing.svg.encode(), "image/svg+xml")}">\n</figure>'
    )
