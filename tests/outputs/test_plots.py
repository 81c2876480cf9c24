"""Pictures: what their artists hold, and that any name and any length is drawn."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PolyCollection
from matplotlib.image import imread
from matplotlib.patches import StepPatch

from earmark.errors import UserError
from earmark.events import Event
from earmark.outputs import plots
from earmark.outputs.plots import Envelope, Spectrogram, draw, figure
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock

CLOCK = FrameClock(16_000, 1024, 664)
CENTRES_HZ = np.geomspace(60, 7800, 16)


def spectrogram(frames=50, centres=CENTRES_HZ):
    values = np.random.default_rng(0).normal(size=(frames, 16)).astype(np.float32)
    return Spectrogram(values, CLOCK, centres)


def score_track(*names, frames=50, end=2.1, probabilities=None):
    if probabilities is None:
        probabilities = np.random.default_rng(1).random((frames, len(names)))
    return ScoreTrack(probabilities.astype(np.float32), names, CLOCK, 0, end)


def rows(axes):
    """The lower edge of each class's row, by what its label says."""
    labels = [label.get_text() for label in axes.get_yticklabels()]
    return dict(zip(labels, axes.get_yticks() - 0.5, strict=True))


def bars(axes):
    """[(label, [(onset, offset, bottom, top)])] of the drawn bars."""
    found = []
    for collection in axes.collections:
        if isinstance(collection, PolyCollection):
            boxes = [path.get_extents() for path in collection.get_paths()]
            spans = [(box.x0, box.x1, box.y0, box.y1) for box in boxes]
            found.append((collection.get_label(), spans))
    return dict(found)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 9))
