"""Detection that is stopped at any moment goes on, to the same result as if it never had been."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Scenes

from earmark.cli import main
from earmark.errors import UserError
from earmark.formats.events import read_events
from earmark.formats.scores import read_scores
from earmark.scale.journal import Journal, alone, state_of
from earmark.tasks import detection
from earmark.tasks.detection import detect, tag

RUN = {"model": "m", "device": "cpu"}


def recordings(folder: Path, count: int = 5) -> dict[str, Path]:
    """Files, whatever is in them; named so that their order is not that of the alphabet."""
    found = {}
    for number in reversed(range(count)):
        path = folder / f"{number}.wav"
        path.write_bytes(b"x" * (number + 1))
        found[path.name] = path
    return found


def result(name: str) -> list[float]:
    return [0.1 + int(name[0]), 1 / 3, 2e-308]


def fill(journal: Journal, found: dict[str, Path]) -> None:
    for name in sorted(found):
        if name not in journal:
            journal.add(name, state_of(found[name]), result(name))


def test_results_are_in_the_order_of_the_recordings(tmp_path: Path) -> None:
    found = recordings(tmp_path)
    journal = Journal(tmp_path / "j", RUN, found)
    assert not (tmp_path / "j").exists(), "nothing to keep yet"
    fill(journal, found)
    again = Journal(tmp_path / "j", RUN, found)
    for one in (journal, again):
        assert list(one) == list(found)
        assert dict(one) == {name: result(name) for name in found}
    journal.finish()
    assert not (tmp_path / "j").exists()
    assert dict(journal) == dict(again) == {name: result(name) for name in found}


def test_a_journal_cut_anywhere_loses_what_was_cut(tmp_path: Path) -> None:
    found = recordings(tmp_path, 3)
    path = tmp_path / "j"
    fill(Journal(path, RUN, found), found)
    whole = path.read_bytes()
    head = whole.index(b"\n") + 1
    for length in (*range(head, len(whole), 7), len(whole) - 1):
        path.write_bytes(whole[:length])
        journal = Journal(path, RUN, found)
        assert len(journal) == whole[:length].count(b"\n") - 1
        fill(journal, found)
        assert dict(journal) == {name: result(name) for name in found}
        assert path.read_bytes() == whole
        journal.close()


@pytest.mark.parametrize("damage", [b"\0", b"\xff", b"[", b"{}", b"[" * 100_000])
def test_a_damaged_line_is_one_recording_to_do_anew(tmp_path: Path, damage: bytes) -> None:
    found = recordings(tmp_path)
    path = tmp_path / "j"
    fill(Journal(path, RUN, found), found)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], damage + b"\n", *lines[3:]]))
    journal = Journal(path, RUN, found)
    assert len(journal) == 4
    assert "1.wav" not in journal
    fill(journal, found)
    assert dict(Journal(path, RUN, found)) == {name: result(name) for name in found}


def test_runs_are_never_mixed(tmp_path: Path) -> None:
    found = recordings(tmp_path)
    path = tmp_path / "j"
    fill(Journal(path, RUN, found), found)
    before = path.read_bytes()
    for other in ({**RUN, "model": "other"}, {"device": "cpu"}, {**RUN, "new": 1}):
        with pytest.raises(UserError, match=r"another (model|new); .*--restart"):
            Journal(path, other, found)
    assert path.read_bytes() == before
    assert len(Journal(path, {**RUN, "model": "other"}, found, restart=True)) == 0
    for none in (b"", b"\n", b"\x00\n", b'{"run": 1}\n', b"filename,onset\n"):
        path.write_bytes(none)
        with pytest.raises(UserError, match="no journal"):
            Journal(path, RUN, found)


def test_another_file_is_done_anew(tmp_path: Path) -> None:
    found = recordings(tmp_path)
    path = tmp_path / "j"
    fill(Journal(path, RUN, found), found)
    found["0.wav"].write_bytes(b"longer than before")
    changed = found["1.wav"].stat()
    os.utime(found["1.wav"], ns=(changed.st_atime_ns, changed.st_mtime_ns + 1))
    found["2.wav"].unlink()
    elsewhere = tmp_path / "elsewhere.wav"
    found["3.wav"].rename(elsewhere)
    found["3.wav"] = elsewhere
    assert list(Journal(path, RUN, found)) == ["4.wav"]
    assert list(Journal(path, RUN, {"4.wav": found["4.wav"]})) == ["4.wav"], "others: passed over"


def test_a_full_disk_costs_nothing_that_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = recordings(tmp_path)
    path = tmp_path / "j"
    journal = Journal(path, RUN, found)
    fill(journal, {"0.wav": found["0.wav"]})
    before = path.read_bytes()
    disk = journal._out
    assert disk is not None

    class Full:
        fileno = disk.fileno

        @staticmethod
        def write(content: bytes) -> int:
            if len(content) > 20:
                return disk.write(content[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(journal, "_out", Full)
    with pytest.raises(UserError, match=r"j: can't be written: No space left on device"):
        journal.add("1.wav", None, result("1.wav"))
    assert path.read_bytes() == before
    assert list(journal) == ["0.wav"]
    monkeypatch.setattr(journal, "_out", disk)
    fill(journal, found)
    assert dict(Journal(path, RUN, found)) == {name: result(name) for name in found}


def test_memory_is_of_names_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"x")
    found = {f"{number}.wav": path for number in range(3000)}
    state, much = state_of(path), [[1.5, 2.5, "label", 0.5]] * 40
    tracemalloc.start()
    journal = Journal(tmp_path / "j", RUN, found)
    for name in found:
        journal.add(name, state, much)
    held = tracemalloc.get_traced_memory()[0]
    assert sum(len(rows) for rows in journal.values()) == 120_000
    read = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert max(held, read) / 3000 < 200, "bytes a recording, of 1,200 in the file"
    journal.close()


HOLD = """
import sys, pathlib
from earmark.scale.journal import alone
with alone(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_at_once_are_refused(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    clip = sorted(held_out.audio.iterdir())[0]
    for out in (tmp_path / "events.csv", tmp_path / "folder"):
        words = [sys.executable, "-c", HOLD, str(out)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(words, **pipes) as other:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(UserError, match="another process is writing it"):
                detect(clip, model=model, out=out, device="cpu")
            other.communicate("")
        with alone(out):
            pass
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"], "no lock is left"


def test_a_lock_that_is_left_holds_nobody_up(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        other.kill()
    assert (tmp_path / ".lock").exists()
    with alone(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The recordings that were worked on; an error in the middle while ``stop`` is in it."""
    begun: list[str] = []
    call = detection._Detecting.__call__

    def counting(self: object, name: str, path: Path, *reached: object) -> object:
        begun.append(name)
        if "stop" in begun and len(begun) > 6:
            raise RuntimeError("the plug was pulled")
        return call(self, name, path, *reached)

    monkeypatch.setattr(detection._Detecting, "__call__", counting)
    return begun


@pytest.mark.parametrize("out", ["events.csv", "folder"])
def test_detection_goes_on(
    model: Path,
    held_out: Scenes,
    tmp_path: Path,
    out: str,
    counted: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(folder: str, **more: object) -> detection.Detected:
        place = tmp_path / folder / out
        scores = tmp_path / folder / "scores"
        return detect(held_out.audio, model=model, out=place, scores=scores, device="cpu", **more)

    unbroken = run("unbroken")
    assert len(counted) == 12
    counted[:] = ["stop"]
    with pytest.raises(RuntimeError, match="plug"):
        run("broken")
    journal = next((tmp_path / "broken").rglob(".*journal"))
    done = len(journal.read_text(encoding="utf-8").splitlines()) - 1
    assert 0 < done < 12
    assert not (tmp_path / "broken" / "events.csv").exists()
    counted.clear()
    capsys.readouterr()
    broken = run("broken")
    assert len(counted) == 12 - done
    assert f"going on: {done} of 12 recordings are done" in capsys.readouterr().err
    assert list(broken.events) == list(unbroken.events)
    assert dict(broken.events) == dict(unbroken.events)
    assert same_files(tmp_path / "broken", tmp_path / "unbroken")

    counted[:] = ["stop"]
    with pytest.raises(RuntimeError, match="plug"):
        run("broken")
    counted.clear()
    with pytest.raises(UserError, match="another precision"):
        run("broken", precision="float32")
    run("broken", precision="float32", restart=True)
    assert len(counted) == 12


def same_files(one: Path, other: Path) -> bool:
    contents = [
        {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}
        for top in (one, other)
    ]
    assert contents[0].keys() == contents[1].keys()
    return contents[0] == contents[1]


def test_what_an_output_lost_is_made_again(
    model: Path, held_out: Scenes, tmp_path: Path, counted: list[str]
) -> None:
    clips = sorted(held_out.audio.iterdir())
    place, scores = tmp_path / "e", tmp_path / "s"

    def run() -> None:
        detect(*clips, model=model, out=place, scores=scores, device="cpu")

    counted[:] = ["stop"]
    with pytest.raises(RuntimeError, match="plug"):
        run()
    first, second = (clip.name for clip in clips[:2])
    (place / f"{first}.csv").write_bytes(b"")
    (scores / f"{second}.tsv").unlink()
    counted.clear()
    run()
    assert counted.count(second) == 1
    assert first not in counted
    assert read_events(place / f"{first}.csv").keys() <= {first}
    assert (place / f"{first}.csv").stat().st_size > 0
    assert len(read_scores(scores / f"{second}.tsv")[2]) > 0


@pytest.mark.skipif(os.name != "posix", reason="reads which folders were synced")
@pytest.mark.parametrize(("out", "format"), [("e", "csv,json"), ("e.csv", "csv,audacity")])
def test_all_is_on_the_disk_before_the_journal_says_so_and_before_it_goes(
    model: Path,
    held_out: Scenes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    out: str,
    format: str,
) -> None:
    synced, sync, add, finish = set(), os.fsync, Journal.add, Journal.finish
    there: list[int] = []

    def noted(file: int) -> None:
        synced.add(os.fstat(file).st_ino)
        sync(file)

    def check(pattern: str) -> None:
        tables = list((tmp_path / "o").rglob(pattern))
        assert [path for path in tables if path.stat().st_ino not in synced] == []
        there.append(len([path for path in tables if path.is_file()]))

    def adding(journal: Journal, name: str, *given: object) -> None:
        check(f"{name}*")
        add(journal, name, *given)

    def finishing(journal: Journal) -> None:
        check("[!.]*")
        finish(journal)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Journal, "add", adding)
    monkeypatch.setattr(Journal, "finish", finishing)
    clips = sorted(held_out.audio.iterdir())[:2]
    place = tmp_path / "o" / out
    detect(*clips, model=model, out=place, format=format, scores=tmp_path / "o" / "s", device="cpu")
    assert there == ([3, 3, 6] if out == "e" else [2, 2, 5])


def test_failures_are_tried_again_and_tagging_goes_on(
    model: Path, held_out: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = tmp_path / "audio"
    audio.mkdir()
    clips = sorted(held_out.audio.iterdir())
    for clip in clips:
        (audio / clip.name).write_bytes(clip.read_bytes())
    bad = audio / clips[0].name
    bad.write_bytes(b"not audio")
    write = detection.write_tags
    monkeypatch.setattr(detection, "write_tags", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tag(audio, model=model, out=tmp_path / "t.csv", device="cpu")
    assert not (tmp_path / "t.csv").exists()
    bad.write_bytes(clips[0].read_bytes())
    monkeypatch.setattr(detection, "write_tags", write)
    work = []
    add = Journal.add
    monkeypatch.setattr(Journal, "add", lambda self, *a: work.append(a[0]) or add(self, *a))
    tags = tag(audio, model=model, out=tmp_path / "t.csv", device="cpu")
    assert work == [bad.name]
    assert tags.failures == []
    unbroken = tag(held_out.audio, model=model, out=tmp_path / "u.csv", device="cpu")
    assert dict(tags.probabilities) == dict(unbroken.probabilities)
    assert (tmp_path / "t.csv").read_bytes() == (tmp_path / "u.csv").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["audio", "t.csv", "u.csv"]


# Detection with some time between the recordings, and a death as a given file appears.
VICTIM = """
import os, signal, sys, time, random
from earmark import writing
from earmark.cli import main
from earmark.tasks.detection import _Detecting
call, replace, (point, name) = _Detecting.__call__, os.replace, sys.argv[1].split()
def slowly(self, name, path, *reached):
    time.sleep(random.uniform(0, 0.02))
    return call(self, name, path, *reached)
def dying(source, target):
    here = str(target).endswith(name)
    if here and point == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if here and point == "after":
        os.kill(os.getpid(), signal.SIGKILL)
_Detecting.__call__, writing.os.replace = slowly, dying
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_killed_at_any_moment(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    audio.mkdir()
    clips = sorted(held_out.audio.iterdir())
    for number in range(60):
        clip = clips[number % len(clips)]
        (audio / f"{number:02}{clip.suffix}").write_bytes(clip.read_bytes())
    (audio / "bad.wav").write_bytes(b"not audio")
    unbroken = detect(audio, model=model, out=tmp_path / "unbroken.csv", device="cpu")
    rng = random.Random(0)
    out = tmp_path / "out" / "events.csv"
    journal = out.with_name(".events.csv.journal")
    words = ["detect", str(audio), "--model", str(model), "--out", str(out), "--device", "cpu"]
    kills = {"in the middle": 0, "before": 0, "after": 0}

    def start(point: str) -> subprocess.Popen[bytes]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        at = f"{point} events.csv"
        return subprocess.Popen([sys.executable, "-c", VICTIM, at, *words], **pipes)

    def lines() -> int:
        try:
            return journal.read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0

    def killed(point: str, soon: Callable[[], bool] = lambda: False) -> bool:
        with start(point) as victim:
            while victim.poll() is None and not soon():
                time.sleep(0.001)
            victim.kill()
            victim.communicate()
        return victim.returncode == -signal.SIGKILL

    while lines() < 58:
        wanted, last = lines() + rng.randint(1, 8), lines()
        assert killed("never", lambda wanted=wanted: lines() >= wanted)
        assert lines() >= last
        kills["in the middle"] += 1
    for point in ("before", "before", "after", "after"):
        assert killed(point)
        assert journal.exists()
        kills[point] += 1
    assert kills["in the middle"] >= 6
    with start("never") as last_one:
        stdout, stderr = last_one.communicate()
    assert last_one.returncode == 1, "one bad recording"
    assert b"going on: 60 of 61 recordings are done" in stderr
    assert b"bad.wav" in stdout
    assert out.read_bytes() == (tmp_path / "unbroken.csv").read_bytes()
    rows = out.read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + sum(map(len, unbroken.events.values())) == len(set(rows))
    assert not journal.exists()
    assert not out.with_name(".events.csv.lock").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("out", "dies", "lacks"),
    [
        ("tables", "after {}.tsv", "tables/{}.csv"),
        ("tables", "after {}.csv", "tables/{}.json"),
        ("tables", "after {}.json", "a line of the journal"),
        ("events.csv", "after events.csv", "events.json"),
    ],
)
def test_killed_between_two_files(
    model: Path, held_out: Scenes, tmp_path: Path, out: str, dies: str, lacks: str
) -> None:
    clips = sorted(held_out.audio.iterdir())[:3]

    def words(place: Path) -> list[str]:
        given = ["detect", *map(str, clips), "--model", str(model), "--device", "cpu"]
        return [*given, "--format", "csv,json", "--out", str(place / out), "--scores", str(place)]

    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    name = clips[0].name
    victim = [sys.executable, "-c", VICTIM, dies.format(name), *words(broken)]
    died = subprocess.run(victim, check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL
    assert not (broken / lacks.format(name)).exists()
    journal = next(broken.rglob(".*journal"), None)
    if journal is not None:
        assert (name in journal.read_text(encoding="utf-8")) == (out == "events.csv")
    for place in (broken, unbroken):
        assert main(words(place)) == 0
    # What another thread was writing when it was killed may stay, hidden.
    for path in broken.rglob(".*.part"):
        path.unlink()
    assert same_files(broken, unbroken)
