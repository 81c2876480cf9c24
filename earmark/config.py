"""Every setting with its default, once. Units are in the names; derived numbers are properties."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    ValidationError,
    model_validator,
)

from earmark.errors import UserError
from earmark.timeline import FrameClock

Probability = Annotated[float, Field(ge=0, le=1)]
SEGMENT_SECONDS = 1.0
"""The field's usual length of the segments in which events are scored."""

COLLAR_SECONDS = 0.2
"""How far an estimated boundary may lie from the reference's: the field's usual tolerance."""

COLLAR_RATIO = 0.5
"""The share of a reference event's length by which its offset may be missed, if that is more."""

Seconds = Annotated[float, Field(ge=0)]
FilterSeconds = Annotated[float, Field(ge=0, le=60)]
Number = TypeVar("Number")
# A small file must not ask for a network without end.
Several = Annotated[tuple[Number, ...], Field(max_length=64)]


def _one_or_several(given: Any) -> Any:
    return given if isinstance(given, list | tuple) else (given,)


def _one_if_alone(values: tuple[int, ...]) -> int | tuple[int, ...]:
    """As models kept it when there was one number for all blocks."""
    return values[0] if len(values) == 1 else values


class Section(BaseModel):
    """A frozen group of settings; an unknown key, nan and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FeatureSettings(Section):
    """What the network sees of the samples (paper, sec. 4.1).

    Attributes:
        kind: logarithms of mel bands, or their cosine transform, as many coefficients as bands.
        rate_hz: to which recordings are resampled.
        window_samples: of the transform.
        hop_samples: from one frame to the next.
        window: the shape of the window, periodic.
        mel_bands: how many.
        low_hz: where the lowest band begins.
        high_hz: where the highest band ends.
        log_offset: is added to magnitudes, so that silence has a logarithm.
    """

    kind: Literal["log_mel", "mfcc"] = "log_mel"
    rate_hz: int = Field(16_000, ge=100, le=400_000)
    window_samples: int = Field(1024, ge=2, le=1_000_000)
    hop_samples: int = Field(664, ge=1)
    window: Literal["hamming", "hann"] = "hamming"
    mel_bands: int = Field(64, ge=1, le=1024)
    low_hz: float = Field(0.0, ge=0)
    high_hz: float = Field(8_000.0, gt=0)
    log_offset: float = Field(1e-8, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> "FeatureSettings":
        if self.hop_samples > self.window_samples:
            raise ValueError("hop_samples may not exceed window_samples: samples would be skipped")
        if not self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise ValueError("need low_hz < high_hz <= rate_hz / 2")
        return self

    @property
    def clock(self) -> FrameClock:
        """When each feature frame sounds."""
        return FrameClock(self.rate_hz, self.window_samples, self.hop_samples)


class CrnnSettings(Section):
    """The layers between features and probabilities (paper, secs. 2.1, 2.3, 3, 4.1).

    Attributes:
        kind: which network.
        background: whether the first layer also hears by how much each band is above its own
            level in the quietest fifth of the clip, or window: what stands out of what lasts.
        activation: the paper's gate (eq. 2), or ReLU, the plain CRNN that it compares with.
        filters: of each convolution: one number, or one for each block; the first, whose maps are
            the largest, does with fewer.
        kernel_size: of each convolution, in frames and bands; odd.
        layers_per_block: convolutions, each with its activation, before a pooling: one number, or
            one for each block.
        time_pooling: frames that become one after each block; [2, 2, 2] is the paper's form for
            tags.
        frequency_pooling: bands that become one after each block.
        recurrent: a bidirectional GRU, one that a second one gates, or none.
        recurrent_units: in each direction.
        localisation: how a clip's probability follows from its frames: attention is eqs. 3 and 4.
        exclusive: whether one class at most sounds at a time, as of one singing bird: the classes
            then share a frame's probability, and none takes credit for its neighbour. Clips are
            not mixed then.
        dropout: the share of a block's outputs, and the recurrent layer's, that are set to 0 in
            training.
    """

    kind: Literal["crnn"] = "crnn"
    background: bool = False
    activation: Literal["gated", "relu"] = "gated"
    filters: Annotated[
        Several[Annotated[int, Field(ge=1, le=4096)]], BeforeValidator(_one_or_several)
    ] = (64,)
    kernel_size: int = Field(3, ge=1, le=31)
    layers_per_block: Annotated[
        Several[Annotated[int, Field(ge=1, le=16)]],
        BeforeValidator(_one_or_several),
        PlainSerializer(_one_if_alone),
    ] = (2,)
    time_pooling: Several[Annotated[int, Field(ge=1, le=64)]] = (1, 1, 1)
    frequency_pooling: Several[Annotated[int, Field(ge=1, le=64)]] = (2, 2, 2)
    recurrent: Literal["gru", "gated_gru", "none"] = "gru"
    recurrent_units: int = Field(128, ge=1, le=8192)
    localisation: Literal["attention", "attention_over_time", "linear_softmax", "mean", "max"] = (
        "attention"
    )
    exclusive: bool = False
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> "CrnnSettings":
        if len(self.time_pooling) != len(self.frequency_pooling) or not self.time_pooling:
            raise ValueError("time_pooling and frequency_pooling need one number a block each")
        of_blocks = {"filters": self.filters_of_blocks, "layers_per_block": self.layers_of_blocks}
        for name, numbers in of_blocks.items():
            if len(numbers) != len(self.time_pooling):
                raise ValueError(f"{name} needs one number, or one a block as time_pooling has")
        if self.kernel_size % 2 == 0:
            raise ValueError("kernel_size must be odd, so that a frame keeps its place")
        return self

    @property
    def filters_of_blocks(self) -> tuple[int, ...]:
        """How many the convolutions of each block have."""
        return self._of_blocks(self.filters)

    @property
    def layers_of_blocks(self) -> tuple[int, ...]:
        """How many convolutions each block has."""
        return self._of_blocks(self.layers_per_block)

    def _of_blocks(self, given: tuple[int, ...]) -> tuple[int, ...]:
        return given * len(self.time_pooling) if len(given) == 1 else given

    @property
    def total_time_pooling(self) -> int:
        """Feature frames in one frame of the output."""
        return math.prod(self.time_pooling)


class FramewiseSettings(Section):
    """A network whose output has a frame for every frame of the features."""

    @property
    def total_time_pooling(self) -> int:
        """Feature frames in one frame of the output."""
        return 1


class ContextMlpSettings(FramewiseSettings):
    """A small perceptron on a few frames at a time: the baseline of DCASE 2017.

    Attributes:
        kind: which network.
        context_frames: how many it sees at a time; odd.
        hidden_units: of each hidden layer.
        dropout: the share of hidden units that are set to 0 in training.
    """

    kind: Literal["context_mlp"]
    context_frames: int = Field(ge=1, le=1001)
    hidden_units: Several[Annotated[int, Field(ge=1, le=8192)]]
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> "ContextMlpSettings":
        if self.context_frames % 2 == 0:
            raise ValueError("context_frames must be odd, so that a frame is in its middle")
        return self

    @property
    def localisation(self) -> str:
        """How the clip follows from its frames."""
        return "vote"


class FrameCnnSettings(FramewiseSettings):
    """Convolutions that keep time, and smoothed frame scores (Frame-CNN of DCASE 2017).

    Attributes:
        kind: which network.
        filters: of each convolution.
        layers: convolutions, one after another.
        kernel_frames: of each convolution, which sees all bands; odd.
        smoothing_frames: the widths of the Gaussian filters that each class mixes.
        dropout: the share of each layer's outputs that are set to 0 in training.
    """

    kind: Literal["frame_cnn"]
    filters: int = Field(ge=1, le=4096)
    layers: int = Field(ge=1, le=16)
    kernel_frames: int = Field(ge=1, le=101)
    smoothing_frames: Several[Annotated[float, Field(gt=0, le=1000)]]
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> "FrameCnnSettings":
        if self.kernel_frames % 2 == 0:
            raise ValueError("kernel_frames must be odd, so that a frame keeps its place")
        if not self.smoothing_frames:
            raise ValueError("smoothing_frames needs at least one width")
        return self

    @property
    def localisation(self) -> str:
        """How the clip follows from its frames."""
        return "attention_over_time"


class MultiScaleCnnSettings(FramewiseSettings):
    """A convolutional network for each of several input lengths (CNN-ensemble of DCASE 2017).

    Attributes:
        kind: which network.
        segment_frames: the lengths; 0 is the whole clip.
        filters: of each block's convolutions.
        dropout: the share of the classifier's inputs that are set to 0 in training.
    """

    kind: Literal["multi_scale_cnn"]
    segment_frames: Several[Annotated[int, Field(ge=0, le=1_000_000)]]
    filters: Several[Annotated[int, Field(ge=1, le=4096)]]
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> "MultiScaleCnnSettings":
        if not self.segment_frames or not self.filters:
            raise ValueError("segment_frames and filters need at least one number each")
        return self

    @property
    def localisation(self) -> str:
        """How the clip follows from its frames."""
        return "mean"


NETWORKS: dict[str, type[Section]] = {
    "crnn": CrnnSettings,
    "context_mlp": ContextMlpSettings,
    "frame_cnn": FrameCnnSettings,
    "multi_scale_cnn": MultiScaleCnnSettings,
}
"""The settings of each kind of network, by the value of ``network.kind``."""


def _kind_of_network(given: Any) -> str:
    kind = given.get("kind", "crnn") if isinstance(given, Mapping) else getattr(given, "kind", "")
    return str(kind)


NetworkSettings = Annotated[
    Annotated[CrnnSettings, Tag("crnn")]
    | Annotated[ContextMlpSettings, Tag("context_mlp")]
    | Annotated[FrameCnnSettings, Tag("frame_cnn")]
    | Annotated[MultiScaleCnnSettings, Tag("multi_scale_cnn")],
    Discriminator(_kind_of_network),
]


Precision = Literal["auto", "float32", "bfloat16"]


class TrainingSettings(Section):
    """How the weights are found (paper, secs. 2.1, 2.2, 2.4, 4.1).

    Attributes:
        epochs: how many.
        frame_share: the share of the epochs, the last ones, in which frames are labelled, too:
            by what the network of the epochs before hears there of its clip's tags
            (self-training). Those are the epochs that are kept. For linear_softmax: with other
            ways from frames to clips a network leaves frames undecided.
        min_epoch_clips: an epoch has as many clips as there are to learn from, but so many at
            least: a few clips come several times. With --from the least is that times the share
            of the classes that are new to the model.
        batch_size: clips in a step.
        learning_rate: of Adam, at its highest.
        schedule: the same all along; or cosine, which rises over the first twentieth of the steps
            and then falls to 0 along half a wave.
        average_decay: the network that is kept has an exponential moving average of the weights,
            of which this share stays in a step; 0 for the last weights.
        balance: whether rare classes are drawn more often.
        balance_ratio: how many times as often the most frequent class may come as the rarest.
        fuse_epochs: how many epochs' probabilities are averaged, the best on validation data.
        draw: of trainings that differ by chance alone, which one: each has weights to begin with
            and batches of its own, of the same seed.
        precision: of the convolutions; auto is bfloat16 where the machine multiplies it fast.
        max_clip_seconds: longer clips are an error: label parts of them.
        open_shards: how many of the shards of a prepared set are read at a time.
    """

    epochs: int = Field(20, ge=1)
    frame_share: float = Field(0.0, ge=0, lt=1)
    min_epoch_clips: int = Field(1, ge=1, le=1_000_000)
    batch_size: int = Field(44, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    average_decay: float = Field(0.0, ge=0, lt=1)
    balance: bool = True
    balance_ratio: float = Field(5.0, ge=1)
    fuse_epochs: int = Field(1, ge=1)
    draw: int = Field(0, ge=0, lt=2**32)
    precision: Precision = "auto"
    max_clip_seconds: float = Field(30.0, gt=0)
    open_shards: int = Field(4, ge=1, le=1024)

    @model_validator(mode="after")
    def _fits(self) -> "TrainingSettings":
        with_frames = self.epochs - self.tag_epochs
        if with_frames and self.fuse_epochs > with_frames:
            raise ValueError(
                f"fuse_epochs can be {with_frames} at most, as so many of {self.epochs} epochs "
                f"have labelled frames, came as {self.fuse_epochs}: raise epochs, or set "
                "frame_share to 0"
            )
        return self

    @property
    def tag_epochs(self) -> int:
        """Those that learn from tags alone; the first always does."""
        return self.epochs - min(round(self.epochs * self.frame_share), self.epochs - 1)


class AugmentationSettings(Section):
    """What is changed at random of the clips of every batch; nothing is at the defaults.

    Attributes:
        shift: whether clips are turned in time: what leaves at the end comes in at the start.
        pitch_bands: by how many mel bands a clip moves up or down, at most.
        pitch_stretch: by what share its bands are spread or drawn together, at most.
        filter_db: how far a frequency response, straight between a few bands, goes up and down.
        level_db: by how much a clip becomes louder or softer, at most.
        mixed_share: how many of the clips sound together with another one; they have the tags
            of both.
        mixed_db: by how much that other one becomes louder or softer, at most.
    """

    shift: bool = False
    pitch_bands: float = Field(0.0, ge=0, le=64)
    pitch_stretch: float = Field(0.0, ge=0, lt=1)
    filter_db: float = Field(0.0, ge=0, le=60)
    level_db: float = Field(0.0, ge=0, le=60)
    mixed_share: Probability = 0.0
    mixed_db: float = Field(5.0, ge=0, le=60)

    @property
    def changes_bands(self) -> bool:
        """Whether anything but the order of frames is changed."""
        of_pitch = self.pitch_bands or self.pitch_stretch
        return bool(of_pitch or self.filter_db or self.level_db or self.mixed_share)


Target = Literal["segment_f1", "error_rate", "event_f1", "psds1", "psds2"]


class TuningSettings(Section):
    """What the rules are chosen for, on validation data.

    Attributes:
        target: of the events; "psds1" and "psds2" are DCASE's scenarios. Tags are always for F1.
        average: of F1 over the classes.
        resolution_seconds: the segments' length.
        collar_seconds: by how much an event's boundaries may be missed.
        collar_ratio: the same for the offset, as a share of the event's length.
        precision: where given, the rules don't maximise F1 but recall at this precision, of tags
            and of segments, class by class.
        one_rule: whether all classes have the same thresholds, gate, lengths and the like, of
            calibrated probabilities, where F1 is maximised; for another target, or a precision,
            each has its own. Few recordings tell little of each class by itself: what is the best
            on these may be a bad one on others. Tags' threshold is drawn towards that of the
            decoding, the more the fewer tags there are: a handful of clips tells little, too.
        calibrate: whether probabilities are made to mean what they say, before that.
        max_false_events_per_hour: where given, of all classes together, on held-out recordings
            that hold none of them; the best rules within that.
    """

    target: Target = "segment_f1"
    average: Literal["macro", "micro"] = "macro"
    resolution_seconds: float = Field(SEGMENT_SECONDS, gt=0)
    collar_seconds: Seconds = COLLAR_SECONDS
    collar_ratio: float = Field(COLLAR_RATIO, ge=0)
    precision: Annotated[float, Field(gt=0, le=1)] | None = None
    one_rule: bool = False
    calibrate: bool = True
    max_false_events_per_hour: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> "TuningSettings":
        if self.precision is not None and self.target != "segment_f1":
            raise ValueError("precision is one of segments: leave target at segment_f1")
        if self.one_rule and self.average != "micro":
            raise ValueError(
                "one_rule is the best for all classes pooled: set average to micro, or one_rule to "
                "false"
            )
        return self

    @property
    def shares_one_rule(self) -> bool:
        """Whether all classes get one rule of what is maximised here."""
        of_f1 = self.precision is None and self.target in ("segment_f1", "event_f1")
        return self.one_rule and of_f1


class DecodingSettings(Section):
    """From frame probabilities to events, where nothing was tuned; see ``ClassDecoding``.

    Attributes:
        threshold: of tags and of events, where nothing is tuned.
        low_ratio: an event goes on down to this share of its threshold.
        max_gap_seconds: events no further apart are one.
        min_event_seconds: shorter ones are dropped, after that.
        tag_gate: whether an event needs its clip, or the windows about it, to have the tag.
        median_seconds: of a median filter over the frame probabilities; 0 for none.
        method: runs of frames above a threshold, or boxes between sudden changes.
        step_seconds: of boxes: the length of the filter that finds changes.
        merge_ratio: of boxes: two are one where the mean between them is at least this share of
            the smaller of their means.
        merge_difference: likewise where it is at most so much below.
    """

    threshold: Probability = 0.5
    low_ratio: float = Field(1.0, ge=0, le=1)
    max_gap_seconds: Seconds = 0.2
    min_event_seconds: Seconds = 0.1
    tag_gate: bool = True
    median_seconds: FilterSeconds = 0.0
    method: Literal["threshold", "bounding_boxes"] = "threshold"
    step_seconds: float = Field(0.6, gt=0, le=60)
    merge_ratio: Probability = 0.5
    merge_difference: Probability = 0.0


class StitchingSettings(Section):
    """How windows cover a recording longer than the training clips.

    Attributes:
        overlap: the share of a window that the next one covers, too.
    """

    overlap: float = Field(0.5, ge=0, le=0.95)


class Settings(Section):
    """All settings of a system; a recipe is a TOML file of differences from these."""

    features: FeatureSettings = FeatureSettings()
    network: NetworkSettings = CrnnSettings()
    training: TrainingSettings = TrainingSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    tuning: TuningSettings = TuningSettings()
    decoding: DecodingSettings = DecodingSettings()
    stitching: StitchingSettings = StitchingSettings()

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if self.features.kind != "log_mel" and self.augmentation.changes_bands:
            raise ValueError(
                "augmentation but shift changes bands of log_mel, and features.kind is "
                f"{self.features.kind}: set these to 0, or take another recipe"
            )
        alone = isinstance(self.network, CrnnSettings) and self.network.exclusive
        if alone and self.augmentation.mixed_share:
            raise ValueError(
                "network.exclusive says that one class at most sounds at a time, and "
                f"augmentation.mixed_share is {self.augmentation.mixed_share:g}: set it to 0, or "
                "exclusive to false"
            )
        return self

    @property
    def clock(self) -> FrameClock:
        """When each frame of the network's output sounds."""
        return self.features.clock.coarser(self.network.total_time_pooling)