def test_envelope_is_the_maximum_of_each_column_whatever_the_blocks(sizes, most):
    frames = np.random.default_rng(sum(sizes)).normal(size=(sum(sizes), 3)).astype(np.float32)
    envelope = Envelope(CLOCK, most)
    start = 0
    for size in sizes:
        envelope.add(frames[start : start + size])
        start += size
        assert len(envelope.values) <= most
    step = 1
    while -(-len(frames) // step) > most:
        step *= 2
    columns = [frames[t : t + step].max(axis=0) for t in range(0, len(frames), step)]
    assert envelope.step == step
    assert envelope.clock.pooling == step
    assert np.array_equal(envelope.values, np.array(columns).reshape(envelope.values.shape))


def test_bars_stand_where_the_events_are():
    detected = [Event(0.2, 0.5, "dog"), Event(0.7, 0.8, "dog"), Event(1.0, 2.0, "cat")]
    reference = [Event(0.1, 0.6, "dog")]
    _, _, axes = figure(spectrogram(), score_track("cat", "dog"), detected, reference).axes
    drawn = bars(axes)
    row = rows(axes)
    assert row["cat"] == row["dog"] + 1  # the first class is on top
    assert drawn.keys() == {"detected dog", "detected cat", "reference dog"}
    assert [span[:2] for span in drawn["detected dog"]] == [
        pytest.approx((0.2, 0.5)),
        pytest.approx((0.7, 0.8)),
    ]
    ((onset, offset, low, high),) = drawn["reference dog"]
    assert (onset, offset) == pytest.approx((0.1, 0.6))
    # As in the paper's Fig. 2, what is true stands above what was found.
    assert row["dog"] < drawn["detected dog"][0][2] < drawn["detected dog"][0][3] <= low + 1e-9
    assert low < high < row["dog"] + 1
    assert row["cat"] < drawn["detected cat"][0][2]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["reference", "detected"]


def test_an_empty_reference_is_not_an_unknown_one():
    for reference, expected in [(None, ["detected"]), ([], ["reference", "detected"])]:
        axes = figure(spectrogram(), score_track("dog"), [], reference).axes[2]
        assert [text.get_text() for text in axes.get_legend().get_texts()] == expected


def test_steps_are_the_probabilities_between_the_frames_edges():
    track = score_track("cat", "dog")
    axes = figure(spectrogram(), track, []).axes[1]
    steps = {patch.get_label(): patch for patch in axes.patches if isinstance(patch, StepPatch)}
    for k, name in enumerate(track.class_names):
        values, edges, baseline = steps[name].get_data()
        assert np.array_equal(edges, track.edges_seconds)
        assert baseline == rows(axes)[name]
        height = (values - baseline) / track.probabilities[:, k]
        assert np.allclose(height, height[0], rtol=1e-4)
        assert 0.8 < height[0] < 1


def test_spectrogram_and_all_panels_share_the_time_axis():
    shown = spectrogram()
    top, middle, bottom = figure(shown, score_track("dog", end=2.5), []).axes
    (mesh,) = top.collections
    assert np.array_equal(mesh.get_array(), shown.values.T)
    assert np.array_equal(mesh.get_coordinates()[0, :, 0], CLOCK.edges_seconds(50, 2.5))
    assert {axes.get_xlim() for axes in (top, middle, bottom)} == {(0.0, 2.5)}


def test_ticks_of_frequency_lie_at_the_bands_of_their_frequencies():
    axes = figure(spectrogram(), score_track("dog"), []).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["4 kHz", "2 kHz", "1 kHz", "500 Hz", "250 Hz", "125 Hz"]
    bands = [15 * np.log(hz / 60) / np.log(7800 / 60) for hz in (4000, 2000, 1000, 500, 250, 125)]
    assert axes.get_yticks() == pytest.approx(bands, abs=0.05)
    narrow = figure(spectrogram(centres=np.linspace(1100, 1400, 16)), score_track("dog"), [])
    assert narrow.axes[0].get_yticklabels()[0].get_text() == "1100 Hz"
    mfcc = figure(spectrogram(centres=None), score_track("dog"), []).axes[0]
    assert mfcc.get_ylabel() == "coefficient"


def test_only_the_upper_80_db_have_colours():
    values = np.zeros((50, 16), np.float32)
    values[3, 3] = -30
    values[5, 5] = 2
    loud = Spectrogram(values, CLOCK, CENTRES_HZ)
    (mesh,) = figure(loud, score_track("dog"), []).axes[0].collections
    low, high = mesh.get_clim()
    assert 20 * np.log10(np.exp(high - low)) == pytest.approx(80)
    silent = Spectrogram(np.full((50, 16), -18.4, np.float32), CLOCK, CENTRES_HZ)
    (mesh,) = figure(silent, score_track("dog"), []).axes[0].collections
    assert mesh.norm(mesh.get_array()).max() == 0


def test_of_many_classes_those_with_events_come_first_and_then_the_likeliest():
    peaks = np.random.default_rng(2).permutation(100)[:30] / 100
    peaks[[3, 7]] = 0
    names = [f"c{k}" for k in range(30)]
    track = score_track(*names, probabilities=np.tile(peaks, (50, 1)))
    detected, reference = [Event(0, 1, "c3")], [Event(0, 1, "c7"), Event(1, 2, "zebra")]
    _, middle, bottom = figure(spectrogram(), track, detected, reference).axes
    best = {names[k] for k in np.argsort(-peaks)[:9]}
    shown = sorted(best | {"c3", "c7"}, key=names.index)
    assert list(rows(middle)) == list(rows(bottom)) == [*shown, "zebra"]
    assert middle.get_title(loc="left").endswith("19 of 31 classes left out")
    assert "does not know" in middle.texts[0].get_text()


def test_left_out_classes_that_have_events_are_counted():
    names = [f"c{k}" for k in range(15)]
    events = [Event(0, 1, name) for name in names[:14]]
    axes = figure(spectrogram(), score_track(*names), events).axes[1]
    assert axes.get_title(loc="left").endswith("3 of 15 classes left out, 2 of them with events")


def test_names_are_drawn_as_they_stand(tmp_path):
    names = ("$x", "$\\frac$", "a_b^c", "{", "%", "\\", "犬の鳴き声", "كلب", "🐶")
    names += ("\n", "\udcff\x00", "$1$ " + "x" * 200)
    assert len(names) == plots.MOST_CLASSES
    events = [Event(0, 1, name) for name in names]
    track = score_track(*names)
    draw(tmp_path / "a.png", spectrogram(), track, events, events, title="".join(names))
    labels = figure(spectrogram(), track, events).axes[2].get_yticklabels()
    assert not any(label.get_parse_math() for label in labels)
    texts = [label.get_text() for label in labels]
    assert texts[:9] == list(names[:9])
    assert texts[9:11] == ["", "?\x00"]
    assert texts[11] == "$1$ " + "x" * (plots.LONGEST_NAME - 5) + "…"


def test_the_users_matplotlib_settings_do_not_change_the_size(tmp_path):
    import matplotlib

    with matplotlib.rc_context({"savefig.bbox": "tight", "savefig.dpi": 37, "figure.dpi": 41}):
        draw(tmp_path / "a.png", spectrogram(), score_track("dog"), [])
    assert imread(tmp_path / "a.png").shape[:2] == (900, 1200)


def test_hours_are_drawn_in_few_columns_that_keep_the_peaks(tmp_path):
    frames = 100_000
    probabilities = np.zeros((frames, 1))
    probabilities[77_777] = 1
    end = CLOCK.start_seconds(frames)
    track = score_track("dog", end=end, probabilities=probabilities)
    picture = figure(spectrogram(frames), track, [])
    patch = next(patch for patch in picture.axes[1].patches if isinstance(patch, StepPatch))
    values, edges, _ = patch.get_data()
    assert len(values) <= plots.MOST_COLUMNS
    (peak,) = np.flatnonzero(values > 0.5)
    assert edges[peak] <= CLOCK.start_seconds(77_777) < edges[peak + 1]
    assert edges[-1] == end
    (mesh,) = picture.axes[0].collections
    assert mesh.get_array().shape[1] <= plots.MOST_COLUMNS


def test_the_shortest_recording_is_drawn(tmp_path):
    track = score_track("dog", frames=1, end=1 / 16_000)
    draw(tmp_path / "a.png", spectrogram(1), track, [Event(0, 1 / 16_000, "dog")])
    assert imread(tmp_path / "a.png").shape == (900, 1200, 4)


def test_the_same_picture_is_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        draw(tmp_path / name, spectrogram(), score_track("dog"), [Event(0, 1, "dog")], title="x")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def curve(name="", scores=(0.2, 0.5, 0.4), kept=(2, 3)):
    return plots.TrainingCurve(name, (1, 2, 3), (0.9, 0.5, 0.3), scores, frozenset(kept))


def drawn_lines(axes):
    return [(line.get_linestyle(), line.get_xydata().tolist()) for line in axes.lines]


def test_training_curves_are_the_log_with_the_chosen_epochs_ringed():
    loss, score = plots.curves_figure([curve()], "$x$").axes
    assert drawn_lines(loss) == [
        ("-", [[1, 0.9], [2, 0.5], [3, 0.3]]),
        ("None", [[2, 0.5], [3, 0.3]]),
    ]
    assert drawn_lines(score)[1] == ("None", [[2, 0.5], [3, 0.4]])
    (legend,) = plots.curves_figure([curve()]).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "epochs whose weights the model has"
    ]


