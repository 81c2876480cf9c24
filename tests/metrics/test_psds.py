"""PSDS against a loop over thresholds, sed_scores_eval, psds_eval's numbers, and properties."""

import json
import math
import warnings
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.events import Event
from earmark.metrics.intersections import intersection_scores
from earmark.metrics.psds import (
    PSDS1,
    PSDS2,
    PsdsEvidence,
    PsdsParameters,
    best_intersection_scores,
    psds_from_events,
    psds_from_scores,
)
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sed_scores_eval.base_modules.scores import create_score_dataframe
    from sed_scores_eval.intersection_based import best_fscore, fscore, psds

NAMES = ("bell", "car", "dog")
UNIT = 0.1
# Rates are high where clips last seconds: the largest must cut some of the curves, not all.
SETTINGS = (
    PSDS1,
    PSDS2,
    PsdsParameters(0.7, 0.7, alpha_st=1.0, max_efpr_per_hour=400.0),
    PsdsParameters(0.1, 0.1, 0.3, 0.5, 1.0, max_efpr_per_hour=2000.0),
    PsdsParameters(0.7, 0.3, 0.2, 1.0, 0.5, max_efpr_per_hour=900.0),
    PsdsParameters(1.0, 1.0, max_efpr_per_hour=1e5),
)
GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden/psds_eval_scores.json").read_text(encoding="utf-8")
)


def track(rows, names=NAMES, frame_units=3, dtype=np.float64):
    """Frame scores; a frame is 0.3 s."""
    clock = FrameClock(10, frame_units, frame_units)
    return ScoreTrack(np.array(rows, dtype).reshape(-1, len(names)), tuple(names), clock)


@st.composite
def data_sets(draw, classes_needed=0):
    """Reference events in units, score tracks and durations of a few clips.

    Scores are drawn from few levels, so that they tie within and across clips and classes, or
    are all different. Events of a class are apart.
    """
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([1, 2, 3, 6, None]))
    smooth = draw(st.booleans())
    count = draw(st.integers(max(1, classes_needed), 5))
    reference, tracks, durations = {}, {}, {}
    for n in range(count):
        frames = int(random.integers(1, 14))
        scores = random.random((frames, len(NAMES)))
        if smooth:
            scores = (np.sin(np.arange(frames)[:, None] * scores[0] + 6 * scores[:1]) + 1) / 2
        if levels:
            scores = np.floor(scores * levels) / levels
        events = []
        for k, name in enumerate(NAMES):
            end = 0
            here = random.integers(0, 4) if n != k or not classes_needed else 2
            for i in range(here):
                onset = end + int(random.integers(1, 12)) * (i > 0)
                end = onset + int(random.integers(1, 20))
                events.append((onset, end, name))
                end += 1
        clip = f"clip{n}"
        reference[clip], tracks[clip] = events, track(scores)
        durations[clip] = frames * 3 * UNIT
    return reference, tracks, durations


def above(tracks, thresholds):
    """The events of the frames whose scores exceed their class's threshold."""
    return {
        clip: [
            Event(t.edges_seconds[f], t.edges_seconds[f + 1], NAMES[k])
            for f, k in np.argwhere(t.probabilities > thresholds)
        ]
        for clip, t in tracks.items()
    }


def in_seconds(side):
    return {
        clip: [Event(on / 10, off / 10, label) for on, off, label in events]
        for clip, events in side.items()
    }


def spans_of(units):
    """Sets of units that follow each other."""
    spans = []
    for unit in sorted(units):
        if spans and unit - 1 in spans[-1]:
            spans[-1].add(unit)
        else:
            spans.append({unit})
    return spans


