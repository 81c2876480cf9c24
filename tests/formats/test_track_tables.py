"""Label tracks of Audacity and selection tables of Raven, as people have them."""

import pytest

from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.events import read_events
from earmark.formats.labels import read_labels

HEADER = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"


@pytest.fixture
def table(tmp_path):
    def write(text, name="night.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return path

    return write


def raven(columns, *rows):
    return "\n".join([f"{HEADER}\t{columns}", *rows]) + "\n"


def row(selection, begin, end, *cells, view="Spectrogram 1"):
    return "\t".join([str(selection), view, "1", str(begin), str(end), "100", "8000", *cells])


def test_an_audacity_track(table):
    path = table(
        "\ufeff1.000000\t2.500000\tKäuz, \"alt\" 'x'\r\n"
        "\\\t1484.669312\t2969.338523\r\n"
        "\r\n"
        "3.0\t3.0\ta point\r\n"
        "0\t1\tsiren\tmore\tcolumns\r\n"
    )
    labels = read_labels(path)
    assert (labels.strong, labels.stems, labels.zero_length_events) == (True, True, 1)
    assert labels.class_names == ("Käuz, \"alt\" 'x'", "a point", "siren")
    (found,) = labels.rows
    assert found.filename == "night"
    assert found.events == (Event(0, 1, "siren"), Event(1, 2.5, "Käuz, \"alt\" 'x'"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0\t1\tx\n1\t2\n", "night.txt, line 2: a label needs a text, the one from 1 to 2 s"),
        ("0\t1\tx\n1\t2\t \n", "line 2: a label needs a text"),
        ("0\t1\tx\n1\n", "line 2: a label of Audacity needs a start"),
        ("1\t0\tx\n", "line 1: an offset may not lie before its onset, came as 1 to 0"),
        ("-1\t0\tx\n", "line 1: column 'start' must be at least 0"),
        ("0,5\t1,5\tx\n", "line 1: column 'start' must be .*'0,5'; write it with a decimal point"),
        ("0\t1\tx\nx\t1\ty\n", "line 2: column 'start' must be a finite number"),
    ],
)
def test_wrong_audacity_tracks(table, text, complaint):
    with pytest.raises(UserError, match=complaint):
        read_labels(table(text))


def test_an_empty_track_is_a_recording_without_events(table):
    path = table("")
    assert read_events(path, "audacity") == {"night": []}
    with pytest.raises(UserError, match="the table is empty"):
        read_labels(path)


@pytest.mark.parametrize(
    ("name", "recording"),
    [
        ("night.txt", "night"), ("night.wav.txt", "night.wav"), ("a.b.TXT", "a.b"),
        ("night", "night"), ("night.tsv", "night"),
        ("night.selections.txt", "night"), ("night.Table.12.selections.txt", "night"),
        ("night.BirdNET.selection.table.txt", "night"), ("night.wav.selections.txt", "night.wav"),
    ],
)  # fmt: skip
def test_a_track_is_called_after_its_recording(table, name, recording):
    assert list(read_events(table("0\t1\tx\n", name))) == [recording]
    assert list(read_events(table(raven("Species", row(1, 0, 1, "x")), name))) == [recording]


def test_a_folder_of_tracks_is_one_table(table, tmp_path):
    table("0\t1\tx\n1\t1\tpoint\n", "set/a.txt")
    table("2\t3\ty\n", "set/north/a.wav.txt")
    table("", "set/silent.txt")
    table("Device ID : 24F3\nGain: 2\n", "set/CONFIG.TXT")
    table("not audio", "set/a.wav")
    labels = read_labels(tmp_path / "set")
    assert {found.filename: found.events for found in labels.rows} == {
        "a": (Event(0, 1, "x"),), "north/a.wav": (Event(2, 3, "y"),), "silent": (),
    }  # fmt: skip
    assert labels.class_names == ("point", "x", "y")
    assert (labels.strong, labels.stems, labels.zero_length_events) == (True, True, 1)


def test_a_folder_of_selection_tables_is_one_table(table, tmp_path):
    table(raven("Species", row(1, 0, 1, "x")), "set/a.Table.1.selections.txt")
    table(raven("Species"), "set/b.selections.txt")
    assert read_events(tmp_path / "set") == {"a": [Event(0, 1, "x")], "b": []}
    table(raven("Species", row(1, 0, 1, "x")), "set/a.txt")
    with pytest.raises(UserError, match=r"'a' has a\.Table\.1\.selections\.txt and a\.txt"):
        read_labels(tmp_path / "set")


def test_a_folder_with_a_broken_track(table, tmp_path):
    table("0\t1\tx\n", "set/a.txt")
    table("one\ttwo\tthree\n", "set/b.txt")
    with pytest.raises(UserError, match=r"b\.txt, line 1: column 'start' must be a finite number"):
        read_labels(tmp_path / "set")
    (tmp_path / "set" / "b.txt").write_bytes(b"\xff\xfe0\t1\tx")
    with pytest.raises(UserError, match=r"b\.txt, line 1: a table must be UTF-8"):
        read_labels(tmp_path / "set")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="holds no tables of events"):
        read_labels(tmp_path / "none", "audacity")


