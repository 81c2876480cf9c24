"""The doctor finds each defect that is put into a sound data set, and nothing in the sound one."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Scenes

from earmark.cli import main
from earmark.errors import UserError
from earmark.tasks.checking import Checked, check

RATE_HZ = 16_000
CLIPS = 24


def noise(seed: int, seconds: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal(round(seconds * RATE_HZ)).clip(-4, 4)


class DataSet:
    """A sound set of short clips, with 'siren' and 'horn', to put defects into."""

    def __init__(self, folder: Path) -> None:
        self.audio = folder / "audio"
        self.audio.mkdir()
        self.table = folder / "labels.tsv"
        self.header = ["filename", "event_labels"]
        self.rows: dict[str, list[str]] = {}
        for number in range(CLIPS):
            self.add(f"clip_{number:02}.wav", ("siren", "horn")[number % 2], noise(number))

    def add(self, name: str, labels: str, samples: np.ndarray, rate_hz: int = RATE_HZ) -> None:
        (self.audio / name).parent.mkdir(exist_ok=True)
        soundfile.write(self.audio / name, samples, rate_hz)
        self.rows[name] = [name, labels]

    def write(self, path: Path | None = None, rows: list[list[str]] | None = None) -> Path:
        path = path or self.table
        lines = [self.header, *(self.rows.values() if rows is None else rows)]
        path.write_text("".join("\t".join(line) + "\n" for line in lines))
        return path

    def check(self, *validation: Path, rows: list[list[str]] | None = None) -> Checked:
        return check(self.write(rows=rows), audio=self.audio, validation=validation)


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    return DataSet(tmp_path)


def found(report: Checked) -> dict[str, tuple[str, list[str]]]:
    """Severity and names of the cases of each finding."""
    return {f.problem: (f.severity, [case.name for case in f.cases]) for f in report.findings}


def test_a_sound_set_is_ready(data: DataSet) -> None:
    report = data.check()
    assert report.findings == []
    assert report.failures == []
    assert report.text().startswith("Ready to train.\nlabels.tsv: 24 clips of 24 recordings")
    assert report.tables[0]["clips_of_class"] == {"horn": 12, "siren": 12}
    assert report.tables[0]["seconds"] == pytest.approx(12)


def test_scenes_of_synth_are_ready(clips: Scenes, held_out: Scenes, tmp_path: Path) -> None:
    for scenes in (clips, held_out):
        shutil.copytree(scenes.audio, tmp_path / scenes.folder.name)
    report = check(clips.weak, audio=tmp_path, validation=[held_out.strong])
    assert report.failures == []


def test_missing_unreadable_and_unlabelled_recordings(data: DataSet) -> None:
    (data.audio / "clip_00.wav").unlink()
    (data.audio / "clip_01.wav").write_bytes(b"")
    (data.audio / "clip_02.wav").write_bytes(b"RIFF and nothing else")
    soundfile.write(data.audio / "other.wav", noise(99), RATE_HZ)
    report = data.check()
    assert found(report) == {
        "missing recordings": ("error", ["clip_00.wav"]),
        "unreadable recordings": ("error", ["clip_01.wav", "clip_02.wav"]),
        "recordings without labels": ("note", ["other.wav"]),
    }
    assert report.text().startswith("Mend 2 things first: ")
    unreadable = next(f for f in report.findings if f.problem == "unreadable recordings")
    assert unreadable.cases[0].detail == "is empty: 0 bytes"


def test_no_recording_at_all_matches(data: DataSet) -> None:
    report = data.check(rows=[["x.wav", "siren"], ["y.wav", "horn"]])
    assert found(report)["missing recordings"] == ("error", ["x.wav", "y.wav"])
    assert "clip_00.wav" in report.text()


def test_a_name_that_means_two_recordings_and_a_recording_of_two_names(data: DataSet) -> None:
    data.add("a/twin.wav", "siren", noise(50))
    data.add("b/twin.wav", "horn", noise(51))
    assert found(data.check()) == {"equal file names": ("note", ["a/twin.wav and b/twin.wav"])}
    rows = list(data.rows.values())[:CLIPS]
    rows += [["twin.wav", "siren"], ["./clip_00.wav", "siren"]]
    assert found(data.check(rows=rows)) == {
        "unclear recordings": ("error", ["twin.wav", "./clip_00.wav"])
    }


def test_rows_that_are_repeated_contradict_or_can_t_be_read(data: DataSet) -> None:
    rows = [*data.rows.values(), ["clip_00.wav", "siren"], ["clip_02.wav", "siren,horn"], ["x"]]
    report = data.check(rows=rows)
    assert {problem: len(cases) for problem, (_, cases) in found(report).items()} == {
        "repeated rows": 1,
        "contradictory rows": 1,
        "rows that can't be read": 1,
    }
    assert len(report.failures) == 3
    contradictory = next(f for f in report.findings if f.problem == "contradictory rows")
    assert contradictory.cases[0].detail == "lines 4, 27: horn,siren against siren"


def test_copies_by_content(data: DataSet) -> None:
    samples, _ = soundfile.read(data.audio / "clip_00.wav", dtype="int16")
    data.add("copy.flac", "siren", samples)
    assert found(data.check()) == {"copies": ("warning", ["clip_00.wav = copy.flac"])}
    data.rows["copy.flac"][1] = "horn"
    report = data.check()
    problem = "copies with different tags"
    assert found(report) == {problem: ("error", ["clip_00.wav = copy.flac"])}


def test_silent_clipped_shifted_and_damaged_recordings(data: DataSet) -> None:
    data.add("silent.wav", "siren", np.zeros(RATE_HZ // 2))
    data.add("quiet.wav", "", np.zeros(RATE_HZ // 2))
    data.add("loud.wav", "siren", np.clip(20 * noise(3), -1, 1))
    data.add("shifted.wav", "horn", noise(60) + 0.05)
    data.add("cut.wav", "horn", noise(61))
    content = (data.audio / "cut.wav").read_bytes()
    (data.audio / "cut.wav").write_bytes(content[:-6000])
    assert found(data.check()) == {
        "silent clips": ("warning", ["silent.wav"]),
        "clipped recordings": ("warning", ["loud.wav"]),
        "damaged recordings": ("warning", ["cut.wav"]),
        "constant offset": ("note", ["shifted.wav"]),
        "clips without tags": ("note", ["quiet.wav"]),
    }


def test_padding_that_gives_classes_away(data: DataSet) -> None:
    def pad(*numbers: int) -> None:
        for number in numbers:
            name = f"clip_{number:02}.wav"
            padded = np.concatenate([noise(number), np.zeros(RATE_HZ)])
            data.add(name, data.rows[name][1], padded)

    pad(*range(0, 12, 2))  # half of the sirens
    assert found(data.check()) == {
        "padding that gives classes away": ("warning", ["horn", "siren"])
    }
    assert "50% of its clips, 0% of the others" in data.check().text()
    data.header.append("absent_labels")  # of the sirens nobody said that they lack a horn
    for number, row in enumerate(data.rows.values()):
        row.append("" if number % 2 == 0 else "siren")
    assert found(data.check())["padding that gives classes away"] == ("warning", ["siren"])
    data.header.pop()
    for row in data.rows.values():
        row.pop()
    pad(1)
    assert data.check().findings == []


def test_lengths(data: DataSet) -> None:
    data.add("short.wav", "siren", noise(70, 0.04))
    data.add("long.wav", "siren", noise(71, 4.0))
    data.add("endless.wav", "siren", noise(72, 30.5))
    assert found(data.check()) == {
        "clips too long": ("error", ["endless.wav"]),
        "clips too short": ("warning", ["short.wav"]),
        "clips oddly long": ("warning", ["long.wav"]),
    }


def test_rates_and_channels(data: DataSet) -> None:
    data.add("low.wav", "siren", noise(80)[:4000], 8000)
    data.add("two.wav", "horn", np.stack([noise(81), noise(82)], axis=1))
    report = data.check()
    assert found(report) == {
        "low rates": ("warning", ["low.wav"]),
        "mixed rates": ("note", []),
        "mixed channels": ("note", []),
    }
    assert "8000 Hz: 1, 16000 Hz: 25" in report.text()


def test_classes(data: DataSet) -> None:
    for number in range(3):
        data.add(f"rare_{number}.wav", ("Siren", "sirens", "bark")[number], noise(90 + number))
    for row in data.rows.values():
        row[1] += ",car"
    report = data.check()
    assert found(report) == {
        "classes written in several ways": ("error", ["'siren' / 'Siren'"]),
        "class names a letter apart": ("warning", ["'siren' / 'sirens'"]),
        "classes too rare to learn": ("warning", ["Siren", "bark", "sirens"]),
        "classes in every clip": ("warning", ["car"]),
        "imbalance": ("note", []),
    }


def test_labels_beyond_the_end(tmp_path: Path) -> None:
    data = DataSet(tmp_path)
    data.header = ["filename", "onset", "offset", "event_label"]
    rows = [[name, "0.1", "0.4", label] for name, label in data.rows.values()]
    rows[0][2], rows[1][1:3] = "0.9", ["3.0", "3.5"]
    rows[2][2] = "0.55"
    rows.append(rows[4])
    findings = [(f.severity, f.problem, f.cases[0].name) for f in data.check(rows=rows).findings]
    assert findings == [
        ("error", "labels beyond the end", "clip_01.wav"),
        ("warning", "repeated events", "clip_04.wav"),
        ("warning", "labels beyond the end", "clip_00.wav"),
    ]


def test_parts_of_recordings(tmp_path: Path) -> None:
    data = DataSet(tmp_path)
    long = np.concatenate([noise(1, 2.0), np.zeros(RATE_HZ), noise(2, 1.0)])
    soundfile.write(data.audio / "long.wav", long, RATE_HZ)
    data.header = ["filename", "onset", "offset", "event_labels"]
    rows = [[name, "0", "0.5", label] for name, label in data.rows.values()]
    rows += [["long.wav", str(at), str(at + 0.5), "siren"] for at in (0.0, 1.0, 2.2, 3.0)]
    rows += [["long.wav", "1.0", "1.5", "horn"]]
    assert found(data.check(rows=rows)) == {
        "contradictory rows": ("error", ["long.wav (1.000-1.500 s)"]),
        "silent clips": ("warning", ["long.wav (2.200-2.700 s)"]),
    }


def test_what_is_not_known_contradicts_nothing(tmp_path: Path) -> None:
    data = DataSet(tmp_path)
    data.header = ["filename", "onset", "offset", "event_labels", "absent_labels"]
    rows = [[name, "0", "0.5", label, "dog"] for name, label in data.rows.values()]
    rows += [[rows[0][0], "0", "0.5", "", "horn"], [rows[2][0], "0", "0.5", "dog", ""]]
    rows += [["clip_04.wav", "0.1", "0.5", "", "siren,horn,dog"]]
    assert found(data.check(rows=rows)) == {
        "contradictory rows": ("error", ["clip_02.wav (0.000-0.500 s)"]),
        "classes too rare to learn": ("warning", ["dog"]),
        "imbalance": ("note", []),
    }
    assert found(data.check(rows=rows[:-1]))["classes in every clip"] == ("warning", ["siren"])


def test_leaks_between_tables(data: DataSet, tmp_path: Path) -> None:
    samples, _ = soundfile.read(data.audio / "clip_03.wav", dtype="int16")
    for number in range(6):
        data.add(f"rec{number}_001.wav", "siren", noise(100 + number))
    learnt = list(data.rows.values())
    judged = tmp_path / "judged.tsv"
    data.add("same.flac", "horn", samples)
    data.add("rec2_002.wav", "siren", noise(120))
    rows = [data.rows["same.flac"], data.rows["rec2_002.wav"], learnt[0], ["new.wav", "siren,dog"]]
    data.add("new.wav", "siren", noise(121))
    assert found(data.check(data.write(judged, rows), rows=learnt)) == {
        "clips in both": ("error", ["clip_00.wav"]),
        "copies in both": ("error", ["same.flac"]),
        "sources in both": ("warning", ["rec2_002.wav"]),
        "classes that are never learnt": ("error", ["dog"]),
    }


def test_groups_in_both(data: DataSet, tmp_path: Path) -> None:
    data.header = ["filename", "event_labels", "group"]
    rows = [[*row, f"g{number // 2}"] for number, row in enumerate(data.rows.values())]
    judged = data.write(tmp_path / "judged.tsv", rows[-3:])
    report = data.check(judged, rows=rows[:-3])
    assert found(report)["groups in both"] == ("error", ["g10"])
    report = data.check(data.write(judged, rows[-4:]), rows=rows[:-4])
    assert found(report) == {}


def test_parts_of_one_recording_in_both(tmp_path: Path) -> None:
    data = DataSet(tmp_path)
    data.header = ["filename", "onset", "offset", "event_labels"]
    rows = [[name, "0", "0.2", label] for name, label in data.rows.values()]
    other = [[name, "0.2", "0.4", label] for name, _, _, label in rows[:2]]
    other += [[rows[2][0], "0.1", "0.4", "siren"]]
    assert found(data.check(data.write(tmp_path / "judged.tsv", other), rows=rows)) == {
        "clips in both": ("error", ["clip_02.wav (0.100-0.400 s)"]),
        "parts of one recording in both": (
            "warning",
            ["clip_00.wav (0.200-0.400 s)", "clip_01.wav (0.200-0.400 s)"],
        ),
    }


def test_one_source_can_t_be_held_out(data: DataSet) -> None:
    data.header = ["filename", "event_labels", "group"]
    rows = [[*row, "one"] for row in data.rows.values()]
    assert found(data.check(rows=rows)) == {"nothing to hold out": ("error", [])}


def test_the_program_prints_json_and_ends_with_1(
    data: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", str(data.write()), "--audio", str(data.audio), "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["ready"] is True
    for number in range(5):
        (data.audio / f"clip_{number:02}.wav").unlink()
    assert main(words) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ready"] is False
    finding = report["findings"][0]
    assert (finding["severity"], finding["problem"]) == ("error", "missing recordings")
    assert len(finding["cases"]) == 5
    assert main(words[:-1]) == 1
    text = capsys.readouterr().out
    assert "clip_02.wav" in text
    assert "clip_03.wav" not in text
    assert "and 2 more" in text


def test_one_is_not_several(data: DataSet) -> None:
    one = data.check(rows=[["clip_00.wav", "siren"]])
    assert "labels.tsv: 1 clip of 1 recording, 0.0 min, 1 class\n" in one.text()


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names are text there")
def test_a_name_of_bytes_that_are_no_text_is_told(
    data: DataSet, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    stray = os.fsencode(data.audio) + b"/caf\xe9.wav"
    shutil.copy(data.audio / "clip_00.wav", stray)
    assert main(["check", str(data.write()), "--audio", str(data.audio), "--json"]) == 0
    (finding,) = json.loads(capfdbinary.readouterr().out)["findings"]
    assert finding["cases"] == [{"name": "caf\udce9.wav", "detail": ""}]


def test_a_table_that_is_none_is_a_users_error(data: DataSet) -> None:
    data.table.write_text("nothing\nof use\n")
    with pytest.raises(UserError, match="formats"):
        check(data.table, audio=data.audio)
    with pytest.raises(UserError, match="no such file"):
        check(data.write(), audio=data.audio / "nowhere")
