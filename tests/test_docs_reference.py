"""The reference pages are what the program says, and the site builds without a warning."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from earmark import tasks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "tests" / "golden"))
from reference_pages import PAGES  # noqa: E402

FILES = sorted(DOCS.rglob("*.md"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_program_says(name: str) -> None:
    there = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert there == PAGES[name](), "python tests/golden/reference_pages.py writes it anew"


def test_every_command_is_in_the_reference() -> None:
    commands = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    functions = (DOCS / "reference" / "tasks.md").read_text(encoding="utf-8")
    for name, module in tasks.MODULE_OF.items():
        assert f"\n## {name}\n" in commands
        assert f"::: earmark.tasks.{module}.{name}\n" in functions


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    listed = re.findall(r'"([\w/-]+\.md)"', menu)
    assert sorted(listed) == [file.relative_to(DOCS).as_posix() for file in FILES]
    tomllib.loads(menu)


@pytest.mark.parametrize("page", FILES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_links_lead_to_pages_and_their_headings(page: Path) -> None:
    """Within docs: a link out of it would lead nowhere on the site."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        to = (page.parent / file).resolve() if file else page
        assert to.is_relative_to(DOCS), target
        assert to.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", to.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\s-]", "", h).strip().lower() for h in headings}
            assert anchor in {re.sub(r"[\s-]+", "-", slug) for slug in slugs}, target


def test_every_file_of_the_code_that_is_named_is_there() -> None:
    for page in FILES:
        for name in re.findall(r"`(earmark/[\w/]+(?:\.py|/))`", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if find_spec("zensical") is None or find_spec("mkdocstrings") is None:
        pytest.skip("the site needs pip install 'earmark[docs]'")
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copytree(
        ROOT / "earmark", tmp_path / "earmark", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=tmp_path,
        check=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    functions = (tmp_path / "site" / "reference" / "tasks" / "index.html").read_text("utf-8")
    for name, module in tasks.MODULE_OF.items():
        assert f'id="earmark.tasks.{module}.{name}"' in functions, name
    for page in (tmp_path / "site").rglob("*.html"):
        fetched = re.findall(
            r"<(?:script|link|img)[^>]+(?:src|href)=\"?(https?://[^\"> ]+)", page.read_text("utf-8")
        )
        assert not fetched, page
