"""The benchmarks: their peer says what ours says, what they count is right, and all of them run."""

import os
import re
import subprocess
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import __main__ as all_of_them
from benchmarks import floor as floors
from benchmarks import learning, small, steps, training
from benchmarks.floor import Floor, floor
from benchmarks.plain import PlainNetwork, tag_loss, work_of
from benchmarks.turns import apart
from earmark.config import CrnnSettings
from earmark.features import Normaliser
from earmark.model.crnn import GatedCRNN
from earmark.training import loss as our_loss

ROOT = Path(__file__).parents[1]
BANDS, CLASSES, FILTERS, UNITS = 20, 5, 6, 7


def both(time_pooling):
    """Ours with weights, statistics and a normaliser that leave nothing at its default; its twin"""
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    settings = CrnnSettings(filters=FILTERS, time_pooling=time_pooling, recurrent_units=UNITS)
    normaliser = Normaliser(rng.normal(size=BANDS), rng.uniform(0.5, 2, BANDS))
    ours = GatedCRNN(settings, BANDS, CLASSES, normaliser)
    with torch.no_grad():
        for name, values in ours.state_dict().items():
            if "norm" in name and values.dtype.is_floating_point:
                values.copy_(torch.rand_like(values) + 0.5)
    plain = PlainNetwork(CLASSES, time_pooling, FILTERS, BANDS, UNITS)
    plain.load_from(ours)
    return ours, plain


# -- the plain network


@pytest.mark.parametrize("time_pooling", [(1, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize("frames", [1, 2, 7, 24])
@pytest.mark.parametrize("loudness", [0.0, 1.0])
def test_the_plain_network_says_what_ours_says(time_pooling, frames, loudness):
    ours, plain = both(time_pooling)
    features = loudness * torch.randn(3, frames, BANDS)
    with torch.no_grad():
        expected = ours.eval()(features)
        in_frames, in_clips = plain.eval()(features)
    assert torch.allclose(in_frames, expected.frame_probabilities, atol=1e-5)
    assert torch.allclose(in_clips, expected.clip_probabilities, atol=1e-5)


@pytest.mark.parametrize("time_pooling", [(1, 1, 1), (2, 2, 2)])
def test_both_have_the_same_loss_and_gradients(time_pooling):
    ours, plain = both(time_pooling)
    features = torch.randn(4, 16, BANDS)
    tags = (torch.rand(4, CLASSES) < 0.4).float()
    said = ours.train()(features)
    expected = our_loss.tag_loss(said.log_present, said.log_absent, tags)
    found = tag_loss(plain.train()(features)[1], tags)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    expected.backward()
    found.backward()
    # The gradients take the same way as the weights: into a plain network, to be compared there.
    for values in ours.parameters():
        values.data = values.grad
    gradients = PlainNetwork(CLASSES, time_pooling, FILTERS, BANDS, UNITS)
    gradients.load_from(ours)
    wanted = dict(gradients.named_parameters())
    for name, values in plain.named_parameters():
        assert values.grad.abs().max() > 0, name
        if not re.match(r"convolutions\.\d+\.bias", name):  # which batch norm takes away again
            assert torch.allclose(values.grad, wanted[name], atol=1e-5), name


@pytest.mark.parametrize("time_pooling", [(1, 1, 1), (2, 2, 2)])
def test_operations_are_those_that_torch_counts(time_pooling):
    network = PlainNetwork(17, time_pooling)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 240, 64))
    assert work_of(network, 240).operations == counter.get_total_flops()


def test_numbers_are_those_that_enter_and_leave_the_layers():
    # 4 frames of 8 bands -> 2 x (2 filters, 4 x 8 then 2 x 4) -> GRU of 2 x 3 -> twice 5 classes.
    network = PlainNetwork(5, (2,), filters=2, bands=8, units=3)
    numbers = (
        4 * 8 + (4 * 8 * 2 + 4 * 8 * 2) + (2 * 4 * 2 + 2 * 4 * 2) + (2 * 6 + 2 * 6) + 2 * 5 * 2
    )
    assert work_of(network, 4).numbers == numbers


# -- the floor


def test_the_floor_is_the_slower_of_operations_and_copies():
    reached = Floor(float32_flops=100.0, bfloat16_flops=400.0, copy_bytes=10.0)
    assert reached.seconds(800, 20, "float32") == 8.0
    assert reached.seconds(800, 10, "bfloat16") == 2.0
    assert reached.seconds(800, 50, "bfloat16") == 5.0


def test_the_floor_is_measured(monkeypatch):
    monkeypatch.setitem(floors.MATRIX_SIZE, "cpu", 64)
    monkeypatch.setitem(floors.COPIED_BYTES, "cpu", 2**16)
    reached = floor("cpu")
    assert min(reached.float32_flops, reached.bfloat16_flops, reached.copy_bytes) > 0


# -- turns


def test_a_turn_is_a_process_of_its_own():
    assert apart(os.getpid) != os.getpid()
    with pytest.raises(ValueError, match="invalid literal"):
        apart(partial(int, "x"))


@pytest.fixture
def here(monkeypatch):
    """Turns in this process, with a small floor; the list says what kept freed memory."""
    kept = []
    monkeypatch.setattr(steps, "keep_freed_memory", lambda: kept.append(1))
    for module in (training, small):
        monkeypatch.setattr(module, "apart", lambda work: work())
    monkeypatch.setattr(training, "floor", lambda device: Floor(1e11, 2e11, 1e10))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return kept


def rows_of(text):
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"\|.*", text)]
    return rows[2:]


