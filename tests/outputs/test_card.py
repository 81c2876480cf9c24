"""The model card: what it says, what the hub reads of it, and that nobody's text is lost."""

import re

import pytest
from conftest import training_summary
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.config import ClassDecoding, settings_from
from earmark.features import Normaliser
from earmark.model.bundle import (
    FalseAlarms,
    FusedDescription,
    Judged,
    TrainingSummary,
    describe,
)
from earmark.outputs.card import (
    card,
    earlier_card,
    escaped,
    scores_key,
    scores_section,
    with_scores_of_before,
    with_section,
)

EVIL = "a|b <!-- earmark: end model --> `c` [d](e)\n"
JUDGED = Judged(
    on="12 clips held out of weak.tsv",
    sources=12,
    intervals={"tagging mAP": (0.5, 0.75)},
    unit="clips",
    false_alarms=(FalseAlarms(label="dog", count=7, there={"cat": 4, EVIL: 2}, nothing=3),),
)


def described(*names, licence="CC BY 4.0", judged=JUDGED, clips=3):
    import numpy as np

    chosen = settings_from({})
    rule = ClassDecoding(
        tag_threshold=0.25,
        threshold=0.5,
        low_threshold=0.5,
        max_gap_seconds=0.1,
        min_event_seconds=0.2,
    )
    summary = training_summary(*names).model_dump() | {
        "validation": {"tagging mAP": 0.625, "tagging micro F1": 0.5},
        "judged": judged,
        "clips_of_class": dict.fromkeys(names, clips),
    }
    bands = chosen.features.mel_bands
    return describe(
        names,
        chosen,
        [rule] * len(names),
        Normaliser(np.zeros(bands), np.ones(bands)),
        240,
        1,
        TrainingSummary.model_validate(summary),
        licence,
    )


def test_a_card_tells_what_people_ask():
    text = card(described("cat", "dog"))
    for wanted in (
        "| dog | 3 | 0.25 | 0.5 | 0.1 s | 0.2 s |",
        "- Licence of the training data: CC BY 4.0.",
        "On 12 clips held out of weak.tsv, which also chose the thresholds:",
        "| tagging mAP | 0.625 | 0.500 to 0.750 |",
        "| tagging micro F1 | 0.500 | - |",
        "It knows 2 classes.",
        "Learnt from fewer than 50 clips each: cat, dog.",
        "pages = {121--125}",
        "url = {https://ieeexplore.ieee.org/document/8461975}",
        "@software{earmark,",
    ):
        assert wanted in text
    (line,) = [line for line in text.splitlines() if line.startswith("| dog | 7 |")]
    assert line.startswith("| dog | 7 | cat in 4, a\\|b &lt;!-- ")
    assert line.endswith(" in 2, none of the classes in 3 |")
    assert "fewer than" not in card(described("cat", clips=50))


def test_scores_without_intervals_and_none_at_all():
    older = card(described("cat", judged=None))
    assert "- tagging mAP: 0.625" in older
    assert "confuses" not in older
    untuned = described("cat", judged=None)
    summary = untuned.training.model_copy(update={"validation": {}})
    assert "## Scores" not in card(untuned.model_copy(update={"training": summary}))


@pytest.mark.parametrize(
    ("stated", "licence", "name"),
    [
        ("CC BY 4.0", "cc-by-4.0", None),
        ("cc_by-nc-sa 3.0", "cc-by-nc-sa-3.0", None),
        ("CC0", "cc0-1.0", None),
        ("not stated", "unknown", None),
        ('own: "ask"\n---', "other", 'own: "ask"\n---'),
        ("CC BY 4.0 and others", "other", "CC BY 4.0 and others"),
    ],
)
def test_the_hub_reads_the_front_matter(stated, licence, name):
    from huggingface_hub import ModelCard

    data = ModelCard(card(described("cat", licence=stated))).data
    assert data.license == licence
    assert data.license_name == name
    assert data.library_name == "earmark"
    assert data.pipeline_tag == "audio-classification"
    assert "sound-event-detection" in data.tags