def by_thresholds(reference, tracks, durations, asked):
    """PSDS and class areas by looping over thresholds, clips and classes, with sets of units."""
    wanted = {
        (clip, name): spans_of({t for on, off, x in events if x == name for t in range(on, off)})
        for clip, events in reference.items()
        for name in NAMES
    }
    n_ref = {name: sum(len(wanted[clip, name]) for clip in reference) for name in NAMES}
    known = [name for name in NAMES if n_ref[name]]
    hours = {
        name: sum(len(w) for clip in reference for w in wanted[clip, name]) / 36000
        for name in known
    }
    dtc, gtc, cttc = (Fraction(str(part or 1)) for part in (asked.dtc, asked.gtc, asked.cttc))
    points = {name: [(0.0, 0.0)] for name in known}
    for name in known:
        k = NAMES.index(name)
        for threshold in {s for t in tracks.values() for s in t.probabilities[:, k].tolist()}:
            tp = fp = ct = 0.0
            for clip in durations:
                active = tracks[clip].probabilities[:, k] >= threshold if clip in tracks else []
                frames = np.flatnonzero(active).tolist()
                found = spans_of({t for f in frames for t in range(3 * f, 3 * f + 3)})
                truth = wanted[clip, name]
                right = [f for f in found if len(f & set().union(*truth)) >= dtc * len(f)]
                tp += sum(len(w & set().union(*right)) >= gtc * len(w) for w in truth)
                for wrong in (f for f in found if f not in right):
                    fp += 1
                    ct += sum(
                        len(wrong & set().union(*wanted[clip, other])) >= cttc * len(wrong)
                        and 1 / hours[other] / (len(known) - 1)
                        for other in known
                        if other != name and wanted[clip, other]
                    )
            rate = fp / (sum(durations.values()) / 3600) + asked.alpha_ct * ct
            points[name].append((rate, tp / n_ref[name]))
    limit = asked.max_efpr_per_hour
    edges = sorted({rate for of in points.values() for rate, _ in of if rate < limit} | {limit})
    area, areas = 0.0, dict.fromkeys(NAMES, math.nan) | dict.fromkeys(known, 0.0)
    for low, high in pairwise(edges):
        best = [max(r for x, r in points[name] if x <= low * (1 + 1e-12)) for name in known]
        for name, value in zip(known, best, strict=True):
            areas[name] += value * (high - low) / limit
        area += max(np.mean(best) - asked.alpha_st * np.std(best), 0) * (high - low) / limit
    return area if known else math.nan, [areas[name] for name in NAMES]


def check(result, value, class_values):
    assert result.value == pytest.approx(value, abs=1e-9, nan_ok=True)
    assert result.class_values == pytest.approx(class_values, abs=1e-9, nan_ok=True)


@settings(deadline=None, max_examples=60)
@given(data_sets(), st.sampled_from(SETTINGS))
def test_scores_equal_their_slow_twin(data_set, asked):
    reference, tracks, durations = data_set
    result = psds_from_scores(in_seconds(reference), tracks, durations, NAMES, asked)
    check(result, *by_thresholds(*data_set, asked))


def peer_inputs(reference, tracks, names=NAMES):
    """What sed_scores_eval takes."""
    frames = {
        clip: create_score_dataframe(
            t.probabilities.astype(np.float64), t.edges_seconds, list(t.class_names)
        )[["onset", "offset", *names]]
        for clip, t in tracks.items()
    }
    events = {
        clip: [(on / 10, off / 10, label) for on, off, label in found if label in names]
        for clip, found in reference.items()
    }
    return frames, events


def of_peer(reference, tracks, durations, asked, names=NAMES):
    cross = {} if asked.cttc is None else {"cttc_threshold": asked.cttc}
    return psds(
        *peer_inputs(reference, tracks, names),
        durations,
        dtc_threshold=asked.dtc,
        gtc_threshold=asked.gtc,
        alpha_ct=asked.alpha_ct,
        alpha_st=asked.alpha_st,
        max_efpr=asked.max_efpr_per_hour,
        **cross,
    )


