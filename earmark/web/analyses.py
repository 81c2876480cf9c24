"""Probabilities that a model gave for a recording, kept in files: curves and events of any part.

Kept are float32, so that the events are those of ``earmark detect``, bit by bit.
"""

import hashlib
import json
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.config import ClassDecoding
from earmark.errors import UserError
from earmark.events import Event, in_order
from earmark.folders import files_below
from earmark.formats.tables import digest
from earmark.inference.decoding import Decoder
from earmark.inference.recogniser import Recogniser
from earmark.model.hub import fetched
from earmark.scores import ScoreTrack
from earmark.web.library import Recording
from earmark.writing import writing

VERSION = 1
COARSE_FRAMES = 64
"""Frames of which the largest probability is kept too, for curves of long stretches."""

_VALUES_AT_ONCE = 1 << 20
_MOST_REMEMBERED_EVENTS = 200_000
_MOST_REMEMBERED = 2_000


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is served.

    Attributes:
        id: its folder's name, made unique.
        digest: by which it is known again.
        how: what else its numbers depend on: device and precision.
        recogniser: the model at work.
    """

    id: str
    digest: str
    how: str
    recogniser: Recogniser


def served_models(
    folders: Sequence[Path], load: Callable[[Path], Recogniser], how: str
) -> dict[str, Model]:
    """The models in folders by id.

    Args:
        folders: of the models, or their addresses on the hub.
        load: gives the recogniser in a folder.
        how: what else their numbers depend on, fit for a folder's name.
    """
    models: dict[str, Model] = {}
    for folder in folders:
        name = folder.resolve().name or "model"
        model_id, count = name, 1
        while model_id in models:
            count += 1
            model_id = f"{name}-{count}"
        recogniser = load(folder)
        models[model_id] = Model(model_id, _digest(fetched(folder)), how, recogniser)
    return models


def _digest(folder: Path) -> str:
    parts = ("model.json", "model.safetensors")
    names = sorted(name for name in files_below(folder) if name.rpartition("/")[2] in parts)
    of_files = [(name, digest(folder / name)) for name in names]
    return hashlib.sha256(json.dumps(of_files).encode()).hexdigest()[:16]


class NotAnalysed(Exception):
    """There are no probabilities of this recording by this model."""


class Analyses:
    """What is kept of analyses, each in a folder that appears whole or not at all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: OrderedDict[tuple[str, int, ClassDecoding], tuple[Event, ...]] = OrderedDict()
        self._count = 0

    def there(self, recording: Recording, model: Model) -> bool:
        """Whether the recording, as it is now, was analysed by the model."""
        try:
            self.get(recording, model)
        except (NotAnalysed, UserError):
            return False
        return True

    def get(self, recording: Recording, model: Model) -> "Analysis":
        """The analysis.

        Raises:
            NotAnalysed: there is none.
            UserError: the recording is no longer there.
        """
        folder = _folder(recording, model)
        try:
            kept = json.loads((folder / "analysis.json").read_text(encoding="utf-8"))
            if kept["version"] != VERSION or kept["state"] != recording.state():
                raise NotAnalysed
            return Analysis(self, folder, model, kept)
        except (OSError, ValueError, KeyError, TypeError):
            raise NotAnalysed from None

    def make(
        self,
        recording: Recording,
        model: Model,
        seconds: float,
        step: Callable[[float], None],
        longest_seconds: float,
    ) -> None:
        """Analyses a recording.

        Args:
            recording: to be read.
            model: that analyses it.
            seconds: about how long the recording is.
            step: is told the share that is done; what it raises ends the work.
            longest_seconds: of an upload, whatever its header says.

        Raises:
            UserError: it can't be read, or nothing can be written.
        """
        folder = _folder(recording, model)
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        state = recording.state()
        with writing(folder):
            part.mkdir(mode=0o700, parents=True)
        try:
            kept = _probabilities(recording, model, part, seconds, step, longest_seconds)
            with writing(folder):
                text = json.dumps({"version": VERSION, "state": state, **kept})
                (part / "analysis.json").write_text(text, encoding="utf-8")
                shutil.rmtree(folder, ignore_errors=True)
                part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self._forget(str(folder))

    def decoded(
        self, key: str, k: int, rule: ClassDecoding, decode: Callable[[], list[Event]]
    ) -> tuple[Event, ...]:
        """The events of class ``k`` by a rule; the latest are remembered."""
        with self._lock:
            if (found := self._events.get((key, k, rule))) is not None:
                self._events.move_to_end((key, k, rule))
                return found
        events = tuple(decode())
        with self._lock:
            if (key, k, rule) not in self._events:
                self._events[key, k, rule] = events
                self._count += len(events)
            while self._count > _MOST_REMEMBERED_EVENTS or len(self._events) > _MOST_REMEMBERED:
                self._count -= len(self._events.popitem(last=False)[1])
        return events

    def _forget(self, key: str) -> None:
        with self._lock:
            for known in [known for known in self._events if known[0] == key]:
                self._count -= len(self._events.pop(known))


