"""A trained model at work, whatever is inside: recordings -> score tracks, events and tags."""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.config import ClassDecoding, DecodingSettings, FeatureSettings
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
    ) -> None:
        self.class_names = class_names
        self.clock = clock
        self.rules = tuple(rules)
        self.decoding = decoding
        self.features = features
        self.window_seconds = window_seconds
        self.rate_hz = rate_hz
        self.votes = votes

    def blocks(
        self, recording: str | Path | Samples, *, rate_hz: int | None = None
    ) -> Iterator[ScoreTrack]:
        """The score track in consecutive blocks; the last one knows the recording's tags."""
        raise NotImplementedError

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
