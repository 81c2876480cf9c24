"""What the server and its page say to each other. Times are in seconds."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MOST_EVENTS = 50_000
"""Events in a review."""

MOST_FOUND = 40_000
"""Events in an answer: a review of them has room for others."""

MOST_STRETCHES = 10_000

Seconds = Annotated[float, Field(ge=0, le=1e8)]
Probability = Annotated[float, Field(ge=0, le=1)]
Label = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f](.*\S)?$")]
RuleChange = dict[
    Literal["threshold", "min_event_seconds", "max_gap_seconds"], Annotated[float, Field(ge=0)]
]
"""What is other than the model's rule for a class."""


def _checked(rules: dict[str, RuleChange]) -> dict[str, RuleChange]:
    for label, rule in rules.items():
        if rule.get("threshold", 0) > 1:
            raise ValueError(f"the threshold of '{label}' must be at most 1")
    return rules


RuleChanges = Annotated[dict[Label, RuleChange], Field(max_length=10_000), AfterValidator(_checked)]
"""By class; others are as the model has them."""

JobStage = Literal["queued", "running", "done", "failed", "cancelled"]
EventState = Literal["detected", "confirmed", "corrected", "added", "deleted"]


class Message(BaseModel):
    """A JSON object; an unknown key, nan and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Problem(Message):
    """Why there is no answer: the rule, what came, what to do, in one line."""

    error: str


class Conflict(Problem):
    """A review was changed meanwhile; ``version`` is the newest one's."""

    version: int


class Rule(Message):
    """How a class is decided, see ``earmark info``."""

    label: str
    threshold: float
    low_threshold: float
    tag_threshold: float
    max_gap_seconds: float
    min_event_seconds: float


class ServedModel(Message):
    """A model; its frames come every ``hop_seconds``."""

    id: str
    name: str
    class_names: list[str]
    hop_seconds: float
    rules: list[Rule]


class ServedRecording(Message):
    """A recording.

    Attributes:
        name: as in tables: the path within the folder that is served.
        duration_seconds: null where it isn't known yet (ask for the recording itself), or where
            it can't be read, and ``error`` says why.
        uploaded: whether it was sent here and can be deleted.
        start_time: ISO 8601, where the file says it.
        high_hz: the top of the spectrogram, whose scale is Slaney's mel from 0 Hz on.
        analysed: the models whose analyses are there.
        review_version: of the review, 0 where there is none.
        reviewed: whether it was reviewed from start to end.
    """

    id: str
    name: str
    duration_seconds: float | None
    uploaded: bool
    start_time: str | None
    error: str | None
    high_hz: float
    analysed: list[str]
    review_version: int
    reviewed: bool


class AnalysisOrder(Message):
    """Which model is to analyse a recording."""

    model: str = Field(max_length=300)


class Ordered(Message):
    """The job that an order has led to; ``done`` at once where nothing was left to do."""

    job: str
    state: JobStage


class JobState(Message):
    """How far a job is; ``position`` is 1 where it is next."""

    state: JobStage
    progress: float
    position: int
    error: str | None


class CurveValues(Message):
    """The largest probabilities of consecutive steps.

    Attributes:
        start: of the first step, which may lie a little before what was asked for.
        end: of the last step.
        step_seconds: the length of a step, a whole number of frames.
        class_names: of the rows of ``values``.
        values: (K, P).
    """

    start: float
    end: float
    step_seconds: float
    class_names: list[str]
    values: list[list[float]]


class EventsOrder(Message):
    """Which events are asked for: all that touch the time from ``start`` to ``end``."""

    rules: RuleChanges = {}
    start: Seconds | None = None
    end: Seconds | None = None

    @model_validator(mode="after")
    def _fits(self) -> "EventsOrder":
        if self.start is not None and self.end is not None and self.end < self.start:
            raise ValueError("end may not lie before start")
        return self


class FoundEvent(Message):
    """An event that a model found."""

    onset: float
    offset: float
    label: str
    score: float | None


class Tag(Message):
    """Whether a class sounds anywhere in the recording."""

    label: str
    probability: float
    present: bool


class FoundEvents(Message):
    """Events in order, of which there are ``total``, and the tags of the whole recording."""

    events: list[FoundEvent]
    total: int
    tags: list[Tag]


class Peaks(Message):
    """The smallest and the largest sample of each part, in turn, in [-1, 1]."""

    values: list[float]


class Stretch(Message):
    """From when to when."""

    start: Seconds
    end: Seconds

    @model_validator(mode="after")
    def _fits(self) -> "Stretch":
        if not self.start < self.end:
            raise ValueError("a stretch must end after its start")
        return self


class Absent(Stretch):
    """A stretch in which a class does not sound."""

    label: Label


class ReviewEvent(Message):
    """An event, and what became of it."""

    id: str = Field(min_length=1, max_length=100)
    onset: Seconds
    offset: Seconds
    label: Label
    score: Probability | None = None
    state: EventState

    @model_validator(mode="after")
    def _fits(self) -> "ReviewEvent":
        if not self.onset < self.offset:
            raise ValueError("an event must end after its onset")
        return self


class Reviewed(Message):
    """What was said of a recording.

    Attributes:
        events: each with an id of its own; those that are left out are forgotten.
        absent: stretches in which a class does not sound.
        reviewed: stretches in which all that sounds is among the events; whether one that is
            merely detected does is left open.
        rules: by which the events were found that are merely detected.
    """

    events: list[ReviewEvent] = Field(default_factory=list, max_length=MOST_EVENTS)
    absent: list[Absent] = Field(default_factory=list, max_length=MOST_STRETCHES)
    reviewed: list[Stretch] = Field(default_factory=list, max_length=MOST_STRETCHES)
    rules: RuleChanges = {}

    @model_validator(mode="after")
    def _fits(self) -> "Reviewed":
        if len({event.id for event in self.events}) < len(self.events):
            raise ValueError("each event needs an id of its own")
        return self


class Review(Reviewed):
    """What was said of a recording so far; version 0 where nobody has said anything.

    Then the events are those that the model detects, none where it hasn't analysed it.
    """

    version: int


class Version(Message):
    """Of what is kept now."""

    version: int


class UnsureEvent(Message):
    """An event to be looked at, the nearer its score to the threshold the earlier.

    ``margin`` is how far apart they are.
    """

    recording: str
    name: str
    event: ReviewEvent
    margin: float
