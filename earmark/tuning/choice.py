"""Which of each class's candidates do best, together or each by itself."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from earmark.events import Event
from earmark.metrics.psds import PsdRoc, PsdsEvidence, PsdsParameters
from earmark.metrics.thresholds import maximise_ratio
from earmark.scores import ScoreTrack
from earmark.tuning.axis import Axis
from earmark.tuning.candidates import Candidates, ClassOnAxis, Segments

STEPS = 1000  # in which a bound on false events is shared among classes
LEAST_F1 = 0.01  # what none has counts as that: there is nothing to lose


def bounded(
    candidates: Sequence[Candidates],
    best: list[int],
    best_of: Callable[[Sequence[Candidates]], list[int]],
    most: float,
) -> list[int]:
    """The ``best`` candidates or, where these give more than ``most`` false events together, the
    best of those that give no more than each class may.

    How many that is costs the geometric mean of the classes' F1 least, so that no class is given
    up for others. Those of which nothing tells what it costs, since they don't occur, may give
    their part of ``most``, all as many.
    """
    if _false_events(candidates, best) <= most:
        return best
    unknown = [of_class.false for of_class in candidates if not of_class.judge.wanted]
    each = _alike(unknown, most * len(unknown) / len(candidates))
    left = most - sum(max(f for f in of_class if f <= each) for of_class in unknown)
    known = [of_class for of_class in candidates if of_class.judge.wanted]
    f1s = [top / bottom for top, bottom in (of_class.ratio() for of_class in known)]
    worth = [np.log(np.maximum(f1, LEAST_F1)) for f1 in f1s]
    paid = iter(_cheapest(worth, [of_class.false for of_class in known], left))
    within = [
        np.flatnonzero(np.array(of.false) <= (next(paid) if of.judge.wanted else each)).tolist()
        for of in candidates
    ]
    found = best_of([of.only(indices) for of, indices in zip(candidates, within, strict=True)])
    return [indices[index] for indices, index in zip(within, found, strict=True)]


def _alike(false: Sequence[Sequence[int]], most: float) -> int:
    """The largest number that, allowed to each class, gives at most so many together."""
    numbers = sorted({count for of_class in false for count in of_class})
    allowed = 0
    for number in numbers:
        if sum(max(f for f in of_class if f <= number) for of_class in false) > most:
            break
        allowed = number
    return allowed


def _cheapest(
    worth: Sequence[NDArray[np.float64]], false: Sequence[Sequence[int]], most: float
) -> list[int]:
    """How many false events each class may give where its candidates' ``worth`` adds up to most.

    Exact as long as ``most`` is not above ``STEPS``, else to a part of it as small.
    """
    step = max(1.0, most / STEPS)
    counts = [np.ceil(np.array(of_class) / step).astype(np.int64) for of_class in false]
    # The best of the classes so far with so many steps together, and the last one's share of them.
    best = np.zeros(int(most / step) + 1)
    shares = []
    for value, count in zip(worth, counts, strict=True):
        added, share = np.full(len(best), -np.inf), np.zeros(len(best), np.int64)
        for steps in np.unique(count[count < len(best)]).tolist():
            trial = np.full(len(best), -np.inf)
            trial[steps:] = best[: len(best) - steps] + value[count == steps].max()
            share[trial > added] = steps
            added = np.maximum(added, trial)
        best = added
        shares.append(share)
    left, allowed = len(best) - 1, []
    for share in reversed(shares):
        allowed.append(int(share[left] * step + 1e-9))
        left -= int(share[left])
    return allowed[::-1]


def _false_events(candidates: Sequence[Candidates], chosen: Sequence[int]) -> int:
    return sum(of.false[index] for of, index in zip(candidates, chosen, strict=True))


def best_f1(candidates: Sequence[Candidates], pooled: bool) -> list[int]:
    """The candidate of each class with the best F1, of all together or of each by itself."""
    ratios = [of_class.ratio() for of_class in candidates]
    groups = [ratios] if pooled else [[ratio] for ratio in ratios]
    return [
        index
        for group in groups
        for index in maximise_ratio([top for top, _ in group], [bottom for _, bottom in group])
    ]


def fewest_errors(candidates: Sequence[Candidates], axis: Axis) -> list[int]:
    """The candidate of each class, no other of which alone lowers the error rate of all.

    In each segment S + D + I is the larger of its false alarms and its misses.
    """
    wrong, missed = [], []  # of each class (C, segments)
    for of_class in candidates:
        assert isinstance(of_class.judge, Segments)
        wanted = of_class.judge.active
        given = np.unpackbits(np.array(of_class.packed), axis=1, count=axis.scored_segments).view(
            np.bool_
        )
        wrong.append((given & ~wanted).astype(np.int16))
        missed.append((~given & wanted).astype(np.int16))

    def descended(chosen: list[int]) -> tuple[int, list[int]]:
        all_wrong = np.sum([of[c] for of, c in zip(wrong, chosen, strict=True)], axis=0)
        all_missed = np.sum([of[c] for of, c in zip(missed, chosen, strict=True)], axis=0)
        errors, before = int(np.maximum(all_wrong, all_missed).sum()), -1
        while errors != before:
            before = errors
            for k, (fp, fn) in enumerate(zip(wrong, missed, strict=True)):
                other_fp, other_fn = all_wrong - fp[chosen[k]], all_missed - fn[chosen[k]]
                totals = np.maximum(fp + other_fp, fn + other_fn).sum(axis=1)
                if totals.min() < errors:
                    chosen[k], errors = int(totals.argmin()), int(totals.min())
                all_wrong, all_missed = other_fp + fp[chosen[k]], other_fn + fn[chosen[k]]
        return errors, chosen

    starts = (best_f1(candidates, pooled=True), [0] * len(candidates))
    return min((descended(start) for start in starts), key=lambda found: found[0])[1]


def best_shapes(
    classes: Sequence[ClassOnAxis],
    tracks: Sequence[ScoreTrack],
    references: Sequence[Sequence[Event]],
    parameters: PsdsParameters,
) -> list[ClassOnAxis]:
    """The classes with gate, median and boxes settled: those of the best PSDS.

    Medians and boxes are tried with the gate as it is, then other gates with the best of them.
    """
    axis = classes[0].axis
    if not tracks:
        return list(classes)
    events = {str(number): events for number, events in enumerate(references)}
    seconds = {str(n): float(track.edges_seconds[-1]) for n, track in enumerate(tracks)}

    def curves(columns: Sequence[NDArray[np.float64]]) -> tuple[PsdRoc | None, ...]:
        parts = axis.cut(np.stack(columns, axis=1).astype(np.float32))[: len(tracks)]
        shown = {
            str(number): replace(track, probabilities=part)
            for number, (track, part) in enumerate(zip(tracks, parts, strict=True))
        }
        evidence = PsdsEvidence.from_scores(events, shown, seconds, axis.names, parameters)
        return evidence.scores().curves

    def best_of(tried: Sequence[Sequence[ClassOnAxis]]) -> list[ClassOnAxis]:
        """The n-th of all classes are scored at once: a curve doesn't depend on other classes."""
        found = []
        for n in range(max(map(len, tried))):
            together = [of_class[min(n, len(of_class) - 1)] for of_class in tried]
            found.append(curves([of_class.shaped() for of_class in together]))
        chosen = _best_curves(list(zip(*found, strict=True)), parameters)
        return [of[min(n, len(of) - 1)] for of, n in zip(tried, chosen, strict=True)]

    chosen = best_of(
        [
            [of_class, *of_class.with_shapes(of_class.own.gate_threshold)]
            if of_class.references
            else [of_class]
            for of_class in classes
        ]
    )
    return best_of([[of_class.with_gate(gate) for gate in of_class.gates()] for of_class in chosen])


