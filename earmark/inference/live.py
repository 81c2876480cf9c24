"""Events while they happen: windows that end now, and no frame twice. No torch here.

The network needs to hear what comes after a sound's end, too: a frame is final half a second
after it. What a window says of its last half second is said again, and better, by the next.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from earmark.events import Event, in_order
from earmark.inference.decoding import Decoder, median_half, step_half
from earmark.inference.recogniser import Recogniser, Samples
from earmark.scores import ScoreTrack

STEP_SECONDS = 0.25
"""The time from one window to the next, where the machine keeps up."""

AFTER_SECONDS = 0.5
"""What a window must have heard beyond a frame for it to be final."""


@dataclass(slots=True)
class _Sounding:
    """A class in which something sounds, or did a moment ago."""

    decoder: Decoder
    frame: int  # the next one to decode
    quiet: int = 0  # frames since anything sounded


class LiveDetector:
    """Detects events in sound that comes bit by bit, and gives each soon after its end.

    Every window ends with the sound that is there and is as long as the model's own, or as all
    that was heard. The events are those of ``Recogniser.detect`` but for what windows in other
    places say: rules and gate are the same, save that a frame's gate doesn't wait for windows that
    come after its event's end, and that boxes with silence between are never made one. Memory
    doesn't grow with time.

    Args:
        recogniser: of any kind.
        start_seconds: when the first sample sounds.

    Attributes:
        delay_seconds: for each class, how much later than its end an event is known at most,
            where the sound comes in steps of ``STEP_SECONDS``; computing comes on top.
    """

    def __init__(self, recogniser: Recogniser, *, start_seconds: float = 0.0) -> None:
        self._recogniser = recogniser
        self._start_seconds = start_seconds
        clock, rules = recogniser.clock, recogniser.rules
        self._clock = clock
        hop_seconds = float(clock.hop_seconds)
        # A little more, so that rounding decides nothing.
        self._window = max(1, int(recogniser.window_seconds / hop_seconds + 1e-6))
        self._after = min(math.ceil(AFTER_SECONDS / hop_seconds), self._window // 2)
        gaps = [int(rule.max_gap_seconds / hop_seconds + 1e-6) + 1 for rule in rules]
        medians = [median_half(rule, clock) for rule in rules]
        steps = [step_half(rule, clock) for rule in rules]
        # No event lasts on, and no filter reaches, over so many quiet frames.
        self._apart = [
            sum(reach) for reach in zip(gaps, medians, medians, steps, steps, strict=True)
        ]
        self._low = np.array(
            [rule.threshold if rule.step_seconds else rule.low_threshold for rule in rules]
        )
        self._gate = np.array([rule.gate_threshold for rule in rules])
        waited = [
            apart if step else gap + median
            for apart, step, gap, median in zip(self._apart, steps, gaps, medians, strict=True)
        ]
        self.delay_seconds = {
            name: (self._after + frames) * hop_seconds + float(clock.lead_seconds) + STEP_SECONDS
            for name, frames in zip(recogniser.class_names, waited, strict=True)
        }
        self._kept = self._window + max(self._apart)
        self._samples = np.zeros(0, np.float32)
        self._first_sample = 0  # the recording's sample of _samples[0]
        classes = len(rules)
        self._first = 0  # the recording's frame of these rows
        self._probabilities = np.zeros((0, classes), np.float32)
        self._tags = np.zeros((0, classes), np.float32)
        self._final = 0  # frames before this one don't change any more
        self._sounding: dict[int, _Sounding] = {}
        self._quiet_from = [0] * classes  # where each class's last decoder came to its end

    @property
    def heard_seconds(self) -> float:
        """When the sound that has come so far ends."""
        heard = self._first_sample + len(self._samples)
        return self._start_seconds + heard / self._recogniser.rate_hz

    def push(self, samples: Samples) -> list[Event]:
        """Takes in what sounded since, (S,) at the recogniser's rate; gives events that are over.

        The more at once, the fewer windows; of much more than a window there are several.
        """
        rate_hz = self._recogniser.rate_hz
        most = math.ceil(max(1, self._window // 2) * self._clock.hop_seconds * rate_hz)
        events: list[Event] = []
        for first in range(0, len(samples), most):
            self._samples = np.concatenate([self._samples, samples[first : first + most]])
            events += self._hear()
        return in_order(events)

    def finish(self) -> list[Event]:
        """The events that are left, where nothing more comes."""
        if not self._first_sample + len(self._samples):
            return []
        rate_hz = self._recogniser.rate_hz
        first = max(0, self._known() - self._window + 1)
        heard = self._recogniser.scores(self._samples_from(first), rate_hz=rate_hz)
        self._take_in(first, heard)
        self._final, before = self._first + len(self._probabilities), self._final
        end_seconds = (self._first_sample + len(self._samples)) / rate_hz
        events = [*self._decoded(before), *self._closed(list(self._sounding), end_seconds)]
        return in_order(self._shifted(events))

    def _hear(self) -> list[Event]:
        """The events that one more window ends."""
        known = self._known()
        if known - self._after <= self._final:
            return []
        first = max(0, known - self._window)
        count = (known - first) * self._clock.pooling
        seconds = Fraction(self._clock.samples_for(count), self._clock.rate_hz)
        size = math.ceil(seconds * self._recogniser.rate_hz)
        window = self._samples_from(first)[:size]
        self._take_in(first, self._recogniser.scores(window, rate_hz=self._recogniser.rate_hz))
        heard = self._first + len(self._probabilities)
        self._final, before = min(known - self._after, heard), self._final
        events = list(self._shifted(self._decoded(before)))
        self._forget()
        return events

    def _known(self) -> int:
        """How many frames there are whose samples are all there."""
        clock = self._clock
        heard = self._first_sample + len(self._samples)
        samples = heard * clock.rate_hz // self._recogniser.rate_hz
        windows = (samples - clock.window_samples) // clock.hop_samples + 1
        return max(0, windows // clock.pooling)

    def _samples_from(self, frame: int) -> Samples:
        sample = round(frame * self._clock.hop_seconds * self._recogniser.rate_hz)
        return self._samples[sample - self._first_sample :]

    def _take_in(self, first: int, heard: ScoreTrack) -> None:
        """Has a window say what isn't final yet, and open gates."""
        rows = first - self._first
        stop = rows + len(heard.probabilities)
        tags = heard.local_tags
        if tags is None or not self._recogniser.decoding.tag_gate:
            tags = np.ones_like(heard.probabilities)
        new = self._final - self._first
        self._probabilities = np.concatenate(
            [self._probabilities[:new], heard.probabilities[new - rows :]]
        )
        more = np.zeros((max(0, stop - len(self._tags)), self._tags.shape[1]), np.float32)
        self._tags = np.concatenate([self._tags, more])[:stop]
        # Half a window back: what is older has had its windows.
        covered = max(rows, new - self._window // 2)
        np.maximum(self._tags[covered:], tags[covered - rows :], out=self._tags[covered:])

    def _gated(self, k: int) -> NDArray[np.float32]:
        """(n,) what is known of a class, 0 where its gate is closed."""
        column = self._probabilities[:, k]
        if not self._recogniser.decoding.tag_gate:
            return column
        return np.where(self._tags[:, k] > self._gate[k], column, np.float32(0))

    def _decoded(self, before: int) -> Iterator[Event]:
        """The events that end with the frames from ``before`` on that are now final."""
        new = slice(before - self._first, self._final - self._first)
        sounds = self._probabilities[new] > self._low
        if self._recogniser.decoding.tag_gate:
            sounds &= self._tags[new] > self._gate
        for k in np.flatnonzero(sounds.any(axis=0)).tolist():
            if k not in self._sounding:
                start = self._start(k, before + int(sounds[:, k].argmax()))
                decoder = Decoder(
                    [self._recogniser.rules[k]], [self._recogniser.class_names[k]], tag_gate=False
                )
                self._sounding[k] = _Sounding(decoder, start)
        over = []
        for k, of_class in self._sounding.items():
            own = self._gated(k)[of_class.frame - self._first : self._final - self._first]
            yield from of_class.decoder.push(
                ScoreTrack(
                    own[:, None], (self._recogniser.class_names[k],), self._clock, of_class.frame
                )
            )
            of_class.frame = self._final
            loud = np.flatnonzero(own > self._low[k])
            of_class.quiet = len(own) - 1 - loud[-1] if len(loud) else of_class.quiet + len(own)
            if of_class.quiet >= self._apart[k]:
                over.append(k)
        yield from self._closed(over)

    def _start(self, k: int, loud: int) -> int:
        """The first frame to decode of a class that is loud, and was silent so far.

        As the gate has just opened, it may have sounded for a while. It begins where it was quiet
        for long enough, with as many quiet frames as filters reach.
        """
        apart = self._apart[k]
        earliest = max(self._quiet_from[k], self._final - self._window // 2, self._first)
        rows = self._gated(k)[earliest - self._first : loud + 1 - self._first]
        before = earliest + np.flatnonzero(rows > self._low[k])
        breaks = np.flatnonzero(np.diff(before) > apart)
        first = int(before[breaks[-1] + 1] if len(breaks) else before[0])
        return max(first - apart, self._quiet_from[k] - apart, self._first)

    def _closed(self, classes: list[int], end_seconds: float | None = None) -> Iterator[Event]:
        """The events that are left in classes in which nothing sounds any more."""
        for k in classes:
            of_class = self._sounding.pop(k)
            name = self._recogniser.class_names[k]
            end = self._clock.start_seconds(of_class.frame) if end_seconds is None else end_seconds
            nothing = np.zeros((0, 1), np.float32)
            yield from of_class.decoder.push(
                ScoreTrack(nothing, (name,), self._clock, of_class.frame, end)
            )
            self._quiet_from[k] = of_class.frame

    def _shifted(self, events: Iterator[Event] | list[Event]) -> Iterator[Event]:
        for event in events:
            yield replace(
                event,
                onset_seconds=event.onset_seconds + self._start_seconds,
                offset_seconds=event.offset_seconds + self._start_seconds,
            )

    def _forget(self) -> None:
        """Lets go of what no further window and no decoder needs."""
        rows = max(0, self._final - self._kept - self._first)
        self._first += rows
        self._probabilities, self._tags = self._probabilities[rows:], self._tags[rows:]
        needed = max(0, self._known() - self._window)
        sample = round(needed * self._clock.hop_seconds * self._recogniser.rate_hz)
        done = max(0, sample - self._first_sample)
        self._samples = self._samples[done:]
        self._first_sample += done