def test_what_a_person_wrote_stays():
    first = card(described("cat"))
    own = first.replace("license: cc-by-4.0", "license: mit").replace("# A sound", "# My sound")
    own = own.replace("<!-- earmark: begin", "Recorded\r\nin a yard.\n\n<!-- earmark: begin", 1)
    own = with_section(own, scores_key("tags", "yard"), "TAGS OF THE YARD") + "\nBye.  "
    second = card(described("cat", "dog"), own)
    before, _, rest = own.partition("<!-- earmark: begin model")
    after = rest.partition("<!-- earmark: end model -->")[2]
    assert second.startswith(before)
    assert second.endswith(after)
    assert "It knows 2 classes." in second
    assert "It knows 1 class." not in second
    assert card(described("cat", "dog"), second) == second


def test_sections_of_other_names_stay():
    text = "mine\n"
    for name, content in (("a", "one"), ("a b", "two"), ("a", "three"), ("--> <!--", "four")):
        text = with_section(text, scores_key("tags", name), content)
    text = with_section(text, scores_key("events", "a"), "five")
    assert re.findall("one|two|three|four|five", text) == ["three", "two", "four", "five"]
    assert text.startswith("mine\n\n<!-- earmark: begin scores of tags on a;")
    assert text.count("-->") == 8


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_scores_of_before_are_told_as_such_once(newline):
    text = "## Scores of my own\n"
    for name in ("a", "b"):
        section = scores_section("tags", name, ["about"], [[["F1"], ["50"]]])
        text = with_section(text, scores_key("tags", name), section)
    text = text.replace("\n", newline)
    first = with_scores_of_before(text)
    assert first.count(", before the thresholds were tuned anew") == 2
    assert first.replace(", before the thresholds were tuned anew", "") == text
    assert f"## Scores of tags on b, before the thresholds were tuned anew{newline}" in first
    assert with_scores_of_before(first) == first


def test_half_a_section_is_somebodys_text():
    begin, end = "<!-- earmark: begin model -->", "<!-- earmark: end model -->"
    text = f"{begin}\nprecious\n<!-- earmark: begin scores -->\nx\n{end}\n"
    once = with_section(text, "model", "new")
    assert once.startswith(text)
    twice = with_section(once, "model", "newer")
    assert twice.startswith(text)
    assert twice.count("newer") == 1
    assert not re.search(r"^new$", twice, re.MULTILINE)


@settings(deadline=None, max_examples=60)
@given(
    st.text(alphabet="ab\n\r \\$1<-!>", max_size=30),
    st.text(alphabet="ab\n\\1<>|-", max_size=30),
    st.text(alphabet="ab\n\r \\$1<-!>", max_size=30),
)
def test_all_but_the_section_is_untouched(before, content, after):
    text = with_section(before, "x", "first")
    assert text.startswith(before)
    again = with_section(text + after, "x", content)
    assert again.startswith(before)
    assert again.endswith(f"<!-- earmark: end x -->\n{after}")
    assert content.strip() in again
    assert again.count("first") == 0


def test_bytes_that_are_no_text_come_back(tmp_path):
    assert earlier_card(tmp_path) == ""
    path = tmp_path / "README.md"
    path.write_bytes(b"\xff caf\xe9\r\n")
    text = card(described("cat"), earlier_card(tmp_path))
    assert text.encode("utf-8", "surrogateescape").startswith(b"\xff caf\xe9\r\n\n<!-- earmark")


def test_names_are_no_marks():
    assert escaped(EVIL) == r"a\|b &lt;!-- earmark: end model --> \`c\` \[d\](e)"
    text = card(described(EVIL))
    assert card(described("cat"), text).count("<!-- earmark: end model -->") == 1
    assert EVIL.strip() not in text


def test_a_fused_model_has_a_card_too():
    one = described("cat")
    fused = FusedDescription(
        format_version=1,
        package_version="0.1.0",
        class_names=("cat",),
        members=("members/a", "members/b"),
        clock=one.clock,
        decoding=one.decoding,
        tuning_settings=one.settings.tuning,
        decoding_settings=one.settings.decoding,
        thresholds="means",
        tuned_on={},
        validation=one.training.validation,
        judged=JUDGED,
        licence_of_training_data="CC0; not stated",
    )
    text = card(fused)
    assert "license: other" in text
    assert "| tagging mAP | 0.625 | 0.500 to 0.750 |" in text
    assert "[members/b](members/b/README.md)" in text
    assert "its members learnt from tags" in text
