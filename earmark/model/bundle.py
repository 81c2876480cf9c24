"""A model folder: all that prediction needs, in files that can't run code.

``model.json`` says everything but the weights, ``model.safetensors`` holds the weights of each
member (the averaged epochs of a run), ``README.md`` is the model card for people.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from torch import Tensor

from earmark.config import (
    ClassCalibration,
    ClassDecoding,
    DecodingSettings,
    Section,
    Settings,
    TuningSettings,
    explain,
)
from earmark.errors import UserError
from earmark.features import Normaliser
from earmark.model.build import build
from earmark.model.hub import fetched, refuse_to_write
from earmark.model.network import Network
from earmark.model.tensors import write_tensors
from earmark.timeline import FrameClock
from earmark.writing import replacing, unfinished, writing

FORMAT_VERSION = 1
TOLD = ("training", "augmentation", "tuning")
"""The sections of settings that say how a model was made, which prediction doesn't follow."""

LATER = ("background", "exclusive")
"""Settings at whose defaults a network is what it was before they came."""

_TYPES = {torch.float32: "F32", torch.int64: "I64"}
LARGEST_DESCRIPTION_BYTES = 64 * 2**20


class ClockDescription(Section):
    """The frame clock of the output, for readers that don't derive it from the settings."""

    rate_hz: int
    window_samples: int
    hop_samples: int
    pooling: int

    @property
    def hop_seconds(self) -> float:
        """The time from one frame to the next."""
        return self.hop_samples * self.pooling / self.rate_hz

    @staticmethod
    def of(clock: FrameClock) -> "ClockDescription":
        return ClockDescription(
            rate_hz=clock.rate_hz,
            window_samples=clock.window_samples,
            hop_samples=clock.hop_samples,
            pooling=clock.pooling,
        )


class BandStatistics(Section):
    """The normaliser: a mean and a deviation for each band."""

    mean: list[float]
    deviation: list[Annotated[float, Field(gt=0)]]


class FalseAlarms(Section):
    """Where a class was wrongly found.

    Attributes:
        label: the class.
        count: in how many clips, or segments of them.
        there: which classes there were instead, the most frequent ones, each with in how many.
        nothing: in how many there was none.
    """

    label: str
    count: int
    there: dict[str, int]
    nothing: int


class Judged(Section):
    """How sure the scores of a model are, and what it confuses, where its rules were chosen.

    Attributes:
        on: which clips these were, in words.
        sources: how many clips, or sources that they come from, were drawn for the intervals.
        intervals: of 95 %, by the name of the score; none of a single source.
        unit: what false alarms are counted in, clips or segments.
        false_alarms: of the classes that have the most.
    """

    on: str
    sources: int
    intervals: dict[str, tuple[float, float]]
    unit: str
    false_alarms: tuple[FalseAlarms, ...]


class Calibration(Section):
    """What is made of the probabilities of a model before they leave it.

    Attributes:
        classes: of each class; none where all stay as they are, as in a model of before that was
            done.
        note: how it was found, in words.
        errors: expected calibration errors before and after, on what it was found on, of "clips"
            and "frames".
    """

    classes: tuple[ClassCalibration, ...] = ()
    note: str = ""
    errors: dict[str, tuple[float, float]] = Field(default_factory=dict)

    def check(self, class_names: Sequence[str]) -> None:
        """Raises ValueError if it is one of other classes."""
        if self.classes and len(self.classes) != len(class_names):
            raise ValueError(f"calibration.classes needs {len(class_names)} entries, or none")


UNCALIBRATED = Calibration()
"""Leaves all probabilities as they are."""


