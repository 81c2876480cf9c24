"""Which recordings are served, and which files never are."""

import io
import os
from pathlib import Path

import numpy as np
import pytest

from earmark.audio import write
from earmark.errors import UserError
from earmark.web.library import Library, TooMany, shown_name


def library(work: Path, *given: Path) -> Library:
    return Library(given, work, most_uploads=2, longest_seconds=60.0)


def sound(path: Path, level: float = 0.25, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, np.full(round(8000 * seconds), level), 8000)
    return path


def test_only_what_lies_in_the_folders(tmp_path: Path) -> None:
    served = tmp_path / "served"
    sound(served / "a.wav")
    sound(served / "north/b.wav")
    sound(served / ".hidden/c.wav")
    secret = sound(tmp_path / "secret/s.wav")
    (served / "notes.txt").write_text("no audio")
    (served / "out.wav").symlink_to(secret)
    (served / "out").symlink_to(secret.parent)
    (served / "up").symlink_to(tmp_path)
    (served / "loop.wav").symlink_to(served / "loop.wav")
    (served / "within.wav").symlink_to(served / "a.wav")
    found = library(tmp_path / "work", served)
    assert [r.name for r in found.all()] == ["a.wav", "north/b.wav", "within.wav"]
    assert all(str(tmp_path) not in r.id and len(r.id) == 32 for r in found.all())


def test_a_folder_that_is_a_link_itself(tmp_path: Path) -> None:
    sound(tmp_path / "real/a.wav")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (recording,) = library(tmp_path / "work", tmp_path / "link").all()
    assert recording.file().exists()


def test_a_file_that_becomes_a_link_out(tmp_path: Path) -> None:
    path = sound(tmp_path / "served/a.wav")
    secret = sound(tmp_path / "secret.wav", 0.5)
    (recording,) = library(tmp_path / "work", path.parent).all()
    assert recording.file() == path
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(UserError, match="no longer there"):
        recording.file()
    path.parent.rename(tmp_path / "moved")
    (tmp_path / "moved/a.wav").unlink()
    path.parent.symlink_to(tmp_path)
    secret.rename(tmp_path / "a.wav")
    with pytest.raises(UserError, match="no longer there"):
        recording.file()


def test_a_recording_is_known_again(tmp_path: Path) -> None:
    sound(tmp_path / "one/a.wav")
    (first,) = library(tmp_path / "work1", tmp_path / "one").all()
    (tmp_path / "one").rename(tmp_path / "two")
    (second,) = library(tmp_path / "work2", tmp_path / "two").all()
    assert first.id == second.id
    sound(tmp_path / "two/a.wav", level=0.5)
    (third,) = library(tmp_path / "work3", tmp_path / "two").all()
    assert third.id != first.id


def test_a_file_that_grew_or_was_mended(tmp_path: Path) -> None:
    path = sound(tmp_path / "served/a.wav", seconds=1)
    (recording,) = (found := library(tmp_path / "work", path.parent)).all()

    def listed() -> object:
        ((_, info),) = found.listed()
        return getattr(info, "duration_seconds", info)

    assert found.info(recording).duration_seconds == listed() == 1
    sound(path, seconds=4)
    assert found.info(recording).duration_seconds == listed() == 4
    path.write_bytes(b"no sound")
    with pytest.raises(UserError, match="can't be read"):
        found.info(recording)
    assert "can't be read" in str(listed())
    sound(path, seconds=2)
    assert found.info(recording).duration_seconds == listed() == 2
    path.unlink()
    assert found.info(recording).duration_seconds == 2


def test_what_went_wrong_once_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recording,) = (found := library(tmp_path / "work", sound(tmp_path / "a.wav"))).all()

    def fail(path: Path) -> None:
        raise UserError("can't be read", where=path)

    with monkeypatch.context() as patched:
        patched.setattr("earmark.web.library.probe", fail)
        with pytest.raises(UserError, match=r"^a\.wav: can't be read"):
            found.info(recording)
    assert found.info(recording).duration_seconds == 0.5


@pytest.mark.parametrize("missing", ["nowhere", "empty"])
def test_nothing_to_serve(tmp_path: Path, missing: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no such file or folder|holds no audio"):
        library(tmp_path / "work", tmp_path / missing)


def test_two_recordings_of_one_name(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        sound(tmp_path / folder / "a.wav")
    with pytest.raises(UserError, match="two recordings would be called"):
        library(tmp_path / "work", tmp_path / "one", tmp_path / "two")


def test_what_is_given_twice_is_served_once(tmp_path: Path) -> None:
    served = tmp_path / "served"
    a, b = sound(served / "a.wav"), sound(served / "north/b.wav")
    found = library(tmp_path / "work", served, served, a, b.parent)
    assert [r.name for r in found.all()] == ["a.wav", "north/b.wav"]


def test_links_that_lead_out_are_not_enough(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/out.wav").symlink_to(sound(tmp_path / "secret.wav"))
    with pytest.raises(UserError, match="holds no audio"):
        library(tmp_path / "work", tmp_path / "served")


def test_folders_that_links_lead_to_are_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound(tmp_path / "served/a.wav")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "served/out").symlink_to(tmp_path / "elsewhere")
    searched: list[str] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: searched.append(str(path)) or scan(path))
    assert len(library(tmp_path / "work", tmp_path / "served").all()) == 1
    assert str(tmp_path / "served") in searched
    assert str(tmp_path / "served/out") not in searched


def test_uploads_take_no_more_room_than_they_should(tmp_path: Path) -> None:
    found = library(tmp_path / "work")
    contents = [sound(tmp_path / f"{k}.wav", k / 10).read_bytes() for k in range(3)]
    first = found.add("../a.wav", io.BytesIO(contents[0]))
    assert (first.name, first.uploaded) == ("a.wav", True)
    assert first.path.is_relative_to(tmp_path / "work/uploads")
    assert os.stat(first.kept).st_mode & 0o077 == 0
    assert found.add("b.wav", io.BytesIO(contents[0])) == first
    found.add("a.wav", io.BytesIO(contents[1]))
    with pytest.raises(TooMany):
        found.add("c.wav", io.BytesIO(contents[2]))
    with pytest.raises(TooMany):
        found.add("a.wav", io.BytesIO(contents[0]))
    found.remove(first)
    assert not first.kept.exists()
    with pytest.raises(UserError, match=r"broken\.wav: can't be read as audio"):
        found.add("broken.wav", io.BytesIO(b"no sound"))
    with pytest.raises(UserError, match=r"empty\.wav: is empty"):
        found.add("empty.wav", io.BytesIO())
    found.add("c.wav", io.BytesIO(contents[2]))
    assert len(list((tmp_path / "work/uploads").iterdir())) == 2
    # Those of a server that was killed.
    assert library(tmp_path / "work").all() == []
    assert list((tmp_path / "work/uploads").iterdir()) == []


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("a.wav", "a.wav"),
        ("C:\\Users\\me\\a.wav", "a.wav"),
        ("../../etc/passwd", "passwd"),
        ("a\x1b[2J\n.wav", "a_[2J_.wav"),
        ("\ud800.wav", "_.wav"),
        ("", "recording"),
        ("..", ".."),
        (".", "recording"),
        ("x/", "recording"),
        ("é" * 999 + ".wav", "é" * 200 + ".wav"),
    ],
)
def test_names_that_are_sent(sent: str, shown: str) -> None:
    assert shown_name(sent) == shown
