"""The evaluate task on small tables that each test writes itself."""

import hashlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from earmark.errors import UserError
from earmark.tasks.evaluation import evaluate

STRONG = """filename\tonset\toffset\tevent_label
a.wav\t0\t2.5\tcar
a.wav\t2.8\t4.5\tcar
a.wav\t6\t10\tcar
b.wav\t\t\t
"""
WEAK = """filename\tevent_labels
a.wav\tcar
b.wav\tdog,car
c.wav\t
"""
EVENTS = "filename,onset,offset,event_label,score\n"
FOUND = EVENTS + "a.wav,1,3.5,car,0.9\na.wav,7,8,car,0.8\n"
TAGS = "filename,car,dog\na.wav,0.9,0.1\nb.wav,0.4,0.8\nc.wav,0.2,0.6\n"


@pytest.fixture
def score(tmp_path, monkeypatch):
    """Evaluates texts: each becomes a file of its name. Of few draws, for speed."""
    monkeypatch.setattr("earmark.tasks.evaluation.RESAMPLES", 8)

    def run(reference, prediction, **options):
        files = {"reference": reference, "prediction": prediction}
        for name in ("durations", "against"):
            if name in options:
                files[name] = options.pop(name)
        paths = {}
        for name, text in files.items():
            if isinstance(text, Path):
                paths[name] = text
                continue
            paths[name] = tmp_path / f"{name}.csv"
            paths[name].write_text(text, encoding="utf-8")
        return evaluate(**paths, **({"extra_classes": True} | options))

    return run


@pytest.fixture
def model(tmp_path):
    """A model folder with one threshold a class."""

    def make(**thresholds):
        rules = [{"tag_threshold": threshold} for threshold in thresholds.values()]
        content = {"class_names": list(thresholds), "decoding": rules}
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")
        return folder

    return make


def test_events_are_scored_in_segments_as_sed_eval_asserts(score):
    result = score(STRONG, FOUND)
    found = result.as_dict()
    assert found["task"] == "segments"
    assert found["clips"] == 2
    assert found["error_rate"] == pytest.approx(0.5556, abs=5e-5)
    assert (found["deletions"], found["insertions"], found["n_reference"]) == (5, 0, 9)
    assert found["classes"]["car"]["recall"] == pytest.approx(4 / 9)
    assert found["left_out"]["clips_missing_from_prediction"] == 1
    assert score(STRONG, FOUND, resolution=0.5).as_dict()["n_reference"] > 9


def test_probabilities_are_scored_as_tags_at_a_half_and_say_so(score):
    result = score(WEAK, TAGS)
    found = result.as_dict()
    assert found["task"] == "tagging"
    # car: hit a, missed b; dog: hit b, false alarm c.
    assert found["micro_f1"] == pytest.approx(4 / 6)
    assert found["classes"]["dog"]["precision"] == 0.5
    assert found["mean_average_precision"] == 1
    assert "0.5, for none were given" in result.text()
    assert found["thresholds_from"] == "0.5, for none were given"


def test_a_number_and_a_model_folder_give_thresholds(score, model):
    assert score(WEAK, TAGS, thresholds="0.3").as_dict()["micro_f1"] == pytest.approx(6 / 7)
    # The model has its classes in another order, and one that the tables don't have.
    folder = model(dog=0.7, cat=0.1, car=0.3)
    found = score(WEAK, TAGS, thresholds=folder).as_dict()
    assert found["micro_f1"] == 1
    assert found["classes"]["dog"]["threshold"] == 0.7
    assert str(folder) in found["thresholds_from"]


def test_every_clip_may_get_a_tag(score):
    plain = score(WEAK, TAGS, thresholds=0.95).as_dict()
    every = score(WEAK, TAGS, thresholds=0.95, tag_every_clip=True).as_dict()
    # car on a, dog on b and c: one right each, and one wrong.
    assert (plain["micro_f1"], every["micro_f1"]) == (0, pytest.approx(4 / 6))
    with pytest.raises(UserError, match="is for clip probabilities"):
        score(STRONG, FOUND, tag_every_clip=True)