class TrainingSummary(Section):
    """Where a model comes from.

    Attributes:
        recipe: its name, or the file.
        started_from: the SHA-256 of the weights that it started from, by the model's name; none
            of a model that started with random ones.
        seed: of draws and weights.
        epochs: how many were trained.
        precision: of the convolutions while training.
        clips: training clips.
        clips_of_class: how many have each class.
        weights: which epochs the weights are of, in words.
        thresholds: how the rules were chosen, in words.
        tuned_on: the SHA-256 of the tables that chose them, by their names.
        validation: scores on the clips that chose them, by name.
        judged: how sure these are; None of a model of before that was asked, or of untuned rules.
        seconds: of all epochs.
    """

    recipe: str
    started_from: dict[str, str] = Field(default_factory=dict)
    seed: int
    epochs: int
    precision: str
    clips: int
    clips_of_class: dict[str, int]
    weights: str
    thresholds: str
    tuned_on: dict[str, str]
    validation: dict[str, float]
    judged: Judged | None = None
    seconds: float


MemberPath = Annotated[str, Field(pattern=r"^members/\w[\w.-]*$")]


class Description(Section):
    """What ``model.json`` holds.

    ``window_frames`` are the feature frames of the longest training clip: recordings that are
    longer are covered by windows of that length. ``calibration`` comes before ``decoding``.
    ``training`` says where the model comes from.
    """

    format_version: int
    package_version: str
    class_names: tuple[str, ...] = Field(min_length=1)
    settings: Settings
    clock: ClockDescription
    decoding: tuple[ClassDecoding, ...]
    calibration: Calibration = UNCALIBRATED
    normaliser: BandStatistics
    window_frames: int = Field(ge=1, le=10_000_000)
    members: int = Field(ge=1, le=1000)
    training: TrainingSummary
    licence_of_training_data: str

    @model_validator(mode="after")
    def _agrees(self) -> "Description":
        bands = self.settings.features.mel_bands
        if {len(self.normaliser.mean), len(self.normaliser.deviation)} != {bands}:
            raise ValueError(f"normaliser needs {bands} numbers in mean and deviation")
        if len(self.decoding) != len(self.class_names):
            raise ValueError(f"decoding needs {len(self.class_names)} rules, one a class")
        self.calibration.check(self.class_names)
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError("class_names must differ")
        if set(self.training.clips_of_class) != set(self.class_names):
            raise ValueError("training.clips_of_class needs a number for every class")
        if self.clock != ClockDescription.of(self.settings.clock):
            raise ValueError("clock does not follow from the settings")
        return self

    def network(self) -> Network:
        """The network, with weights yet to be loaded."""
        normaliser = Normaliser(np.array(self.normaliser.mean), np.array(self.normaliser.deviation))
        bands = self.settings.features.mel_bands
        return build(self.settings.network, bands, len(self.class_names), normaliser)


class FusedDescription(Section):
    """What the ``model.json`` of a fused model holds (paper, sec. 2.4).

    Attributes:
        members: the model folders whose posteriors it averages, within its own.
        clock: of its frames, the finest of the members'.
        decoding: the rule of each class.
        calibration: of the mean, before that, and on top of the members' own.
        tuning_settings: what the rules are tuned for.
        decoding_settings: what they follow beside that.
        thresholds: how the rules were chosen, in words.
        tuned_on: the SHA-256 of the tables that chose them, by their names.
        validation: scores on the clips that chose them, by name.
        judged: how sure these are; None of a model of before that was asked, or of untuned rules.
    """

    format_version: int
    package_version: str
    class_names: tuple[str, ...] = Field(min_length=1)
    members: tuple[MemberPath, ...] = Field(min_length=1, max_length=1000)
    clock: ClockDescription
    decoding: tuple[ClassDecoding, ...]
    calibration: Calibration = UNCALIBRATED
    tuning_settings: TuningSettings
    decoding_settings: DecodingSettings
    thresholds: str
    tuned_on: dict[str, str]
    validation: dict[str, float]
    judged: Judged | None = None
    licence_of_training_data: str

    @model_validator(mode="after")
    def _agrees(self) -> "FusedDescription":
        if len(self.decoding) != len(self.class_names):
            raise ValueError(f"decoding needs {len(self.class_names)} rules, one a class")
        self.calibration.check(self.class_names)
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A model in memory: its description and the networks of its members."""

    description: Description
    networks: tuple[Network, ...]


def describe(
    class_names: Sequence[str],
    settings: Settings,
    decoding: Sequence[ClassDecoding],
    normaliser: Normaliser,
    window_frames: int,
    members: int,
    training: TrainingSummary,
    licence: str,
    calibration: Calibration = UNCALIBRATED,
) -> Description:
    """The description of a model that was trained with ``settings``."""
    return Description(
        format_version=FORMAT_VERSION,
        package_version=version("earmark"),
        class_names=tuple(class_names),
        settings=settings,
        clock=ClockDescription.of(settings.clock),
        decoding=tuple(decoding),
        calibration=calibration,
        normaliser=BandStatistics(
            mean=normaliser.mean.tolist(), deviation=normaliser.deviation.tolist()
        ),
        window_frames=window_frames,
        members=members,
        training=training,
        licence_of_training_data=licence,
    )


def save(
    folder: Path,
    description: Description,
    states: Sequence[Mapping[str, Tensor]],
    card: str,
) -> None:
    """Writes a model folder; ``model.json`` comes last, so a folder that has it is whole.

    Args:
        folder: made if it is not there; other files in it stay.
        states: the weights of each member.
        card: the text of ``README.md``.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{number}/{name}": tensor
        for number, state in enumerate(states)
        for name, tensor in state.items()
    }
    write_tensors(folder / "model.safetensors", tensors)
    save_description(folder, description, card)


