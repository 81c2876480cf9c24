"""Names in any script, formulas in cells, deep folders, links in circles, 100,000 classes."""

import csv
import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark import audio
from earmark.data.labels import find_clips, tag_matrix
from earmark.data.sampler import BalancedSampler
from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.dcase2017 import read_dcase2017
from earmark.formats.events import read_events, write_events
from earmark.formats.folders import read_folders
from earmark.formats.labels import read_labels
from earmark.formats.strong import write_strong
from earmark.formats.tables import read_table
from earmark.formats.tags import read_tags, write_tags
from earmark.formats.weak import write_tag_labels, write_weak

FORMULAS = ['=HYPERLINK("http://x","y")', "=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "|calc"]
NAMES = st.one_of(
    st.sampled_from(
        [*FORMULAS, "a\nb.wav", "猫/ĝ.wav", "ملف.wav", "\u202egpj.wav", ' "q" ', "a,b;c"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
)


@settings(deadline=None, max_examples=60)
@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True), label=NAMES)
def test_any_name_is_read_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], label: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    tagged = {name: frozenset({label, "b"}) for name in names}
    events = {name: [Event(0.0, 1.5, label)] for name in names}
    write_weak(folder / "weak.tsv", [(name, labels, None) for name, labels in tagged.items()])
    write_tag_labels(folder / "tags.csv", names, [tagged[name] for name in names])
    for table in ("weak.tsv", "tags.csv"):
        read = read_labels(folder / table)
        assert {row.filename: row.labels for row in read.rows} == tagged
    write_strong(folder / "strong.tsv", events.items())
    write_events(folder / "events.csv", [(name, found[0]) for name, found in events.items()])
    assert read_events(folder / "strong.tsv") == events == read_events(folder / "events.csv")
    write_tags(folder / "p.csv", names, [f"{label}!", "b"], np.full((len(names), 2), 0.5))
    assert read_tags(folder / "p.csv")[:2] == (sorted(names), (f"{label}!", "b"))
    with open(folder / "events.csv", encoding="utf-8", newline="") as file:
        assert {row["filename"] for row in csv.DictReader(file)} == set(names)


def test_a_complaint_commands_no_terminal() -> None:
    error = UserError("came as 'a\x1b[2J\u202e\udc80\nb'", where=Path("x\x07"))
    assert str(error) == r"x\x07: came as 'a\x1b[2J\u202e\udc80 b'"


def touched(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@contextmanager
def nested(folder: Path, name: str, depth: int) -> Iterator[None]:
    """Folders in each other with a recording at the bottom; no path is long enough for all."""
    here = os.getcwd()
    os.chdir(folder)
    try:
        for _ in range(depth):
            os.mkdir(name)
            os.chdir(name)
        Path("a.wav").touch()
        yield
        Path("a.wav").unlink()
        for _ in range(depth):
            os.chdir("..")
            os.rmdir(name)
    finally:
        os.chdir(here)


def test_a_folder_a_thousand_deep_is_searched_to_its_bottom(tmp_path: Path) -> None:
    bottom = "d/" * 1100 + "a.wav"
    with nested(tmp_path, "d", 1100):
        assert [name for name, _ in audio.find_recordings([tmp_path])] == [bottom]
        assert read_folders(tmp_path).rows[0].filename == bottom


def test_names_that_are_too_long_are_an_error(tmp_path: Path) -> None:
    with (
        nested(tmp_path, "n" * 250, 20),
        pytest.raises(UserError, match="can't be searched: File name too long"),
    ):
        audio.find_recordings([tmp_path])


def test_links_in_circles_end(tmp_path: Path) -> None:
    touched(tmp_path / "a" / "1.wav")
    touched(tmp_path / "b" / "2.wav")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "over").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "over").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "itself.wav").symlink_to(tmp_path / "b" / "itself.wav")
    expected = [
        *("a/1.wav", "a/over/2.wav", "a/over/itself.wav"),
        *("b/2.wav", "b/itself.wav", "b/over/1.wav"),
    ]
    found = audio.find_recordings([tmp_path])
    assert [name for name, _ in found] == expected
    assert [row.filename for row in read_folders(tmp_path).rows] == expected
    with pytest.raises(UserError, match="no such file"):
        audio.probe(dict(found)["b/itself.wav"])


