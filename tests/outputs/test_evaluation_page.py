"""The page of an evaluation: complete in itself, and literal about names."""

import base64
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from earmark.events import Event
from earmark.metrics.confusion import tag_confusion
from earmark.metrics.curves import PrecisionRecall, Reliability
from earmark.metrics.psds import PSDS1, PSDS2, psds_from_events
from earmark.metrics.tagging import tagging_scores
from earmark.outputs import evaluation_figures as figures
from earmark.outputs.evaluation_page import page

EVIL = "<script>alert('$x^2$')</script>\x00&\n雨"
NAMES = ("car", EVIL)
HIDDEN = "_car"  # matplotlib leaves such names out of legends unless told
SVG = "{http://www.w3.org/2000/svg}"


class Tags(HTMLParser):
    """Which elements a page has, and what is written."""

    def __init__(self):
        super().__init__()
        self.seen, self.attributes, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def drawings():
    """One of each kind."""
    generator = np.random.default_rng(0)
    truth = generator.random((40, 2)) < 0.4
    given = np.clip(truth * 0.4 + generator.random((40, 2)) * 0.6, 0, 1)
    scores = tagging_scores(truth, given, 0.5, NAMES)
    curves = {name: PrecisionRecall.of(truth[:, k], given[:, k]) for k, name in enumerate(NAMES)}
    reference = {"x": [Event(0, 1, "car"), Event(2, 3, EVIL), Event(2, 3, HIDDEN)]}
    events = ({"x": [Event(0, 1, "car")]},)
    psds = [
        (name, psds_from_events(reference, events, {"x": 10}, (*NAMES, HIDDEN), parameters))
        for name, parameters in (("PSDS 1", PSDS1), ("PSDS 2", PSDS2))
    ]
    return [
        figures.precision_recall_drawing(curves, scores),
        figures.reliability_drawing(Reliability.of(truth, given)),
        figures.confusion_drawing(tag_confusion(truth, given > 0.5, NAMES), "clips"),
        figures.psd_roc_drawing(psds),
    ]


def texts(drawing):
    root = ElementTree.fromstring(drawing.svg)
    return {element.text for element in root.iter(f"{SVG}text")}


def test_names_are_text_in_pictures_taken_literally(drawings):
    short = figures.shown(EVIL)
    assert short == "<script>alert('$x^2$')<…"
    for drawing in (drawings[0], drawings[2], drawings[3]):
        found = texts(drawing)
        assert "car" in found
        assert short in found
        assert not ElementTree.fromstring(drawing.svg).findall(f".//{SVG}script")
    assert figures.shown("a\x00\nb 雨") == "a b 雨"


def test_a_picture_shows_the_numbers(drawings):
    curves, reliability, confusion, psd_roc = map(texts, drawings)
    assert HIDDEN in psd_roc
    assert any(text.startswith("AP ") for text in curves)
    assert {"predicted", "true", "none of them"} <= confusion
    assert "PSDS 1: 0.000" in psd_roc  # one class is found, the other missed: mean less deviation
    assert {"1", "10"} <= reliability
    assert not any("$" in text and "mathdefault" in text for text in reliability)
    assert "calibration error: " in drawings[1].caption


def test_the_same_scores_give_the_same_picture():
    truth, given = np.eye(2, dtype=bool), np.eye(2)
    first, second = (
        figures.confusion_drawing(tag_confusion(truth, given, NAMES), "clips") for _ in range(2)
    )
    assert first == second
    # No clip is without tags, so that there is no row of such.
    assert "none of them" not in texts(first)


def test_of_many_classes_the_most_frequent_are_drawn():
    count = figures.MOST_CLASSES + 3
    truth = np.eye(count, dtype=bool)
    truth[:, -1] = True
    names = [f"class {k}" for k in range(count)]
    drawing = figures.confusion_drawing(tag_confusion(truth, truth, names), "clips")
    assert "The 3 classes that occur least are not drawn" in drawing.caption
    found = texts(drawing)
    assert names[-1] in found
    assert names[count - 2] not in found


def test_a_page_is_whole_by_itself_and_runs_nothing(drawings):
    tables = [[["class", "F1"], [EVIL, "1.0"]], [["<b>", ""], ["car", "-"]]]
    text = page(f"Tags of {EVIL}", [f"about {EVIL}"], tables, drawings, [f"left out: {EVIL}"])
    parser = Tags()
    parser.feed(text)
    assert {"script", "link", "iframe", "b"}.isdisjoint(parser.seen)
    assert parser.seen.count("img") == 4
    assert parser.seen.count("table") == 2
    assert parser.text.count("alert('$x^2$')") == 5
    for name, value in parser.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "href") or value.startswith("data:image/svg+xml;base64,")
    first = re.search(r'base64,([^"]+)"', text)[1]
    assert base64.b64decode(first).decode() == drawings[0].svg
    assert page("a \ud800", [], [], [], []).encode()