def save_description(folder: Path, description: Description | FusedDescription, card: str) -> None:
    """Writes ``README.md`` and ``model.json`` of a folder that has all else."""
    refuse_to_write(folder)
    text = json.dumps(description.model_dump(mode="json"), indent=1, ensure_ascii=False)
    # Both are written before either takes its place: the card first, model.json last.
    with (
        _replacing(folder / "model.json") as described,
        _replacing(folder / "README.md") as explained,
    ):
        described.write_text(text + "\n", encoding="utf-8")
        explained.write_bytes(card.encode("utf-8", "surrogateescape"))


def _replacing(path: Path) -> AbstractContextManager[Path]:
    return replacing(path, beside=unfinished(path), lasting=True)


def members_of(folder: Path, description: FusedDescription) -> list[Path]:
    """The model folders of a fused model's members.

    Raises:
        UserError: a link leads anywhere else, or two are one.
    """
    folder = fetched(folder)
    members = [folder / member for member in description.members]
    real: set[Path] = set()
    for member in members:
        found = member.resolve()
        if found.parent != folder.resolve() / "members" or found in real:
            raise UserError(
                "a member must be a folder of its own in its model's; copy it there", where=member
            )
        real.add(found)
    return members


def read_description(folder: Path) -> Description | FusedDescription:
    """The checked ``model.json`` of a model folder; of a fused one, where members are folders."""
    folder = fetched(folder)
    path = folder / "model.json"
    if not folder.exists():
        models = [model.parent.name for model in folder.parent.glob("*/model.json")]
        close = get_close_matches(folder.name, models, n=1)
        hint = f"; did you mean {folder.parent / close[0]}?" if close else ""
        raise UserError(f"there is no such model folder{hint}", where=folder)
    if not path.is_file():
        if (folder / "earmark.json").is_file():
            raise UserError(
                "is an exported model, which earmark.runtime.load reads; give the model folder "
                "that it was exported from",
                where=folder,
            )
        begun = (folder / "training" / "run.json").is_file()
        how = (
            "finish its training: `earmark train ... --resume`"
            if begun
            else "`earmark train` makes one"
        )
        raise UserError(f"is not a model folder (it has no model.json); {how}", where=folder)
    if path.stat().st_size > LARGEST_DESCRIPTION_BYTES:
        raise UserError(f"is larger than {LARGEST_DESCRIPTION_BYTES} bytes", where=path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"must be JSON ({error})", where=path) from error
    found = raw.get("format_version") if isinstance(raw, dict) else None
    if found != FORMAT_VERSION:
        raise UserError(
            f"format_version must be {FORMAT_VERSION}, came as {found!r}; "
            "the model was made by another version of earmark",
            where=path,
        )
    fused = isinstance(raw.get("members"), list)
    kind: type[Description | FusedDescription] = FusedDescription if fused else Description
    try:
        description = kind.model_validate(raw)
    except ValidationError as error:
        raise UserError(explain(error, kind), where=path) from error
    # A later version's defaults must not fill in for what prediction follows. How a model was
    # trained and tuned is told, not followed, so that settings which came later may be missing
    # there.
    names = description.class_names
    if isinstance(description, FusedDescription):
        sections: list[tuple[str, Section]] = [("decoding_settings", description.decoding_settings)]
    else:
        followed = [part for part in description.settings if part[0] not in TOLD]
        sections = [("settings", description.settings), *followed]
    sections += [(f"decoding of {n}", r) for n, r in zip(names, description.decoding, strict=True)]
    for name, section in sections:
        for key in type(section).model_fields:
            if key not in section.model_fields_set and key not in (*TOLD, *LATER):
                raise UserError(f"'{name}.{key}' is missing", where=path)
    return description