def test_a_threshold_next_to_one_keeps_its_digits(score, model):
    tags = "filename,car\na.wav,0.99999\nb.wav,0.99999\nc.wav,0.99990\n"
    folder = model(car=0.999945)
    found = score(WEAK, tags, thresholds=str(folder)).as_dict()
    assert found["classes"]["car"]["f1"] == 1
    assert found["classes"]["car"]["threshold"] == 0.999945


def test_a_strong_reference_gives_tags_too(score):
    strong = STRONG + "c.wav\t0\t1\tdog\n"
    found = score(strong, "filename,car,dog\na.wav,0.9,0.2\nb.wav,0.9,0\nc.wav,0,0.9\n").as_dict()
    assert found["task"] == "tagging"
    assert found["classes"]["dog"]["f1"] == 1
    assert found["classes"]["car"]["precision"] == 0.5


def test_tags_without_probabilities_have_no_average_precision(score):
    result = score(WEAK, 'filename,event_labels\na.wav,car\nb.wav,"car,dog"\n')
    found = result.as_dict()
    assert found["micro_f1"] == 1
    assert "mean_average_precision" not in found
    assert "mAP" not in result.text()
    assert "threshold" not in result.text()


def test_clips_that_the_prediction_leaves_out_count_with_their_misses(score):
    result = score(WEAK, "filename,car,dog\na.wav,0.9,0.1\n", thresholds=0)
    found = result.as_dict()
    assert found["left_out"]["clips_missing_from_prediction"] == 2
    assert found["classes"]["car"]["recall"] == 0.5
    assert "clips without a row in the prediction, taken as empty: 2" in result.text()
    assert score(STRONG, EVENTS).as_dict()["error_rate"] == 1


def test_predicted_clips_outside_the_list_are_left_out_and_counted(score):
    result = score(STRONG, FOUND + "z.wav,0,9,car,1\n")
    assert result.as_dict()["insertions"] == 0
    assert result.as_dict()["left_out"]["predicted_clips_outside_list"] == 1
    tags = score(WEAK, TAGS + "z.wav,1,1\n").as_dict()
    assert tags["clips"] == 3
    assert tags["left_out"]["predicted_clips_outside_list"] == 1


def test_a_durations_table_is_the_clip_list(score):
    durations = "filename\tduration\na.wav\t10\nz.wav\t10\n"
    found = score(STRONG, FOUND + "z.wav,0,2,car,1\n", durations=durations).as_dict()
    assert found["clips"] == 2
    assert found["insertions"] == 2
    assert found["left_out"]["clips_missing_from_reference"] == 1
    assert found["left_out"]["reference_clips_outside_list"] == 1
    tags = score(WEAK, TAGS, durations=durations).as_dict()
    assert tags["classes"]["dog"]["n_reference"] == 0


def test_classes_are_those_of_both_sides(score):
    result = score(STRONG, FOUND + "a.wav,0,2,cat,1\n").as_dict()
    assert list(result["classes"]) == ["car", "cat"]
    assert result["left_out"]["classes_missing_from_reference"] == 1
    # In segment 0 the car is missed, in segment 1 it is found: one substitution, one insertion.
    assert (result["substitutions"], result["deletions"], result["insertions"]) == (1, 4, 1)
    assert result["classes"]["cat"]["error_rate"] is None
    tags = score(WEAK, "filename,cat,dog\na.wav,0.9,0\nb.wav,0,1\nc.wav,0,0\n").as_dict()
    assert tags["left_out"]["classes_missing_from_prediction"] == 1
    assert tags["classes"]["car"]["recall"] == 0
    assert tags["classes_without_positives"] == 1


def test_events_without_length_are_set_aside_and_counted(score):
    strong = STRONG + "b.wav\t1.5\t1.5\tdog\n"
    result = score(strong, FOUND + "a.wav,5.5,5.5,car,1\n")
    found = result.as_dict()
    assert found["left_out"]["zero_length_events_in_reference"] == 1
    assert found["left_out"]["zero_length_events_in_prediction"] == 1
    assert (found["n_reference"], found["insertions"]) == (9, 0)
    assert result.text().count("events of 0 s, set aside: 1") == 2


