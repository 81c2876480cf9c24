"""What evaluate takes for one clip, one class, one time; and what it refuses."""

import numpy as np
import pytest

from earmark.audio import write
from earmark.errors import UserError
from earmark.tasks.clip_names import stem
from earmark.tasks.evaluation import evaluate

STRONG = "filename\tonset\toffset\tevent_label\n"
EVENTS = "filename,onset,offset,event_label\n"
CLIP = "-0RWZT-miFs_420.000_430.000.wav"


@pytest.fixture
def score(tmp_path, monkeypatch):
    """The numbers of texts that become files."""
    monkeypatch.setattr("earmark.tasks.evaluation.RESAMPLES", 4)

    def run(reference, prediction, durations=None, **options):
        paths = {}
        for name, text in (
            ("reference", reference),
            ("prediction", prediction),
            ("durations", durations),
        ):
            if text is not None:
                paths[name] = tmp_path / f"{name}.txt"
                paths[name].write_text(text, encoding="utf-8")
        return evaluate(**paths, **options).as_dict()

    return run


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.wav", "sub/a.flac"),
        ("Ya.wav", "a"),
        (f"Y{CLIP}", "audio/-0RWZT-miFs_420000.flac"),
        (CLIP, "Y-0RWZT-miFs_420.000_430.000"),
        ("day.wav (0.000-10.000 s)", "x/day.mp3 (0.000-10.000 s)"),
        ("take (1).wav", "take (1).mp3"),
        ("v1.5", "v1.5.wav"),
    ],
)
def test_names_of_one_stem(one, other):
    assert stem(one) == stem(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.wav", "b.wav"),
        ("-0RWZT-miFs_420000.wav", "-0RWZT-miFs_430000.wav"),
        ("day.wav (0.000-10.000 s)", "day.wav (10.000-20.000 s)"),
        ("take (1).wav", "take (2).wav"),
        ("v1.5", "v1.6"),
    ],
)
def test_names_of_two_stems(one, other):
    assert stem(one) != stem(other)


def test_clips_match_by_stem_where_asked(score):
    reference = STRONG + "Ya.wav\t0\t2\tcar\nYb.wav\t0\t2\tcar\n"
    found = EVENTS + "run/a.flac,0,2,car\nrun/b.flac,0,2,car\n"
    with pytest.raises(UserError, match=r"here 'run/a.flac'.* there 'Ya.wav'.*--match stem"):
        score(reference, found)
    assert score(reference, found, match="stem")["f1"] == 1
    durations = "filename\tduration\na.mp3\t10\nb.mp3\t10\nc.mp3\t10\n"
    listed = score(reference, found + "c.ogg,0,1,car\n", durations, match="stem")
    assert (listed["clips"], listed["insertions"]) == (3, 1)
    with pytest.raises(UserError, match=r"'run/a.flac' and 'run/Ya.wav' both mean 'Ya.wav'"):
        score(reference, found + "run/Ya.wav,0,2,car\n", match="stem")
    with pytest.raises(UserError, match=r"'Ya.wav' and 'x/a.wav' do not"):
        score(reference + "x/a.wav\t0\t1\tcar\n", found, match="stem")
    with pytest.raises(UserError, match=r"here 'q.wav'") as error:
        score(reference, EVENTS + "q.wav,0,2,car\n", match="stem")
    assert "--match" not in str(error.value)


def test_a_submission_to_dcase_2017_is_read(score):
    truth = f"{CLIP}\t0.000\t10.000\tBus\n{CLIP.replace('420', '0')}\t0.500\t2.000\tTrain\n"
    assert score(truth, truth)["event_f1"] == 1
    ours = EVENTS + f"Y{CLIP},0,10,Bus\n"
    assert score(truth, ours)["event_recall"] == 0.5


def test_recordings_give_the_clips_and_how_long_they_last(score, tmp_path):
    for name, seconds in (("x/a.wav", 3), ("x/b.wav", 2), ("c.wav", 1)):
        path = tmp_path / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, np.zeros(8000 * seconds), 8000)
    audio = tmp_path / "audio"
    reference = STRONG + "a.wav\t0\t2\tcar\nb.wav\t0\t2\tcar\n"
    # As detect names them: by their path in the folder.
    found = EVENTS + "x/a.wav,0,2,car\nx/b.wav,0,2,car\nc.wav,0,1,car\n"
    result = score(reference, found, audio=audio)
    assert (result["clips"], result["f1"]) == (3, pytest.approx(8 / 9))
    assert result["left_out"]["clips_missing_from_reference"] == 1
    # One false alarm in 6 s is more than 100 an hour.
    assert result["psds1_of_one_operating_point"] == 0
    right = score(reference, found.replace("c.wav,0,1,car\n", ""), audio=audio)
    assert right["psds1_of_one_operating_point"] == 1
    by_stem = score(reference, found.replace(".wav", ""), audio=audio, match="stem")
    assert by_stem["f1"] == result["f1"]
    with pytest.raises(UserError, match=r"'x/b.wav', which lasts 2 s|'b.wav', which lasts 2 s"):
        score(reference, found.replace("b.wav,0,2", "b.wav,0,3"), audio=audio)
    with pytest.raises(UserError, match="one of the two"):
        score(reference, found, "filename\tduration\na.wav\t3\n", audio=audio)
    with pytest.raises(UserError, match="none of the files"):
        score(STRONG + "z.wav\t0\t2\tcar\n", found, audio=audio)
    # Parts of a recording last as long as they are.
    parts = "filename\tonset\toffset\tevent_labels\nx/a.wav\t0\t1\tcar\nx/a.wav\t1\t3\t\n"
    assert score(parts, parts, audio=audio)["clips"] == 4


