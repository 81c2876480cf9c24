"""Events to look at and to listen to: which ones, their sound and their spectrogram."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from earmark.audio import read
from earmark.events import Event
from earmark.outputs.plots import Envelope, upper_levels
from earmark.outputs.report import Recording
from earmark.spectra import FrontEnd

SURE, UNSURE, SPREAD = "surest", "least sure", "examples"
"""Why an event is shown; without scores, events from all over the recordings are."""

PADDING_SECONDS = 1.0
LONGEST_SECONDS = 8.0
"""Of what is heard, both ends' padding included."""

RATE_HZ = 22_050
"""Of the sound, which is mono MP3: every browser plays it, and a second takes about 5 kB."""

_MOST_COLUMNS = 256


@dataclass(frozen=True, slots=True)
class Choice:
    """An event to show, and why."""

    event: Event
    recording: Recording
    why: str

    @property
    def start_seconds(self) -> float:
        """Where what is heard begins."""
        return max(0.0, self.event.onset_seconds - PADDING_SECONDS)

    @property
    def stop_seconds(self) -> float:
        """Where it ends: after the event, unless that is too long."""
        end = min(self.recording.duration_seconds, self.event.offset_seconds + PADDING_SECONDS)
        return min(end, self.start_seconds + LONGEST_SECONDS)


@dataclass(frozen=True, slots=True)
class Example:
    """An event to look at and to listen to.

    Attributes:
        choice: which one.
        sound: an MP3 file.
        picture: a PNG file; a column of pixels is a frame, a row a band, the lowest at the bottom.
        columns, bands: its size.
    """

    choice: Choice
    sound: bytes
    picture: bytes
    columns: int
    bands: int


def choose(
    class_names: Sequence[str], recordings: Sequence[Recording], each: int
) -> Iterator[Choice]:
    """The events worth a look, ``each`` of the surest and of the least sure of every class.

    One of every class comes before the next of any, so that whoever stops has seen all classes.
    From one recording a second one comes only after one from each: neighbours are alike.
    """
    of_class: dict[str, list[tuple[Event, Recording]]] = {name: [] for name in class_names}
    for recording in recordings:
        for event in recording.events:
            of_class[event.label].append((event, recording))
    chosen = {name: _of_class(events, each) for name, events in of_class.items()}
    for place in range(2 * each):
        for choices in chosen.values():
            yield from choices[place : place + 1]


def _of_class(events: Sequence[tuple[Event, Recording]], each: int) -> list[Choice]:
    """The surest and the least sure by turns, none of them twice."""
    scored = [(e.score, e, recording) for e, recording in events if e.score is not None]
    if not scored:
        places = np.unique(np.linspace(0, len(events) - 1, 2 * each).round().astype(int))
        spread = [events[place] for place in places.tolist() if events]
        return [Choice(event, recording, SPREAD) for event, recording in spread]
    falling = sorted(scored, key=lambda item: (-item[0], item[1].onset_seconds))
    half = min(each, -(-len(falling) // 2))
    sure = _varied(falling, half)
    taken = {id(event) for _, event, _ in sure}
    rest = [item for item in reversed(falling) if id(item[1]) not in taken]
    unsure = _varied(rest, each)
    sides = [
        [Choice(event, recording, why) for _, event, recording in side]
        for why, side in ((SURE, sure), (UNSURE, unsure))
    ]
    longest = max(map(len, sides))
    return [side[place] for place in range(longest) for side in sides if place < len(side)]


def _varied(
    ranked: Sequence[tuple[float, Event, Recording]], most: int
) -> list[tuple[float, Event, Recording]]:
    """The first of a ranking, with as many recordings among them as there are."""
    seen: dict[str, int] = {}
    turns = []
    for place, (_, _, recording) in enumerate(ranked):
        turns.append((seen.get(recording.name, 0), place))
        seen[recording.name] = seen.get(recording.name, 0) + 1
    return [ranked[place] for _, place in sorted(turns)[:most]]


def example(choice: Choice, features: FrontEnd) -> Example:
    """The sound and the spectrogram of a choice. Raises AudioError where it can't be read."""
    path, start, stop = choice.recording.path, choice.start_seconds, choice.stop_seconds
    sound = _mp3(read(path, RATE_HZ, start, stop))
    # Read anew: what lies above 11 kHz can be seen, though not heard.
    samples = read(path, features.settings.rate_hz, start, stop)
    envelope = Envelope(features.clock, _MOST_COLUMNS)
    for frames in features.of_clips([samples]):
        envelope.add(frames)
    columns, bands = envelope.values.shape
    return Example(choice, sound, _png(envelope.values), columns, bands)


def _mp3(samples: NDArray[np.float32]) -> bytes:
    content = BytesIO()
    soundfile.write(
        content, samples, RATE_HZ, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.6
    )
    return content.getvalue()


def _png(values: NDArray[np.float32]) -> bytes:
    """Levels (T, F) in 256 colours."""
    from matplotlib import colormaps

    low, high = upper_levels(values)
    steps = 255 * (values - low) / max(high - low, 1e-6)
    pixels = steps.clip(0, 255).astype(np.uint8).T[::-1]
    rows, columns = pixels.shape
    # Every row begins with the number of its filter, none.
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), pixels], axis=1).tobytes()
    colours = (255 * colormaps["magma"](np.arange(256))[:, :3]).round().astype(np.uint8).tobytes()
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)  # 8 bits, of a palette
    chunks = (
        (b"IHDR", header),
        (b"PLTE", colours),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
