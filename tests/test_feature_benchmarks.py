"""The benchmarks of features and data: their quick forms run, and all contenders agree."""

import re
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from benchmarks import data
from benchmarks.floor import Floor

REACHED = Floor(float32_flops=1e11, bfloat16_flops=2e11, copy_bytes=1e10)


def section(folder, name, benchmark):
    page = folder / "page.md"
    page.write_text(f"above\n<!-- {name} -->\nold\n<!-- end of {name} -->\nbelow\n", "utf-8")
    benchmark.main(["--quick", "--page", str(page)])
    text = page.read_text("utf-8")
    assert re.match(rf"above\n<!-- {name} -->\n`python -m benchmarks\.{name} --quick", text)
    assert text.endswith(f"\n<!-- end of {name} -->\nbelow\n")
    return text


def rows_of(text):
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"\|.*", text)]
    return [row for row in rows if row[0] != "---"]


@pytest.fixture
def features():
    for name in ("librosa", "torchlibrosa", "nnAudio"):
        if find_spec(name) is None:
            pytest.skip(f"needs {name}")
    from benchmarks import features

    return features


@pytest.mark.slow
def test_the_quick_form_of_features_writes_its_section(features, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "floor", lambda device: REACHED)
    monkeypatch.setattr(features, "processes_against_threads", lambda seconds, rounds: 1.5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = torch.get_num_threads()
    text = section(tmp_path, "features", features)
    assert torch.get_num_threads() == before
    peers = ["librosa", "torchlibrosa", "nnAudio", "torch.stft"]
    rows = rows_of(text)[1:]
    assert [row[:2] for row in rows] == [
        [what, peer] for what in ("clips", "a recording") for peer in peers
    ]
    for row in rows:
        assert float(row[5]) < 1e-4, row
        assert float(row[4]) == pytest.approx(float(row[2]) / float(row[3]), abs=0.06)
    assert "processes of one thread are 1.5 times as fast" in text


def test_the_floor_of_a_frame_counts_operations_and_bytes(features):
    # One window: 240 numbers more or less make no difference to what is counted here.
    slow = Floor(float32_flops=1.0, bfloat16_flops=1.0, copy_bytes=1e12)
    operations = features.least_seconds(1024, slow)
    transform = 2.5 * 1024 * 10
    assert transform < operations < 1.5 * transform
    idle = Floor(float32_flops=1e18, bfloat16_flops=1e18, copy_bytes=1.0)
    assert features.least_seconds(1024, idle) == 4 * (1024 + 64)


def test_the_quick_form_of_data_writes_its_section(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "floor", lambda device: REACHED)
    monkeypatch.setattr(data, "apart", lambda work: work())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("benchmarks.steps.keep_freed_memory", lambda: None)
    monkeypatch.setattr(data.time, "sleep", lambda seconds: None)
    monkeypatch.setattr("earmark.data.clips._TICK_NS", 0)
    text = section(tmp_path, "data", data)
    readings = [row for row in rows_of(text) if row[0] in ("in memory", "on the disk")]
    assert len(readings) == 2
    for row in readings:
        assert float(row[4]) == 0
    fed = [row for row in rows_of(text) if row[0].endswith(", cpu")]
    assert [row[0] for row in fed] == [f"{data.RECIPE}, cpu"]
    (difference,) = re.findall(r"they differ by at most (\S+)\.", text)
    # A half of the last digit of a float16 between 8 and 16, where the loudest bands lie.
    assert 0 < float(difference) <= 2**-8


def test_plain_batches_are_ours(tmp_path):
    file = tmp_path / "features.f16"
    data.made_features(file, 5)
    features = data.opened(file, 5)
    numbers = np.array([4, 0, 2, 2])
    assert np.array_equal(features.batch(numbers)[0], data.plain_batch(features, numbers))


def test_few_rounds_are_refused(features, capsys):
    for module in (features, data):
        with pytest.raises(SystemExit) as stopped:
            module.main(["--rounds", "4"])
        assert stopped.value.code == 2
        assert "at least 5" in capsys.readouterr().err
