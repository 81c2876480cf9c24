"""Detection with an exported model, by onnxruntime and numpy: no torch here.

recogniser = earmark.runtime.load("exported")
recogniser.detect("recording.wav")  # as of the model that was exported

``earmark export`` writes what is read here: ``earmark.json`` with all that the graph beside it,
``model.onnx``, doesn't say; of a fused model without a graph, and with its members in folders of
their own.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from earmark.config import (
    ClassCalibration,
    ClassDecoding,
    DecodingSettings,
    FeatureSettings,
    Section,
    StitchingSettings,
    explain,
)
from earmark.errors import UserError, first_line
from earmark.inference.fusion import DEEPEST, FusedRecogniser, check_classes
from earmark.inference.pipeline import Workers
from earmark.inference.recogniser import Recogniser
from earmark.inference.windowed import Outputs, WindowedRecogniser
from earmark.spectra import FrontEnd, NumpyFeatures
from earmark.timeline import FrameClock

FORMAT_VERSION = 1
DESCRIPTION = "earmark.json"
GRAPH = "model.onnx"
LARGEST_DESCRIPTION_BYTES = 64 * 2**20
LARGEST_GRAPH_BYTES = 2**31  # that an ONNX file can have

Input = Literal["features", "samples"]
MemberPath = Annotated[str, Field(pattern=r"^members/[0-9]{1,4}$")]


class ExportedSystem(Section):
    """What ``earmark.json`` says of a system; the normaliser is in the graph.

    Attributes:
        format_version: of this file.
        package_version: of the earmark that wrote it.
        class_names: the K classes.
        input: of the graph, features (B, T, F) or samples (B, S).
        features: what they are.
        clock: when each frame of the graph's output sounds: frame t from
            ((window_samples - hop_samples) / 2 + t * pooling * hop_samples) / rate_hz seconds on,
            but the first from 0.
        window_frames: feature frames of the windows that cover a longer recording.
        stitching: how they do.
        localisation: how the tags of a long recording follow from its frames.
        members: M networks.
        decoding: how the probabilities of each class become tags and events.
        decoding_settings: what that follows, and whether an event needs its clip's tag.
        calibration: what is made of the graph's mean probabilities of each class before that;
            empty where they stay as they are.
    """

    format_version: int
    package_version: str
    class_names: tuple[str, ...] = Field(min_length=1)
    input: Input
    features: FeatureSettings
    clock: FrameClock
    window_frames: int = Field(ge=1, le=10_000_000)
    stitching: StitchingSettings
    localisation: str
    members: int = Field(ge=1, le=1000)
    decoding: tuple[ClassDecoding, ...]
    decoding_settings: DecodingSettings
    calibration: tuple[ClassCalibration, ...] = ()

    @model_validator(mode="after")
    def _agrees(self) -> "ExportedSystem":
        _check_classes(self.class_names, self.decoding, self.calibration)
        pooling = self.clock.pooling
        if pooling < 1 or self.clock != self.features.clock.coarser(pooling):
            raise ValueError("clock does not follow from the features")
        return self


class ExportedFusion(Section):
    """What ``earmark.json`` says of a fused model (paper, sec. 2.4).

    Attributes:
        members: the folders of the models whose posteriors it averages.
        decoding: how the mean of each class becomes tags and events.
        decoding_settings: what that follows, and whether an event needs its clip's tag.
        calibration: what is made of the mean of each class before that, on top of the members'
            own; empty where it stays as it is.
    """

    format_version: int
    package_version: str
    class_names: tuple[str, ...] = Field(min_length=1)
    members: tuple[MemberPath, ...] = Field(min_length=1, max_length=1000)
    decoding: tuple[ClassDecoding, ...]
    decoding_settings: DecodingSettings
    calibration: tuple[ClassCalibration, ...] = ()

    @model_validator(mode="after")
    def _agrees(self) -> "ExportedFusion":
        _check_classes(self.class_names, self.decoding, self.calibration)
        if len(set(self.members)) != len(self.members):
            raise ValueError("members must differ")
        return self


def load(folder: str | Path, *, threads: int | None = None) -> Recogniser:
    """The recogniser in a folder that ``earmark export`` made.

    It says what the exported model says: probabilities, before they are calibrated, within 1e-4,
    and the same events unless one is that near to a threshold.

    Args:
        folder: with ``earmark.json``.
        threads: how many work at a time; without, as many as there are cores to use.

    Raises:
        UserError: the folder holds no exported model, or a damaged one, or the package onnxruntime
            is not installed.
    """
    return _load(Path(folder), Workers(threads or usable_cores()), DEEPEST)


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _load(folder: Path, workers: Workers, depth: int) -> Recogniser:
    description = read_description(folder)
    if isinstance(description, ExportedSystem):
        return GraphRecogniser(folder / GRAPH, description, workers)
    if not depth:
        raise UserError(f"fused models may be {DEEPEST} deep, and this one is deeper", where=folder)
    members = [_load(folder / member, workers, depth - 1) for member in description.members]
    if members[0].class_names != description.class_names:
        raise UserError("the classes must be the first member's, in its order", where=folder)
    check_classes(members, description.members)
    return FusedRecogniser(
        members, description.decoding, description.decoding_settings, description.calibration
    )


def read_description(folder: Path) -> ExportedSystem | ExportedFusion:
    """The checked ``earmark.json`` of a folder.

    Raises:
        UserError: it isn't there, or damaged.
    """
    path = folder / DESCRIPTION
    if not folder.exists():
        raise UserError("there is no such folder; `earmark export` makes one", where=folder)
    if not path.is_file():
        raise UserError(
            f"is not an exported model (it has no {DESCRIPTION}); make one with `earmark export`",
            where=folder,
        )
    raw = _json(path)
    found = raw.get("format_version") if isinstance(raw, dict) else None
    if found != FORMAT_VERSION:
        raise UserError(
            f"format_version must be {FORMAT_VERSION}, came as {found!r}; export the model with "
            "this version of earmark",
            where=path,
        )
    fused = isinstance(raw.get("members"), list)
    kind: type[ExportedSystem | ExportedFusion] = ExportedFusion if fused else ExportedSystem
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise UserError(explain(error, kind), where=path) from error


def _json(path: Path) -> Any:
    if path.stat().st_size > LARGEST_DESCRIPTION_BYTES:
        raise UserError(f"is larger than {LARGEST_DESCRIPTION_BYTES} bytes", where=path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"must be JSON ({error})", where=path) from error


def _check_classes(
    class_names: Sequence[str],
    decoding: Sequence[ClassDecoding],
    calibration: Sequence[ClassCalibration],
) -> None:
    if len(decoding) != len(class_names):
        raise ValueError(f"decoding needs {len(class_names)} rules, one a class")
    if calibration and len(calibration) != len(class_names):
        raise ValueError(f"calibration needs {len(class_names)} entries, one a class, or none")
    if len(set(class_names)) != len(class_names):
        raise ValueError("class_names must differ")


class GraphRecogniser(WindowedRecogniser):
    """The recogniser of one exported system."""

    def __init__(self, path: Path, description: ExportedSystem, workers: Workers) -> None:
        kind = {"features": NumpyFeatures, "samples": SampleWindows}[description.input]
        super().__init__(
            description.class_names,
            description.clock,
            description.decoding,
            description.decoding_settings,
            window_frames=description.window_frames,
            overlap=description.stitching.overlap,
            localisation=description.localisation,
            members=description.members,
            front_end=kind(description.features),
            engine=GraphEngine(path, description),
            calibration=description.calibration,
        )
        self._workers = workers

    @property
    def workers(self) -> Workers:
        return self._workers


class SampleWindows(FrontEnd):
    """The windows of samples themselves, for a graph that computes its features."""

    @property
    def width(self) -> int:
        return self.settings.window_samples

    def of_windows(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        windows = sliding_window_view(samples, self.settings.window_samples)
        return windows[:: self.settings.hop_samples]


class GraphEngine:
    """What the graph says of windows, by onnxruntime, each call on one thread."""

    def __init__(self, path: Path, description: ExportedSystem) -> None:
        self._input = description.input
        self._hop = description.features.hop_samples
        self._session = _session(path)
        self._check(path, description)

    def _check(self, path: Path, description: ExportedSystem) -> None:
        """Refuses a graph that takes or gives other numbers than its description says."""
        takes = {one.name: one.shape[2:] for one in self._session.get_inputs()}
        gives = {one.name: one.shape[-1] for one in self._session.get_outputs()}
        classes, bands = len(description.class_names), description.features.mel_bands
        of_members = classes * description.members
        must_take = {self._input: [bands] if self._input == "features" else []}
        must_give = {
            "clips": classes,
            "frames": classes,
            "member_frames": of_members,
            "member_log_weights": of_members,
        }
        if (
            takes != must_take
            or gives.keys() != must_give.keys()
            or any(
                isinstance(gives[name], int) and gives[name] != width
                for name, width in must_give.items()
            )
        ):
            raise UserError(f"does not fit {DESCRIPTION}; export the model again", where=path)

    def run(self, names: Sequence[str], inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Outputs of the graph, of its own inputs."""
        found: list[NDArray[np.float32]] = self._session.run(names, {self._input: inputs})
        return found

    def __call__(self, features: NDArray[np.float32]) -> Outputs:
        inputs = features
        if self._input == "samples":  # what the windows (B, T, W) overlap in is given once
            heads = features[:, :-1, : self._hop].reshape(len(features), -1)
            inputs = np.concatenate([heads, features[:, -1]], axis=1)
        names = ("member_frames", "member_log_weights", "clips")
        frames, log_weights, clips = self.run(names, inputs)
        return Outputs(frames, np.exp(log_weights.astype(np.float64)), clips)


def _session(path: Path) -> Any:
    """A session of onnxruntime that works on the thread which calls it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("onnxruntime is not installed: pip install 'earmark[onnx]'") from error
    if not path.is_file():
        raise UserError("can't be read as a graph: there is no such file", where=path)
    if path.stat().st_size > LARGEST_GRAPH_BYTES:
        raise UserError(f"is larger than {LARGEST_GRAPH_BYTES} bytes", where=path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is an exception, too
    try:
        # Of bytes, so that a graph which names further files finds none.
        return onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # of which onnxruntime has many kinds, without a common one
        message = f"can't be read as a graph: {first_line(error)}"
        raise UserError(message, where=path) from error