def _folder(recording: Recording, model: Model) -> Path:
    return recording.kept / f"{model.digest}-{model.how}"


def _probabilities(
    recording: Recording,
    model: Model,
    folder: Path,
    seconds: float,
    step: Callable[[float], None],
    longest_seconds: float,
) -> dict[str, Any]:
    """Writes the tables of a recording, and gives what else is known of it."""
    hop_seconds = float(model.recogniser.clock.hop_seconds)
    frames = 0
    gated = True
    step(0.0)
    try:
        with (
            closing(model.recogniser.blocks(recording.file())) as blocks,  # type: ignore[type-var]
            open(folder / "rows", "wb") as rows,
            open(folder / "gates", "wb") as gates,
        ):
            for track in blocks:
                with writing(folder):
                    rows.write(track.probabilities.astype(np.float32).tobytes())
                    if track.local_tags is None:
                        gated = False
                    else:
                        gates.write(track.local_tags.astype(np.float32).tobytes())
                frames += len(track.probabilities)
                if recording.uploaded and frames * hop_seconds > longest_seconds + 60:
                    raise UserError(
                        f"lasts longer than the {longest_seconds / 3600:g} hours that are allowed",
                        where=recording.name,
                    )
                step(0.98 * frames * hop_seconds / max(seconds, hop_seconds))
    except UserError as error:
        raise recording.said(error) from error
    assert track.tags is not None
    classes = len(model.recogniser.class_names)
    with writing(folder):
        _by_class(folder / "rows", folder / "probabilities.npy", frames, classes, step)
        _by_class(folder / "gates", folder / "gates.npy", frames if gated else 0, classes, step)
        _maxima(folder)
    return {
        "frames": frames,
        "seconds": track.end_seconds,
        "gated": gated,
        "tags": [float(value) for value in track.tags],
    }


