"""The model card through the commands that write it, and what it rests on."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Scenes

from earmark.cli import main
from earmark.errors import UserError
from earmark.metrics.bootstrap import intervals
from earmark.metrics.confusion import tag_confusion
from earmark.metrics.tagging import TaggingEvidence
from earmark.model.bundle import read_description
from earmark.tasks import detect, evaluate, fuse, info, tag, tune
from earmark.tasks.judging import judge


@pytest.fixture
def copied(model: Path, tmp_path: Path) -> Path:
    """A model to change."""
    return Path(shutil.copytree(model, tmp_path / "copied"))


def text_of(model: Path) -> str:
    return (model / "README.md").read_text(encoding="utf-8")


def test_judged_are_intervals_and_what_was_there_instead() -> None:
    names = ("a", "b", "c")
    rng = np.random.default_rng(0)
    truth = rng.random((40, 3)) < 0.3
    given = np.clip(truth * 0.3 + rng.random((40, 3)) * 0.7, 0, 1)
    evidence = TaggingEvidence(truth, given, 0.5, names)
    sources = [f"file {n // 4}" for n in range(40)]

    def statistics(weights):
        scores = evidence.scores(weights)
        return {"F1": float(scores.micro.f1), "d'": float("nan")}

    found = given > 0.5
    wrong = (found & ~truth).sum(axis=0)
    judged = judge("here", statistics, sources, "clips", tag_confusion(truth, found, names), wrong)
    assert judged.sources == 10
    ends = intervals(statistics, 40, groups=sources)["F1"]
    assert judged.intervals == {"F1": (ends.low, ends.high)}
    assert [alarm.count for alarm in judged.false_alarms] == sorted(wrong, reverse=True)
    for alarm in judged.false_alarms:
        k = names.index(alarm.label)
        wrongly = found[:, k] & ~truth[:, k]
        assert alarm.nothing == sum(not truth[n].any() for n in np.flatnonzero(wrongly))
        expected = {name: int(truth[wrongly, j].sum()) for j, name in enumerate(names) if j != k}
        assert alarm.there == {name: count for name, count in expected.items() if count}


def test_one_source_has_no_interval() -> None:
    confusion = tag_confusion([[True]], [[True]], ["a"])
    judged = judge("here", lambda _: {"F1": 1.0}, ["x"], "clips", confusion, np.zeros(1, np.int64))
    assert judged.intervals == {}
    assert judged.false_alarms == ()


def test_training_says_how_sure_its_scores_are(model: Path) -> None:
    training = read_description(model).training
    assert training.judged is not None
    assert set(training.judged.intervals) == set(training.validation)
    for name, (low, high) in training.judged.intervals.items():
        assert low <= training.validation[name] <= high
        assert low < high
    assert f"| {training.validation['tagging mAP']:.3f} | " in text_of(model)
    assert training.judged.on in text_of(model)
    assert text_of(model).startswith("---\nlibrary_name: earmark\n")
    told = info(model)
    assert told.startswith("Trained by earmark")
    assert "<!--" not in told


def test_tuning_and_evaluation_keep_what_a_person_wrote(
    copied: Path, held_out: Scenes, tmp_path: Path
) -> None:
    own = text_of(copied).replace("# A sound event", "# My event") + "\nRecorded in a yard.\r\n"
    (copied / "README.md").write_bytes(own.encode())
    tags, events = tmp_path / "tags.csv", tmp_path / "events.csv"
    tag(held_out.audio, model=copied, out=tags, device="cpu")
    detect(held_out.audio, model=copied, out=events, device="cpu")
    of_tags = evaluate(held_out.weak, tags, thresholds=copied, card=copied, data_name="the yard")
    evaluate(held_out.strong, events, card=copied)
    first = (copied / "README.md").read_bytes().decode()
    assert first.startswith(own)
    assert "## Scores of tags on the yard" in first
    assert "## Scores of events on strong" in first
    f1 = 100 * of_tags.scores.micro.f1
    ends = of_tags.intervals["micro_f1"]
    row = f"| micro | {f1:.1f} | {100 * ends.low:.1f} to {100 * ends.high:.1f} |"
    assert row in first

    told = info(copied)
    assert row in told
    assert told.index("adds such scores below") < told.index("## Scores of tags on the yard")
    assert told.index("## Scores of events on strong") < told.index(" parameters")
    assert "<!--" not in told

    tune(copied, held_out.strong, audio=held_out.audio, device="cpu")
    second = (copied / "README.md").read_bytes().decode()
    assert "which also chose the thresholds" in second
    assert "the strong labels of strong.tsv" in second
    rest = re.compile("<!-- earmark: begin model;.*?<!-- earmark: end model -->", re.DOTALL)
    before = ", before the thresholds were tuned anew"
    for title in ("## Scores of tags on the yard", "## Scores of events on strong"):
        assert f"{title}{before}\n" in second
    assert rest.sub("", second).replace(before, "") == rest.sub("", first)

    # The same data again: in the same place, and now with the warning that they chose the rules.
    words = ["evaluate", str(held_out.strong), str(events), "--card", str(copied)]
    assert main(words) == 0
    third = (copied / "README.md").read_bytes().decode()
    assert third.count("## Scores of events on strong\n") == 1
    assert f"## Scores of tags on the yard{before}\n" in third
    assert "tuned on this table" in third
    assert "tuned on this table" not in second
    assert third.index("Scores of tags") < third.index("Scores of events")


def test_tags_are_judged_by_the_thresholds_of_the_cards_model(
    copied: Path, held_out: Scenes, tmp_path: Path
) -> None:
    tags = tmp_path / "tags.csv"
    tag(held_out.audio, model=copied, out=tags, device="cpu")
    own = evaluate(held_out.weak, tags, card=copied)
    assert own.as_dict() == evaluate(held_out.weak, tags, thresholds=copied).as_dict()
    assert f"- thresholds: those of the model {copied}" in text_of(copied)
    evaluate(held_out.weak, tags, thresholds=0.25, card=copied)
    assert "- thresholds: 0.25\n" in text_of(copied)


def test_a_card_is_only_of_the_model_that_predicted(
    copied: Path, held_out: Scenes, tmp_path: Path
) -> None:
    events = tmp_path / "events.csv"
    events.write_text("filename,onset,offset,event_label\nx.wav,0,1,oboe\n")
    reference = tmp_path / "r.tsv"
    reference.write_text("filename\tonset\toffset\tevent_label\nx.wav\t0\t1\toboe\n")
    before = text_of(copied)
    with pytest.raises(UserError, match="no class 'oboe' of the prediction"):
        evaluate(reference, events, card=copied)
    tags = tmp_path / "tags.csv"
    tags.write_text("filename,oboe\nx.wav,0.9\n")
    for thresholds in (None, 0.5):
        with pytest.raises(UserError, match="no class 'oboe' of the prediction"):
            evaluate(reference, tags, thresholds=thresholds, card=copied)
    with pytest.raises(UserError, match="is not a model folder"):
        evaluate(reference, events, card=tmp_path)
    with pytest.raises(UserError, match="a model on the hub is not changed"):
        evaluate(reference, events, card=Path("hf://somebody/model"))
    with pytest.raises(UserError, match="give the model folder with --card"):
        evaluate(reference, events, data_name="x")
    with pytest.raises(UserError, match="leave out --against or --card"):
        evaluate(reference, events, against=events, card=copied)
    assert text_of(copied) == before


def test_a_card_that_is_gone_is_made_anew(copied: Path, held_out: Scenes, tmp_path: Path) -> None:
    (copied / "README.md").unlink()
    events = tmp_path / "events.csv"
    detect(held_out.audio, model=copied, out=events, device="cpu")
    evaluate(held_out.strong, events, card=copied, data_name="<b>|x\n--> y")
    text = text_of(copied)
    assert text.startswith("---\n")
    assert "## Scores of events on &lt;b>\\|x --> y" in text
    assert text.count("<!--") == text.count("-->") - 1 == 4


def test_a_fused_model_tells_its_own_scores(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    fused = fuse(
        model,
        model,
        out=tmp_path / "fused",
        validation=held_out.weak,
        audio=held_out.audio,
        device="cpu",
    )
    judged = read_description(fused.model).judged
    assert judged is not None
    assert set(judged.intervals) == set(fused.validation)
    assert judged.on == "the weak labels of weak.tsv"
    assert judged.on in text_of(fused.model)
