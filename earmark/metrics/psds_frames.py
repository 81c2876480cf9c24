"""What the runs of frames above a threshold detect, over all thresholds."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.intersections import TIE_TICKS, Line, Spans, as_ticks, reaches
from earmark.metrics.psds_steps import Changes, ClassSteps, joined
from earmark.metrics.runs import Runs
from earmark.scores import ScoreTrack


class Frames:
    """The frames of all clips on one axis of positions, ahead of each clip a position without.

    A frame's onset is the edge one position before it, its offset the edge at its own.

    Attributes:
        clip: (P,) each position's clip.
        edges: (P,) ticks in the clip; 0 where it has no track.
        scores: (K, P) -infinity ahead of each clip, after the last, and where a class is unknown.
        longest: frames of the longest clip.
    """

    def __init__(
        self, clips: Sequence[str], tracks: Mapping[str, ScoreTrack], class_names: Sequence[str]
    ) -> None:
        class_index = {name: index for index, name in enumerate(class_names)}
        lengths = [len(tracks[name].probabilities) if name in tracks else 0 for name in clips]
        self.longest = max(lengths, default=0)
        # One more after the last frame, which belongs to no clip.
        starts = np.cumsum([0, *(length + 1 for length in lengths)])
        self.clip = np.repeat(np.arange(len(clips)), np.diff(starts))
        edges = np.zeros(starts[-1], np.float64)
        self.scores = np.full((len(class_names), starts[-1] + 1), -np.inf)
        for start, length, name in zip(starts, lengths, clips, strict=False):
            if name not in tracks:
                continue
            track = tracks[name]
            if strange := [label for label in track.class_names if label not in class_index]:
                raise ValueError(f"the class '{strange[0]}' of clip '{name}' isn't listed")
            if not np.isfinite(track.probabilities).all():
                raise ValueError(f"a score of clip '{name}' isn't a finite number")
            edges[start : start + length + 1] = track.edges_seconds
            if not np.all(np.diff(edges[start : start + length + 1], prepend=0.0) >= 0):
                raise ValueError(f"a frame of clip '{name}' ends before it starts")
            rows = [class_index[label] for label in track.class_names]
            self.scores[rows, start + 1 : start + length + 1] = track.probabilities.T
        self.edges = as_ticks(edges)

    def changes(
        self, line: Line, references: Sequence[Spans], dtc: float, gtc: float, cttc: float | None
    ) -> list[ClassSteps]:
        """What each class's runs of frames above a threshold hit, over all thresholds.

        Criteria as in ``PsdsParameters``.
        """
        edges = line.starts[self.clip] + self.edges
        # How much of each class there is before each edge: any run's share of it is a difference.
        before = np.array([spans.covered_before(edges) for spans in references], np.int64)
        others = _present(line, references)
        return [
            self._class_steps(k, line, edges, before, others, references[k], dtc, gtc, cttc)
            for k in range(len(references))
        ]

    def _class_steps(
        self,
        own: int,
        line: Line,
        edges: NDArray[np.int64],
        before: NDArray[np.int64],
        others: NDArray[np.int64],
        wanted: Spans,
        dtc: float,
        gtc: float,
        cttc: float | None,
    ) -> ClassSteps:
        runs = Runs.of(self.scores[own], self.longest)
        length = edges[runs.last] - edges[runs.first]
        covered = before[own][runs.last] - before[own][runs.first]
        sounds = length > TIE_TICKS
        right = sounds & reaches(covered, dtc, length)
        wrong = sounds & ~right
        clip = self.clip[runs.first]
        crossed = []
        if cttc is not None:
            for column in others.T:
                at = np.flatnonzero(wrong & (column[clip] >= 0) & (column[clip] != own))
                other, first, last = column[clip[at]], runs.first[at], runs.last[at]
                shared = before[other, last] - before[other, first]
                enough = reaches(shared, cttc, length[at])
                triggers = np.zeros(len(wrong), np.bool_)
                triggers[at[enough]] = True
                net = runs.net(triggers)
                changed = np.flatnonzero(net)
                row = column[clip[changed]] * len(line.starts) + clip[changed]
                crossed.append(Changes(runs.birth[changed], row, net[changed]))
        net = runs.net(wrong)
        changed = np.flatnonzero(net)
        return ClassSteps(
            len(line.starts),
            tp=_hits(line, wanted, edges, runs, right, gtc),
            fp=Changes(runs.birth[changed], clip[changed], net[changed]),
            ct=joined(crossed),
            classes=len(before),
        )


def _hits(
    line: Line,
    wanted: Spans,
    edges: NDArray[np.int64],
    runs: Runs,
    right: NDArray[np.bool_],
    gtc: float,
) -> Changes:
    """At which scores each reference event becomes a hit, or ceases to be one."""
    chosen = np.flatnonzero(right)
    onset, offset = edges[runs.first[chosen]], edges[runs.last[chosen]]
    low = np.searchsorted(wanted.offset, onset, "right")
    touched = np.searchsorted(wanted.onset, offset, "left") - low
    # Every right run with each event that it touches.
    event = np.repeat(low - np.cumsum(touched) + touched, touched) + np.arange(touched.sum())
    run = np.repeat(np.arange(len(chosen)), touched)
    shared = np.minimum(offset[run], wanted.offset[event]) - np.maximum(
        onset[run], wanted.onset[event]
    )
    # What it shares is there from the run's birth to its death.
    birth, death = runs.birth[chosen[run]], runs.death[chosen[run]]
    event, score = np.tile(event, 2), np.append(birth, death)
    order = np.lexsort((-score, event))
    event, score = event[order], score[order]
    # An event's sum ends at 0, since in the end, at -infinity, every run is gone.
    covered = np.cumsum(np.append(shared, -shared)[order])
    last = np.ones(len(event), np.bool_)
    last[:-1] = (event[1:] != event[:-1]) | (score[1:] != score[:-1])
    event, score, covered = event[last], score[last], covered[last]
    hit = reaches(covered, gtc, wanted.length[event]).astype(np.int64)
    by = np.diff(hit, prepend=0)
    changed = np.flatnonzero((by != 0) & (score > -np.inf))
    return Changes(score[changed], line.clip_of(wanted.onset[event[changed]]), by[changed])


def _present(line: Line, references: Sequence[Spans]) -> NDArray[np.int64]:
    """(N, M) the classes of the reference in each clip, then -1; M is the most of any clip."""
    there = np.array([line.per_clip(spans.onset) > 0 for spans in references], np.bool_).T
    order = np.argsort(~there, axis=1, kind="stable")
    present = np.where(np.take_along_axis(there, order, axis=1), order, -1)
    return present[:, : there.sum(axis=1).max(initial=0)]