def test_a_folder_of_both_is_asked_about(table, tmp_path):
    table("0\t1\tx\n", "set/a.txt")
    table(raven("Species", row(1, 2, 3, "y")), "set/a.selections.txt")
    with pytest.raises(UserError, match="holds tables of Audacity and of Raven"):
        read_labels(tmp_path / "set")
    assert read_events(tmp_path / "set", "audacity") == {"a": [Event(0, 1, "x")]}
    assert read_events(tmp_path / "set", "raven") == {"a": [Event(2, 3, "y")]}


def test_class_folders_stay_what_they_are(table, tmp_path):
    table("x", "set/dog/1.wav")
    table("0\t1\tx\n", "set/dog/1.txt")
    table("Read me first\n", "set/README.txt")
    assert read_labels(tmp_path / "set", "folders").class_names == ("dog",)
    (tmp_path / "set" / "dog" / "1.txt").unlink()
    assert read_labels(tmp_path / "set").class_names == ("dog",)


def test_a_selection_has_one_event_whatever_shows_it(table):
    labels = read_labels(
        table(
            raven(
                "Species",
                row(1, 0.5, 1.5, "", view="Waveform 1"),
                row(1, 0.5, 1.5, "EATO"),
                row(2, 0.5, 1.5, "EATO", view="Waveform 1"),
                row(2, 0.5, 1.5, "EATO"),
                row(3, 4, 5, "EATO"),
                row(3, 4, 5, "RBNU"),  # another annotator's
            )
        )
    )
    assert labels.rows[0].events == (
        Event(0.5, 1.5, "EATO"), Event(0.5, 1.5, "EATO"), Event(4, 5, "EATO"), Event(4, 5, "RBNU"),
    )  # fmt: skip
    with pytest.raises(UserError, match="line 2: a selection needs a class in column 'Species'"):
        read_labels(table(raven("Species", row(1, 0, 1, "", view="Waveform 1"), row(1, 0, 1, ""))))


