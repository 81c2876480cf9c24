"""The published numbers of real tables, in the folder that EARMARK_DATA names."""

import os
from collections import Counter
from pathlib import Path

import pytest

from earmark.formats.labels import read_labels
from earmark.formats.sounds import read_sounds


@pytest.fixture
def real():
    def find(name):
        path = Path(os.environ.get("EARMARK_DATA", "")) / name
        if "EARMARK_DATA" not in os.environ or not path.exists():
            pytest.skip(f"set EARMARK_DATA to a folder with {name}")
        return path

    return find


def test_dcase2017_training_set(real):
    table = read_labels(real("dcase2017_task4/training_set.csv"))
    counts = Counter(label for row in table.rows for label in row.labels)
    assert len(table.rows) == 51_172
    assert (len(counts), counts.total()) == (17, 56_131)
    assert (counts["Car"], counts["Car alarm"]) == (25_077, 180)
    assert "Fire engine, fire truck (siren)" in counts


@pytest.mark.parametrize(
    ("name", "clips", "zero_length", "without"),
    [("testing", 488, 36, 11), ("evaluation", 1103, 150, 94)],
)
def test_dcase2017_ground_truths(real, name, clips, zero_length, without):
    strong = read_labels(real(f"dcase2017_task4/groundtruth_strong_label_{name}_set.csv"))
    weak = read_labels(real(f"dcase2017_task4/groundtruth_weak_label_{name}_set.csv"))
    assert (strong.strong, weak.strong) == (True, False)
    assert len(strong.rows) == len(weak.rows) == clips
    assert {row.filename for row in strong.rows} == {row.filename for row in weak.rows}
    assert strong.class_names == weak.class_names
    assert strong.zero_length_events == zero_length
    assert sum(not row.events for row in strong.rows) == without


def test_dcase2017_testing_set_agrees_with_its_ground_truth(real):
    weak = read_labels(real("dcase2017_task4/groundtruth_weak_label_testing_set.csv"))
    table = read_labels(real("dcase2017_task4/testing_set.csv"))
    assert {row.filename: row.labels for row in table.rows} == {
        row.filename: row.labels for row in weak.rows
    }


def test_esc10_and_finch(real):
    assert len(read_sounds(real("esc10/esc10.csv"))) == 398
    assert len(read_labels(real("esc10/esc10.csv")).class_names) == 10
    finch = read_labels(real("finch_gy6or6/train_weak.tsv"))
    assert len(finch.rows) == 913
    assert finch.class_names == tuple("abcdefghijk")
