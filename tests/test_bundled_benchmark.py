"""How the model in the box is made: which sounds, in which part, and whose they are."""

import csv
import os
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

from benchmarks import bundled
from benchmarks.bundled import Source

PLAN = tomllib.loads((bundled.HERE / "bundled.toml").read_text(encoding="utf-8"))
DATA = os.environ.get("EARMARK_DATA")
PSFO = """\
// "file name" internal name
"src/wav/osfx_24.wav" "Helicopter". Original "raw.wav" by "someone". Edited by "W". \
License: Creative Commons Attribution-ShareAlike 3.0 Unported.
"src/wav/osfx_37.wav" "Cow". Original "Cow.wav" by "J". License: Creative Commons Zero 1.0.
"src/wav/osfx_56.wav" "Lumber mill: Chainsaw". Original "CHAINSAW.wav" by "JF". Edited by J L. \
License: Creative Commons Attribution 3.0 Unported. Original is Public Domain.
"""


def source(
    file: str = "a.ogg",
    label: str = "dog",
    part: str = "train",
    recording: str = "a",
    licence: str = "CC0",
) -> Source:
    return Source(file, label, part, recording, licence, "me", "woof", "http://x", "ESC-10")


def test_recordings_that_are_not_there_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        bundled.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "esc10.csv isn't there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_licences_that_forbid_it_or_are_unknown_leave_a_sound_out() -> None:
    stated = ["CC0", "CC-BY", "CC Sampling+ 1.0", "CC BY-SA 3.0", "CC BY-NC 3.0", ""]
    found = bundled.allowed([source(licence=licence) for licence in stated])
    assert [sound.licence for sound in found] == ["CC0 1.0", "CC BY 3.0"]


def test_esc10_is_split_by_fold() -> None:
    row = {
        "file": "001 - Dog bark/1-2-A.ogg",
        "class": "Dog bark",
        "active_start_s": "0.5",
        "active_end_s": "1.5",
        "licence": "CC0",
        "author": "nfrae",
        "source_title": "bark.wav",
        "source_url": "http://x",
    }
    found = bundled.esc10_sources([row | {"fold": fold} for fold in "12345"], PLAN["esc10"])
    assert [sound.part for sound in found] == ["train", "train", "train", "test", "validation"]
    assert {sound.label for sound in found} == {"dog"}
    assert found[0].active == ("0.5", "1.5")
    assert found[0].file == "esc10/audio/001 - Dog bark/1-2-A.ogg"


def test_dcase2016_is_split_in_the_order_of_its_numbers() -> None:
    names = [f"keysDrop{number:03}.ogg" for number in range(0, 100, 5)]
    found = bundled.dcase2016_sources(reversed(names), PLAN["dcase2016"])
    assert [Path(sound.file).name for sound in found] == names
    assert [sound.part for sound in found] == ["train"] * 12 + ["validation"] * 4 + ["test"] * 4
    assert {sound.label for sound in found} == {"keys_drop"}


def test_opensfx_gives_what_is_of_a_class_and_free() -> None:
    found = bundled.opensfx_sources(PSFO, PLAN["opensfx"])
    assert [sound.label for sound in found] == ["helicopter", "chainsaw"]
    (sound,) = bundled.allowed(found)
    assert sound.file == "opensfx/wav/osfx_56.ogg"
    assert sound.recording == "CHAINSAW.wav by JF"
    assert sound.title == "Lumber mill: Chainsaw (Original CHAINSAW.wav by JF. Edited by J L)"


def test_all_sounds_of_a_recording_are_in_one_part() -> None:
    sounds = [source(part="test"), source(recording="b"), source("c.ogg", part="train")]
    assert [sound.part for sound in bundled.together(sounds)] == ["test", "train", "test"]


def test_a_class_without_enough_recordings_to_test_on_is_left_out() -> None:
    enough = [source(part="test", recording=str(number)) for number in range(3)]
    # Many sounds of two recordings are two.
    few = [source(label="cat", part="test", recording=str(number % 2)) for number in range(8)]
    train = [source(label="cat", recording="x")]
    assert bundled.shipped([*few, *enough, *train], 3) == enough


def test_tables_are_joined_under_one_header(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(f"filename\tevent_labels\n{name}.flac\tdog\n")
    both = bundled.join([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    assert both.read_text() == "filename\tevent_labels\na.flac\tdog\nb.flac\tdog\n"


def test_everybody_has_a_line_of_credit() -> None:
    theirs = source(licence="CC BY 3.0")
    assert bundled.credits([theirs, theirs, source(licence="CC0 1.0")]) == [
        "- ESC-10: woof by me, CC BY 3.0, <http://x> (2 sounds)",
        "- ESC-10: woof by me, CC0 1.0, <http://x>",
    ]


def test_the_card_says_what_it_learnt_from() -> None:
    text = bundled.about([source(), source(part="test", recording="b")], PLAN, 7, (5, 0.1))
    assert "it found 7 events" in text
    assert "in 6 minutes of a singing finch" in text
    assert "5, which is 50 an hour" in text
    assert "ESC-10's folds 1, 2, 3, 5:" in text
    assert "| dog | 1 (1) | 0 (0) | 1 (1) |" in text


@pytest.mark.skipif(not DATA, reason="EARMARK_DATA says where the recordings are")
def test_the_sets_at_hand_give_what_the_shipped_model_knows(tmp_path: Path) -> None:
    sources = bundled.collected(Path(DATA or ""), PLAN)
    parts: dict[str, set[str]] = defaultdict(set)
    for sound in sources:
        parts[sound.recording].add(sound.part)
        assert (Path(DATA or "") / sound.file).is_file()
        assert sound.licence in ("CC0 1.0", "CC BY 3.0")
    assert all(len(of) == 1 for of in parts.values())
    assert len({sound.label for sound in sources}) == 21
    bundled.write_sounds(tmp_path / "sounds.csv", sources)
    with open(tmp_path / "sounds.csv", encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(sources)
    card = (bundled.PACKAGED / "README.md").read_text(encoding="utf-8")
    assert [line for line in bundled.credits(sources) if line not in card] == []
    others = bundled.collected(Path(DATA or ""), PLAN, "ESC-10")
    assert len({sound.label for sound in others}) == 11
    assert {sound.set for sound in others} == {"DCASE 2016"}  # OpenSFX has two of ESC-10's classes


@pytest.mark.skipif(not DATA, reason="EARMARK_DATA says where the recordings are")
def test_unknown_sounds_are_of_no_class_and_in_one_part(tmp_path: Path) -> None:
    found = bundled.unknown(Path(DATA or ""), PLAN)
    validation, test = (set(found[part]) for part in ("validation", "test"))
    assert not validation & test
    assert all(path.is_file() for path in validation | test)
    learnt = {Path(DATA or "") / sound.file for sound in bundled.collected(Path(DATA or ""), PLAN)}
    assert not learnt & (validation | test)
    folder = bundled.in_folder(found["test"], tmp_path / "links")
    assert len(list(bundled.in_folder(found["test"], folder).iterdir())) == len(found["test"])


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="EARMARK_DATA says where the recordings are")
def test_all_of_it_runs_and_nothing_small_is_installed(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks.bundled", "--data", DATA or "", "--tiny", "--out"]
    out = tmp_path / "out"
    done = subprocess.run([*words, str(out)], check=True, capture_output=True, text=True)
    assert "21 classes" in done.stdout
    assert "## Whose recordings these are" in (out / "model" / "README.md").read_text("utf-8")
    refused = subprocess.run([*words, str(out), "--install"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "leave out --tiny and --without" in refused.stderr