def page_with(folder, name):
    page = folder / "page.md"
    page.write_text(f"above\n<!-- {name} -->\nold\n<!-- end of {name} -->\nbelow\n", "utf-8")
    return page


@pytest.mark.slow
def test_the_quick_form_of_training_writes_its_section(here, tmp_path):
    page = page_with(tmp_path, "training")
    training.main(["--quick", "--page", str(page)])
    text = page.read_text("utf-8")
    assert re.match(r"above\n<!-- training -->\n`python -m benchmarks.training --quick", text)
    assert text.endswith(" seed noise.\n<!-- end of training -->\nbelow\n")
    rows = rows_of(text)
    plain, changed = "plain", ("freed memory kept", "bfloat16 autocast", "channels last")
    assert [row[1] for row in rows] == [
        *(plain, "Earmark", *(f"{plain}, {what}" for what in changed)),
        *(plain, "Earmark"),
    ]
    assert rows[0][4] == rows[5][4] == "1.00"
    # From the same weights on the same batch: rounded convolutions, but no other network.
    assert all(float(row[6]) < 0.05 for row in rows)
    assert float(rows[2][6]) == 0
    assert len(here) == 3  # ours twice, and the plain one with this change


def test_ratios_are_those_of_the_same_round():
    pair = {
        training.PAIR[0]: [steps.Turn(s, (0.5,)) for s in (9.0, 6.0, 60.0)],
        training.PAIR[1]: [steps.Turn(s, (0.4,)) for s in (3.0, 3.0, 10.0)],
    }
    lines = training.table(pair, "cpu", Floor(1e12, 1e12, 1e12), quick=True)
    plain, ours = rows_of("\n".join(lines))
    assert (plain[4], ours[4]) == ("1.00", "3.00")
    assert (plain[2], ours[2]) == ("9", "3")
    assert ours[6:] == ["1.0e-01", "3"]


def test_few_rounds_are_refused(capsys):
    for module, words in ((training, ()), (small, ("--recipe", "gated-crnn-logmel-at"))):
        with pytest.raises(SystemExit) as stopped:
            module.main([*words, "--rounds", "4"])
        assert stopped.value.code == 2
        assert "at least 5" in capsys.readouterr().err


def test_the_quick_form_of_the_small_model_writes_its_section(here, tmp_path):
    page = page_with(tmp_path, "small")
    recipe = "gated-crnn-logmel-at"
    small.main(["--quick", "--recipe", recipe, "--page", str(page)])
    rows = rows_of(page.read_text("utf-8"))
    assert [row[:2] for row in rows] == [["cpu", "training"], ["cpu", "inference"]]
    for row in rows:
        assert float(row[4]) == pytest.approx(float(row[3]) / float(row[2]), rel=0.02)