class ClassDecoding(Section):
    """How one class's probabilities become a tag and events; what a model folder keeps.

    A clip has the tag where its probability exceeds ``tag_threshold``. What is left out changes
    nothing.

    Attributes:
        tag_threshold: of clips.
        threshold: of events: their largest frame probability, or a box's mean, must exceed it.
        low_threshold: an event is a run of frames above it; boxes don't look at it.
        max_gap_seconds: events no further apart are one.
        min_event_seconds: shorter ones are dropped, after that.
        gate_threshold: a frame counts only where a window that covers it has a clip probability
            above; by default the tag's.
        median_seconds: of the median filter over the frame probabilities; 0 for none.
        step_seconds: 0 for runs of frames; above, events are bounding boxes, found with a step
            filter that long.
        merge_ratio: of boxes: two are one where the mean between them is at least this share of
            the smaller of their means.
        merge_difference: likewise where it is at most so much below.
    """

    tag_threshold: Probability
    threshold: Probability
    low_threshold: Probability
    max_gap_seconds: Seconds
    min_event_seconds: Seconds
    gate_threshold: Probability = Field(default_factory=lambda read: read.get("tag_threshold", 0.0))
    median_seconds: FilterSeconds = 0.0
    step_seconds: FilterSeconds = 0.0
    merge_ratio: Probability = 1.0
    merge_difference: Probability = 0.0


