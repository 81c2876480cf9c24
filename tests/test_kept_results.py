"""Results that took hours are made once, by one process, and stay."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import make_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import kept
from earmark.config import Settings, merge, settings_from


def test_a_result_is_made_once_and_by_one_process(tmp_path: Path) -> None:
    calls: list[str] = []

    def outer() -> Mapping[str, Any]:
        kept.keep(tmp_path, "a-1", lambda: {"value": calls.append("another process, it seems")})
        kept.keep(tmp_path, "b-1", lambda: {"value": 2})
        return {"value": 1}

    kept.keep(tmp_path, "a-1", outer)
    kept.keep(tmp_path, "a-1", lambda: {"value": calls.append("again")})
    assert calls == []
    found = [kept.kept(tmp_path, name)[1,]["value"] for name in ("a", "b")]
    assert found == [1, 2]


def test_what_fails_leaves_nothing_and_may_be_tried_again(tmp_path: Path) -> None:
    def fails() -> Mapping[str, Any]:
        raise RuntimeError

    try:
        kept.keep(tmp_path, "a-0", fails)
    except RuntimeError:
        assert kept.kept(tmp_path, "a") == {}
    kept.keep(tmp_path, "a-0", lambda: {"value": 1})
    assert set(kept.kept(tmp_path, "a")) == {(0,)}


def test_a_name_has_its_own_results_alone(tmp_path: Path) -> None:
    for name in ("a-10-0", "a-2-0", "a-b-2-0", "a"):
        kept.keep(tmp_path, name, dict)
    assert list(kept.kept(tmp_path, "a")) == [(2, 0), (10, 0)]
    assert list(kept.kept(tmp_path, "a-b")) == [(2, 0)]
    assert list(kept.kept(tmp_path, "b")) == []


def test_what_is_of_other_settings_or_files_is_not_taken_for_the_same(tmp_path: Path) -> None:
    table = tmp_path / "table.tsv"
    table.write_text("a")
    settings = Settings()
    kept.keep(tmp_path, "a-0", dict, [settings, table, "a"])
    kept.keep(tmp_path, "a-0", dict, [Settings(), table, "a"])
    kept.keep(tmp_path, "a-0", dict)
    other = merge(settings.model_dump(), {"training": {"epochs": 99}})
    for differs in ([settings_from(other), table, "a"], [settings, table, "b"]):
        with pytest.raises(SystemExit, match=r"a-0\.json is of other settings or recordings"):
            kept.keep(tmp_path, "a-0", dict, differs)
    table.write_text("b")
    with pytest.raises(SystemExit, match="delete it, or name another folder"):
        kept.keep(tmp_path, "a-0", dict, [settings, table, "a"])
    # What doesn't say what it is of isn't taken for it.
    kept.keep(tmp_path, "b-0", dict)
    with pytest.raises(SystemExit, match="b-0"):
        kept.keep(tmp_path, "b-0", dict, ["anything"])


def test_an_idea_that_nothing_was_tried_of_changes_no_result(tmp_path: Path) -> None:
    before = make_dataclass("Ideas", [("noise", float, 0.0)])
    after = make_dataclass("Ideas", [("noise", float, 0.0), ("masks", int, 0)])
    kept.keep(tmp_path, "a-0", dict, [before(0.2)])
    kept.keep(tmp_path, "a-0", dict, [after(0.2)])
    for differs in (after(0.1), after(0.2, 1)):
        with pytest.raises(SystemExit, match=r"a-0\.json is of other settings"):
            kept.keep(tmp_path, "a-0", dict, [differs])


def test_a_page_says_what_its_results_were_made_on(tmp_path: Path) -> None:
    for number, on in enumerate(("2026-11-23, commit b", "2026-11-22, commit a") * 2):
        (tmp_path / f"x-{number}.json").write_text(json.dumps({kept.MADE: on}))
    assert kept.made(tmp_path) == "2026-11-22, commit a; 2026-11-23, commit b"


def test_those_of_the_repository_are_what_is_kept_by_default(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    kept.add_option(parser, "search")
    assert parser.parse_args([]).results == kept.HOME / "search"
    assert parser.parse_args(["--results", str(tmp_path)]).results == tmp_path


@pytest.mark.parametrize("content", ['{"value": 1', "[1]", "1"])
def test_what_is_no_result_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "a-0.json").write_text(content)
    asks = (
        partial(kept.kept, tmp_path, "a"),
        partial(kept.made, tmp_path),
        partial(kept.keep, tmp_path, "a-0", dict, ["a"]),
    )
    for ask in asks:
        with pytest.raises(SystemExit, match=r"a-0\.json .*delete it to make it anew"):
            ask()