def _by_class(
    rows: Path, table: Path, frames: int, classes: int, step: Callable[[float], None]
) -> None:
    """A file of frames (T, K) as a table of classes (K, T), from which one is read at once."""
    columns = np.lib.format.open_memmap(table, "w+", np.float32, (classes, frames))
    size = max(1, _VALUES_AT_ONCE // classes)
    with open(rows, "rb") as file:
        for start in range(0, frames, size):
            count = min(size, frames - start)
            block = np.fromfile(file, np.float32, count * classes).reshape(count, classes)
            columns[:, start : start + count] = block.T
            step(0.99)
    columns.flush()
    rows.unlink()


def _maxima(folder: Path) -> None:
    fine = np.load(folder / "probabilities.npy", mmap_mode="r")
    starts = np.arange(0, fine.shape[1], COARSE_FRAMES)
    coarse = np.stack([np.maximum.reduceat(row, starts) for row in fine])
    np.save(folder / "maxima.npy", coarse)


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """The largest probabilities of consecutive steps, all equally long.

    Attributes:
        start_seconds: where the first step starts.
        end_seconds: where the last one ends.
        step_seconds: how long one is.
        values: (K, P) of the classes that were asked for.
    """

    start_seconds: float
    end_seconds: float
    step_seconds: float
    values: NDArray[np.float32]


class Analysis:
    """The probabilities of a recording by a model; of them only what is asked for is read.

    Attributes:
        seconds: how long the recording is.
        tags: the clip probability of each class.
    """

    def __init__(
        self, analyses: Analyses, folder: Path, model: Model, kept: Mapping[str, Any]
    ) -> None:
        self._analyses = analyses
        self._folder = folder
        self._model = model
        self._gated = bool(kept["gated"]) and model.recogniser.decoding.tag_gate
        self._frames = int(kept["frames"])
        self.seconds = float(kept["seconds"])
        self.tags: list[float] = [float(value) for value in kept["tags"]]

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """(K, T) in the file."""
        return self._table("probabilities.npy")

    def curves(
        self,
        start_seconds: float,
        end_seconds: float,
        most: int,
        classes: Sequence[int] | None = None,
    ) -> Curves:
        """What is between two times, in at most ``most`` steps that lie on one grid.

        A step is a whole number of frames, and its value their largest probability. Only the rows
        of ``classes`` are read, in their order.
        """
        clock = self._model.recogniser.clock
        hop, lead = float(clock.hop_seconds), float(clock.lead_seconds)
        first = int(np.clip((start_seconds - lead) // hop, 0, self._frames - 1))
        stop = int(np.clip(ceil((end_seconds - lead) / hop), first + 1, self._frames))
        size = max(1, ceil((stop - first) / most))
        while True:
            if size > COARSE_FRAMES:
                size = ceil(size / COARSE_FRAMES) * COARSE_FRAMES
            begin = first // size * size
            count = ceil((stop - begin) / size)
            if count <= max(1, most):
                break
            size += 1
        end = min(begin + count * size, self._frames)
        if size >= COARSE_FRAMES and size % COARSE_FRAMES == 0:
            table, unit = self._table("maxima.npy"), COARSE_FRAMES
        else:
            table, unit = self.probabilities, 1
        part = table[:, begin // unit : ceil(end / unit)]
        part = np.asarray(part if classes is None else part[list(classes)])
        starts = np.arange(0, part.shape[1], size // unit)
        values = np.maximum.reduceat(part, starts, axis=1)
        end_of_all = self.seconds if end == self._frames else lead + end * hop
        return Curves(lead + begin * hop, end_of_all, size * hop, values)

    def events(self, rules: Sequence[ClassDecoding]) -> list[Event]:
        """Events in order, by one rule a class."""
        return in_order(event for k, rule in enumerate(rules) for event in self.of_class(k, rule))

    def of_class(self, k: int, rule: ClassDecoding) -> tuple[Event, ...]:
        """Events of class ``k`` by a rule."""
        return self._analyses.decoded(str(self._folder), k, rule, lambda: self._decode(k, rule))

    def _decode(self, k: int, rule: ClassDecoding) -> list[Event]:
        recogniser = self._model.recogniser
        names = recogniser.class_names[k : k + 1]
        gates = self._table("gates.npy")[k][:, None] if self._gated else None
        track = ScoreTrack(
            np.asarray(self.probabilities[k])[:, None],
            names,
            recogniser.clock,
            0,
            self.seconds,
            gates,
        )
        return Decoder([rule], names, tag_gate=self._gated).push(track)

    def _table(self, name: str) -> NDArray[np.float32]:
        try:
            table: NDArray[np.float32] = np.load(self._folder / name, mmap_mode="r")
        except FileNotFoundError:
            raise NotAnalysed from None  # was removed meanwhile
        return table


def with_threshold(rule: ClassDecoding, threshold: float) -> ClassDecoding:
    """A rule with another threshold, and what goes along with it.

    The low threshold keeps its share of the threshold. So does the gate's where the threshold is
    lowered, or no lower threshold would bring more events out of clips without the tag.
    """
    share = threshold / rule.threshold if rule.threshold else 1.0
    return rule.model_copy(
        update={
            "threshold": threshold,
            "low_threshold": min(1.0, rule.low_threshold * share),
            "gate_threshold": rule.gate_threshold * min(1.0, share),
        }
    )