class LogitLine(Section):
    """What is made of a probability: ``scale`` times its logit plus ``shift`` is the new one's.

    As it comes it changes nothing.
    """

    scale: float = Field(1.0, ge=0.001, le=1000)
    shift: float = Field(0.0, ge=-1000, le=1000)


class ClassCalibration(Section):
    """How one class's probabilities are calibrated before anything is decided by them.

    Attributes:
        clips: those of clips, of windows and of whole recordings.
        frames: those of frames.
    """

    clips: LogitLine = LogitLine()
    frames: LogitLine = LogitLine()


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; a UserError says where it is broken."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"can't be read: {error.strerror}", where=path) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"settings must be TOML: {error}", where=path) from error


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Nested tables of ``section.key=value`` texts; a value that is not TOML is taken as text.

    >>> parse_assignments(["training.epochs=5", "network.recurrent=none"])
    {'training': {'epochs': 5}, 'network': {'recurrent': 'none'}}
    """
    tables: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        section, dot, key = name.strip().partition(".")
        if not (equals and dot and section and key):
            raise UserError(f"--set takes section.key=value, came as '{assignment}'")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            value = text.strip()
        tables.setdefault(section, {})[key] = value
    return tables


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two levels of nested tables as one; ``above`` wins."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = (
            merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        )
    return merged


def settings_from(tables: Mapping[str, Any], *, where: object = None) -> Settings:
    """Checked settings of nested tables; a UserError names the first key that is wrong."""
    try:
        return Settings.model_validate(tables)
    except ValidationError as error:
        raise UserError(explain(error, Settings), where=where) from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of pydantic in our words, with a suggestion for a misspelt key."""
    # A misspelt key explains a missing one.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    kind = None
    if "network" in path[:-1] and path[path.index("network") + 1] in NETWORKS:
        kind = NETWORKS[path.pop(path.index("network") + 1)]  # of the union, not of the name
    name = ".".join(path)
    if first["type"] == "union_tag_invalid":
        given = first["input"].get("kind") if isinstance(first["input"], Mapping) else None
        return f"{name}.kind must be one of {', '.join(NETWORKS)}, came as {str(given)[:60]!r}"
    if first["type"] == "extra_forbidden":
        for part in path[:-1]:
            inner = model.model_fields[part].annotation if part in model.model_fields else None
            inners = (kind,) if part == "network" else (inner, *get_args(inner))
            for of_field in inners:
                if isinstance(of_field, type) and issubclass(of_field, BaseModel):
                    model = of_field
        known = list(model.model_fields)
        close = get_close_matches(path[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(known)}"
        return f"there is no setting '{name}'; {hint}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"'{name}' is missing"
    came = "" if first["type"] == "value_error" else f", came as {str(first['input'])[:60]!r}"
    rule = f"{message[0].lower()}{message[1:]}{came}"
    return f"{name}: {rule}" if name else rule
