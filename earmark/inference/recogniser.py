"""A trained model at work, whatever is inside: recordings -> score tracks, events and tags."""

import copy
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from earmark.calibration import calibrated_track
from earmark.config import ClassCalibration, ClassDecoding, DecodingSettings, FeatureSettings
from earmark.events import Event, in_order
from earmark.inference.decoding import Decoder
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock

Samples = NDArray[np.float32]


class Recogniser:
    """Says which classes sound in a recording, and from when to when.

    A recording is a path, or samples (S,) or (S, channels) with their ``rate_hz`` (the model's
    own if not given). Memory does not grow with its length, except in ``scores``.

    Attributes:
        class_names: the K classes.
        clock: when each frame of a score track sounds.
        rules: how the probabilities of each class become tags and events.
        decoding: what the rules follow, and whether an event needs the clip's tag.
        features: what the model sees of the samples, to draw it; of a fused model one member's.
        window_seconds: of the longest training clip.
        rate_hz: the highest rate at which it hears.
        votes: whether a clip's probability is a share of frames, and not on their scale.
        calibration: what is made of the probabilities of each class before they leave; without,
            they leave as they are.

    Raises (all methods): UserError for audio that can't be read or has no samples, and for
        samples that are not floats, all finite.
    """

    def __init__(
        self,
        class_names: tuple[str, ...],
        clock: FrameClock,
        rules: Sequence[ClassDecoding],
        decoding: DecodingSettings,
        features: FeatureSettings,
        window_seconds: float,
        *,
        rate_hz: int,
        votes: bool = False,
        calibration: Sequence[ClassCalibration] = (),
    ) -> None:
        self.class_names = class_names
        self.clock = clock
        self.rules = tuple(rules)
        self.decoding = decoding
        self.features = features
        self.window_seconds = window_seconds
        self.rate_hz = rate_hz
        self.votes = votes
        self.calibration = tuple(calibration) or (ClassCalibration(),) * len(class_names)

    def blocks(
        self, recording: str | Path | Samples, *, rate_hz: int | None = None
    ) -> Iterator[ScoreTrack]:
        """The score track in consecutive blocks; the last one knows the recording's tags."""
        for block in self.raw_blocks(recording, rate_hz=rate_hz):
            yield calibrated_track(self.calibration, block)

    def raw_blocks(
        self, recording: str | Path | Samples, *, rate_hz: int | None = None
    ) -> Iterator[ScoreTrack]:
        """The same before its calibration, as the networks or the members say it."""
        raise NotImplementedError

    def with_calibration(self, calibration: Sequence[ClassCalibration]) -> Self:
        """The same recogniser with another calibration; with none, all leaves as it is."""
        other = copy.copy(self)
        other.calibration = tuple(calibration) or (ClassCalibration(),) * len(self.class_names)
        return other

    def uncalibrated(self) -> Self:
        """The same recogniser without any calibration, its members', if it has some, included."""
        return self.with_calibration(())

    def detect(self, recording: str | Path | Samples, *, rate_hz: int | None = None) -> list[Event]:
        """Events in order; their scores are the largest frame probabilities within."""
        decoder = self.decoder()
        return in_order(
            event
            for block in self.blocks(recording, rate_hz=rate_hz)
            for event in decoder.push(block)
        )

    def tag(
        self, recording: str | Path | Samples, *, rate_hz: int | None = None
    ) -> dict[str, float]:
        """The probability that each class sounds anywhere in the recording."""
        last = deque(self.blocks(recording, rate_hz=rate_hz), maxlen=1)[0]
        assert last.tags is not None
        return dict(zip(self.class_names, last.tags.tolist(), strict=True))

    def scores(self, recording: str | Path | Samples, *, rate_hz: int | None = None) -> ScoreTrack:
        """The whole score track."""
        return ScoreTrack.join(self.blocks(recording, rate_hz=rate_hz))

    def decoder(self) -> Decoder:
        """A fresh decoder with the model's own rules."""
        return Decoder(self.rules, self.class_names, tag_gate=self.decoding.tag_gate)