def test_curves_of_several_systems_and_of_no_validation(tmp_path):
    nothing = (np.nan,) * 3
    unknown = plots.curves_figure([curve(scores=nothing, kept=())])
    assert len(unknown.axes) == 1
    assert not unknown.legends
    names = ["_$a_", "犬", *(f"s{n}" for n in range(12))]
    many = plots.curves_figure([curve(name) for name in names])
    shown = [text.get_text() for text in many.legends[0].get_texts()]
    assert shown[:2] == names[:2]
    assert len(shown) == plots.MOST_CLASSES + 1
    assert many.axes[0].get_title(loc="left").endswith("2 of 14 systems left out")
    plots.draw_curves(tmp_path / "c.png", [curve(name) for name in names], "x")
    assert imread(tmp_path / "c.png").shape[:2] == (900, 1200)


def test_pyplot_stays_out_of_it():
    import subprocess
    import sys

    code = (
        "import sys; import earmark.outputs.plots; assert 'matplotlib' not in sys.modules\n"
        "from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "import test_plots as t\n"
        "t.figure(t.spectrogram(), t.score_track('dog'), [])\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, os.path.dirname(__file__)], check=True)


def test_a_part_of_a_recording_is_refused():
    for track in (
        score_track("dog", end=None),
        ScoreTrack(np.zeros((50, 1), np.float32), ("dog",), CLOCK, 3, 2.1),
    ):
        with pytest.raises(ValueError, match="from the recording's start to its end"):
            figure(spectrogram(), track, [])


def test_a_picture_that_can_not_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    track = score_track("dog")
    with pytest.raises(UserError, match=r"a\.pdf: a picture's name must end in \.png"):
        draw(tmp_path / "a.pdf", spectrogram(), track, [])
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="this is a folder"):
        draw(tmp_path / "folder.png", spectrogram(), track, [])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="the folder can't be made"):
        draw(tmp_path / "file" / "a.png", spectrogram(), track, [])

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "old.png").write_text("old")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(UserError, match=r"old\.png: can't be written: Permission denied"):
        draw(tmp_path / "old.png", spectrogram(), track, [])
    assert (tmp_path / "old.png").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"folder.png", "file", "old.png"}
