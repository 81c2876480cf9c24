"""All that the routes of the server work with: recordings, models, analyses, reviews."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fastapi import HTTPException

from earmark.config import ClassDecoding
from earmark.errors import UserError
from earmark.events import Event
from earmark.web.analyses import Analyses, Analysis, Model, NotAnalysed, with_threshold
from earmark.web.jobs import Job, Jobs
from earmark.web.library import Library, Recording
from earmark.web.messages import MOST_FOUND, Reviewed, ReviewEvent, RuleChange
from earmark.web.overview import Overviews
from earmark.web.reviews import Kept, Reviews, begun
from earmark.web.security import BodyLimits

MOST_UNSURE = 500
_UNSURE_REMEMBERED = 100_000

Unsure = tuple[float, ReviewEvent]
"""How far an event's score is from its threshold, and the event."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server takes on.

    Attributes:
        body: how large and slow requests may be.
        waiting_jobs: analyses that may be in line.
        uploads: recordings that are held at a time.
        upload_seconds: how long a recording may be that is sent.
    """

    body: BodyLimits = field(default_factory=BodyLimits)
    waiting_jobs: int = 100
    uploads: int = 20
    upload_seconds: float = 24 * 3600.0


class Desk:
    """All that the routes work with.

    Args:
        models: by id.
        recordings: files and folders to serve.
        work: the folder for reviews, probabilities and uploads.
        limits: what is taken on.
    """

    def __init__(
        self, models: Mapping[str, Model], recordings: Sequence[Path], work: Path, limits: Limits
    ) -> None:
        self.models = models
        self.limits = limits
        self.library = Library(recordings, work, limits.uploads, limits.upload_seconds)
        self.reviews = Reviews(work / "reviews")
        self.analyses = Analyses()
        rate_hz = max(model.recogniser.rate_hz for model in models.values())
        self.overviews = Overviews(rate_hz, limits.upload_seconds)
        self.jobs = Jobs(self._analyse, limits.waiting_jobs)
        self._unsure: dict[tuple[str, str], tuple[list[int], list[Unsure]]] = {}
        self._unsure_lock = threading.Lock()

    def close(self) -> None:
        """Ends all work, and removes what was sent here."""
        self.jobs.close()
        self.overviews.close()
        self.library.clear_uploads()

    def recording(self, recording_id: str) -> Recording:
        """The recording of an id; a 404 if there is none."""
        recording = self.library.get(recording_id)
        if recording is None:
            raise HTTPException(404, "there is no such recording; GET /api/recordings lists them")
        return recording

    def model(self, model_id: str) -> Model:
        """The model of an id; a 404 if there is none."""
        model = self.models.get(model_id)
        if model is None:
            known = ", ".join(self.models)
            raise HTTPException(404, f"there is no such model; known here: {known}")
        return model

    def analysis(self, recording: Recording, model: Model) -> Analysis:
        """The analysis; a 409 if there is none yet."""
        try:
            return self.analyses.get(recording, model)
        except NotAnalysed:
            raise not_analysed() from None

    def remove(self, recording: Recording) -> None:
        """Forgets an upload and everything about it."""
        self.library.withdraw(recording)  # so that nothing is begun with it any more
        self.jobs.cancel_recording(recording.id)
        self.overviews.forget(recording)
        self.library.remove(recording)
        self.reviews.remove(recording.id)

    def review(self, recording: Recording, model: Model, kept: Kept | None) -> Reviewed:
        """What there is to review."""
        detected: list[ReviewEvent] = []
        if kept is None or kept.model != model.digest:
            with suppress(NotAnalysed):
                detected = self._detected(self.analyses.get(recording, model), model)
        return begun(model.digest, kept, detected)

    def check_reviewed(self, recording: Recording, model: Model, said: Reviewed) -> None:
        """A 422 if a stretch is to be reviewed whose events are too many to be shown."""
        kept = self.reviews.get(recording.id)
        if not said.reviewed or (kept is not None and kept.said.reviewed == said.reviewed):
            return
        left = self.not_shown(recording, model, said)
        if left and max(stretch.end for stretch in said.reviewed) > left[0].onset_seconds:
            raise HTTPException(
                422,
                f"only the first {MOST_FOUND:,} of {MOST_FOUND + len(left):,} events are shown, up "
                f"to {left[0].onset_seconds:g} s; review what lies before, or have fewer by other "
                "rules",
            )

    def not_shown(self, recording: Recording, model: Model, said: Reviewed) -> list[Event]:
        """The last ones of more events than are shown, by the rules of a review."""
        try:
            events = self.analyses.get(recording, model).events(rules_of(model, said.rules))
        except (NotAnalysed, UserError):
            return []
        return events[MOST_FOUND:]

    def unsure(self, recording: Recording, model: Model) -> list[Unsure]:
        """Events of a recording that nobody decided on, the nearest to their thresholds first."""
        try:
            state = [self.reviews.version(recording.id), *recording.state()]
        except UserError:
            return []
        key = recording.id, model.digest
        with self._unsure_lock:
            known = self._unsure.get(key)
        if known is not None and known[0] == state:
            return known[1]
        if not self.analyses.there(recording, model):
            return []
        kept = self.reviews.get(recording.id)
        review = self.review(recording, model, kept)
        rules = dict(zip(model.recogniser.class_names, model.recogniser.rules, strict=True))
        found = []
        for event in review.events:
            rule = rules.get(event.label)
            if event.state != "detected" or event.score is None or rule is None:
                continue
            if kept is not None and kept.covers(event):
                continue
            threshold = review.rules.get(event.label, {}).get("threshold", rule.threshold)
            found.append((abs(event.score - threshold), event))
        found.sort(key=lambda one: one[0])
        found = found[:MOST_UNSURE]
        with self._unsure_lock:
            if sum(len(events) for _, events in self._unsure.values()) > _UNSURE_REMEMBERED:
                self._unsure.clear()
            self._unsure[key] = state, found
        return found

    def reviewed(self) -> list[Kept]:
        """The reviews of what is served, by the names that it has now, in their order.

        Those of other recordings stay where they are: one of these may have taken their name.
        """
        found = ((one.name, self.reviews.get(one.id)) for one in self.library.all())
        return [replace(kept, name=name) for name, kept in found if kept is not None]

    def _analyse(self, job: Job) -> None:
        recording, model = self.library.get(job.recording), self.models[job.model]
        if recording is None:
            return
        seconds = self.library.info(recording).duration_seconds
        longest = self.limits.upload_seconds
        self.analyses.make(recording, model, seconds, job.step, longest)

    def _detected(self, analysis: Analysis, model: Model) -> list[ReviewEvent]:
        events = analysis.events(model.recogniser.rules)
        names = {name: k for k, name in enumerate(model.recogniser.class_names)}
        return [
            ReviewEvent(
                id=f"{names[event.label]}-{event.onset_seconds:.6f}",
                onset=event.onset_seconds,
                offset=event.offset_seconds,
                label=event.label,
                score=event.score,
                state="detected",
            )
            for event in events[:MOST_FOUND]
        ]


def not_analysed() -> HTTPException:
    """What is said of a recording that a model has not seen."""
    return HTTPException(409, "this model has not analysed the recording yet; POST .../analyses")


def rules_of(model: Model, changes: Mapping[str, RuleChange]) -> list[ClassDecoding]:
    """The model's rules but for the changes."""
    recogniser = model.recogniser
    return [
        _changed(rule, changes.get(name, {}))
        for name, rule in zip(recogniser.class_names, recogniser.rules, strict=True)
    ]


def _changed(rule: ClassDecoding, change: RuleChange) -> ClassDecoding:
    others: dict[str, float] = {k: value for k, value in change.items() if k != "threshold"}
    if "threshold" in change:
        rule = with_threshold(rule, change["threshold"])
    return rule.model_copy(update=others) if others else rule