def test_a_small_model_that_is_not_there_is_named(capsys):
    with pytest.raises(SystemExit) as stopped:
        small.main(["--recipe", "gated-crnn-tiny"])
    assert stopped.value.code == 2
    assert "there is no recipe 'gated-crnn-tiny'" in capsys.readouterr().err


# -- do both learn alike?


def test_classes_are_heard_where_they_are_tagged():
    batch = learning.made_batch(np.random.default_rng(3), steps.Sizes(50, 40, 18), 6)
    loudness = batch.features.reshape(50, 40, 6, 3).mean(dim=(1, 3))
    there = batch.tags > 0
    assert loudness[there].mean() == pytest.approx(2 * 10 / 40, abs=0.05)
    assert loudness[~there].mean() == pytest.approx(0, abs=0.05)


@pytest.mark.slow
def test_both_learn(monkeypatch):
    monkeypatch.setattr(learning, "SMALL_SIZES", steps.Sizes(8, 16, 12))
    monkeypatch.setattr(learning, "SMALL_FILTERS", 8)
    curves = learning.learnt("gated-crnn-logmel", 40, 2, "cpu", full=False)
    for losses in (curves.ours, curves.plain):
        assert (losses[:, -10:].mean(axis=1) < losses[:, :3].mean(axis=1) - 0.03).all()
    assert np.abs(curves.ours - curves.plain).mean() < 0.02


def test_the_verdict_can_fail():
    rng = np.random.default_rng(5)
    plain = 1 + 0.1 * rng.normal(size=(5, 1)) + np.zeros((5, 24))
    alike = learning.Curves(plain + 0.001, plain, "")
    assert "within seed noise" in learning.verdict(alike)
    apart_later = plain + np.linspace(0, 0.5, 24)
    assert "beyond seed noise" in learning.verdict(learning.Curves(apart_later, plain, ""))


# -- all of them


def test_the_page_has_a_section_for_each_in_order():
    text = (ROOT / "BENCHMARKS.md").read_text("utf-8")
    found = re.findall(r"^## (.+)$|^<!-- (?!end)(\w+) -->$", text, re.MULTILINE)
    flat = [title or name for title, name in found]
    wanted = [word for name, title in all_of_them.TITLES.items() for word in (title, name)]
    assert [word for word in flat if word in wanted] == wanted


@pytest.mark.parametrize("name", all_of_them.TITLES)
def test_each_has_a_module(name):
    assert find_spec(f"benchmarks.{name}") is not None


@pytest.fixture
def started(monkeypatch):
    """What would have been started; ``data`` fails."""
    commands = []

    def run(command, **_):
        commands.append(command[2:])
        return subprocess.CompletedProcess(command, 3 if "benchmarks.data" in command else 0)

    monkeypatch.setattr(all_of_them.subprocess, "run", run)
    monkeypatch.setattr(all_of_them, "find_spec", lambda name: None if name == "nnAudio" else True)
    return commands


def test_all_run_in_order_and_failures_are_told(started, capsys):
    assert all_of_them.main(["--quick"]) == 1
    names = [name for name in all_of_them.TITLES if name != "features"]
    assert started == [[f"benchmarks.{name}", "--quick"] for name in names]
    told = capsys.readouterr().err
    assert "features needs nnAudio: pip install -e '.[benchmarks]'" in told
    assert "data ended with exit code 3" in told
    assert f"{len(names) - 1} of {len(all_of_them.TITLES)} benchmarks ran" in told


def test_some_run_alone_and_write_the_page(started, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert all_of_them.main(["--only", "tuning", "training"]) == 0
    page = ["--page", "BENCHMARKS.md"]
    assert started == [["benchmarks.training", *page], ["benchmarks.tuning", *page]]


def test_a_page_without_a_section_is_refused_before_the_work(started, tmp_path):
    page = page_with(tmp_path, "scores")
    with pytest.raises(SystemExit, match="has no section"):
        all_of_them.main(["--page", str(page)])
    assert started == []