def test_times_outside_a_clip_are_an_error_but_for_rounding(score):
    reference = STRONG + "a.wav\t0\t2\tcar\na.wav\t9\t10.05\tcar\n"
    durations = "filename\tduration\na.wav\t10\nb.wav\t10\n"
    found = EVENTS + "a.wav,9,10.1,car\na.wav,10,10.02,car\n"
    result = score(reference, found, durations)
    assert result["left_out"]["cut_events_in_reference"] == 1
    assert result["left_out"]["cut_events_in_prediction"] == 2
    # Nothing reaches into an eleventh segment.
    assert (result["n_reference"], result["insertions"]) == (3, 0)
    assert result["event_n_reference"] == 2
    message = r"reference.txt: .*'car' from 9 to 10.2 s ends after 'a.wav', which lasts 10 s"
    with pytest.raises(UserError, match=message):
        score(reference.replace("10.05", "10.2"), found, durations)
    with pytest.raises(UserError, match=r"prediction.txt: .*'car' from 12 to 13 s"):
        score(reference, EVENTS + "a.wav,12,13,car\n", durations)
    assert score(reference, EVENTS + "a.wav,12,13,car\n")["insertions"] == 1


@pytest.mark.parametrize(
    "table", [EVENTS + "a.wav,0,1,Car\na.wav,2,3,bee\n", "filename,Car,bee\na.wav,0.1,0.9\n"]
)
def test_a_class_that_the_reference_lacks_is_an_error_with_examples(score, table):
    reference = STRONG + "a.wav\t0\t1\tcar\na.wav\t2\t3\tbee\n"
    message = r"lacks 'Car', and has 'bee', 'car'; write them alike or, .* --extra-classes"
    with pytest.raises(UserError, match=message):
        score(reference, table)
    found = score(reference, table, extra_classes=True)
    assert found["left_out"]["classes_missing_from_reference"] == 1


def test_no_class_in_common_is_an_error_with_examples(score):
    with pytest.raises(UserError, match=r"no class is also in .*: here 'cat', there 'car', 'dog'"):
        score(STRONG + "a.wav\t0\t1\tcar\na.wav\t0\t1\tdog\n", EVENTS + "a.wav,0,1,cat\n")
    # A prediction of nothing names no class.
    assert score(STRONG + "a.wav\t0\t1\tcar\n", EVENTS)["f1"] == 0


def test_a_tag_table_needs_a_class(score):
    with pytest.raises(UserError, match="a column for each class"):
        score(STRONG + "a.wav\t0\t1\tcar\n", "filename\na.wav\n")


def test_names_of_strange_classes_are_shown(tmp_path):
    for name, text in (
        ("r.tsv", STRONG + "a.wav\t0\t1\tcar\n"),
        ("p.csv", EVENTS + "".join(f"a.wav,0,1,{c}\n" for c in ("car", *"bcdefgh"))),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    text = evaluate(tmp_path / "r.tsv", tmp_path / "p.csv", extra_classes=True).text()
    assert "false alarms, left out of rankings and PSDS: 7 (b, c, d, e, f, ...)" in text


@pytest.mark.parametrize("match", ["exact", "stem"])
def test_names_from_windows_and_macos_are_those_of_the_reference(score, match):
    reference = STRONG + "x/caf\xe9.wav\t0\t1\thorn\n"
    prediction = EVENTS + "x\\cafe\u0301.wav,0,1,horn\n"
    assert score(reference, prediction, match=match)["f1"] == 1
    assert score(prediction, reference, match=match)["f1"] == 1


def test_a_track_is_called_after_a_recording_whose_accent_stands_by_itself(score, tmp_path):
    tracks = tmp_path / "tracks"
    tracks.mkdir()
    (tracks / "cafe\u0301.txt").write_text("0\t1\thorn\n")
    reference = tmp_path / "strong.tsv"
    reference.write_text(STRONG + "caf\xe9.wav\t0\t1\thorn\n", encoding="utf-8")
    assert evaluate(reference, tracks).as_dict()["f1"] == 1
