"""A model and a recording in; a picture of what was found out."""

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from earmark.config import Precision
from earmark.errors import UserError
from earmark.events import Event, in_order
from earmark.formats.labels import read_labels

if TYPE_CHECKING:
    from earmark.config import FeatureSettings


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a picture shows; ``reference`` is None where none was given."""

    events: list[Event]
    reference: list[Event] | None
    out: Path

    def text(self) -> str:
        """What was drawn, in a line."""
        beside = "" if self.reference is None else f" beside {len(self.reference)} of the reference"
        return f"{len(self.events)} events{beside}: {self.out}"


def plot(
    recording: Path,
    *,
    model: Path,
    out: Path,
    reference: Path | None = None,
    device: str = "auto",
    precision: Precision = "auto",
) -> Drawn:
    """Draws a recording's spectrogram, probabilities and events.

    Args:
        recording: an audio file.
        model: a model folder.
        out: the picture to write, a file ending in .png.
        reference: a strong table with the true events; of its files, the one whose name the
            recording's path ends with is drawn.
        device: auto, cpu, cuda or mps.
        precision: of the networks: float32 (the reference), bfloat16, or auto for the fastest here.

    Raises:
        UserError: something can't be read or written, or the reference has no such file.
    """
    from earmark.outputs.plots import Envelope, Spectrogram, draw, prepare

    if out.exists() and recording.exists() and out.samefile(recording):
        raise UserError("the picture may not replace the recording", where=out)
    prepare(out)
    true_events = None if reference is None else _events_of(reference, recording)

    # Torch takes a second to import: errors in what was typed should not wait for it.
    from earmark.audio import blocks
    from earmark.features import FeatureExtractor
    from earmark.inference.fusion import load_recogniser
    from earmark.training.devices import choose_device

    chosen = choose_device(device)
    recogniser = load_recogniser(model, chosen, precision)
    shown = recogniser.features

    features = Envelope(shown.clock)
    for frames in FeatureExtractor(shown, chosen).stream(blocks(recording, shown.rate_hz)):
        features.add(frames)

    decoder = recogniser.decoder()
    probabilities = Envelope(recogniser.clock)
    events: list[Event] = []
    for track in recogniser.blocks(recording):
        probabilities.add(track.probabilities)
        events += decoder.push(track)
    centres = None if shown.kind == "mfcc" else band_centres_hz(shown)
    draw(
        out,
        Spectrogram(features.values, features.clock, centres),
        replace(
            track,
            probabilities=probabilities.values,
            clock=probabilities.clock,
            start_frame=0,
            local_tags=None,
        ),
        in_order(events),
        true_events,
        recording.name,
    )
    return Drawn(in_order(events), true_events, out)


def band_centres_hz(settings: "FeatureSettings") -> NDArray[np.float64]:
    """(F,) where each mel band's triangle peaks, to about 1 Hz."""
    from earmark.features import mel_filters

    bins_of_one_hz = settings.model_copy(update={"window_samples": settings.rate_hz})
    centres: NDArray[np.float64] = mel_filters(bins_of_one_hz).argmax(axis=1).astype(np.float64)
    return centres


def _events_of(table_path: Path, recording: Path) -> list[Event]:
    """The events of the file that a recording is, by the longest name that its path ends with."""
    table = read_labels(table_path)
    if not table.strong:
        raise UserError(
            "a reference needs events with onset and offset, came with tags alone; give a strong "
            "table",
            where=table_path,
        )
    # Not resolved: a table names a link as it is called, not what it points to.
    path = PurePosixPath(Path(os.path.abspath(recording)).as_posix()).parts
    matches: dict[int, list[Event]] = {}
    for row in table.rows:
        parts = PurePosixPath(row.filename).parts
        if parts == path[-len(parts) :]:
            matches.setdefault(len(parts), []).extend(row.events or ())
    if not matches:
        examples = " and ".join(f"'{row.filename}'" for row in table.rows[:2]) or "no file"
        raise UserError(
            f"no file of the reference is {recording}: the table has {examples}; a filename must "
            "be the end of the recording's path, suffix included",
            where=table_path,
        )
    return in_order(matches[max(matches)])
