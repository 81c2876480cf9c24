"""Tags of which some are not known: what the tables say, and that the rest counts for nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, Scenes
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from earmark.calibration import calibrated, fitted, moved_threshold
from earmark.config import (
    ClassCalibration,
    CrnnSettings,
    DecodingSettings,
    LogitLine,
    TuningSettings,
)
from earmark.data.labels import Clip, known_matrix, tag_matrix
from earmark.data.windows import windows
from earmark.errors import UserError
from earmark.events import Event
from earmark.features import Normaliser
from earmark.formats.labels import read_labels
from earmark.metrics.tagging import average_precision, tagging_scores
from earmark.metrics.thresholds import best_thresholds
from earmark.model.build import build
from earmark.tasks.evaluation_inputs import read_reference
from earmark.tasks.training import train
from earmark.tasks.training_data import HeldOut, gather
from earmark.tasks.tuned_rules import choose_on_tags
from earmark.training.loop import Batch, train_epoch
from earmark.training.loss import tag_loss
from earmark.tuning.rules import untuned


def table(folder: Path, text: str) -> Path:
    path = folder / "labels.tsv"
    path.write_text(text)
    return path


def test_a_table_may_say_what_is_absent(tmp_path: Path) -> None:
    found = read_labels(
        table(
            tmp_path,
            "filename\tevent_labels\tabsent_labels\na.wav\tdog,cat\tsiren\nb.wav\t\tdog;cow\n"
            'c.wav\tdog\t\nd.wav\t\t"a, b";cat\n'.replace("dog,cat", "dog;cat"),
        )
    )
    assert [(sorted(row.labels), sorted(row.absent or ())) for row in found.rows] == [
        (["cat", "dog"], ["siren"]),
        ([], ["cow", "dog"]),
        (["dog"], []),
        ([], ["a, b", "cat"]),
    ]
    assert found.partial
    assert found.class_names == ("a, b", "cat", "cow", "dog", "siren")
    parts = read_labels(
        table(
            tmp_path,
            "filename,onset,offset,event_labels,absent_labels\na.wav,0,1,dog,cat\na.wav,1,2,,\n",
        )
    )
    assert [row.absent for row in parts.rows] == [frozenset({"cat"}), frozenset()]
    whole = read_labels(table(tmp_path, "filename\tevent_labels\na.wav\tdog\n"))
    assert [row.absent for row in whole.rows] == [None]
    assert not whole.partial


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filename\tevent_labels\tabsent_labels\na.wav\tdog\tcat,dog\n", r"line 2: .*'dog' is in"),
        ("filename\tevent_labels\tabsent_label\na.wav\tdog\tcat\n", "came with 'absent_label'"),
    ],
)
def test_what_can_not_be(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_labels(table(tmp_path, text))


def test_nothing_is_scored_against_what_is_open(tmp_path: Path) -> None:
    path = table(tmp_path, "filename\tevent_labels\tabsent_labels\na.wav\tdog\tcat\n")
    with pytest.raises(UserError, match="leaves some open"):
        read_reference(path, None, None, "path")


def clip(name: str, labels: str, absent: str | None, **more: object) -> Clip:
    lacks = None if absent is None else frozenset(absent.split())
    return Clip(Path(name), name, None, None, frozenset(labels.split()), None, None, lacks)


def test_what_is_known_is_a_matrix() -> None:
    clips = [clip("a", "x", "y"), clip("b", "y", None), clip("c", "", ""), clip("d", "", "z other")]
    known = known_matrix(clips, ("x", "y", "z"))
    assert known is not None
    assert known.toarray().tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 0], [0, 0, 1]]
    assert tag_matrix(clips, ("x", "y")).toarray().tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]
    for one in clips:
        row = known.toarray()[clips.index(one)]
        assert [one.knows(name) for name in ("x", "y", "z")] == row.tolist()
    assert known_matrix([clips[1]], ("x", "y")) is None


def test_a_window_lacks_what_sounds_elsewhere() -> None:
    whole = Clip(
        Path("a"), "a", None, None, frozenset("xy"), (Event(0, 1, "x"), Event(5, 6, "y")), None,
        frozenset("z"),
    )  # fmt: skip
    first, *_ = windows(whole, 10.0, 2.0)
    assert (first.labels, first.absent) == (frozenset("x"), frozenset("yz"))
    assert not first.knows("w")


def slow_loss(
    present: np.ndarray, absent: np.ndarray, tags: np.ndarray, known: np.ndarray
) -> float:
    total, count = 0.0, 0
    for clip_number in range(len(tags)):
        for k in range(tags.shape[1]):
            if known[clip_number, k]:
                count += 1
                total -= (present if tags[clip_number, k] else absent)[clip_number, k]
    return total / count if count else 0.0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 5), st.floats(0, 1))
def test_the_loss_is_the_mean_over_what_is_known(
    seed: int, clips: int, classes: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.uniform(0.01, 0.99, (clips, classes))
    sides = torch.from_numpy(np.log(probabilities)), torch.from_numpy(np.log1p(-probabilities))
    tags, known = rng.random((2, clips, classes)) < share
    given = torch.from_numpy(tags).double(), torch.from_numpy(known).double()
    loss = tag_loss(*sides, *given)
    expected = slow_loss(np.log(probabilities), np.log1p(-probabilities), tags, known)
    assert loss.item() == pytest.approx(expected)
    cells = int(known.sum())
    parts = [
        tag_loss(*(side[n::2] for side in sides), *(part[n::2] for part in given), cells)
        for n in range(2)
    ]
    assert sum(part.item() for part in parts) == pytest.approx(expected)
    everything = torch.ones_like(given[1])
    assert tag_loss(*sides, given[0], everything).item() == pytest.approx(
        tag_loss(*sides, given[0]).item()
    )


@pytest.mark.parametrize("localisation", ["attention", "attention_over_time", "max"])
def test_an_unknown_class_teaches_its_head_nothing(localisation: str) -> None:
    torch.manual_seed(0)
    given = CrnnSettings(filters=3, recurrent_units=3, localisation=localisation)
    network = build(given, 8, 3, Normaliser(np.zeros(8), np.ones(8)))
    known = torch.tensor([[1.0, 0.0, 1.0]]).repeat(4, 1)
    batch = Batch(torch.randn(4, 6, 8), None, (torch.rand(4, 3) > 0.5).float(), known)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    before = network.localisation.classifier.weight.detach().clone()
    assert train_epoch(network, [batch], optimiser, precision="float32") > 0
    gradient = network.localisation.classifier.weight.grad
    assert (gradient[1] == 0).all()
    assert (gradient[[0, 2]] != 0).any(dim=1).all()
    assert (network.localisation.classifier.weight[1] == before[1]).all()
    # The paper's attention is a softmax over the classes, so that there all depend on all.
    if localisation == "attention_over_time":
        assert (network.localisation.localiser.weight.grad[1] == 0).all()
    nothing = Batch(batch.features, None, batch.tags, torch.zeros_like(known))
    assert train_epoch(network, [nothing], optimiser, precision="float32") == 0
    assert all((p.grad == 0).all() for p in network.parameters())


def test_thresholds_and_scores_leave_out_what_is_open() -> None:
    rng = np.random.default_rng(3)
    tags = rng.random((60, 4)) < 0.4
    known = rng.random((60, 4)) < 0.6
    known[:, 3] &= tags[:, 3]  # nothing is known to lack it
    tags &= known
    posteriors = np.clip(0.3 * tags + rng.random((60, 4)), 0, 1).astype(np.float32)
    posteriors[:5] = 0
    held = HeldOut([], "what was held out", False, [], "")
    names = ("a", "b", "c", "d")
    chosen = choose_on_tags(
        held,
        names,
        DecodingSettings(),
        TuningSettings(calibrate=False),
        tags,
        posteriors,
        [f"{n}" for n in range(60)],
        known=known,
    )
    precisions, f1s = [], []
    for k in range(4):
        of_class = known[:, k]
        truth, values = tags[of_class, k], posteriors[of_class, k]
        threshold = best_thresholds(truth[:, None], values[:, None])[0] if k < 3 else 0.5
        assert chosen.rules[k].tag_threshold == threshold
        precisions.append(average_precision(truth, values))
        one = tagging_scores(truth[:, None], values[:, None], threshold, names[k : k + 1])
        f1s.append(one.macro_f1)
    assert chosen.scores["tagging mAP"] == pytest.approx(np.mean(precisions))
    assert chosen.scores["tagging macro F1"] == pytest.approx(np.mean(f1s))
    assert "d: 0.5" in chosen.note


def test_a_class_of_which_nothing_is_known_has_no_part_in_the_scores() -> None:
    rng = np.random.default_rng(6)
    tags = rng.random((60, 3)) < 0.4
    tags[:, 1] = False
    posteriors = np.clip(0.3 * tags + rng.random((60, 3)), 0, 1).astype(np.float32)
    known = np.ones(tags.shape, np.bool_)
    known[:, 1] = False
    held = HeldOut([], "what was held out", False, [], "")
    sources = [str(n) for n in range(60)]
    sides = DecodingSettings(), TuningSettings(), tags, posteriors, sources
    partly = choose_on_tags(held, ("a", "b", "c"), *sides, known=known)
    rest = DecodingSettings(), TuningSettings(), tags[:, ::2], posteriors[:, ::2], sources
    alone = choose_on_tags(held, ("a", "c"), *rest)
    assert partly.scores == pytest.approx(alone.scores)
    assert partly.judged is not None
    assert alone.judged is not None
    assert partly.judged.intervals == alone.judged.intervals


def test_calibration_leaves_out_what_is_open() -> None:
    rng = np.random.default_rng(4)
    tags, known = rng.random((80, 3)) < 0.4, rng.random((80, 3)) < 0.6
    known[:, 1] &= tags[:, 1]  # nothing is known to lack it
    tags &= known
    tags[:, 2] = known[:, 2] = True  # all have it
    posteriors = np.clip(0.3 * tags + rng.random((80, 3)), 0, 1).astype(np.float32)
    held = HeldOut([], "what was held out", False, [], "")
    earlier = ClassCalibration(clips=LogitLine(shift=1), frames=LogitLine(shift=2))
    sides = DecodingSettings(), TuningSettings(), tags, posteriors, [str(n) for n in range(80)]
    chosen = choose_on_tags(held, ("a", "b", "c"), *sides, known=known)
    first, second, third = chosen.calibration.classes
    assert first.clips == fitted(posteriors[known[:, 0], 0], tags[known[:, 0], 0]) != LogitLine()
    assert second == third == ClassCalibration()
    rules = chosen.rules
    was = dict.fromkeys(range(3), earlier)
    tuned = choose_on_tags(held, ("a", "b", "c"), *sides, known=known, own=rules, was=was)
    assert tuned.calibration.classes == (
        earlier.model_copy(update={"clips": first.clips}), earlier, earlier
    )  # fmt: skip
    learnt = choose_on_tags(
        held, ("a", "b", "c"), *sides, known=known, earlier={1: rules[1]}, was=was
    )
    assert learnt.calibration.classes == (first, earlier, ClassCalibration())


def test_rules_to_better_are_scored_as_they_decided() -> None:
    rng = np.random.default_rng(5)
    tags = rng.random((90, 2)) < 0.4
    posteriors = np.clip(0.3 * tags + rng.random((90, 2)), 0, 1).astype(np.float32)
    was = [ClassCalibration(clips=LogitLine(scale=0.7, shift=shift)) for shift in (1.5, -1.0)]
    own = untuned(2, DecodingSettings(threshold=0.6))
    held = HeldOut([], "what was held out", False, [], "")
    sides = DecodingSettings(), TuningSettings(), tags, posteriors, [str(n) for n in range(90)]
    chosen = choose_on_tags(held, ("a", "b"), *sides, own=own, was=dict(enumerate(was)))
    given = calibrated([of_class.clips for of_class in was], posteriors)
    before = tagging_scores(tags, given, 0.6, ("a", "b"))
    assert chosen.before["tagging micro F1"] == before.micro.f1
    assert chosen.before["tagging macro F1"] == before.macro_f1
    for rule, of_class, now in zip(chosen.rules, was, chosen.calibration.classes, strict=True):
        assert rule.gate_threshold == moved_threshold(0.6, of_class.clips, now.clips)
        assert rule.threshold == 0.6  # of frames, whose line stays


def partial(clips: Scenes, folder: Path, open_share: float) -> Path:
    """The clips' table with what isn't there in a column of its own, some of it left open."""
    rng = np.random.default_rng(0)
    rows = ["filename\tevent_labels\tabsent_labels"]
    whole = read_labels(clips.weak)
    for row in whole.rows:
        lacks = [n for n in whole.class_names if n not in row.labels and rng.random() >= open_share]
        rows.append(f"{row.filename}\t{','.join(sorted(row.labels))}\t{','.join(lacks)}")
    return table(folder, "\n".join(rows) + "\n")


def test_a_table_that_says_all_teaches_what_a_plain_one_does(clips: Scenes, tmp_path: Path) -> None:
    given = [*TINY, "training.epochs=1", "training.precision=float32"]
    for name, labels in (("plain", clips.weak), ("said", partial(clips, tmp_path, 0.0))):
        train(labels, audio=clips.audio, out=tmp_path / name, set=given, device="cpu")
    plain, said = (load_file(tmp_path / n / "model.safetensors") for n in ("plain", "said"))
    assert all(np.allclose(plain[name], said[name], atol=2e-4) for name in plain)
    report = train(
        partial(clips, tmp_path, 0.7),
        audio=clips.audio,
        out=tmp_path / "open",
        set=given,
        device="cpu",
        validation="0.3",
    )
    assert 0 < report.validation["tagging mAP"] <= 1
    left = load_file(tmp_path / "open" / "model.safetensors")
    assert not all(np.allclose(plain[name], left[name], atol=2e-4) for name in plain)


def test_clips_that_say_nothing_are_left_out(
    clips: Scenes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = (path.name for path in sorted(clips.audio.iterdir())[:3])
    path = table(
        tmp_path,
        "filename\tevent_labels\tabsent_labels\n"
        f"{first}\thorn\tbell\n{second}\tbell\t\n{third}\t\tcow\n",
    )
    data = gather(path, clips.audio, "0")
    assert [clip.filename for clip in data.training] == [first, second]
    said = capsys.readouterr().err
    assert "1 clips say of no class" in said
    assert "no clip is known to lack horn" in said