def load(folder: Path) -> Bundle:
    """A system from its model folder, its networks ready to predict; a fused model is not one.

    Memory is of the size of the files, whatever these say: names, shapes and types of the weights
    are compared before any is read or a network made.

    Raises:
        UserError: a file is damaged, or the two don't agree.
    """
    description = read_description(folder)
    if isinstance(description, FusedDescription):
        raise UserError("is a fused model; name one of its members", where=folder)
    path = fetched(folder) / "model.safetensors"
    if not path.is_file():
        raise UserError("can't be read as the model's weights: there is no such file", where=path)
    try:
        with safe_open(path, framework="pt") as file:
            _check_weights(path, file, description)
            networks = [
                _network(path, file, description, number) for number in range(description.members)
            ]
    except (OSError, SafetensorError) as error:
        raise UserError(f"can't be read as the model's weights ({error})", where=path) from error
    return Bundle(description, tuple(networks))


def weights_bytes(description: Description, where: Path) -> int:
    """What the file of a model's weights has at most; ``where`` its description is."""
    of_header = 2**20
    return of_header + sum(
        1024 + tensor.numel() * tensor.element_size()
        for tensor in _expected_weights(description, where).values()
    )


def _expected_weights(description: Description, where: Path) -> dict[str, Tensor]:
    """The names, shapes and types of a model's weights, without their numbers."""
    try:
        with torch.device("meta"):  # has shapes, and no memory
            expected = description.network().state_dict()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"no network can be made: {error}", where=where) from error
    return {
        f"{number}/{name}": tensor
        for number in range(description.members)
        for name, tensor in expected.items()
    }


def _check_weights(path: Path, file: Any, description: Description) -> None:
    """Refuses weights that are not those of the members, by what the file's header says of them."""
    wanted = _expected_weights(description, path.with_name("model.json"))
    names = set(file.keys())
    if odd := sorted(wanted.keys() ^ names):
        how = "lacks" if odd[0] in wanted else "has no place for"
        raise UserError(f"does not fit model.json: it {how} '{odd[0][:80]}'", where=path)
    for name, tensor in wanted.items():
        found = file.get_slice(name)
        came, must = found.get_shape(), list(tensor.shape)
        if came != must:
            raise UserError(
                f"does not fit model.json: '{name}' must be of shape {must}, is of {came}",
                where=path,
            )
        if found.get_dtype() != _TYPES[tensor.dtype]:
            raise UserError(
                f"'{name}' must be of type {tensor.dtype}, is of {found.get_dtype()}", where=path
            )


def _network(path: Path, file: Any, description: Description, member: int) -> Network:
    network = description.network()
    state = {name: file.get_tensor(f"{member}/{name}") for name in network.state_dict()}
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"'{member}/{name}' must be finite", where=path)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)
