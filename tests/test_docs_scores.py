"""The page on the scores: its examples run, what it names is there, its table is true."""

import doctest
import inspect
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from earmark.events import Event
from earmark.metrics.intersections import intersection_scores
from earmark.metrics.psds import PsdsParameters, psds_from_events
from earmark.metrics.tagging import tagging_scores
from earmark.tasks.evaluation import evaluate
from earmark.tasks.tuning import tune

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sed_eval
    from sklearn import metrics

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/explanation/scores.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_examples_run() -> None:
    blocks = re.findall(r"^```pycon\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    # The fences go, or they would be read as output; later blocks use names of earlier ones.
    examples = doctest.DocTestParser().get_doctest("".join(blocks), {}, PAGE.name, str(PAGE), 0)
    told: list[str] = []
    result = doctest.DocTestRunner().run(examples, out=told.append)
    assert result.attempted == TEXT.count("\n>>> ") > 30
    assert not result.failed, "".join(told)


def test_links_lead_somewhere() -> None:
    """Those of the benchmarks' page; of docs, see test_docs_reference.py."""
    page = ROOT / "BENCHMARKS.md"
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    assert targets
    for target in targets:
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    code = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 10
    assert named <= set(re.findall(r"^def (test_\w+)", code, re.MULTILINE))


def test_every_difference_names_a_test() -> None:
    table = TEXT.partition("## Where other tools differ")[2]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    for what, *_, test in rows[2:]:
        assert "**" in what or "`test_" in test, what


def test_options_exist() -> None:
    for option in re.findall(r"--(\w[\w-]*)", re.sub(r"`earmark detect[^`]*`", "", TEXT)):
        known = {*inspect.signature(evaluate).parameters, *inspect.signature(tune).parameters}
        assert option.replace("-", "_") in known, option


# -- differences that no other test shows


def test_sed_eval_leaves_classes_out_of_the_mean_over_tags() -> None:
    names = ["bell", "car", "dog"]
    # The bell is right; the car is never there, the dog never given.
    truth, given = np.array([[1, 0, 1], [0, 0, 0]]), np.array([[1, 1, 0], [0, 0, 0]])

    def listed(table: np.ndarray) -> list[dict[str, object]]:
        return [
            {"filename": f"clip{n}", "tags": [names[k] for k in np.flatnonzero(row)]}
            for n, row in enumerate(table)
        ]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge = sed_eval.audio_tag.AudioTaggingMetrics(names)
        theirs = judge.evaluate(listed(truth), listed(given)).results()
    assert theirs["class_wise"]["car"]["f_measure"]["f_measure"] is None
    assert math.isnan(theirs["class_wise"]["dog"]["f_measure"]["f_measure"])
    assert theirs["class_wise_average"]["f_measure"]["f_measure"] == 1
    ours = tagging_scores(truth, given, 0.5, names)
    assert ours.macro_f1 == pytest.approx(1 / 3)
    assert ours.micro.f1 == pytest.approx(theirs["overall"]["f_measure"]["f_measure"])


def test_scikit_learn_averages_over_classes_without_positives() -> None:
    truth, given = np.array([[1, 0], [0, 0]]), np.array([[0.9, 0.1], [0.2, 0.3]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert metrics.average_precision_score(truth, given, average="macro") == 0.5
        assert math.isnan(metrics.roc_auc_score(truth, given, average="macro"))
    ours = tagging_scores(truth, given, 0.5, ["a", "b"])
    assert (ours.mean_average_precision, ours.classes_without_positives) == (1, 1)
    assert (ours.macro_roc_auc, ours.classes_without_roc_auc) == (1, 1)


def test_false_alarms_beyond_a_clip_s_end_count() -> None:
    truth, found = {"a": [Event(0, 1, "car")]}, {"a": [Event(0, 1, "car"), Event(11, 12, "car")]}
    assert intersection_scores(truth, found, ["car"]).counts.fp == 1
    asked = PsdsParameters(0.5, 0.5, max_efpr_per_hour=720)
    result = psds_from_events(truth, [found], {"a": 10.0}, ["car"], asked)
    # A false alarm in 10 s is 360 an hour: nothing is found below that rate.
    assert result.value == pytest.approx(0.5)
