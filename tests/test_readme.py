"""The README says what is there: its map, its links, its commands."""

import re
from pathlib import Path

import earmark
from earmark.tasks import MODULE_OF

PACKAGE = Path(earmark.__file__).parent
ROOT = PACKAGE.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAP = README.partition("## Where is what")[2]


def test_every_module_stands_in_the_map() -> None:
    whole_folders = {Path(name) for name in re.findall(r"^  ([\w/]+)/ ", MAP, re.MULTILINE)}
    for file in PACKAGE.rglob("*.py"):
        relative = file.relative_to(PACKAGE)
        if file.name == "__init__.py" and relative.parts != ("__init__.py",):
            continue
        named = re.search(rf"^  {re.escape(relative.as_posix())} ", MAP, re.MULTILINE)
        assert named or whole_folders.intersection(relative.parents), relative


def test_everything_in_the_map_is_there() -> None:
    for name in re.findall(r"^  ([\w/]+(?:\.py|/)) ", MAP, re.MULTILINE):
        assert (PACKAGE / name).exists(), name


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_commands_exist() -> None:
    for command in re.findall(r"^\s*earmark (\w+)", README, re.MULTILINE):
        assert command in MODULE_OF