def test_parts_of_files_are_clips_of_their_own(score):
    head = "filename\tonset\toffset\tevent_labels\n"
    reference = head + "day.wav\t0\t10\tcar\nday.wav\t10\t20\tdog\n"
    prediction = head + "day.wav\t10.0\t20.0\tdog\nday.wav\t0\t10\tdog\n"
    found = score(reference, prediction).as_dict()
    assert found["clips"] == 2
    assert found["micro_f1"] == 0.5
    with pytest.raises(UserError, match=r"here 'day.wav', there 'day.wav \(0.000-10.000 s\)'"):
        score(reference, "filename,car\nday.wav,0.9\n")
    with pytest.raises(UserError, match="one in line 2 too"):
        score(head + "a.wav\t0\t1\tcar\na.wav\t0\t1\tdog\n", prediction)


def test_a_permuted_table_gives_the_same_result(score):
    lines = TAGS.splitlines()
    moved = "\n".join([lines[0], *lines[:0:-1]])
    assert score(WEAK, moved).as_dict() == score(WEAK, TAGS).as_dict()


def test_json_is_the_dictionary_in_twelve_digits(score, tmp_path):
    path = tmp_path / "result.json"
    result = score(STRONG, FOUND, json=path)
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written == result.as_dict()
    assert written["error_rate"] == 0.555555555556
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []
    with pytest.raises(UserError, match="no such folder"):
        score(STRONG, FOUND, json=tmp_path / "nowhere" / "result.json")


def test_json_has_no_infinity(score, tmp_path):
    path = tmp_path / "result.json"
    result = score("filename\tonset\toffset\tevent_label\na.wav\t\t\t\n", FOUND, json=path)
    assert result.scores.error_rate == math.inf
    assert json.loads(path.read_text(encoding="utf-8"))["error_rate"] is None
    assert "inf" in result.text()


def test_the_report_has_a_line_for_each_class_of_equal_width(score):
    text = score('filename\tevent_labels\na.wav\t"Air horn, truck horn",car\n', TAGS).text()
    head, headline, ranking, classes, remarks = text.split("\n\n")
    assert "prediction.csv" in head
    # A single clip has no interval.
    assert headline.splitlines()[0].split() == ["tags", "F1", "precision", "recall"]
    assert headline.splitlines()[1].split() == ["micro", "66.7", "100.0", "50.0"]
    assert ranking.splitlines()[1].startswith("mAP (of the 2 classes that occur)")
    assert len(classes.splitlines()) == 4
    assert len({len(line) for line in classes.splitlines()}) == 1
    assert "left out: 2" in remarks


def test_nothing_in_common_shows_two_names_of_each_side(score):
    with pytest.raises(UserError, match=r"'Ya.wav', 'Yb.wav', there 'a.wav', 'b.wav'.*leading"):
        score(WEAK, TAGS.replace("a.wav", "Ya.wav").replace("b.wav", "Yb.wav").replace("c", "Yc"))
    with pytest.raises(UserError, match=r"durations\.csv: no clip is also in the reference"):
        score(WEAK, TAGS, durations="filename\tduration\nx.wav\t10\n")


