"""HTML pages that are whole in one file: their style, and text that is only ever text."""

import math
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape

from earmark.outputs.scorecards import Table

_STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --soft: #595959; --line: #999;
  --faint: #e4e4e4; --link: #0a58a5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #17181a; --soft: #b4b4b4;
  --line: #8a8a8a; --faint: #34363a; --link: #8cc0f5; } }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --soft: #444; --line: #888;
  --faint: #ddd; --link: #000; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 2rem auto; max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin-top: 1.6rem; overflow-wrap: anywhere; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1.2rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
th, td { padding: .18rem .8rem .18rem 0; text-align: right; white-space: nowrap; }
thead th { border-bottom: 1px solid var(--line); font-weight: 600; }
tbody th { font-weight: inherit; }
tr + tr > * { border-bottom: 1px solid var(--faint); }
tr > :first-child { text-align: left; white-space: pre-wrap; overflow-wrap: break-word;
  max-width: 24rem; }
p, li { max-width: 46rem; overflow-wrap: anywhere; } figure { margin: 0; }
img { max-width: 100%; height: auto; background: #fff; }
"""


def document(title: str, body: Iterable[str], *, style: str = "", script: str = "") -> str:
    """A page of its parts, which asks nothing of any network and runs ``script`` alone.

    Args:
        title: taken literally.
        body: HTML.
        style: CSS beyond that of all pages.
        script: JavaScript; without it none may run.
    """
    style = _STYLE + style
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; media-src data:; "
        f"style-src {_source(style)}; script-src {_source(script)}"
    )
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>",
        *body,
        "</main>",
        *([f"<script>{script}</script>"] if script else []),
        "</body>\n</html>\n",
    ]
    return "\n".join(parts)


def table(rows: Table, name: str, *, sortable: bool = False, caption: str = "") -> str:
    """A table whose first row is its header and whose first column names the rows.

    Args:
        rows: cells, taken literally.
        name: what it is called where it can't be seen.
        sortable: whether a script may make buttons of its header.
        caption: a sentence above it, taken literally.
    """
    head, *others = rows
    lines = ["".join(f'<th scope="col">{text(cell)}</th>' for cell in head)]
    lines += [
        "".join(
            f'<th scope="row">{text(cell)}</th>' if place == 0 else f"<td>{text(cell)}</td>"
            for place, cell in enumerate(row)
        )
        for row in others
    ]
    top, *below = (f"<tr>{line}</tr>" for line in lines)
    return framed(
        (f"<caption>{text(caption)}</caption>\n" if caption else "")
        + f"<thead>{top}</thead>\n<tbody>\n"
        + "\n".join(below)
        + "\n</tbody>",
        name,
        "sortable" if sortable else "",
    )


def framed(rows: str, name: str, kind: str = "") -> str:
    """The HTML of a table's rows as a table that scrolls by itself where a screen is narrow."""
    opening = f'<table class="{kind}">' if kind else "<table>"
    # Only what has the focus can be scrolled by keys.
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(name)}">'
        f"{opening}\n{rows}\n</table></div>"
    )


def listed(lines: Sequence[str], most: int | None = None) -> str:
    """Lines as a list, taken literally; of more than ``most`` the first, and how many there are."""
    shown = list(lines if most is None else lines[:most])
    if len(shown) < len(lines):
        shown.append(f"and {len(lines) - len(shown)} more")
    items = "\n".join(f"<li>{text(line)}</li>" for line in shown)
    return f"<ul>\n{items}\n</ul>"


def data_url(content: bytes, kind: str) -> str:
    """Bytes as an address that holds them; ``kind`` is a media type."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def text(literal: str) -> str:
    """A text as it stands, in an element or an attribute; a question mark for what is no Unicode,
    and a space for what is no letter."""
    line = literal.encode("utf-8", "replace").decode()
    return escape("".join(c if c.isprintable() or c == "\n" else " " for c in line))


def number(value: float | None, digits: int) -> str:
    """A number with so many digits behind the point; a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _source(content: str) -> str:
    if not content:
        return "'none'"
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