def test_times_over_several_files_are_those_in_the_file(table):
    columns = "Begin Path\tFile Offset (s)\tAnnotation\tScore"
    path = table(
        raven(
            columns,
            row(1, 1, 2.25, r"C:\bird data\north\a.wav", "1.0", "owl", "0.5"),
            row(2, 60.1, 60.4, r"C:\bird data\south\a.wav", "0.1", "owl", ""),
            row(3, 86460.333333, 86461.666666, r"C:\bird data\south\b.wav", "0.333333", "owl", ""),
        )
    )
    assert read_events(path) == {
        "north/a.wav": [Event(1, 2.25, "owl", 0.5)],
        "south/a.wav": [Event(0.1, 0.4, "owl")],
        "south/b.wav": [Event(0.333333, 1.666666, "owl")],
    }
    without = path.read_text().replace("File Offset (s)", "Delta Time (s)")
    with pytest.raises(UserError, match=r"over several files needs a column 'File Offset \(s\)'"):
        read_events(table(without))


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/d/n/a.wav", "/d/s/a.wav"], ["n/a.wav", "s/a.wav"]),
        (["/d/n/a.wav", "/d/n/b.wav"], ["a.wav", "b.wav"]),
        (["/d/a.wav", "/d/s/a.wav"], ["a.wav", "s/a.wav"]),
        (["n/a.wav", "s/a.wav"], ["n/a.wav", "s/a.wav"]),
        ([r"\\server\n\a.wav"], ["a.wav"]),
        (["/north/a.wav", "/northern/a.wav"], ["north/a.wav", "northern/a.wav"]),
    ],
)
def test_paths_lose_what_they_share(table, paths, names):
    rows = [row(n, n, n + 1, path, "0", "x") for n, path in enumerate(paths)]
    path = table(raven("Begin Path\tFile Offset (s)\tAnnotation", *rows))
    assert list(read_events(path)) == names


def test_begin_file_and_one_file_without_offsets(table):
    path = table(raven("Begin File\tAnnotation", row(1, 5, 6, "a.wav", "x")))
    assert read_events(path) == {"a.wav": [Event(5, 6, "x")]}
    assert not read_labels(path).stems


@pytest.mark.parametrize(
    ("columns", "cells", "label"),
    [
        ("Species", ["owl"], "owl"),
        ("label\tNotes", ["owl", "loud"], "owl"),
        ("Begin Path\tBegin Date Time\tCommon Name\tSpecies Code\tConfidence",
         ["a.wav", "2025/01/31", "Eagle Owl", "eurowl", "0.9"], "Eagle Owl"),
        ("Annotation\tSpecies", ["", "owl"], "owl"),
        ("Avg Power Density (dB FS/Hz)\tArtname", ["-61.2", "Uhu"], "Uhu"),
        ("Annotation\tArtname", ["owl", "Uhu"], "owl"),
    ],
)  # fmt: skip
def test_the_column_of_classes_is_found(table, columns, cells, label):
    (events,) = read_events(table(raven(columns, row(1, 0, 1, *cells)))).values()
    assert [event.label for event in events] == [label]
    if "Confidence" in columns:
        assert events[0].score == 0.9


def test_two_columns_of_classes_are_asked_about(table):
    path = table(raven("Species\tAnnotation", row(1, 0, 1, "owl", "hoot")))
    with pytest.raises(UserError, match=r"'Species', 'Annotation' may; .*--labels-format raven:"):
        read_labels(path)
    assert read_labels(path, "raven:species").class_names == ("owl",)
    assert read_labels(path, "raven:Annotation").class_names == ("hoot",)
    with pytest.raises(UserError, match="has no column 'Call' of classes; it has Selection, View"):
        read_labels(path, "raven:Call")
    path = table(raven("Artname\tRuf", row(1, 0, 1, "Uhu", "Balz")))
    with pytest.raises(UserError, match="'Artname', 'Ruf' may"):
        read_labels(path)
    with pytest.raises(UserError, match="needs a column of classes, called Annotation, say"):
        read_labels(table(raven("Begin File", row(1, 0, 1, "a.wav"))))


def test_words_in_place_of_scores_are_none(table):
    path = table(raven("Species\tConfidence", row(1, 0, 1, "owl", "high")))
    assert read_events(path) == {"night": [Event(0, 1, "owl")]}


def test_a_raven_table_may_come_as_json(table):
    path = table('[{"Begin Time (s)": 1, "End Time (s)": 2, "Species": "owl"}]', "night.json")
    assert read_events(path) == {"night": [Event(1, 2, "owl")]}


def test_tags_alone_are_no_events(table):
    with pytest.raises(UserError, match="events need an onset and an offset"):
        read_events(table("filename,event_labels\na,x\n"))
