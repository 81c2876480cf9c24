"""A recogniser that hears no more than how loud each frame is: what comes out is known."""

import numpy as np

from earmark.config import ClassDecoding, DecodingSettings, FeatureSettings
from earmark.inference.recogniser import Recogniser
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock

RATE = 100
CLOCK = FrameClock(RATE, 10, 10)
NAMES = ("a", "b")


def rule(**changes):
    given = {"tag_threshold": 0.5, "threshold": 0.5, "low_threshold": 0.5}
    return ClassDecoding(**(given | {"max_gap_seconds": 0.2, "min_event_seconds": 0.0} | changes))


class Loudness(Recogniser):
    """Hears frame by frame what the samples hold: class "a" their size, class "b" the rest to 1.

    A window's tag is its largest frame; with ``share``, its mean.
    """

    def __init__(self, rules, *, window_seconds=4.0, tag_gate=False, share=False):
        decoding = DecodingSettings(tag_gate=tag_gate)
        super().__init__(
            NAMES, CLOCK, rules, decoding, FeatureSettings(), window_seconds, rate_hz=RATE
        )
        self.share = share
        self.longest = 0

    def blocks(self, recording, *, rate_hz=None):
        assert rate_hz in (None, RATE)
        self.longest = max(self.longest, len(recording))
        frames = CLOCK.frame_count(len(recording))
        padded = np.append(recording, np.full(10, recording[-1]))[: frames * 10]
        loud = padded.reshape(frames, 10)[:, 0].astype(np.float32)
        table = np.stack([loud, np.float32(1) - loud], axis=1)
        tags = table.mean(axis=0) if self.share else table.max(axis=0)
        local = np.tile(tags, (frames, 1))
        yield ScoreTrack(table, NAMES, CLOCK, 0, len(recording) / RATE, local, tags)


def spoken(frames):
    """Samples whose frames are as loud as these."""
    return np.repeat(np.asarray(frames, np.float32), 10)
