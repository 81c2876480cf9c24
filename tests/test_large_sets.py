"""Sets too large to hold: memory a row of a table, and none a clip beyond an index."""

import re
from pathlib import Path

import pytest

from benchmarks import large
from earmark.data import labels
from earmark.data.labels import Clip, split
from earmark.errors import UserError

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is measured by means of Linux"
)


@pytest.mark.slow
@pytest.mark.parametrize("form", large.FORMS)
def test_a_row_takes_little_memory(tmp_path: Path, form: str) -> None:
    peaks = []
    for rows in (20_000, 80_000):
        large.FORMS[form](tmp_path / "table", rows)
        clips, _, peak = large._alone(large.read, tmp_path / "table")
        assert clips == (rows / 5 if form == "strong TSV" else rows)
        peaks.append(peak)
    assert (peaks[1] - peaks[0]) * 2**20 / 60_000 < 1200


@pytest.mark.slow
def test_an_epoch_holds_no_more_of_more_clips(tmp_path: Path) -> None:
    path = tmp_path / "features"
    frame = bytes(large.FRAMES * large.BANDS * 2)
    path.write_bytes(frame * 4000)
    _, _, grown = large._alone(large.draw, path, 4000)
    assert grown < 40, "of the 123 MB that the features are"


@pytest.mark.slow
def test_the_benchmark_writes_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "_alone", lambda work, *given: work(*given))
    monkeypatch.setattr(large, "QUICK_ROWS", 20_000)
    monkeypatch.setattr(large, "QUICK_CLIPS", 60)
    monkeypatch.setattr(large, "CLIPS_PER_SHARD", 5)
    monkeypatch.setattr(large, "OPEN_SHARDS", 1)
    page = tmp_path / "page.md"
    page.write_text("<!-- large -->\n<!-- end of large -->\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["large", "--quick", "--page", str(page)])
    large.main()
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[:2] for line in lines if line.startswith(("| Audio", "| weak"))] == [
        ["| AudioSet, weak", "20,000"],
        ["| weak TSV", "20,000"],
    ]
    rows = [line.strip("| ").split(" | ")[:2] for line in lines if re.match(r"\| \d", line)]
    assert rows == [["6", "2"], ["60", "12"]] + [
        [clips, where] for clips in ("6", "60") for where in ("one file", "shards, 1 open")
    ]


def clips(count: int) -> list[Clip]:
    """Pairs of clips, each pair with a class of its own beside the one that all have."""
    return [
        Clip(Path("x"), f"{n}.wav", None, None, frozenset({"all", f"c{n // 2}"}), None, f"{n}")
        for n in range(count)
    ]


def test_a_split_looks_at_each_class_once(monkeypatch: pytest.MonkeyPatch) -> None:
    popped = 0

    def counting(heap):
        nonlocal popped
        popped += 1
        return pop(heap)

    pop = labels.heappop
    monkeypatch.setattr(labels, "heappop", counting)
    training, validation = split(clips(2000), 0.25, seed=0)
    assert (len(training), len(validation)) == (1500, 500)
    assert {label for clip in training for label in clip.labels} >= {f"c{k}" for k in range(1000)}
    assert popped < 6000


def test_a_split_of_many_clips_tries_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exchanges are looked for among so many clips of a size, whatever the set has."""
    monkeypatch.setattr(labels, "_CANDIDATES", 7)
    training, validation = split(clips(600), 0.25, seed=0)
    assert len(validation) == pytest.approx(150, abs=1)
    assert len(training) + len(validation) == 600
    with pytest.raises(UserError, match="at least two groups"):
        split(clips(1), 0.5, seed=0)