def _best_curves(
    curves: Sequence[Sequence[PsdRoc | None]], parameters: PsdsParameters
) -> list[int]:
    """Which of each class's curves give the best score together, no other of one class alone.

    The first of each class is what to beat.
    """
    known = [k for k, of_class in enumerate(curves) if of_class[0] is not None]
    limit = parameters.max_efpr_per_hour

    rates = np.unique(
        np.concatenate([np.zeros(1), *(c.efpr_per_hour for of in curves for c in of if c)])
    )
    values = [np.array([c.at(rates) for c in curves[k] if c is not None]) for k in known]
    widths = np.diff(np.minimum(rates, limit), append=limit)

    def area(ratios: NDArray[np.float64]) -> float:
        spread = parameters.alpha_st * ratios.std(axis=0)
        return float(np.maximum(ratios.mean(axis=0) - spread, 0.0) @ widths)

    def ascended(chosen: list[int]) -> tuple[float, list[int]]:
        ratios = np.array([of[c] for of, c in zip(values, chosen, strict=True)])
        best, before = area(ratios), -1.0
        while best > before:
            before = best
            for row, of_class in enumerate(values):
                for index, candidate in enumerate(of_class):
                    trial = ratios.copy()
                    trial[row] = candidate
                    if (found := area(trial)) > best:
                        best, chosen[row], ratios = found, index, trial
        return best, chosen

    starts = ([int(np.argmax(of @ widths)) for of in values], [0] * len(known))
    indices = [0] * len(curves)
    if known:
        found = max((ascended(start) for start in starts), key=lambda found: found[0])[1]
        for k, index in zip(known, found, strict=True):
            indices[k] = index
    return indices