@settings(deadline=None, max_examples=60)
@given(data_sets(classes_needed=3), st.sampled_from(SETTINGS))
def test_scores_equal_sed_scores_eval(data_set, asked):
    reference, tracks, durations = data_set
    result = psds_from_scores(in_seconds(reference), tracks, durations, NAMES, asked)
    try:
        theirs = of_peer(reference, tracks, durations, asked)
    except IndexError:
        # It fails where a class's counts are the same at all thresholds.
        assert any(curve.tp_ratio.tolist() == [0] for curve in result.curves)
        return
    value, class_values, (tpr, efpr), curves = theirs
    check(result, value, [class_values[name] for name in NAMES])
    # Between the points of either curve, where nothing is left to rounding.
    for ours, (ratios, rates) in [
        (result.effective, (tpr, efpr)),
        *((result.curves[k], curves[name][:2]) for k, name in enumerate(NAMES)),
    ]:
        joints = np.unique(np.concatenate([ours.efpr_per_hour, rates, [asked.max_efpr_per_hour]]))
        middle = (joints[1:] + joints[:-1])[np.diff(joints) > 1e-6] / 2
        index = np.searchsorted(rates, middle, "right") - 1
        assert ours.at(middle) == pytest.approx(ratios[index], abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(data_sets(classes_needed=3), st.sampled_from([0.1, 0.5, 0.7]))
def test_best_f1_equals_sed_scores_eval(data_set, part):
    reference, tracks, _ = data_set
    thresholds, best = best_intersection_scores(in_seconds(reference), tracks, NAMES, part, part)
    criteria = {"dtc_threshold": part, "gtc_threshold": part}
    inputs = peer_inputs(reference, tracks)
    try:
        f1, precision, recall, cuts, _ = best_fscore(*inputs, **criteria)
    except ValueError:
        # It fails where a class's counts are the same at all thresholds.
        assert 0 in best.counts.tp
        return
    assert best.counts.f1 == pytest.approx([f1[name] for name in NAMES], abs=1e-9)
    assert best.macro_f1 == pytest.approx(f1["macro_average"], abs=1e-9)
    # Of thresholds with one F1 ours is the highest, theirs is any: there ours count the same.
    asked = np.array([recall[name] for name in NAMES])
    ours = best.counts
    if not np.allclose(ours.recall, asked, rtol=0, atol=1e-9):
        assert (thresholds >= [cuts[name] for name in NAMES]).all()
        given = above(tracks, [cuts[name] for name in NAMES])
        ours = intersection_scores(in_seconds(reference), given, NAMES, part, part).counts
        assert ours.f1 == pytest.approx(best.counts.f1, abs=1e-9)
    assert ours.recall == pytest.approx(asked, abs=1e-9)
    # sed_scores_eval calls the precision of nothing 1.
    found = ours.tp + ours.fp > 0
    wanted = np.array([precision[name] for name in NAMES])
    assert ours.precision[found] == pytest.approx(wanted[found], abs=1e-9)
    # And the thresholds are where it says so.
    at = {name: float(thresholds[k]) for k, name in enumerate(NAMES)}
    for k, name in enumerate(NAMES):
        assert fscore(*inputs, at[name], **criteria)[0][name] == pytest.approx(best.counts.f1[k])


@settings(deadline=None, max_examples=40)
@given(data_sets(), st.sampled_from(SETTINGS), st.booleans(), st.data())
def test_weights_are_repeated_clips(data_set, asked, from_events, data):
    reference, tracks, durations = data_set
    weights = data.draw(
        st.lists(st.integers(0, 3), min_size=len(durations), max_size=len(durations))
    )
    times = dict(zip(durations, weights, strict=True))
    truth = in_seconds(reference)
    made, given = PsdsEvidence.from_scores, tracks
    if from_events:
        points = [in_seconds(dict(zip(durations, reference.values(), strict=True)))]
        points.append({clip: truth[clip][:2] for clip in reversed(truth)})
        points.append({clip: [Event(0.2, 1.0, "car"), Event(0, 1, "dog")] for clip in truth})
        made, given = PsdsEvidence.from_events, points

    def repeated(side):
        return {f"{c}{i}": side[c] for c in side for i in range(times[c])}

    evidence = made(truth, given, durations, NAMES, asked)
    assert evidence.clips == len(durations)
    drawn = evidence.scores(np.array(weights))
    again = [repeated(side) for side in given] if from_events else repeated(given)
    whole = made(repeated(truth), again, repeated(durations), NAMES, asked)
    check(drawn, whole.scores().value, whole.scores().class_values)
    ours, theirs = evidence.best_f1(np.array(weights)), whole.best_f1()
    assert ours[0].tolist() == theirs[0].tolist()
    assert ours[1].counts.f1.tolist() == theirs[1].counts.f1.tolist()


@settings(deadline=None, max_examples=30)
@given(data_sets(), st.sampled_from(SETTINGS), st.booleans())
def test_the_events_of_all_thresholds_have_the_exact_score(data_set, asked, backwards):
    reference, tracks, durations = data_set
    truth = in_seconds(reference)
    levels = sorted({s for t in tracks.values() for s in t.probabilities.ravel().tolist()})
    points = []
    for level in levels[:: -1 if backwards else 1]:
        point = {}
        for clip, t in tracks.items():
            frames, edges = np.argwhere(t.probabilities >= level), t.edges_seconds
            point[clip] = [Event(edges[f], edges[f + 1], NAMES[k]) for f, k in frames]
        points.append(point)
    exact = psds_from_scores(truth, tracks, durations, NAMES, asked)
    result = psds_from_events(truth, points, durations, NAMES, asked)
    check(result, exact.value, exact.class_values)
    fewer = psds_from_events(truth, points[::2], durations, NAMES, asked)
    assert not np.any(fewer.class_values > exact.class_values + 1e-12)


@pytest.mark.parametrize("case", GOLDEN["cases"])
@pytest.mark.parametrize("scenario", GOLDEN["scenarios"])
def test_lists_of_events_equal_psds_eval(case, scenario):
    reference, *points = (
        {clip: [Event(*event) for event in events] for clip, events in side.items()}
        for side in (case["reference"], *case["operating_points"])
    )
    asked = PsdsParameters(**GOLDEN["scenarios"][scenario])
    result = psds_from_events(reference, points, case["durations"], GOLDEN["class_names"], asked)
    assert result.value == pytest.approx(case["results"][scenario]["psds"], abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(data_sets(), st.permutations(range(len(NAMES))), st.sampled_from(SETTINGS))
def test_order_of_classes_and_clips_and_the_range_of_scores_do_not_matter(data_set, order, asked):
    reference, tracks, durations = data_set
    truth = in_seconds(reference)
    one = psds_from_scores(truth, tracks, durations, NAMES, asked)
    others = {
        clip: track(np.exp(9 * tracks[clip].probabilities[:, order]) - 5, [NAMES[k] for k in order])
        for clip in sorted(tracks, reverse=True)
    }
    names = [NAMES[k] for k in order[::-1]]
    other = psds_from_scores(truth, others, durations, names, asked)
    check(other, one.value, one.class_values[order[::-1]])


def one_class(frames, *times, **more):
    """The score of the class 'car' in one clip of 100 s."""
    return psds_from_scores(
        {"clip": [Event(on, off, "car") for on, off in times]},
        {"clip": track(frames, ["car"])},
        {"clip": 100.0},
        ["car"],
        PsdsParameters(**({"dtc": 0.5, "gtc": 0.5} | more)),
    )


def test_a_curve_by_hand():
    # From above: a hit in 0-0.3; a false alarm at 1.2; a hit in 1.8-2.1; all as one.
    scores = [0.9, 0, 0, 0, 0.7, 0, 0.5, 0]
    result = one_class(scores, (0, 0.3), (1.8, 2.1))
    (curve,) = result.curves
    assert curve.efpr_per_hour.tolist() == [0, 36]
    assert curve.tp_ratio.tolist() == [0.5, 1]
    assert result.value == pytest.approx(0.36 * 0.5 + 0.64)
    assert result.class_values.tolist() == [result.value]


def test_perfect_and_useless_scores():
    assert one_class([0, 1, 1, 0, 1], (0.3, 0.9), (1.2, 1.5)).value == 1
    assert one_class([1, 0, 0, 1, 0], (0.3, 0.9)).value == 0
    # Where all scores are equal there is one operating point.
    assert one_class([0, 0, 0, 0, 0], (0, 0.75)).value == 1
    assert one_class([7, 7, 7, 7, 7], (0, 0.3)).value == 0


def test_a_class_without_reference_is_left_out_altogether():
    rng = np.random.default_rng(3)
    clips = [f"clip{n}" for n in range(6)]
    tracks = {clip: track(rng.random((12, 3))) for clip in clips}
    durations = dict.fromkeys(clips, 3.6)
    reference = {clip: [(n, n + 9, NAMES[n % 2])] for n, clip in enumerate(clips)}
    asked = PsdsParameters(0.1, 0.1, 0.3, 0.5, 1.0, 5000.0)
    result = psds_from_scores(in_seconds(reference), tracks, durations, NAMES, asked)
    value, class_values, *_ = of_peer(reference, tracks, durations, asked, NAMES[:2])
    check(result, value, [class_values["bell"], class_values["car"], math.nan])
    assert result.curves[2] is None
    assert 0 < value < 1
    with pytest.raises(AssertionError, match="No ground truth events"):
        of_peer(reference, tracks, durations, asked)
    _, best = best_intersection_scores(in_seconds(reference), tracks, NAMES)
    assert best.counts.f1[2] == 0


def test_a_class_whose_counts_never_change_is_just_missed():
    # What is detected is right, at any threshold, and never enough of the event.
    truth, tracks = {"a": [(0, 90, "car")]}, {"a": track([0.3, 0.2], ["car"])}
    result = psds_from_scores(in_seconds(truth), tracks, {"a": 9.0}, ["car"], PSDS1)
    assert result.value == 0
    assert result.curves[0].efpr_per_hour.tolist() == [0]
    with pytest.raises(IndexError):
        of_peer(truth, tracks, {"a": 9.0}, PSDS1, ["car"])


def test_without_any_reference_there_is_no_score():
    result = psds_from_scores({}, {"a": track([0.5, 0.2, 0.1])}, {"a": 1.0}, NAMES, PSDS2)
    assert math.isnan(result.value)
    assert np.isnan(result.class_values).all()
    assert math.isnan(psds_from_events({}, [], {}, NAMES, PSDS1).value)
    thresholds, best = best_intersection_scores({"a": []}, {}, NAMES)
    assert thresholds.tolist() == [math.inf] * 3
    assert best.overall.f1 == 0


def test_what_nobody_detects_is_missed():
    # A clip without a track, and a class that the tracks don't know.
    truth = {"a": [Event(0, 0.6, "car"), Event(0, 0.6, "dog")], "b": [Event(0, 0.6, "car")]}
    tracks = {"a": track([1, 1, 0], ["car"])}
    asked = PsdsParameters(0.5, 0.5)
    result = psds_from_scores(truth, tracks, {"a": 1.0, "b": 1.0}, ["car", "dog"], asked)
    assert result.class_values.tolist() == [0.5, 0]


def test_rounding_is_finer_than_that_of_sed_scores_eval():
    # Of 1 s, 0.7 s less 0.4 us are covered: sed_scores_eval rounds this up, we don't.
    frames = {"clip": track([1.0] * 10, ["car"], frame_units=1)}
    tight = PsdsParameters(0.7, 0.7)
    for missing, ours in ((4e-7, 0), (4e-10, 1)):
        events = [(0.0, 0.7 - missing, "car")]
        truth = {"clip": [Event(*event) for event in events]}
        assert psds_from_scores(truth, frames, {"clip": 1.0}, ["car"], tight).value == ours
        data = create_score_dataframe(np.ones((10, 1)), frames["clip"].edges_seconds, ["car"])
        peer = psds(
            {"clip": data}, {"clip": events}, {"clip": 1.0}, dtc_threshold=0.7, gtc_threshold=0.7
        )
        assert peer[0] == 1


def test_overlapping_and_touching_reference_events_are_one():
    frames = {"a": track([0.9, 0.8, 0.1, 0.7, 0.2], ["car"])}
    truth = {"a": [(0, 4, "car"), (2, 6, "car"), (9, 10, "car"), (10, 12, "car"), (13, 13, "car")]}
    merged = {"a": [(0, 6, "car"), (9, 12, "car")]}
    asked = PsdsParameters(0.7, 0.7, max_efpr_per_hour=5000.0)
    result = psds_from_scores(in_seconds(truth), frames, {"a": 1.5}, ["car"], asked)
    value, *_ = of_peer(merged, frames, {"a": 1.5}, asked, ["car"])
    assert result.value == pytest.approx(value, abs=1e-9)
    assert value == 1
    with pytest.raises(AssertionError, match="Connected/overlapping"):
        of_peer(truth, frames, {"a": 1.5}, asked, ["car"])


def test_a_frame_without_length_is_no_detection():
    clock = FrameClock(10, 3, 3)
    scores = np.array([[0.5], [0.0], [0.9]], np.float32)
    frames = {"a": ScoreTrack(scores, ("car",), clock, end_seconds=0.6)}
    truth = {"a": [Event(0, 0.3, "car")]}
    result = psds_from_scores(truth, frames, {"a": 0.6}, ["car"], PSDS1)
    assert result.value == 1
    assert best_intersection_scores(truth, frames, ["car"])[1].counts.fp.tolist() == [0]


def test_thousands_of_frames_and_ties():
    # A ramp up and down nests every run in the next, and a comb ties thousands of them.
    ramp = np.concatenate([np.arange(1500), np.arange(1500)[::-1]]) / 1500
    comb = np.tile([0.5, 0.25], 1500)
    truth = {"ramp": [Event(400, 500, "car")], "comb": [Event(0, 900, "car")]}
    tracks = {"ramp": track(ramp, ["car"]), "comb": track(comb, ["car"])}
    durations = {"ramp": 900.0, "comb": 900.0}
    asked = PsdsParameters(0.5, 0.5, max_efpr_per_hour=1.0)
    # Without a false alarm only the ramp's event is hit, by runs of 50 s to 200 s.
    result = psds_from_scores(truth, tracks, durations, ["car"], asked)
    (curve,) = result.curves
    assert curve.efpr_per_hour.tolist() == [0]
    assert curve.tp_ratio.tolist() == [0.5]
    thresholds, best = best_intersection_scores(truth, tracks, ["car"])
    assert thresholds[0] == pytest.approx((1416 + 1166) / 2 / 1500)
    assert (best.counts.tp[0], best.counts.fp[0]) == (1, 0)


def test_thresholds_lie_between_scores_and_beyond_them():
    truth = {"clip": [Event(0, 0.6, "car")]}
    for scores, threshold, hits in (
        ([0.75, 0.5, 0.25], 0.375, 1),
        ([0.75, 0.5], -math.inf, 1),
        ([0.2, 0.2, 0.9, 0.9, 0.9], math.inf, 0),
        ([np.nextafter(1, 0), 1.0], -math.inf, 1),
        ([1.0, 1.0, np.nextafter(1, 0)], np.nextafter(1, 0), 1),
    ):
        tracks = {"clip": track(scores, ["car"])}
        found, best = best_intersection_scores(truth, tracks, ["car"], 0.7, 0.7)
        assert (found[0], best.counts.tp[0]) == (threshold, hits), scores


@settings(deadline=None, max_examples=30)
@given(data_sets())
def test_best_f1_is_that_of_the_events_above_the_threshold(data_set):
    reference, tracks, _ = data_set
    truth = in_seconds(reference)
    thresholds, best = best_intersection_scores(truth, tracks, NAMES, 0.3, 0.7)
    again = intersection_scores(truth, above(tracks, thresholds), NAMES, 0.3, 0.7)
    assert again.counts.tp.tolist() == best.counts.tp.tolist()
    assert again.counts.fp.tolist() == best.counts.fp.tolist()


def test_single_precision_scores_are_taken_as_they_are():
    rng = np.random.default_rng(1)
    truth, durations = {"a": [Event(0.3, 1.2, name) for name in NAMES]}, {"a": 60.0}
    scores = rng.random((20, 3)).astype(np.float32)
    singles, doubles = ({"a": track(scores, dtype=kind)} for kind in (np.float32, np.float64))
    one = psds_from_scores(truth, singles, durations, NAMES, PSDS2)
    assert one.value == psds_from_scores(truth, doubles, durations, NAMES, PSDS2).value


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"tracks": {"b": track([0.1, 0.2, 0.3])}}, "every clip needs a duration.*'b'"),
        ({"reference": {"b": []}}, "every clip needs a duration.*'b'"),
        ({"reference": {"a": [Event(0, 1, "cat")]}}, "isn't a class"),
        ({"durations_seconds": {"a": 0.0}}, "above 0 s"),
        ({"durations_seconds": {"a": math.nan}}, "above 0 s"),
        ({"tracks": {"a": track([0.1], ["cat"])}}, "'cat' of clip 'a' isn't listed"),
        ({"tracks": {"a": track([0.1, math.nan, 0.3])}}, "isn't a finite number"),
        ({"tracks": {"a": track([0.1, math.inf, 0.3])}}, "isn't a finite number"),
    ],
)
def test_what_cannot_be_scored_is_refused(change, complaint):
    given = {
        "reference": {"a": [Event(0, 1, "car")]},
        "tracks": {"a": track([0.1, 0.2, 0.3])},
        "durations_seconds": {"a": 1.0},
    }
    with pytest.raises(ValueError, match=complaint):
        psds_from_scores(**(given | change), class_names=NAMES, parameters=PSDS1)


def test_frames_that_end_before_they_start_are_refused():
    clock = FrameClock(10, 3, 3)
    odd = ScoreTrack(np.zeros((3, 1), np.float32), ("car",), clock, end_seconds=0.2)
    with pytest.raises(ValueError, match="ends before it starts"):
        psds_from_scores({}, {"a": odd}, {"a": 1.0}, ["car"], PSDS1)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"dtc": 0.0}, "dtc must be"),
        ({"gtc": 1.5}, "gtc must be"),
        ({"cttc": math.nan, "alpha_ct": 1.0}, "cttc must be"),
        ({"cttc": 0.3}, "cttc must be given if"),
        ({"alpha_ct": 0.3}, "cttc must be given if"),
        ({"alpha_st": -1.0}, "at least 0"),
        ({"alpha_ct": math.nan}, "at least 0"),
        ({"max_efpr_per_hour": 0.0}, "max_efpr_per_hour"),
        ({"max_efpr_per_hour": math.inf}, "max_efpr_per_hour"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(values, complaint):
    with pytest.raises(ValueError, match=complaint):
        PsdsParameters(**({"dtc": 0.5, "gtc": 0.5} | values))