def test_a_misfit_is_an_error_that_says_what_to_do(score, model, tmp_path):
    with pytest.raises(UserError, match="strong reference"):
        score(WEAK, FOUND)
    with pytest.raises(UserError, match="decided already"):
        score(STRONG, FOUND, thresholds=0.5)
    with pytest.raises(UserError, match="is for events"):
        score(WEAK, TAGS, resolution=0.5)
    with pytest.raises(UserError, match="at least 1e-06 s"):
        score(STRONG, FOUND, resolution=0)
    with pytest.raises(UserError, match="no clip to score"):
        score("filename\tevent_labels\n", TAGS)
    with pytest.raises(UserError, match="no clip to score"):
        score(WEAK, TAGS, durations="filename\tduration\n")
    with pytest.raises(UserError, match="too far"):
        score(STRONG, EVENTS + "a.wav,0,1e15,car,1\n")
    for bad in (1.5, "nan", -0.1):
        with pytest.raises(UserError, match=r"\[0, 1\]"):
            score(WEAK, TAGS, thresholds=bad)
    with pytest.raises(UserError, match="model folder"):
        score(WEAK, TAGS, thresholds=tmp_path / "nowhere")
    with pytest.raises(UserError, match="no class 'dog'"):
        score(WEAK, TAGS, thresholds=model(car=0.5))


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"class_names": ["car"], "decoding": []}']
    + [
        f'{{"class_names": ["car"], "decoding": [{{"tag_threshold": {value}}}]}}'
        for value in ("2", "null", '"x"')
    ],
)
def test_a_broken_model_is_an_error_of_its_file(score, tmp_path, content):
    (tmp_path / "model.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"model.json: must hold"):
        score(WEAK, TAGS, thresholds=tmp_path)


def test_events_are_scored_by_boundaries_and_shared_time_too(score):
    wanted = STRONG + "b.wav\t1\t3\tdog\n"
    # Car 6-10: onset met, offset within 50 %; car 2.8-4.5: onset alone; dog: neither, but shared.
    found = EVENTS + "a.wav,6.1,8.5,car,1\na.wav,2.9,7,car,1\nb.wav,1.5,3,dog,1\n"
    result = score(wanted, found).as_dict()
    assert result["event_f1"] == pytest.approx(2 * 1 / (4 + 3))
    assert result["onset_f1"] == pytest.approx(2 * 2 / (4 + 3))
    # Of the two cars, which overlap, one from 2.9 to 8.5 is made: 4.1 of its 5.6 s are true.
    assert result["intersection_f1"] == pytest.approx(2 * 3 / (2 * 3 + 1))
    assert result["classes"]["dog"]["event_f1"] == 0
    assert result["classes"]["dog"]["intersection_f1"] == 1
    assert result["classes"]["car"]["onset_n_reference"] == 3
    wider = score(wanted, found, collar=0.5).as_dict()
    assert wider["event_f1"] == pytest.approx(2 * 2 / (4 + 3))
    assert wider["onset_collar_seconds"] == 0.5
    assert "psds1_of_one_operating_point" not in result
    durations = "filename\tduration\na.wav\t10\nb.wav\t10\n"
    point = score(wanted, found, durations=durations).as_dict()
    assert 0 < point["psds2_of_one_operating_point"] < 1


def test_intervals_are_those_of_draws_of_the_clips(score, monkeypatch):
    reference = "filename\tevent_labels\n" + "".join(f"{n}.wav\tcar\n" for n in range(20))
    tags = "filename,car\n" + "".join(f"{n}.wav,{0.9 if n % 2 else 0.1}\n" for n in range(20))
    found = score(reference, tags, thresholds=0.5)
    ends = found.as_dict()["intervals"]["micro_f1"]
    assert ends["low"] < found.as_dict()["micro_f1"] < ends["high"]
    assert found.as_dict()["bootstrap"] == {
        "resamples": 8,
        "level": 0.95,
        "seed": 0,
        "sources": 20,
    }
    assert score(reference, tags).as_dict()["intervals"]["micro_f1"] == ends
    assert "8 bootstrap draws of the 20 clips" in found.text()
    # With two sources, one all right and one all wrong, a draw is all, half or nothing.
    rows = "".join(f"{n}.wav\tcar\t{n % 2}\n" for n in range(20))
    monkeypatch.setattr("earmark.tasks.evaluation.RESAMPLES", 50)
    grouped = score("filename\tevent_labels\tgroup\n" + rows, tags)
    assert grouped.as_dict()["bootstrap"]["sources"] == 2
    assert grouped.as_dict()["intervals"]["micro_f1"] | {"draws_left_out": 0} == {
        "low": 0,
        "high": 1,
        "draws_left_out": 0,
    }
    assert "the 2 sources that" in grouped.text()


def test_a_single_clip_has_no_intervals(score):
    result = score("filename\tevent_labels\na.wav\tcar\n", "filename,car\na.wav,0.9\n")
    assert result.as_dict()["intervals"] == {}
    assert "bootstrap" not in result.text()


def test_two_predictions_are_compared_on_the_same_draws(score):
    better = TAGS.replace("b.wav,0.4", "b.wav,0.6")
    result = score(WEAK, better, against=TAGS)
    other = result.as_dict()["against"]
    assert other["micro_f1"] == score(WEAK, TAGS).as_dict()["micro_f1"]
    difference = other["differences"]["micro_f1"]
    assert difference["difference"] == pytest.approx(result.as_dict()["micro_f1"] - 4 / 6)
    assert 0 <= difference["low"] <= difference["high"]
    line = next(row for row in result.text().splitlines() if row.startswith("micro F1"))
    assert line.split()[2:5] == ["85.7", "66.7", "19.0"]
    same = score(WEAK, TAGS, against=TAGS).as_dict()["against"]["differences"]
    assert {(one["difference"], one["p_value"]) for one in same.values()} == {(0, 1)}
    # Decided tags have no ranking: what both have is compared.
    decided = "filename,event_labels\na.wav,car\nb.wav,dog\nc.wav,dog\n"
    both = score(WEAK, decided, against=decided).as_dict()["against"]["differences"]
    assert both.keys() == {"micro_f1", "macro_f1"}
    with pytest.raises(UserError, match="at least two files or groups"):
        score("filename,event_labels\na.wav,car\n", decided, against=decided)
    with pytest.raises(UserError, match=r"of one kind compare: .* holds events"):
        score(STRONG, FOUND, against="filename,car\na.wav,0.9\n")


def test_thresholds_of_a_model_say_what_they_were_tuned_on(score, model):
    folder = model(car=0.5, dog=0.5)
    path = folder / "model.json"
    content = json.loads(path.read_text(encoding="utf-8"))

    def micro(digests):
        training = {"thresholds": "micro F1 on the tags of reference.csv", "tuned_on": digests}
        content["training"] = training
        path.write_text(json.dumps(content), encoding="utf-8")
        text = score(WEAK, TAGS, thresholds=folder).text()
        assert training["thresholds"] in text
        return next(line for line in text.splitlines() if line.startswith("micro"))

    same = hashlib.sha256(WEAK.encode()).hexdigest()
    assert "tuned on the data being scored" in micro({"other name.csv": same})
    assert "tuned" not in micro({"reference.csv": same[::-1]})
    assert "tuned" not in micro({})


@pytest.fixture
def scores(tmp_path):
    """A folder of score tables of two clips of 10 s; the car of STRONG stands out in a.wav."""
    folder = tmp_path / "scores"
    folder.mkdir()
    for clip in ("a.wav", "b.wav"):
        rows = ["onset\toffset\tcar\tdog"]
        for start in range(10):
            loud = clip == "a.wav" and (start in (0, 1, 3) or start >= 6)
            rows.append(f"{start}\t{start + 1}\t{0.9 if loud else 0.2}\t0.1")
        (folder / f"{clip}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


DURATIONS = "filename\tduration\na.wav\t10\nb.wav\t10\n"


def test_a_folder_of_scores_gives_psds(score, scores):
    result = score(STRONG, scores, durations=DURATIONS)
    found = result.as_dict()
    assert found["task"] == "frame_scores"
    # Car 2.8-4.5 shares too little with frame 3 for PSDS 1; nothing else is wrong.
    assert found["psds1"] == pytest.approx(2 / 3)
    assert found["psds2"] == 1
    assert found["best_intersection_macro_f1"] == 0.5  # of the class that never sounds 0
    assert found["classes"]["car"]["best_intersection_f1"] == 1
    assert found["classes"]["car"]["best_intersection_threshold"] == pytest.approx(0.55)
    assert found["classes"]["dog"]["psds1"] is None
    assert found["left_out"]["classes_missing_from_reference"] == 1
    line = next(row for row in result.text().splitlines() if row.startswith("best intersection"))
    assert line.endswith("tuned on the data being scored")
    assert "event_f1" not in found


def test_a_frame_far_beyond_its_clip_is_an_error(score, tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "a.wav.tsv").write_text("onset\toffset\tcar\n0\t1000\t0.9\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"from 0 to 1000 s goes beyond 'a.wav', which lasts 10 s"):
        score(STRONG, folder, durations="filename\tduration\na.wav\t10\n")


def test_scores_that_end_before_their_clip_are_an_error(score, scores):
    table = scores / "b.wav.tsv"
    rows = table.read_text(encoding="utf-8").splitlines()
    for left in (10, 9):  # with the header: nine and eight frames of ten
        table.write_text("\n".join(rows[:left]) + "\n", encoding="utf-8")
        if left == 10:
            score(STRONG, scores, durations=DURATIONS)
    with pytest.raises(UserError, match=r"those of 'b.wav' end at 8 of 10 s; detect it again"):
        score(STRONG, scores, durations=DURATIONS)
    table.write_text(rows[0] + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"'b.wav' end at 0 of 10 s"):
        score(STRONG, scores, durations=DURATIONS)


def test_frame_scores_above_a_number_are_events(score, scores):
    found = score(STRONG, scores, durations=DURATIONS, thresholds=0.5)
    by_hand = EVENTS + "a.wav,0,2,car,\na.wav,3,4,car,\na.wav,6,10,car,\n"
    numbers, expected = found.as_dict(), score(STRONG, by_hand, durations=DURATIONS).as_dict()
    assert numbers["psds1"] == pytest.approx(2 / 3)
    for name in ("f1", "error_rate", "event_f1", "onset_f1", "intersection_f1"):
        assert numbers[name] == expected[name], name
    with pytest.raises(UserError, match="score the events that it detects"):
        score(STRONG, scores, durations=DURATIONS, thresholds="model")
    with pytest.raises(UserError, match="is for events"):
        score(STRONG, scores, durations=DURATIONS, collar=1)


def test_psds_without_durations_is_an_error_that_says_how_to_give_them(score, scores, tmp_path):
    with pytest.raises(UserError, match=r"--durations.*--audio"):
        score(STRONG, scores)
    with pytest.raises(UserError, match=r"longer than 0 s, unlike 'c.wav'"):
        score(STRONG, scores, durations=DURATIONS + "c.wav\t0\n")
    with pytest.raises(UserError, match=r"the last frame from 9 to 10 s goes beyond 'b.wav'"):
        score(STRONG, scores, durations=DURATIONS.replace("b.wav\t10", "b.wav\t8"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="the folder holds no tables"):
        score(STRONG, tmp_path / "empty")
    with pytest.raises(UserError, match="give the folder of all"):
        score(STRONG, "onset\toffset\tcar\n0\t1\t0.5\n")
    (scores / "a.wav.tsv").write_text("onset\toffset\tcar\n0\t1\tnan\n", encoding="utf-8")
    with pytest.raises(UserError, match="finite number"):
        score(STRONG, scores, durations=DURATIONS)


@pytest.mark.parametrize(
    ("suffix", "mark", "quote"), [("csv", ",", ""), ("tsv", "\t", ""), ("tsv", "\t", '"')]
)
def test_a_folder_of_event_tables_is_one_table(score, tmp_path, suffix, mark, quote):
    folder = tmp_path / "found"
    folder.mkdir()
    header, *rows = FOUND.splitlines()
    for clip in ("a.wav", "b.wav"):
        names = ",".join(f"{quote}{name}{quote}" for name in header.split(","))
        lines = [names, *(row for row in rows if row.startswith(clip))]
        text = "\n".join(lines).replace(",", mark) + "\n"
        (folder / f"{clip}.{suffix}").write_text(text, encoding="utf-8")
    (folder / "._a.wav.tsv").write_bytes(b"\xff\x00")  # as other systems leave them
    together, apart = score(STRONG, FOUND).as_dict(), score(STRONG, folder).as_dict()
    assert together.pop("prediction") != apart.pop("prediction")
    assert together == apart
    with pytest.raises(UserError, match="decided already"):
        score(STRONG, folder, thresholds=0.5)


def test_intervals_are_of_the_scores_beside_which_they_stand(score, scores):
    for tables, options in (
        ((WEAK, TAGS), {}),
        ((STRONG, FOUND + "b.wav,1,2,dog,1\n"), {}),
        ((STRONG, scores), {"durations": DURATIONS, "thresholds": 0.5}),
    ):
        result = score(*tables, **options)
        numbers = result.as_dict()
        statistics = result.scored.statistics()
        assert numbers["intervals"].keys() == statistics.keys()
        for name, value in statistics.items():
            assert numbers[name] == pytest.approx(value, rel=1e-11), name


def test_a_report_has_the_figures_that_the_prediction_allows(score, scores, tmp_path):
    report = tmp_path / "report.html"

    def headings(*tables, **options):
        result = score(*tables, report=report, **options)
        text = report.read_text(encoding="utf-8")
        assert result.title() in text
        return re.findall("<h2>(.*?)</h2>", text)

    confusion = "Confusion of classes"
    assert headings(WEAK, TAGS) == ["Precision and recall", confusion, "Reliability"]
    missing = "Left out or repaired"
    assert headings(WEAK, "filename,event_labels\na.wav,car\n") == [confusion, missing]
    assert headings(STRONG, FOUND) == [confusion, missing]
    assert headings(STRONG, scores, durations=DURATIONS) == ["PSD-ROC", missing]
    both = headings(STRONG, scores, durations=DURATIONS, thresholds=0.5, resolution=0.5)
    assert both == ["PSD-ROC", confusion, missing]
    assert "segments of 0.5 s" in report.read_text(encoding="utf-8")
    assert headings(STRONG, EVENTS) == [confusion, missing]
    with pytest.raises(UserError, match=r"ending in \.html"):
        score(WEAK, TAGS, report=tmp_path / "report.pdf")
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []


def test_importing_the_task_imports_neither_torch_nor_matplotlib():
    check = (
        "import earmark.tasks.evaluation, sys; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


SECONDS = "filename\tduration\na.wav\t10\nb.wav\t1800\nz.wav\t1800\n"


def test_false_events_are_counted_where_nothing_is(score, tmp_path):
    report = tmp_path / "page.html"
    given = FOUND + "a.wav,4.6,5,dog,1\nb.wav,0,2,car,1\nb.wav,4,5,car,1\nz.wav,0,1,dog,1\n"
    result = score(STRONG, given, durations=SECONDS, report=report)
    found = result.as_dict()
    assert found["false_events_per_hour"] == 3
    assert found["hours_without_events"] == 1
    assert found["classes"]["car"]["false_events_per_hour"] == 2
    assert found["classes"]["dog"]["false_events_per_hour"] == 1
    assert found["intervals"]["false_events_per_hour"]["draws_left_out"] < 8
    line = "false events per hour on recordings without events: 3.00 ("
    assert line in result.text()
    assert line in report.read_text(encoding="utf-8")
    assert re.search(r"1 hours\)", result.text())
    better = score(STRONG, FOUND, durations=SECONDS, against=given)
    assert re.search(
        r"^false events per hour +0\.000 +3\.000 +-3\.000", better.text(), re.MULTILINE
    )


def test_without_silence_or_lengths_nothing_is_said_of_false_events(score):
    busy = "filename\tduration\na.wav\t10\n"
    for result in (score(STRONG, FOUND), score(STRONG, FOUND, durations=busy)):
        assert "false events" not in result.text()
        assert "false per hour" not in result.text()
        assert "false_events_per_hour" not in result.as_dict()


def test_tags_say_what_their_probabilities_are_worth(score):
    result = score(WEAK, TAGS)
    found = result.as_dict()
    # Of car |0.9 - 1|, |0.4 - 1| and 0.2; of dog 0.1, |0.8 - 1| and 0.6; each alone in its bin.
    assert found["classes"]["car"]["expected_calibration_error"] == pytest.approx(0.9 / 3)
    assert found["classes"]["dog"]["expected_calibration_error"] == pytest.approx(0.9 / 3)
    assert found["expected_calibration_error"] == pytest.approx(1.8 / 6)
    assert re.search(r"^expected calibration error +30\.0$", result.text(), re.MULTILINE)
    decided = score(WEAK, "filename,event_labels\na.wav,car\nb.wav,\n")
    assert "calibration" not in decided.text()
    assert "expected_calibration_error" not in decided.as_dict()
