"""Few labels are drawn as is said, and a row says what came of them."""

import json
from pathlib import Path

import pytest

from benchmarks import few_labels
from benchmarks.rotations import COUNTS


def test_more_clips_are_those_of_fewer_and_others(tmp_path: Path) -> None:
    table = tmp_path / "weak.tsv"
    table.write_text("filename\tevent_labels\n" + "".join(f"{n}.wav\tdog\n" for n in range(40)))

    def drawn(clips: int, seed: int) -> list[str]:
        return few_labels.some_labels(table, clips, seed, tmp_path / "o").read_text().splitlines()

    few, more, other = drawn(5, 1), drawn(12, 1), drawn(5, 2)
    assert few[0] == "filename\tevent_labels"
    assert len(set(few)) == 6
    assert set(few) < set(more)
    assert set(few) != set(other)
    assert len(drawn(100, 1)) == 41


def test_a_row_is_of_the_seeds_that_are_done(tmp_path: Path) -> None:
    for seed, hits in ((0, 1), (1, 3)):
        counts = {key: [1, 0] for key in COUNTS} | {"tag_tp": [hits, 0]}
        (tmp_path / f"a-20-{seed}.json").write_text(json.dumps(counts))
    plan = {"few": {"clips": [20, 50], "systems": {"a": {}, "b": {}}}}
    (line,) = few_labels.table(plan, tmp_path).splitlines()[2:]
    f1 = f"{(0.5 + 0.75) / 2:.3f} ± {0.25 / 2**0.5:.3f}"
    assert line == f"| 20 | 2 | {f1}, 0.500 ± 0.000, 0.500 ± 0.000 |"
    (tmp_path / "a-20-1.json").unlink()
    (line,) = few_labels.table(plan, tmp_path).splitlines()[2:]
    assert line == "| 20 | 1 | 0.500, 0.500, 0.500 |"


def test_a_system_that_starts_from_a_model_needs_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = {"few": {"systems": {"a": {"recipe": "r"}, "b": {"recipe": "r", "start": True}}}}
    assert few_labels.systems(plan, None) == {"a": {"recipe": "r"}}
    found = few_labels.systems(plan, "model")
    assert found == {"a": {"recipe": "r"}, "b": {"recipe": "r", "from": "model"}}
    (tmp_path / "weak.tsv").write_text("filename\tevent_labels\n1.wav\tdog\n")
    given: list[list[str]] = []
    monkeypatch.setattr(few_labels, "run_command", lambda words, _: given.append(words))
    monkeypatch.setattr(few_labels, "counted", lambda *_: {})
    few_labels.scored(found["b"], tmp_path, tmp_path, tmp_path / "b-20-0", 20, 0)
    assert given[0][-4:] == ["--recipe", "r", "--from", "model"]


def test_a_folder_without_scenes_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        few_labels.main([str(tmp_path), "--clips-of", "nowhere", "--out", str(tmp_path / "out")])
    assert "nowhere holds no scenes: benchmarks.rotations mixes them" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
