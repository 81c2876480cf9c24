"""Event scores against trials of every matching, sed_eval, scipy, and properties."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from earmark.events import Event
from earmark.metrics.collars import EventEvidence, event_scores, maximum_matching

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sed_eval

NAMES = ("bell", "car", "dog")


def car(*times):
    return {"clip": [Event(onset, offset, "car") for onset, offset in times]}


def events(most_ticks, ticks_per_second, shortest=0):
    """An event on a grid, so that boundaries often lie exactly at a collar."""
    return st.builds(
        lambda onset, length, name: Event(
            onset / ticks_per_second, (onset + length) / ticks_per_second, name
        ),
        st.integers(0, most_ticks),
        st.integers(shortest, 12),
        st.sampled_from(NAMES),
    )


@st.composite
def pairs(draw, event, most=6):
    """Events of a reference, and of an estimate that may leave clips out."""
    clips = st.dictionaries(st.sampled_from("abcd"), st.lists(event, max_size=most), max_size=4)
    reference = draw(clips)
    return reference, {c: found for c, found in draw(clips).items() if c in reference}


def numbers(scores):
    counts = scores.counts
    return (
        (counts.tp.tolist(), counts.fp.tolist(), counts.fn.tolist()),
        (scores.substitutions, scores.deletions, scores.insertions),
    )


# -- the slow twin: whole tenths of a second, every matching tried


def tenths(event):
    return round(event.onset_seconds * 10), round(event.offset_seconds * 10)


def meets(wanted, found, collar, half_length, use_offset):
    onset, offset = tenths(wanted)
    other_onset, other_offset = tenths(found)
    # Twice the offset's distance, so that half a length is whole.
    room = max(2 * collar, (offset - onset) if half_length else 0)
    return abs(onset - other_onset) <= collar and (
        not use_offset or 2 * abs(offset - other_offset) <= room
    )


def matchings(edges):
    """Every matching of edges, as sets."""
    if not edges:
        return {frozenset()}
    (left, right), rest = edges[0], edges[1:]
    beside = [(a, b) for a, b in rest if a != left and b != right]
    return matchings(rest) | {one | {(left, right)} for one in matchings(beside)}


def by_trial(reference, estimate, *collar):
    """TP, N_ref, N_sys per class, and the values that S may have: one a clip and matching."""
    hits, n_ref, n_sys = ([0] * len(NAMES) for _ in range(3))
    possible = {0}
    for clip, all_wanted in reference.items():
        wanted = [e for e in all_wanted if tenths(e)[0] < tenths(e)[1]]
        found = [e for e in estimate.get(clip, ()) if tenths(e)[0] < tenths(e)[1]]
        near = [
            (i, j)
            for i, w in enumerate(wanted)
            for j, f in enumerate(found)
            if meets(w, f, *collar)
        ]
        every = matchings([(i, j) for i, j in near if wanted[i].label == found[j].label])
        most = max(map(len, every))
        largest = [one for one in every if len(one) == most]
        for k, name in enumerate(NAMES):
            per_matching = {sum(wanted[i].label == name for i, _ in one) for one in largest}
            (hit,) = per_matching  # the same for all of them
            hits[k] += hit
            n_ref[k] += sum(e.label == name for e in wanted)
            n_sys[k] += sum(e.label == name for e in found)
        of_clip = set()
        for one in largest:
            used = {i for i, _ in one}, {j for _, j in one}
            replaced = 0
            for i, j in near:
                if i not in used[0] and j not in used[1]:
                    used[0].add(i)
                    used[1].add(j)
                    replaced += 1
            of_clip.add(replaced)
        possible = {a + b for a in possible for b in of_clip}
    return hits, n_ref, n_sys, possible


@settings(deadline=None, max_examples=100)
@given(pairs(events(12, 10), most=4), st.integers(0, 3), st.booleans(), st.booleans())
def test_scores_equal_their_slow_twin(pair, collar, half_length, use_offset):
    scores = event_scores(*pair, NAMES, collar / 10, collar / 10, half_length / 2, use_offset)
    hits, n_ref, n_sys, possible = by_trial(*pair, collar, half_length, use_offset)
    assert scores.counts.tp.tolist() == hits
    assert scores.counts.n_reference.tolist() == n_ref
    assert (scores.counts.tp + scores.counts.fp).tolist() == n_sys
    assert scores.substitutions in possible
    assert int(scores.overall.fn) == scores.substitutions + scores.deletions
    assert int(scores.overall.fp) == scores.substitutions + scores.insertions


# -- the field's tool


def with_sed_eval(reference, estimate, collar, ratio, use_offset, matching="optimal"):
    def listed(events):
        return [
            {
                "event_label": e.label,
                "event_onset": e.onset_seconds,
                "event_offset": e.offset_seconds,
            }
            for e in events
        ]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metrics = sed_eval.sound_event.EventBasedMetrics(
            list(NAMES),
            evaluate_offset=use_offset,
            t_collar=collar,
            percentage_of_length=ratio,
            event_matching_type=matching,
        )
        for clip, wanted in reference.items():
            metrics.evaluate(listed(wanted), listed(estimate.get(clip, ())))
    return metrics


def assert_equals_sed_eval(reference, estimate, collar, ratio, use_offset):
    scores = event_scores(reference, estimate, NAMES, collar, collar, ratio, use_offset)
    peer = with_sed_eval(reference, estimate, collar, ratio, use_offset)
    assert (scores.substitutions, scores.deletions, scores.insertions) == tuple(
        peer.overall[count] for count in ("Nsubs", "Nfn", "Nfp")
    )
    sides = [
        (scores.overall, scores.error_rate, peer.overall_f_measure(), peer.overall_error_rate())
    ]
    for k, name in enumerate(NAMES):
        for count in ("tp", "fp", "fn"):
            assert getattr(scores.counts, count)[k] == peer.class_wise[name][f"N{count}"]
        one = event_scores(
            *(
                {c: [e for e in side[c] if e.label == name] for c in side}
                for side in (reference, estimate)
            ),
            [name],
            collar,
            collar,
            ratio,
            use_offset,
        )
        assert one.counts.tp[0] == scores.counts.tp[k]
        assert one.error_rate == scores.class_error_rate[k]
        sides.append(
            (
                one.overall,
                scores.class_error_rate[k],
                peer.class_wise_f_measure(name),
                peer.class_wise_error_rate(name),
            )
        )
    for counts, error_rate, f_measure, errors in sides:
        # Intended: 0 where sed_eval has NaN, for want of anything in the denominator.
        for value, key in (
            (counts.f1, "f_measure"),
            (counts.precision, "precision"),
            (counts.recall, "recall"),
        ):
            expected = 0 if math.isnan(f_measure[key]) else f_measure[key]
            assert value == pytest.approx(expected, abs=1e-9)
        if counts.n_reference:
            assert error_rate == pytest.approx(errors["error_rate"], abs=1e-9)
        else:  # Intended: infinite where sed_eval divides by the smallest float.
            assert error_rate == (math.inf if counts.fp else 0)
            assert errors["error_rate"] == 0 or errors["error_rate"] > 1e15


# Eighths of a second are exact floats, so that sed_eval too decides exactly at the collar.
@settings(deadline=None, max_examples=150)
@given(
    pairs(events(16, 8, shortest=1)),
    st.sampled_from([0.125, 0.25, 1.0]),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    st.booleans(),
)
def test_scores_equal_sed_eval(pair, collar, ratio, use_offset):
    assert_equals_sed_eval(*pair, collar, ratio, use_offset)


@pytest.mark.parametrize("use_offset", [True, False])
def test_crowded_clips_equal_sed_eval(use_offset):
    """Here the first choice often has to be given up, and S hangs on which events are left."""
    rng = np.random.default_rng(3)

    def crowd():
        onsets, lengths = rng.integers(0, 40, 30) / 8, rng.integers(1, 9, 30) / 8
        names = rng.choice(NAMES, 30)
        return [
            Event(*map(float, (onset, onset + length)), str(name))
            for onset, length, name in zip(onsets, lengths, names, strict=True)
        ]

    clips = [str(clip) for clip in range(25)]
    assert_equals_sed_eval(
        {c: crowd() for c in clips}, {c: crowd() for c in clips}, 0.25, 0.5, use_offset
    )


def test_the_numbers_that_sed_eval_asserts():
    truth, found = car((0, 2.5), (2.8, 4.5), (6, 10)), car((0.2, 3.5), (6, 8))
    for use_offset in (True, False):
        scores = event_scores(truth, found, ["car"], use_offset=use_offset)
        assert scores.overall.f1 == pytest.approx(0.8, abs=1e-9)
        assert scores.error_rate == pytest.approx(0.3333, abs=5e-5)
        assert scores.n_reference == 3


def test_greedy_matching_may_find_fewer_pairs():
    truth, found = car((1, 2), (1.25, 2)), car((1.125, 2), (0.875, 2))
    # The first reference may take either; greedily it takes the only one that the second could.
    assert with_sed_eval(truth, found, 0.125, 0.5, True, "greedy").overall["Ntp"] == 1
    assert with_sed_eval(truth, found, 0.125, 0.5, True, "optimal").overall["Ntp"] == 2
    assert event_scores(truth, found, ["car"], 0.125).overall.tp == 2


def test_floating_point_does_not_decide():
    assert abs(0.9 - 0.7) > 0.2
    assert event_scores(car((0.7, 2)), car((0.9, 2)), ["car"]).overall.tp == 1
    assert event_scores(car((0.9, 2)), car((0.7, 2)), ["car"]).overall.tp == 1
    assert with_sed_eval(car((0.7, 2)), car((0.9, 2)), 0.2, 0.5, True).overall["Ntp"] == 0
    # The same of an offset at the fixed collar, and at half the reference's length.
    assert event_scores(car((0.5, 0.7)), car((0.5, 0.9)), ["car"]).overall.tp == 1
    assert abs(2.0 - 1.4) > 0.5 * (1.4 - 0.2)
    assert event_scores(car((0.2, 1.4)), car((0.2, 2.0)), ["car"]).overall.tp == 1
    assert with_sed_eval(car((0.2, 1.4)), car((0.2, 2.0)), 0.2, 0.5, True).overall["Ntp"] == 0
    for beyond in (1e-6, 1e-8):
        assert event_scores(car((0.7, 2)), car((0.9 + beyond, 2)), ["car"]).overall.tp == 0
        assert event_scores(car((0.2, 1.4)), car((0.2, 2 + beyond)), ["car"]).overall.tp == 0
    # Nor far from zero, after a day.
    assert event_scores(car((86400.7, 86402)), car((86400.9, 86402)), ["car"]).overall.tp == 1


def test_events_without_length_are_set_aside():
    # Of length by rounding alone, too; sed_eval scores them.
    nothing, still_nothing = car((1.5, 1.5), (0, 0), (0.3, 0.1 + 0.2)), car((1.5, 1.5))
    scores = event_scores(nothing, still_nothing, ["car"])
    assert (scores.n_reference, int(scores.overall.fp), scores.error_rate) == (0, 0, 0)
    assert with_sed_eval(nothing, still_nothing, 0.2, 0.5, True).overall["Ntp"] == 1


# -- what the collars mean


def test_the_offset_collar_is_the_larger_of_the_two_and_of_the_reference_s_length():
    long, short = car((0, 4)), car((0, 2))
    assert event_scores(long, short, ["car"]).overall.tp == 1  # 2 s of a reference of 4 s
    assert event_scores(short, long, ["car"]).overall.tp == 0  # 2 s of one of 2 s
    assert event_scores(short, long, ["car"], offset_collar_seconds=2).overall.tp == 1
    assert event_scores(short, long, ["car"], offset_collar_ratio=1).overall.tp == 1
    assert event_scores(short, long, ["car"], use_offset=False).overall.tp == 1
    assert event_scores(long, short, ["car"], 0.2, 0, 0.49).overall.tp == 0
    assert event_scores(car((1, 2)), car((2, 3)), ["car"], onset_collar_seconds=1).overall.tp == 0
    assert event_scores(car((1, 2)), car((2, 3)), ["car"], 1, 1).overall.tp == 1


def test_an_event_is_found_once_and_overlapping_ones_stay_apart():
    scores = event_scores(car((0, 4)), car((0, 4), (0, 4), (0.1, 4)), ["car"])
    assert (int(scores.overall.tp), scores.insertions) == (1, 2)
    scores = event_scores(car((0, 4), (0, 4)), car((0, 4)), ["car"])
    assert (int(scores.overall.tp), scores.deletions) == (1, 1)


def test_a_class_taken_for_another_is_one_error_overall_and_two_by_class():
    truth, found = car((0, 1)), {"clip": [Event(0, 1, "dog")]}
    scores = event_scores(truth, found, NAMES)
    assert (scores.substitutions, scores.deletions, scores.insertions) == (1, 0, 0)
    assert scores.error_rate == 1
    assert scores.class_error_rate.tolist() == [0, 1, math.inf]
    assert scores.macro_f1 == 0
    # Not with an offset that the collar doesn't allow, and not with another clip.
    late = {"clip": [Event(0, 2, "dog")]}
    assert event_scores(truth, late, NAMES).substitutions == 0
    assert event_scores(truth, late, NAMES, use_offset=False).substitutions == 1
    assert event_scores(truth | {"b": []}, {"b": found["clip"]}, NAMES).substitutions == 0


def test_the_macro_average_is_the_mean_of_the_class_values():
    truth = {"clip": [Event(0, 1, "bell"), Event(0, 1, "car"), Event(2, 3, "car")]}
    scores = event_scores(truth, {"clip": truth["clip"][:2]}, NAMES)
    assert scores.counts.f1 == pytest.approx([1, 2 / 3, 0])
    assert scores.macro_f1 == pytest.approx(5 / 9)  # sed_eval leaves the dog out: 5 / 6


def test_clips_and_classes_never_meet():
    truth = {c: [Event(1, 2, name)] for c, name in (("a", "bell"), ("b", "car"), ("c", "dog"))}
    shifted = {c: truth[other] for c, other in (("a", "b"), ("b", "c"), ("c", "a"))}
    assert event_scores(truth, truth, NAMES).overall.tp == 3
    scores = event_scores(truth, shifted, NAMES)
    assert (int(scores.overall.tp), scores.substitutions) == (0, 3)


# -- properties


@settings(deadline=None, max_examples=30)
@given(pairs(events(20, 10)), st.permutations(range(len(NAMES))), st.randoms())
def test_order_does_not_matter_to_the_counts(pair, order, random):
    one = event_scores(*pair, NAMES)
    shuffled = [
        {c: random.sample(side[c], len(side[c])) for c in sorted(side, reverse=True)}
        for side in pair
    ]
    other = event_scores(*shuffled, [NAMES[k] for k in order])
    assert other.counts.tp.tolist() == one.counts.tp[order].tolist()
    assert other.class_error_rate.tolist() == one.class_error_rate[order].tolist()
    # The order of clips and classes alone doesn't matter to S either.
    rearranged = [{c: side[c] for c in sorted(side, reverse=True)} for side in pair]
    other = event_scores(*rearranged, [NAMES[k] for k in order])
    assert other.substitutions == one.substitutions


@settings(deadline=None, max_examples=30)
@given(pairs(events(20, 10)))
def test_events_against_themselves_are_perfect(pair):
    scores = event_scores(pair[0], pair[0], NAMES, 0, 0, 0)
    assert scores.error_rate == 0
    assert scores.overall.f1 == (1 if scores.n_reference else 0)


@settings(deadline=None, max_examples=60)
@given(pairs(events(16, 10)), st.lists(st.integers(0, 3), min_size=4, max_size=4), st.booleans())
def test_a_weight_is_as_many_copies_of_the_clip(pair, times, use_offset):
    reference, estimate = pair
    times = times[: len(reference)]
    copies = [(c, copy) for c, n in zip(reference, times, strict=True) for copy in range(n)]
    repeated = [
        {f"{c} {copy}": side[c] for c, copy in copies if c in side}
        for side in (reference, estimate)
    ]
    evidence = EventEvidence(reference, estimate, NAMES, use_offset=use_offset)
    weights = np.array(times, np.int64)
    expected = event_scores(*repeated, NAMES, use_offset=use_offset)
    assert numbers(evidence.scores(weights)) == numbers(expected)
    assert evidence.clips == len(reference)
    assert numbers(evidence.scores()) == numbers(event_scores(*pair, NAMES, use_offset=use_offset))


def test_weights_that_do_not_fit_are_refused():
    evidence = EventEvidence(car((0, 1)), {}, NAMES)
    for weights in (np.ones(2, np.int64), np.ones((1, 1), np.int64), np.array([-1])):
        with pytest.raises(ValueError, match="1 whole numbers"):
            evidence.scores(weights)


# -- matching


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.floats(0.02, 0.3))
def test_matchings_are_as_large_as_scipy_s(seed, lefts, rights, density):
    edges = np.random.default_rng(seed).random((lefts, rights)) < density
    matched = maximum_matching(*np.nonzero(edges))
    assert len(set(matched.values())) == len(matched)
    assert all(edges[mine, yours] for mine, yours in matched.items())
    assert len(matched) == np.sum(maximum_bipartite_matching(csr_array(edges)) >= 0)


def test_the_events_left_unmatched_are_those_of_sed_eval():
    """Which of several largest matchings is taken decides what is left for a substitution."""
    rng = np.random.default_rng(8)
    for _ in range(300):
        left, right = np.nonzero(rng.random((25, 25)) < rng.uniform(0.03, 0.15))
        graph = {}
        for mine, yours in zip(left.tolist(), right.tolist(), strict=True):
            graph.setdefault(yours, []).append(mine)
        theirs = sed_eval.util.bipartite_match(graph)
        ours = maximum_matching(left, right)
        assert ours.keys() == theirs.keys()
        assert set(ours.values()) == set(theirs.values())


def test_a_long_row_of_calls_is_matched_to_its_end():
    """The last estimate can have the first call alone, so that all the others move up by one."""
    n = 5000
    calls = [(0.3 * i, 0.3 * i + 0.2) for i in range(1, n + 1)]
    between = [(onset + 0.15, offset + 0.15) for onset, offset in calls[:-1]]
    scores = event_scores(car(*calls), car(*between, (0.15, 0.35)), ["car"])
    assert int(scores.overall.tp) == n


def test_thousands_of_equal_events_are_matched():
    scores = event_scores(car(*[(1, 2)] * 700), car(*[(1, 2)] * 900), ["car"])
    assert (int(scores.overall.tp), scores.insertions) == (700, 200)


# -- edges


def test_a_clip_that_the_estimate_leaves_out_counts_with_its_misses():
    truth = car((0, 2)) | {"left out": [Event(0, 3, "car"), Event(4, 5, "car")]}
    scores = event_scores(truth, car((0, 2)), ["car"])
    assert scores.deletions == 2
    assert scores.error_rate == pytest.approx(2 / 3)


def test_without_a_reference_the_error_rate_is_zero_or_infinite():
    assert event_scores({}, {}, NAMES).error_rate == 0
    assert event_scores({"a": []}, {"a": []}, []).overall.f1 == 0
    nothing = event_scores({"clip": []}, car((0, 2)), NAMES)
    assert (nothing.error_rate, nothing.insertions) == (math.inf, 1)
    assert nothing.overall.precision == 0


def test_scores_say_how_they_were_taken():
    scores = event_scores({}, {}, NAMES, 0.1, 0.3, 0.2, False)
    assert scores.class_names == NAMES
    assert (scores.onset_collar_seconds, scores.offset_collar_seconds) == (0.1, 0.3)
    assert (scores.offset_collar_ratio, scores.use_offset) == (0.2, False)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"label": "cat"}, "isn't a class"),
        ({"onset_seconds": -1.0}, "at 0 or later"),
        ({"onset_seconds": math.nan}, "at 0 or later"),
        ({"onset_seconds": 2.0}, "before they start"),
        ({"offset_seconds": math.inf}, "and end"),
        ({"offset_seconds": math.nan}, "and end"),
    ],
)
def test_events_that_cannot_be_scored_are_refused(change, complaint):
    odd = {"clip": [replace(Event(0.0, 1.0, "car"), **change)]}
    for sides in ((odd, {}), (car((0, 1)), odd)):
        with pytest.raises(ValueError, match=complaint):
            event_scores(*sides, NAMES)


def test_a_clip_outside_the_list_and_a_collar_below_zero_are_refused():
    with pytest.raises(ValueError, match="isn't in the reference"):
        event_scores({}, car((0, 1)), NAMES)
    for name in ("onset_collar_seconds", "offset_collar_seconds", "offset_collar_ratio"):
        for value in (-0.1, math.nan):
            with pytest.raises(ValueError, match=name):
                event_scores({}, {}, NAMES, **{name: value})