def test_a_maze_of_links_is_refused(tmp_path: Path) -> None:
    folders = [tmp_path / f"{number}" for number in range(12)]
    for folder in folders:
        touched(folder / "a.wav")
    for one, other in itertools.permutations(folders, 2):
        (one / other.name).symlink_to(other)
    for search in (lambda: audio.find_recordings([tmp_path]), lambda: read_folders(tmp_path)):
        with pytest.raises(UserError, match="links lead here in more than 100 ways"):
            search()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_is_closed_is_named(tmp_path: Path) -> None:
    touched(tmp_path / "dog" / "shut" / "a.wav")
    (tmp_path / "dog" / "shut").chmod(0)
    with pytest.raises(UserError, match="shut: the folder can't be searched"):
        read_folders(tmp_path)


def test_a_filename_leads_out_of_no_folder(tmp_path: Path) -> None:
    touched(tmp_path / "secret.wav")
    touched(tmp_path / "audio" / "a" / "b.wav")
    table = tmp_path / "weak.tsv"
    outside = ["../secret.wav", str(tmp_path / "secret.wav"), "a/../../secret.wav", "..", "/"]
    rows = "".join(f"{name}\tCar\n" for name in [*outside, "./a//b.wav"])
    table.write_text(f"filename\tevent_labels\n{rows}", encoding="utf-8")
    clips, missing = find_clips(read_labels(table), tmp_path / "audio")
    assert [clip.path for clip in clips] == [tmp_path / "audio" / "a" / "b.wav"]
    assert missing == outside


def test_a_hundred_thousand_classes(tmp_path: Path) -> None:
    """Each of these once took time or memory as the square of the classes."""
    classes = [f"class {number}" for number in range(100_000)]
    table = tmp_path / "wide.csv"
    cells = [["1" if k in (row, 99_999) else "0" for k in range(len(classes))] for row in range(3)]
    lines = [",".join([f"{row}.wav", *cells[row]]) for row in range(3)]
    table.write_text("\n".join([",".join(["filename", *classes]), *lines]), encoding="utf-8")
    read = read_labels(table)
    assert len(read.class_names) == 100_000
    assert [sorted(row.labels) for row in read.rows] == [
        [f"class {row}", "class 99999"] for row in range(3)
    ]
    for number in range(3):
        touched(tmp_path / "audio" / f"{number}.wav")
    clips, _ = find_clips(read, tmp_path / "audio")
    tags = tag_matrix(clips, classes)
    assert (tags.shape, tags.nnz) == ((3, 100_000), 6)
    sampler = BalancedSampler(tags, 8, 5.0, seed=0)
    assert sampler.positive_shares.sum() == pytest.approx(2)
    assert set(next(sampler.epoch()).tolist()) <= {0, 1, 2}


def test_names_of_mids_that_follow_from_each_other_in_a_long_chain(tmp_path: Path) -> None:
    count = 1000
    rows = [f'x{n:010},0,1,"N{n}, N{n + 1}","/m/{n},/m/{n + 1}"' for n in range(count)]
    rows.append(f"x{count:010},0,1,N{count},/m/{count}")
    path = tmp_path / "set.csv"
    path.write_text("\n".join(rows), encoding="utf-8")
    calls = 0

    def count_calls(frame: object, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count_calls)
    try:
        table = read_dcase2017(read_table(path))
    finally:
        sys.setprofile(None)
    assert table.rows[5].labels == {"N5", "N6"}
    assert calls < 200 * count, "work grows as the rows do, not as their square"
