"""The evaluate task on small tables that each test writes itself."""

import json
import math
import subprocess
import sys

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
def score(tmp_path):
    """Evaluates texts: each becomes a file of its name."""

    def run(reference, prediction, **options):
        files = {"reference": reference, "prediction": prediction}
        if "durations" in options:
            files["durations"] = options.pop("durations")
        paths = {}
        for name, text in files.items():
            paths[name] = tmp_path / f"{name}.csv"
            paths[name].write_text(text, encoding="utf-8")
        return evaluate(**paths, **options)

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
    tags = score(WEAK, "filename,cat\na.wav,0.9\nb.wav,0\nc.wav,0\n").as_dict()
    assert tags["left_out"]["classes_missing_from_prediction"] == 2
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
    with pytest.raises(UserError, match="can't be written"):
        score(STRONG, FOUND, json=tmp_path / "nowhere" / "result.json")


def test_json_has_no_infinity(score, tmp_path):
    path = tmp_path / "result.json"
    result = score("filename\tonset\toffset\tevent_label\na.wav\t\t\t\n", FOUND, json=path)
    assert result.scores.error_rate == math.inf
    assert json.loads(path.read_text(encoding="utf-8"))["error_rate"] is None
    assert "inf" in result.text()


def test_the_report_has_a_line_for_each_class_of_equal_width(score):
    text = score('filename\tevent_labels\na.wav\t"Air horn, truck horn",car\n', TAGS).text()
    head, headline, classes, remarks = text.split("\n\n")
    assert "prediction.csv" in head
    assert headline.splitlines()[1].split() == ["micro", "66.7", "100.0", "50.0"]
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
    with pytest.raises(UserError, match="above 0 s"):
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


def test_importing_the_task_imports_no_torch():
    check = "import earmark.tasks.evaluation, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
