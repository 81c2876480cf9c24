"""Events in several formats at once, with clock times: where each goes, and what is refused."""

import shutil
import sys
from pathlib import Path

import pytest
from conftest import Scenes

import earmark
from earmark.audio import duration_seconds
from earmark.cli import main
from earmark.data.labels import find_clips
from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.event_formats import EVENT_FORMATS
from earmark.formats.events import read_events
from earmark.formats.labels import read_labels
from earmark.formats.recorded import Recorded
from earmark.scale.journal import Journal
from earmark.tasks import detection
from earmark.tasks.detection import detect
from earmark.tasks.evaluation import evaluate
from earmark.tasks.event_outputs import event_outputs
from earmark.tasks.picture import plot

ALL = "csv,dcase,audacity,audacity-scores,raven,json,jsonl,parquet"


@pytest.fixture(scope="module")
def audio(model: Path, held_out: Scenes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings in folders, one of which says when it began, and one in which nothing is found."""
    folder = tmp_path_factory.mktemp("recordings")
    names = ["silent.flac", "SITE_20250131_235959+0100.flac", "north/b.flac", "Käuz, (1).flac"]
    found = earmark.load(model, "cpu").detect
    clips = sorted(held_out.audio.iterdir(), key=lambda clip: (len(found(clip)), clip))
    assert not found(clips[0])
    assert found(clips[-3])
    for name, clip in zip(names, [clips[0], *clips[-3:]], strict=True):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip, folder / name)
    return folder


def bare(events: dict) -> dict:
    """Without the scores, and recordings without events."""
    return {
        name: [(e.onset_seconds, e.offset_seconds, e.label) for e in of_one]
        for name, of_one in events.items()
        if of_one
    }


def below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_one_call_writes_every_format(
    model: Path, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "events.csv"
    report = detect(audio, model=model, out=out, format=ALL, clock_times=True, device="cpu")
    names = sorted(report.events)
    tracks = [f"events.audacity/{name}.txt" for name in names]
    rated = [f"events.audacity-scores/{name}.txt" for name in names]
    tables = ["events.csv", "events.json", "events.jsonl", "events.parquet"]
    tables += ["events.selections.txt", "events.tsv"]
    assert below(tmp_path) == sorted(tracks + rated + tables)
    events = read_events(out)
    assert list(events) == [name for name in names if name != "silent.flac"]
    for table in tables[1:5]:
        assert read_events(tmp_path / table) == events
    assert bare(read_events(tmp_path / "events.tsv")) == bare(events)
    assert bare(read_events(tmp_path / "events.audacity")) == bare(events)
    for table in tables[:4]:
        assert "2025-0" in str((tmp_path / table).read_bytes())
    told = capsys.readouterr().err
    assert "start_time is empty for 3 of 4 recordings ('Käuz, (1).flac' and 2 more)" in told
    assert "AudioMoth" in told
    for place in ("events.csv", "events.audacity,", "events.parquet"):
        assert place in report.text()


def test_clock_times_cross_midnight(model: Path, audio: Path, tmp_path: Path) -> None:
    recording = audio / "SITE_20250131_235959+0100.flac"
    out = tmp_path / "e.csv"
    report = detect(recording, model=model, out=out, clock_times=True, device="cpu")
    (events,) = report.events.values()
    rows = out.read_text("utf-8").splitlines()[1:]
    assert len(rows) == len(events) > 0
    for row, event in zip(rows, events, strict=True):
        seconds = event.onset_seconds - 1
        day, clock = ("2025-02-01", f"00:00:{seconds:06.3f}") if seconds >= 0 else (
            "2025-01-31", f"23:59:{60 + seconds:06.3f}")  # fmt: skip
        assert row.endswith(f",{day}T{clock}+01:00")


def test_a_table_a_recording_in_every_format(model: Path, audio: Path, tmp_path: Path) -> None:
    one, each = tmp_path / "one.csv", tmp_path / "each"
    detect(audio, model=model, out=one, device="cpu")
    detect(audio, model=model, out=each, format="csv,tsv,audacity,raven,json", device="cpu")
    events = read_events(one)
    for suffix in (".csv", ".tsv", ".txt", ".selections.txt", ".json"):
        of_suffix = [name for name in below(each) if name == f"{recording_of(name)}{suffix}"]
        assert len(of_suffix) == 4
        labels_format = "audacity" if suffix == ".txt" else "auto"
        found = {
            recording_of(name): of_one
            for name in of_suffix
            for of_one in read_events(each / name, labels_format).values()
        }
        assert bare(found) == bare(events)
    for name in events:
        # Each begins anew in a table of its own.
        table = (each / f"{name}.selections.txt").read_text("utf-8").splitlines()[1:]
        assert all(row.split("\t")[3] == row.split("\t")[8] for row in table)


def recording_of(name: str) -> str:
    return name[: name.index(".flac") + len(".flac")]


def test_raven_times_run_on_over_all_recordings(model: Path, audio: Path, tmp_path: Path) -> None:
    out = tmp_path / "events.txt"
    path_of = {path.name: path for path in sorted(audio.rglob("*.flac"), reverse=True)}
    report = detect(*path_of.values(), model=model, out=out, format="raven", device="cpu")
    header, *rows = (row.split("\t") for row in out.read_text("utf-8").splitlines())
    expected, before = [], 0.0
    for name in sorted(report.events):
        expected += [(before + e.onset_seconds, e.onset_seconds, name) for e in report.events[name]]
        before += duration_seconds(path_of[name])
    begin, offset, path, name = (
        header.index(column)
        for column in ("Begin Time (s)", "File Offset (s)", "Begin Path", "filename")
    )
    assert len(rows) == len(expected) > 3
    for row, (running, inside, recording) in zip(rows, expected, strict=True):
        assert float(row[begin]) == pytest.approx(running, abs=2e-6)
        assert float(row[offset]) == pytest.approx(inside, abs=2e-6)
        assert row[name] == recording
        assert Path(row[path]) == path_of[recording]


def test_stopped_anywhere_it_goes_on_in_every_format(
    model: Path, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: str) -> None:
        out = tmp_path / folder / "e.csv"
        detect(audio, model=model, out=out, format=ALL, clock_times=True, device="cpu")

    run("unbroken")
    kind = EVENT_FORMATS["jsonl"]
    broken = type(kind)(kind.suffix, lambda *_: 1 / 0)
    monkeypatch.setitem(EVENT_FORMATS, "jsonl", broken)
    with pytest.raises(ZeroDivisionError):
        run("broken")
    assert (tmp_path / "broken" / ".e.csv.journal").exists()
    monkeypatch.setitem(EVENT_FORMATS, "jsonl", kind)
    done = []
    monkeypatch.setattr(Journal, "add", lambda self, name, *_: done.append(name))
    run("broken")
    assert done == []
    one, other = tmp_path / "unbroken", tmp_path / "broken"
    assert below(one) == below(other)
    for name in below(one):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_another_format_is_another_run(
    model: Path, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "finish", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        detect(audio, model=model, out=tmp_path / "e.csv", device="cpu")
    with pytest.raises(UserError, match="another format"):
        detect(audio, model=model, out=tmp_path / "e.csv", format="csv,raven", device="cpu")
    with pytest.raises(UserError, match="another clock times"):
        detect(audio, model=model, out=tmp_path / "e.csv", clock_times=True, device="cpu")


@pytest.mark.parametrize(
    ("out", "formats", "tables", "folders"),
    [
        ("e.csv", "csv", {"csv": "e.csv"}, {}),
        ("e.csv", "csv,audacity", {"csv": "e.csv"}, {"audacity": "e.audacity"}),
        ("e.selections.txt", "raven,csv", {"raven": "e.selections.txt", "csv": "e.csv"}, {}),
        ("e.txt", "raven,audacity", {"raven": "e.txt"}, {"audacity": "e.audacity"}),
        ("e.txt", "audacity", {"audacity": "e.txt"}, {}),
        ("a.b.json", "csv,json", {"csv": "a.b.csv", "json": "a.b.json"}, {}),
        ("e.csv", "csv,dcase", {"csv": "e.csv", "dcase": "e.tsv"}, {}),
        ("e", "csv,audacity", {}, {"csv": "e", "audacity": "e"}),
    ],
)
def test_where_tables_go(out, formats, tables, folders) -> None:
    found = event_outputs(Path(out), formats, False)
    assert found.tables == {name: Path(path) for name, path in tables.items()}
    assert found.folders == {name: Path(path) for name, path in folders.items()}


@pytest.mark.parametrize(
    ("out", "formats", "complaint"),
    [
        ("e.csv", "raven", r"e\.csv: events go to a file ending in \.selections\.txt or"),
        ("e.dat", "csv,json", r"ending in \.csv or \.json or to a folder"),
        ("e.csv", "audacity,audacity-scores", "events go to a file"),
        ("e.txt", "dcase2017,raven", "can't be told which of dcase2017 and raven this is"),
        ("e.tsv", "tsv,dcase", "can't be told which of tsv and dcase this is"),
        ("e.csv", "csv,tsv,dcase", "two tables may not be one file; give one of csv and tsv and"),
        ("e", "tsv,dcase", "may not be one file, but 'tsv' and 'dcase' both end in .tsv"),
        ("e", "audacity,dcase2017", "both end in .txt"),
        ("e.csv", "cvs", "came as 'cvs'; did you mean 'csv'"),
    ],
)  # fmt: skip
def test_where_tables_can_not_go(out, formats, complaint) -> None:
    with pytest.raises(UserError, match=complaint):
        event_outputs(Path(out), formats, False)


def test_only_what_is_missing_or_empty_is_written_again(tmp_path: Path) -> None:
    outputs = event_outputs(tmp_path / "e", "csv,audacity,json", False)
    recorded = Recorded("north/a.wav", [Event(0, 1, "siren")])
    outputs.write_of(recorded)
    csv, track, json = (
        tmp_path / "e" / f"north/a.wav{suffix}" for suffix in (".csv", ".txt", ".json")
    )
    whole = csv.read_bytes()
    csv.write_bytes(b"")
    track.write_text("corrected by hand")
    json.unlink()
    outputs.write_of(recorded, missing=True)
    assert csv.read_bytes() == whole
    assert track.read_text() == "corrected by hand"
    assert json.exists()
    outputs.write_of(recorded)
    assert track.read_text() == "0.000\t1.000\tsiren\n"


def test_what_can_not_be_written_is_known_before_the_work(
    model: Path, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "each_recording", lambda *_: 1 / 0)

    def run(format: str, out: str = "e.csv", **options) -> None:
        detect(audio, model=model, out=tmp_path / out, format=format, device="cpu", **options)

    with pytest.raises(UserError, match="no place for clock times in the format dcase,audacity"):
        run("dcase,audacity", "folder", clock_times=True)
    with pytest.raises(UserError, match="holds one recording, there are 4; give a folder"):
        run("audacity", "e.txt")
    (tmp_path / "e.json").mkdir()
    with pytest.raises(UserError, match=r"e\.json: is a folder, where a table should go"):
        run("csv,json")
    (tmp_path / "e.audacity").touch()
    with pytest.raises(UserError, match=r"e\.audacity: the folder can't be made"):
        run("csv,audacity")
    with pytest.raises(UserError, match="scores and events would be the same files"):
        run("tsv", "both", scores=tmp_path / "both")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'earmark\[parquet\]'"):
        run("csv,parquet")
    with pytest.raises(UserError, match="there is no --format or --clock-times"):
        run("csv", "folder", engine="ray", clock_times=True)


def test_the_command_line_says_what_formats_there_are(
    model: Path, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["detect", str(audio), "--model", str(model), "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "e.csv"), "--format", "csv,audicity"]) == 2
    assert "did you mean 'audacity'?" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main([*words, "--out", str(tmp_path / "e.jsonl"), "--format", "jsonl,raven"]) == 0
    assert below(tmp_path) == ["e.jsonl", "e.selections.txt"]


def test_a_name_that_raven_can_not_hold_is_listed(model: Path, audio: Path, tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    folder.mkdir()
    for name in ("a.flac", "b\tc.flac"):
        shutil.copy(audio / "north" / "b.flac", folder / name)
    report = detect(folder, model=model, out=tmp_path / "e.txt", format="raven", device="cpu")
    assert list(report.events) == ["a.flac"]
    assert "a filename in the format 'raven' can hold no tab" in report.failures[0]
    detect(folder, model=model, out=tmp_path / "e.csv", device="cpu")
    assert list(read_events(tmp_path / "e.csv")) == ["a.flac", "b\tc.flac"]


def test_a_track_means_one_recording(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "audio" / "south").mkdir(parents=True)
    (tmp_path / "tracks" / "north").mkdir(parents=True)
    shutil.copytree(audio / "north", tmp_path / "audio" / "north")
    shutil.copy(audio / "north" / "b.flac", tmp_path / "audio" / "south")
    track = tmp_path / "tracks" / "north" / "b.txt"
    track.write_text("0.1\t0.2\tsiren\n")
    labels = read_labels(tmp_path / "tracks")
    assert [c.path.parent.name for c in find_clips(labels, tmp_path / "audio")[0]] == ["north"]
    with pytest.raises(UserError, match="'b' matches"):
        find_clips(read_labels(track), tmp_path / "audio")
    shutil.copy(audio / "north" / "b.flac", tmp_path / "audio" / "north" / "b.oga")
    with pytest.raises(UserError, match="'north/b' matches"):
        find_clips(labels, tmp_path / "audio")
    track.rename(track.with_name("b.oga.txt"))
    (clip,) = find_clips(read_labels(tmp_path / "tracks"), tmp_path / "audio")[0]
    assert clip.path.name == "b.oga"


@pytest.mark.slow
def test_tracks_are_scored_by_folder_and_stem(tmp_path: Path) -> None:
    """Recorders give the same names at every site."""
    for site, label in (("north", "siren"), ("south", "horn")):
        (tmp_path / "tracks" / site).mkdir(parents=True)
        (tmp_path / "tracks" / site / "0001.txt").write_text(f"0\t1\t{label}\n")
    table = tmp_path / "e.csv"
    table.write_text(
        "filename,onset,offset,event_label\nnorth/0001.wav,0,1,siren\nsouth/0001.wav,0,1,horn\n"
    )
    durations = tmp_path / "d.csv"
    durations.write_text("filename,duration\nnorth/0001.wav,2\nsouth/0001.wav,2\n")
    for reference, prediction in ((tmp_path / "tracks", table), (table, tmp_path / "tracks")):
        for options in ({}, {"durations": durations}):
            report = evaluate(reference, prediction, **options)
            assert report.text().count(" 100.0 ") >= 8
            assert "clips: 2" in report.text()


@pytest.mark.slow
def test_tracks_are_labels_and_references(model: Path, audio: Path, tmp_path: Path) -> None:
    """What was corrected in Audacity or Raven goes back in; without suffixes, too."""
    out = tmp_path / "e.csv"
    found = detect(audio, model=model, out=out, format="csv,audacity,raven", device="cpu")
    tracks = tmp_path / "e.audacity"
    for track in sorted(tracks.rglob("*.flac.txt")):
        track.rename(track.with_name(track.name.replace(".flac", "")))
    labels = read_labels(tracks)
    clips, missing = find_clips(labels, audio)
    assert sorted(clip.path for clip in clips) == sorted(audio.rglob("*.flac"))
    assert missing == []
    for reference, prediction in (("e.audacity", "e.csv"), ("e.csv", "e.audacity")):
        report = evaluate(tmp_path / reference, tmp_path / prediction, audio=audio)
        assert report.text().count(" 100.0 ") >= 8
    name = next(name for name in read_events(tmp_path / "e.csv") if name.startswith("north"))
    for reference in (
        tracks / name.replace(".flac", ".txt"),
        tracks,
        tmp_path / "e.selections.txt",
    ):
        drawn = plot(
            audio / name, model=model, out=tmp_path / "p.png", reference=reference, device="cpu"
        )
        assert drawn.reference is not None
        assert len(drawn.reference) == len(found.events[name]) > 0
