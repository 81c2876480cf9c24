"""Wrong tags are found by models that didn't learn from them."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Scenes, scenes
from numpy.typing import NDArray

import earmark
from earmark.audio import duration_seconds, read, write
from earmark.config import Settings
from earmark.data.labels import Clip, find_clips
from earmark.errors import UserError
from earmark.formats.labels import LabelRow, read_labels
from earmark.formats.tables import read_table
from earmark.formats.weak import write_weak
from earmark.scores import ScoreTrack
from earmark.tasks import auditing
from earmark.tasks.auditing import Suspect, _CrossAudit, audit
from earmark.tasks.training_run import TrainingRun
from earmark.timeline import FrameClock

QUICK = (*TINY, "training.epochs=1")


def table(rows: Sequence[LabelRow], path: Path) -> Path:
    write_weak(path, [(row.filename, row.labels, row.group) for row in rows])
    return path


def flipped(
    rows: Sequence[LabelRow], share: float, seed: int
) -> tuple[list[LabelRow], set[tuple[str, str]]]:
    """Rows with a share of the tags taken away and as many given in wrong places, and which."""
    names = sorted({label for row in rows for label in row.labels})
    tags = np.array([[name in row.labels for name in names] for row in rows])
    rng = np.random.default_rng(seed)
    flips: NDArray[np.bool_] = np.zeros_like(tags)
    for value in (True, False):
        places = rng.permutation(np.argwhere(tags == value))
        flips[tuple(places[: round(share / 2 * tags.sum())].T)] = True
    changed = [
        replace(row, labels=frozenset(n for n, tag in zip(names, of, strict=True) if tag))
        for row, of in zip(rows, tags ^ flips, strict=True)
    ]
    return changed, {(rows[n].filename, names[k]) for n, k in np.argwhere(flips)}


@pytest.mark.slow
def test_flipped_tags_are_in_the_first_ranks(tmp_path: Path) -> None:
    clips = scenes(tmp_path / "scenes", 240, seed=1)
    rows, flips = flipped(read_labels(clips.weak).rows, 0.1, seed=0)
    settings = [*TINY, "training.epochs=25", "training.learning_rate=0.004"]
    report = audit(
        table(rows, tmp_path / "tags.tsv"),
        audio=clips.audio,
        out=tmp_path / "audit.csv",
        folds=3,
        set=[*settings, "network.localisation=linear_softmax"],
        device="cpu",
    )
    hits = [(suspect.filename, suspect.label) in flips for suspect in report.suspects]
    assert report.judged == 240 * 6
    assert sum(hits[: len(flips)]) > 0.7 * len(flips)  # by chance 2 %
    assert hits.count(False) < 0.02 * report.judged
    # The moment is one in which the class sounds, where it is missing in the table.
    events = {row.filename: row.events or () for row in read_labels(clips.strong).rows}
    heard = [
        any(
            event.label == suspect.label
            and event.onset_seconds < suspect.offset_seconds
            and suspect.onset_seconds < event.offset_seconds
            for event in events[suspect.filename]
        )
        for suspect in report.suspects
        if suspect.problem == "missing" and (suspect.filename, suspect.label) in flips
    ]
    assert np.mean(heard) > 0.8


def test_the_table_says_what_where_and_when(clips: Scenes, model: Path, tmp_path: Path) -> None:
    rows, _ = flipped(read_labels(clips.weak).rows, 0.5, seed=0)
    out = tmp_path / "audit.csv"
    report = audit(table(rows, tmp_path / "t.tsv"), audio=clips.audio, out=out, model=model)
    written = read_table(out)
    assert written.header == auditing.COLUMNS
    assert report.suspects
    assert [int(row.cells[5]) for row in written.rows] == [*range(1, len(report.suspects) + 1)]
    doubts = [suspect.doubt for suspect in report.suspects]
    assert doubts == sorted(doubts, reverse=True)
    tags = {row.filename: row.labels for row in rows}
    recogniser = earmark.load(model)
    for suspect, row in zip(report.suspects, written.rows, strict=True):
        assert row.cells[:3] == [suspect.filename, suspect.label, suspect.problem]
        assert (suspect.label in tags[suspect.filename]) == (suspect.problem == "wrong")
        assert 0 <= suspect.onset_seconds < suspect.offset_seconds
        assert suspect.offset_seconds <= duration_seconds(clips.audio / suspect.filename)
    first = report.suspects[0]
    said = recogniser.tag(clips.audio / first.filename)[first.label]
    assert first.probability == pytest.approx(said, abs=1e-6)
    assert f"{first.label} is {first.problem}?" in report.text()
    assert read_labels(out).strong, "other commands read it as events"
    assert not (tmp_path / "audit_folds").exists()


def test_classes_are_told_apart_by_their_names(clips: Scenes) -> None:
    probabilities = np.eye(3, dtype=np.float32)
    track = ScoreTrack(
        probabilities,
        ("b", "a", "c"),
        FrameClock(10, 10, 10),
        end_seconds=3.0,
        tags=np.array([0.2, 0.3, 0.4], np.float32),
    )

    class Fake:
        class_names = track.class_names

        def scores(self, recording: Path) -> ScoreTrack:
            return track

    path = next(clips.audio.iterdir())
    found = [Clip(path, path.name, None, None, frozenset("a"), None, None)]
    said = auditing._listened(Fake(), found, ("a", "b", "d"), "")  # type: ignore[arg-type]
    np.testing.assert_allclose(said.probabilities, [[0.3, 0.2, np.nan]], rtol=1e-6)
    nothing = [np.nan, np.nan]
    np.testing.assert_allclose(said.moments, [[[1.0, 2.0], [0.0, 1.0], nothing]])


def test_parts_have_the_times_of_the_file(clips: Scenes, model: Path, tmp_path: Path) -> None:
    rows, _ = flipped(read_labels(clips.weak).rows, 0.5, seed=0)
    whole = audit(
        table(rows, tmp_path / "t.tsv"), audio=clips.audio, out=tmp_path / "a.csv", model=model
    )
    samples = [read(clips.audio / row.filename, 8000) for row in rows]
    (tmp_path / "audio").mkdir()
    write(tmp_path / "audio" / "day.wav", np.concatenate(samples), 8000)
    lines = [
        f"day.wav\t{2 * number}\t{2 * number + 2}\t{','.join(sorted(row.labels))}"
        for number, row in enumerate(rows)
    ]
    parts_table = tmp_path / "parts.tsv"
    parts_table.write_text("\n".join(["filename\tonset\toffset\tevent_labels", *lines]))
    parts = audit(parts_table, audio=tmp_path / "audio", out=tmp_path / "b.csv", model=model)
    at = {row.filename: 2 * number for number, row in enumerate(rows)}

    def place(suspect: Suspect, start: float) -> tuple[str, float, float]:
        return (
            suspect.label,
            round(start + suspect.onset_seconds, 6),
            round(start + suspect.offset_seconds, 6),
        )

    assert {place(s, 0.0) for s in parts.suspects} == {
        place(s, at[s.filename]) for s in whole.suspects
    }


def test_what_is_not_known_is_not_judged(clips: Scenes, model: Path, tmp_path: Path) -> None:
    rows, _ = flipped(read_labels(clips.weak).rows, 0.5, seed=0)
    names = sorted({label for row in rows for label in row.labels})
    lines = ["filename\tevent_labels\tabsent_labels"]
    for number, row in enumerate(rows):
        absent = [name for name in names if name not in row.labels] if number % 2 else []
        lines.append(f"{row.filename}\t{','.join(sorted(row.labels))}\t{','.join(absent)}")
    (tmp_path / "t.tsv").write_text("\n".join(lines))
    out = tmp_path / "a.csv"
    report = audit(tmp_path / "t.tsv", audio=clips.audio, out=out, model=model)
    said = {row.filename for row in rows[1::2]}
    missing = [suspect for suspect in report.suspects if suspect.problem == "missing"]
    assert missing
    assert all(suspect.filename in said for suspect in missing)


class Killed(BaseException):
    """What no one catches."""


def test_it_goes_on_fold_by_fold(
    clips: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path) -> auditing.Audited:
        return audit(clips.weak, audio=clips.audio, out=out, folds=3, set=QUICK, device="cpu")

    whole = run(tmp_path / "whole.csv")
    judge, judged = _CrossAudit._judge, []

    def once(self: _CrossAudit, number: int, *rest: object) -> object:
        judged.append(number)
        if judged == [1, 2]:
            raise Killed
        return judge(self, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(_CrossAudit, "_judge", once)
    with pytest.raises(Killed):
        run(tmp_path / "cut.csv")
    assert not (tmp_path / "cut.csv").exists()
    (tmp_path / "cut_folds" / "fold_3.npz").write_bytes(b"torn")
    assert run(tmp_path / "cut.csv").suspects == whole.suspects
    assert judged == [1, 2, 2, 3]
    assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert earmark.load(tmp_path / "cut_folds" / "fold_2").class_names
    run(tmp_path / "cut.csv")
    assert judged == [1, 2, 2, 3]
    with pytest.raises(UserError, match="another seed"):
        audit(
            clips.weak,
            audio=clips.audio,
            out=tmp_path / "cut.csv",
            folds=3,
            set=QUICK,
            seed=1,
        )


def test_no_model_judges_what_it_learnt_from(
    clips: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_labels(clips.weak).rows
    rows = tuple(replace(row, group=f"g{number // 3}") for number, row in enumerate(rows))
    learnt: list[set[str | None]] = []
    judged: list[set[str | None]] = []

    def complete(self: TrainingRun, *, resume: bool) -> None:
        learnt.append({clip.group for clip in self.data.training})

    def listened(_: object, clips: Sequence[Clip], names: Sequence[str], __: str) -> object:
        judged.append({clip.group for clip in clips})
        return auditing._Judged.nothing(len(clips), len(names))

    monkeypatch.setattr(TrainingRun, "complete", complete)
    monkeypatch.setattr("earmark.inference.fusion.load_recogniser", lambda *_: None)
    monkeypatch.setattr(auditing, "_listened", listened)
    report = audit(
        table(rows, tmp_path / "t.tsv"), audio=clips.audio, out=tmp_path / "a.csv", folds=4
    )
    groups = {row.group for row in rows}
    assert [part | rest for part, rest in zip(judged, learnt, strict=True)] == [groups] * 4
    assert not any(part & rest for part, rest in zip(judged, learnt, strict=True))
    assert sum(map(len, judged)) == len(groups)
    assert max(map(len, judged)) - min(map(len, judged)) <= 1
    assert report.judged == 0
    assert len(report.unjudged) == len(report.text().rpartition("them: ")[2].split(", "))


def test_folds_hold_each_class(clips: Scenes, tmp_path: Path) -> None:
    found, _ = find_clips(read_labels(clips.weak), clips.audio)
    whole = _CrossAudit(found, tmp_path / "a.csv", Settings(), "r", 0, "cpu", skip_missing=False)
    parts = whole._parts(4)
    assert sorted(number for part in parts for number in part) == list(range(len(found)))
    for name in {label for clip in found for label in clip.labels}:
        counts = [sum(name in found[n].labels for n in part) for part in parts]
        assert max(counts) - min(counts) <= 2


def test_an_unreadable_clip_is_told(
    clips: Scenes,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(clips.audio, tmp_path / "audio")
    first = sorted((tmp_path / "audio").iterdir())[0]
    first.write_bytes(b"")
    out = tmp_path / "audit.csv"
    given = {"audio": tmp_path / "audio", "out": out}
    for how in ({"model": model}, {"folds": 2, "set": QUICK}):
        with pytest.raises(UserError, match="--skip-missing"):
            audit(clips.weak, **given, **how)
    assert not out.exists()
    capsys.readouterr()
    report = audit(clips.weak, **given, model=model, skip_missing=True)
    assert not report.failures
    assert first.name in capsys.readouterr().err
    assert all(suspect.filename != first.name for suspect in report.suspects)
    # One that can be opened, and fails later.
    monkeypatch.setattr("earmark.tasks.auditing.readable", lambda clips, skip: clips)
    report = audit(clips.weak, **given, model=model)
    assert len(report.failures) == 1
    assert first.name in report.failures[0]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"out": "audit.tsv"}, ".csv"),
        ({"folds": 1}, "at least 2"),
        ({"seed": -1}, "seed"),
        ({"folds": 33}, "fewer --folds"),
        ({"recipe": "fusion"}, "one system"),
        ({"recipe": "demoo"}, "did you mean"),
        ({"set": ["training.epoch=3"]}, "epochs"),
        ({"model": "m", "folds": 3}, "leave out"),
        ({"model": "nowhere"}, "nowhere"),
    ],
)
def test_what_can_t_be_done_is_said_at_once(
    clips: Scenes, tmp_path: Path, how: dict[str, object], message: str
) -> None:
    given = {"out": "audit.csv"} | how
    for name in ("out", "model"):
        if name in given:
            given[name] = tmp_path / str(given[name])
    with pytest.raises(UserError, match=message):
        audit(clips.weak, audio=clips.audio, **given)  # type: ignore[arg-type]


def test_a_model_of_other_classes_can_t_judge(clips: Scenes, model: Path, tmp_path: Path) -> None:
    rows = [
        replace(row, labels=frozenset({"cat"} if number % 2 else ()))
        for number, row in enumerate(read_labels(clips.weak).rows)
    ]
    with pytest.raises(UserError, match="'cat'"):
        audit(
            table(rows, tmp_path / "t.tsv"),
            audio=clips.audio,
            out=tmp_path / "a.csv",
            model=model,
        )


def test_of_many_classes_that_models_cant_tell_a_few_are_named(tmp_path: Path) -> None:
    names = tuple(f"class {number:03}" for number in range(200))
    text = auditing.Audited([], 0, names, [], tmp_path / "a.csv").text()
    assert "'class 009' and 190 more" in text
    assert "class 010" not in text
