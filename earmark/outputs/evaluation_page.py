"""The page of an evaluation: one HTML file that needs nothing else, no network and no script."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape

from earmark.outputs.evaluation_figures import Drawing
from earmark.outputs.scorecards import Table

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 62rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1.2rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .18rem .8rem .18rem 0; text-align: right; white-space: nowrap; }
th { border-bottom: 1px solid #999; font-weight: 600; }
tr + tr td { border-bottom: 1px solid #eee; }
th:first-child, td:first-child { text-align: left; white-space: pre-wrap; }
p, li { max-width: 46rem; } figure { margin: 0; } img { max-width: 100%; height: auto; }
"""


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
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>{_text(title)}</h1>",
        *(f"<p>{_text(line)}</p>" for line in about),
        *(_table(table) for table in tables),
        *(_figure(drawing) for drawing in drawings),
    ]
    if remarks:
        items = "\n".join(f"<li>{_text(remark)}</li>" for remark in remarks)
        parts.append(f"<h2>Left out or repaired</h2>\n<ul>\n{items}\n</ul>")
    return "\n".join([*parts, "</body>\n</html>\n"])


def _table(table: Table) -> str:
    rows = [
        "<tr>" + "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in row) + "</tr>"
        for tag, row in zip(["th"] + ["td"] * len(table), table, strict=False)
    ]
    return '<div class="scroll"><table>\n' + "\n".join(rows) + "\n</table></div>"


def _figure(drawing: Drawing) -> str:
    # As an image of its own, so that no two pictures share ids, and nothing in it can run.
    content = b64encode(drawing.svg.encode()).decode()
    return (
        f"<h2>{_text(drawing.title)}</h2>\n<figure>\n<figcaption><p>{_text(drawing.caption)}</p>"
        f'</figcaption>\n<img alt="{_text(drawing.title)}" '
        f'src="data:image/svg+xml;base64,{content}">\n</figure>'
    )


def _text(text: str) -> str:
    """A text as it stands; what is no Unicode becomes a question mark."""
    return escape(text.encode("utf-8", "replace").decode())
