"""Writes docs/reference/{commands,settings,tasks}.md, from what the program says of itself."""

import inspect
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from earmark import tasks
from earmark.cli import EXAMPLES, app
from earmark.config import NETWORKS, ClassDecoding, Section, Settings

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
MADE = "This page is made: `python tests/golden/reference_pages.py`."
COMMANDS = f"""\
# Commands

What `earmark COMMAND --help` says. {MADE}

`--verbose`, before or after any command, says on the way what runs the networks, and what would
be faster. `earmark --install-completion` has the shell complete commands, options and paths.

Exit codes: 0 done; 1 some recordings could not be read, or a check found errors; 2 something to
mend in what was typed or given; 130 stopped with Ctrl-C.
"""
FUNCTIONS = f"""\
# Commands as functions

Each command is a function of the same name and parameters in `earmark.tasks`. It prints nothing
but progress, returns what came out, and raises `earmark.UserError` for what the caller can mend.
{MADE}

```python
from pathlib import Path

from earmark import tasks

found = tasks.detect(Path("recordings"), model=Path("model"), out=Path("found.csv"))
print(found.text())
```
"""


SETTINGS = f"""\
# Settings

Every setting with its default. {MADE}

`earmark train --set section.key=value` changes one, and so does a TOML file that `--recipe` names:

```toml
[network]
dropout = 0.2

[training]
epochs = 40
```

That file holds all that differs from the defaults below. One that begins with `base = "best-small"`
holds what differs from that recipe, or from a file beside it. With
`members = ["best-small", "mine.toml", "mine.toml"]` several are trained, and their probabilities
averaged; one that is there again differs by chance alone, which is worth something, too.

A misspelt key is an error, with what was probably meant. `earmark recipes` lists the recipes in
the box, and `earmark recipes NAME` shows how one differs from the defaults, and why. Where each
part of the method stands in the code: [the paper, equation by equation](../explanation/paper.md).
"""


def settings_page() -> str:
    """Every section of the settings, and the rule that a model folder keeps of each class."""
    sections: list[tuple[str, type[Section]]] = []
    for name, field in Settings.model_fields.items():
        if name == "network":
            sections += [(f"network, kind {kind}", of_kind) for kind, of_kind in NETWORKS.items()]
        else:
            assert isinstance(field.annotation, type), name
            sections.append((name, field.annotation))
    decided = "What `model.json` keeps of each class, tuned; it isn't set at training."
    rule = _section("decoding of a class", ClassDecoding).replace("\n\n", f"\n\n{decided}\n\n", 1)
    return "\n".join([SETTINGS, *(_section(*named) for named in sections), rule])


def _section(name: str, settings: type[Section]) -> str:
    documentation = inspect.getdoc(settings) or ""
    summary, _, attributes = documentation.partition("Attributes:\n")
    said = {
        match[1]: " ".join(match[2].split())
        for match in re.finditer(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", attributes, re.M | re.S)
    }
    rows = [
        f"| `{key}` | {_default(field)} | {_values(field.annotation, field.metadata)} |"
        f" {_plain(said[key])} |"
        for key, field in settings.model_fields.items()
    ]
    head = "| setting | default | values | what |\n|---|---|---|---|"
    return f"## {name}\n\n{_plain(summary).strip()}\n\n{head}\n" + "\n".join(rows) + "\n"


def _default(field: Any) -> str:
    default = field.default
    if field.is_required() or field.default_factory or default is None:
        return ""
    if isinstance(default, bool):
        return f"`{default}`".lower()
    return f"`{list(default) if isinstance(default, tuple) else default}`"


def _values(annotation: Any, limits: list[Any]) -> str:
    """What a setting may be, in words."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    inner = get_args(annotation)
    limits = [*limits, *(limit for part in inner for limit in getattr(part, "__metadata__", ()))]
    of = {
        sign: getattr(limit, name)
        for limit in (found for one in limits for found in getattr(one, "metadata", [one]))
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if getattr(limit, name, None) is not None
    }
    words = [f"{sign} {limit:,}" for sign, limit in of.items()]
    if annotation is bool:
        words.append("`true`, `false`")
    elif "tuple" in str(annotation):
        words[0] = f"a list, each {words[0]}"
    return ", ".join(words)


def commands_page() -> str:
    """What ``--help`` of each command says, and what its docstring says beyond."""
    return "\n".join([COMMANDS, *map(_command, tasks.MODULE_OF)])


def functions_page() -> str:
    """Where the functions stand; what they say is put in when the site is built."""
    parts = (
        f"::: earmark.tasks.{module}.{name}\n    options:\n      heading_level: 2\n"
        for name, module in tasks.MODULE_OF.items()
    )
    return "\n".join([FUNCTIONS, *parts])


def _command(name: str) -> str:
    text = app.generate_docs(heading_level=1)
    found = re.search(rf"^## earmark {name}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    head, _, options = found[1].partition("**Parameters**:")
    arguments = head.partition("**Arguments**:")[2]
    usage = re.search(r"```console\n(.*?)```", head, re.DOTALL)
    assert usage is not None, name
    documentation = inspect.getdoc(getattr(tasks, name)) or ""
    description = re.split(r"^(?:Args|Raises):", documentation, maxsplit=1, flags=re.MULTILINE)[0]
    listed = [line for line in f"{arguments.strip()}\n{options.strip()}".splitlines() if line]
    listed = [line for line in listed if not line.startswith("* `--verbose`")]
    parts = [
        f"## {name}",
        _plain(description).strip(),
        f"```text\n{usage[1]}```",
        # A list goes on in lines that are indented by two spaces; four would be code.
        _plain("\n".join(re.sub(r"^ +", "  ", line) for line in listed)),
        "For example:",
        "\n".join(["```text", *EXAMPLES.get(name, ()), "```"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _plain(text: str) -> str:
    """Markdown of what is written as docstrings are."""
    return text.replace("``", "`")


PAGES = {
    "commands.md": commands_page,
    "settings.md": settings_page,
    "tasks.md": functions_page,
}
"""Each page, and what makes it."""

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8", newline="\n")
