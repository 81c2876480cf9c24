"""The server of ``earmark serve``: what can be asked under /api, and the page that asks it."""

import io
import logging
import secrets
import tempfile
import threading
import wave
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import numpy as np
from fastapi import Body, FastAPI, Header, HTTPException, Query, Request, Response, UploadFile
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as AnyHTTPException

from earmark.audio import AudioInfo, read
from earmark.config import ClassDecoding
from earmark.errors import UserError, printable
from earmark.events import Event, in_order
from earmark.formats.event_formats import EVENT_FORMATS
from earmark.formats.recorded import Recorded
from earmark.web.analyses import Analyses, Analysis, Model, NotAnalysed, with_threshold
from earmark.web.jobs import Job, Jobs, QueueFull
from earmark.web.library import Library, Recording, TooMany
from earmark.web.messages import (
    MOST_FOUND,
    AnalysisOrder,
    Conflict,
    CurveValues,
    EventsOrder,
    FoundEvent,
    FoundEvents,
    JobState,
    Ordered,
    Peaks,
    Problem,
    Review,
    Reviewed,
    ReviewEvent,
    Rule,
    RuleChange,
    ServedModel,
    ServedRecording,
    Tag,
    UnsureEvent,
    Version,
)
from earmark.web.overview import VERSION as OVERVIEW_VERSION
from earmark.web.overview import NotMade, Overviews, Picture
from earmark.web.reviews import (
    Kept,
    OtherVersion,
    Reviews,
    begun,
    write_strong_labels,
    write_weak_labels,
)
from earmark.web.security import BodyLimits, Guard

logger = logging.getLogger("earmark")

STATIC = Path(__file__).parent / "static"
LONGEST_AUDIO_SECONDS = 120.0
HIGHEST_AUDIO_HZ = 48_000
MOST_POINTS = 8192
MOST_VALUES = 200_000
MOST_UNSURE = 500
RETRY_SECONDS = 2
_UNSURE_REMEMBERED = 100_000
_KNOWN = {"description": "what If-None-Match names is still right"}
Unsure = tuple[float, ReviewEvent]
"""How far an event's score is from its threshold, and the event."""

_TEXT = "text/plain; charset=utf-8"
_TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".tsv": "text/tab-separated-values; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".txt": _TEXT,
}


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
            events = self.analyses.get(recording, model).events(_rules(model, said.rules))
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


RecordingId = Annotated[str, InPath(pattern="^[0-9a-f]{32}$")]
ModelId = Annotated[str, InPath(max_length=300)]
ModelQuery = Annotated[str, Query(max_length=300)]
Start = Annotated[float, Query(ge=0, le=1e8, allow_inf_nan=False)]
End = Annotated[float, Query(gt=0, le=1e8, allow_inf_nan=False)]
Points = Annotated[int, Query(ge=1, le=MOST_POINTS)]


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What else a route may answer."""
    return {code: {"model": Problem} for code in (400, 401, 403, 408, 413, 421, 422, 500, *codes)}


def application(
    models: Mapping[str, Model],
    recordings: Sequence[Path],
    work: Path,
    *,
    token: str | None = None,
    any_host: bool = False,
    limits: Limits | None = None,
) -> FastAPI:
    """The server's application; with its end all work ends, and what was sent to it is removed.

    Args:
        models: by id.
        recordings: files and folders to serve.
        work: the folder for reviews, probabilities and uploads; of one server at a time.
        token: what everybody has to show.
        any_host: whether it answers under any name; only with a token.
        limits: what is taken on.

    Raises:
        UserError: a recording isn't there, or nothing can be written to ``work``.
    """
    limits = limits or Limits()
    desk = Desk(models, recordings, work, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(
        title="earmark serve",
        description=__doc__,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.desk = desk
    app.add_middleware(Guard, token=token, any_host=any_host, limits=limits.body)
    _answer_errors(app)
    _models_and_recordings(app, desk)
    _analyses(app, desk)
    _looks(app, desk)
    _reviews(app, desk)
    _page(app)
    return app


def _models_and_recordings(app: FastAPI, desk: Desk) -> None:
    def described(recording: Recording, info: AudioInfo | UserError | None) -> ServedRecording:
        known = isinstance(info, AudioInfo)
        wrong = info if isinstance(info, UserError) else None
        kept = None
        try:
            kept = desk.reviews.get(recording.id)
        except UserError as error:
            wrong = wrong or error
        start = desk.library.start(recording) if known else None
        return ServedRecording(
            id=recording.id,
            name=recording.name,
            duration_seconds=info.duration_seconds if isinstance(info, AudioInfo) else None,
            uploaded=recording.uploaded,
            start_time=None if start is None else start.isoformat(),
            error=None if wrong is None else str(wrong),
            high_hz=desk.overviews.high_hz,
            analysed=[m.id for m in desk.models.values() if desk.analyses.there(recording, m)]
            if known
            else [],
            review_version=0 if kept is None else kept.version,
            reviewed=kept is not None and kept.whole,
        )

    @app.get("/api/models", responses=_problems())
    def models() -> list[ServedModel]:
        """The models, and how they decide."""
        return [_described(model) for model in desk.models.values()]

    @app.get("/api/recordings", responses=_problems())
    def recordings() -> list[ServedRecording]:
        """All recordings by name."""
        return [described(recording, info) for recording, info in desk.library.listed()]

    @app.post("/api/recordings", status_code=201, responses=_problems(503))
    def upload(file: UploadFile) -> ServedRecording:
        """Takes in a recording; it stays until it is deleted, or the server ends."""
        try:
            recording = desk.library.add(file.filename or "recording", file.file)
        except TooMany:
            raise HTTPException(
                503,
                f"there are {desk.limits.uploads} uploads already; delete one first",
                {"Retry-After": str(RETRY_SECONDS)},
            ) from None
        return described(recording, desk.library.info(recording))

    @app.get("/api/recordings/{recording}", responses=_problems(404))
    def one_recording(recording: RecordingId) -> ServedRecording:
        """What is known of a recording."""
        found = desk.recording(recording)
        try:
            return described(found, desk.library.info(found))
        except UserError as error:
            return described(found, error)

    @app.delete("/api/recordings/{recording}", status_code=204, responses=_problems(404, 409))
    def delete(recording: RecordingId) -> None:
        """Forgets an upload, its analyses and its review."""
        found = desk.recording(recording)
        if not found.uploaded:
            raise HTTPException(
                409, "only what was uploaded can be deleted; remove the file itself"
            )
        desk.remove(found)


def _analyses(app: FastAPI, desk: Desk) -> None:
    analysis_path = "/api/recordings/{recording}/analyses/{model}"

    @app.post(
        "/api/recordings/{recording}/analyses", status_code=202, responses=_problems(404, 503)
    )
    def analyse(recording: RecordingId, order: AnalysisOrder) -> Ordered:
        """Has a recording analysed by a model, unless that was done before."""
        found, model = desk.recording(recording), desk.model(order.model)
        desk.library.info(found)
        try:
            done = desk.analyses.there(found, model)
            job = desk.jobs.submit(found.id, model.id, done=done)
            return Ordered(job=job.id, state=job.state)
        except QueueFull:
            raise HTTPException(
                503,
                f"{desk.limits.waiting_jobs} analyses are in line already; try again later",
                {"Retry-After": str(RETRY_SECONDS)},
            ) from None

    @app.get("/api/jobs/{job}", responses=_problems(404))
    def job_state(job: str) -> JobState:
        """How far a job is."""
        known = desk.jobs.get(job)
        if known is None:
            raise HTTPException(404, "there is no such job; it may have ended long ago")
        found, position = known
        return JobState(
            state=found.state, progress=found.progress, position=position, error=found.error
        )

    @app.delete("/api/jobs/{job}", status_code=204, responses=_problems(404))
    def cancel(job: str) -> None:
        """Ends a job; one that has ended stays as it is."""
        if desk.jobs.get(job) is None:
            raise HTTPException(404, "there is no such job; it may have ended long ago")
        desk.jobs.cancel(job)

    @app.get(f"{analysis_path}/curves", responses=_problems(404, 409))
    def curves(
        recording: RecordingId,
        model: ModelId,
        start: Start,
        end: End,
        points: Points,
        label: Annotated[list[str] | None, Query()] = None,
    ) -> CurveValues:
        """The probabilities of all classes, or of some, in at most ``points`` steps."""
        found, by = desk.recording(recording), desk.model(model)
        _check_span(start, end)
        names = list(by.recogniser.class_names)
        wanted = [_class_of(names, one) for one in label or names]
        analysis = desk.analysis(found, by)
        most = min(points, max(1, MOST_VALUES // max(1, len(wanted))))
        part = analysis.curves(start, end, most, wanted)
        return CurveValues(
            start=part.start_seconds,
            end=part.end_seconds,
            step_seconds=part.step_seconds,
            class_names=[names[k] for k in wanted],
            values=[_floats(row) for row in part.values],
        )

    @app.post(f"{analysis_path}/events", responses=_problems(404, 409))
    def events(recording: RecordingId, model: ModelId, order: EventsOrder) -> FoundEvents:
        """The events by the model's rules, or by others; the tags are of the whole recording."""
        found, by = desk.recording(recording), desk.model(model)
        names = list(by.recogniser.class_names)
        for label in order.rules:
            _class_of(names, label)
        analysis = desk.analysis(found, by)
        rules = _rules(by, order.rules)
        start = 0.0 if order.start is None else order.start
        end = np.inf if order.end is None else order.end
        chosen = [
            event
            for event in analysis.events(rules)
            if event.onset_seconds < end and event.offset_seconds > start
        ]
        return FoundEvents(
            events=[_found(event) for event in chosen[:MOST_FOUND]],
            total=len(chosen),
            tags=[
                Tag(label=name, probability=tag, present=tag > rule.tag_threshold)
                for name, tag, rule in zip(names, analysis.tags, by.recogniser.rules, strict=True)
            ],
        )


def _looks(app: FastAPI, desk: Desk) -> None:
    def checked(recording: str, start: float, end: float) -> tuple[Recording, float]:
        """The recording, and a start from which there is something to read."""
        found = desk.recording(recording)
        _check_span(start, end)
        seconds = desk.library.info(found).duration_seconds
        if start >= seconds:
            raise HTTPException(422, f"the recording ends at {seconds:g} s, before the start")
        return found, min(start, max(0.0, seconds - 0.001))

    def looked(look: Callable[[], Any]) -> Any:
        try:
            return look()
        except NotMade:
            raise HTTPException(
                503,
                "the recording is still being read for this; ask again",
                {"Retry-After": str(RETRY_SECONDS)},
            ) from None

    pictures: dict[int | str, dict[str, Any]] = {
        200: {"content": {"image/png": {}}, "description": "a grey PNG"},
        304: _KNOWN,
    }

    @app.get(
        "/api/recordings/{recording}/spectrogram.png",
        responses=pictures | _problems(404, 503),
        response_class=Response,
    )
    def spectrogram(
        request: Request,
        recording: RecordingId,
        start: Start,
        end: End,
        width: Annotated[int, Query(ge=1, le=4096)],
        height: Annotated[int, Query(ge=1, le=512)],
    ) -> Response:
        """The spectrogram of a part, in shades of grey; beyond the recording it is black."""
        found, start = checked(recording, start, end)
        lasting = _lasting(found)
        if _is_known(request, lasting):
            return Response(status_code=304, headers=lasting)
        show = partial(desk.overviews.spectrogram, found, start, end, (width, height))
        picture: Picture = looked(show)
        headers = lasting if picture.lasting else {"Cache-Control": "no-store"}
        return Response(picture.png, media_type="image/png", headers=headers)

    @app.get("/api/recordings/{recording}/peaks", responses=_problems(404, 503))
    def peaks(recording: RecordingId, start: Start, end: End, points: Points) -> Peaks:
        """The smallest and the largest sample of each of ``points`` equal parts."""
        found, start = checked(recording, start, end)
        return Peaks(values=looked(partial(desk.overviews.peaks, found, start, end, points)))

    @lru_cache(maxsize=4)
    def wav(path: Path, name: str, rate_hz: int, start: float, end: float, _: str) -> bytes:
        return _wav(read(path, rate_hz, start, end), rate_hz)

    sound: dict[int | str, dict[str, Any]] = {
        200: {"content": {"audio/wav": {}}, "description": "16 bit mono"},
        206: {"content": {"audio/wav": {}}, "description": "the bytes asked for"},
        304: _KNOWN,
        416: {"description": "there are no such bytes"},
    }

    @app.get(
        "/api/recordings/{recording}/audio.wav",
        responses=sound | _problems(404),
        response_class=Response,
    )
    def audio(request: Request, recording: RecordingId, start: Start, end: End) -> Response:
        """The sound of a part of at most 120 s."""
        if end - start > LONGEST_AUDIO_SECONDS:
            raise HTTPException(
                422, f"a part of at most {LONGEST_AUDIO_SECONDS:g} s is given at once; ask for less"
            )
        found, start = checked(recording, start, end)
        rate_hz = min(desk.library.info(found).rate_hz, HIGHEST_AUDIO_HZ)
        lasting = _lasting(found)
        if _is_known(request, lasting):
            return Response(status_code=304, headers=lasting)
        try:
            content = wav(found.file(), found.name, rate_hz, start, end, lasting["ETag"])
        except UserError as error:
            raise found.said(error) from error
        return _ranged(request, content, lasting)


def _reviews(app: FastAPI, desk: Desk) -> None:
    @app.get("/api/recordings/{recording}/review", responses=_problems(404))
    def review(response: Response, recording: RecordingId, model: ModelQuery) -> Review:
        """What was said of a recording so far, or else what the model says."""
        found, by = desk.recording(recording), desk.model(model)
        kept = desk.reviews.get(found.id)
        version = 0 if kept is None else kept.version
        response.headers["ETag"] = f'"{version}"'
        said = desk.review(found, by, kept)
        return Review(version=version, **dict(said))

    @app.put(
        "/api/recordings/{recording}/review",
        responses=_problems(404, 428) | {409: {"model": Conflict}},
    )
    def keep(
        response: Response,
        recording: RecordingId,
        model: ModelQuery,
        said: Annotated[Reviewed, Body()],
        if_match: Annotated[str | None, Header(max_length=100)] = None,
    ) -> Version:
        """Keeps a review; ``If-Match`` says the version that it was made from."""
        found, by = desk.recording(recording), desk.model(model)
        if if_match is None:
            raise HTTPException(428, 'say with If-Match: "VERSION" which version was changed')
        text = if_match.strip().removeprefix("W/").strip('"')
        if not _is_number(text):
            raise HTTPException(422, f"If-Match takes a version, came as {if_match!r}")
        seconds = desk.library.info(found).duration_seconds
        latest = [
            *(e.offset for e in said.events),
            *(s.end for s in (*said.absent, *said.reviewed)),
        ]
        if max(latest, default=0.0) > seconds + 1:
            raise HTTPException(
                422, f"the recording ends at {seconds:g} s, the review says {max(latest):g} s"
            )
        desk.check_reviewed(found, by, said)
        names, window = by.recogniser.class_names, by.recogniser.window_seconds
        version = desk.reviews.put(found, seconds, by.digest, names, window, said, int(text))
        if desk.library.get(found.id) is None:  # it was deleted meanwhile
            desk.reviews.remove(found.id)
            desk.recording(found.id)
        response.headers["ETag"] = f'"{version}"'
        return Version(version=version)

    @app.get("/api/queue", responses=_problems(404))
    def queue(
        model: ModelQuery, count: Annotated[int, Query(ge=1, le=MOST_UNSURE)] = 20
    ) -> list[UnsureEvent]:
        """Events of all recordings that nobody has decided on yet, the least sure first."""
        by = desk.model(model)
        found = [
            (margin, recording, event)
            for recording in desk.library.all()
            for margin, event in desk.unsure(recording, by)[:count]
        ]
        found.sort(key=lambda one: (one[0], one[1].name, one[2].onset))
        return [
            UnsureEvent(recording=recording.id, name=recording.name, event=event, margin=margin)
            for margin, recording, event in found[:count]
        ]

    names = tuple(EVENT_FORMATS)
    table: dict[int | str, dict[str, Any]] = {
        200: {
            "content": {kind: {} for kind in (*_TYPES.values(), "application/octet-stream")},
            "description": "a table",
        }
    }

    @app.get(
        "/api/recordings/{recording}/download",
        responses=table | _problems(404, 409),
        response_class=Response,
    )
    def download(
        recording: RecordingId,
        model: ModelQuery,
        format: Annotated[str, Query(json_schema_extra={"enum": list(names)})] = "csv",
    ) -> Response:
        """The events that were reviewed, or else detected, in any format that is written."""
        if format not in names:
            raise HTTPException(422, f"a format is one of {', '.join(names)}; choose one")
        found, by = desk.recording(recording), desk.model(model)
        kind = EVENT_FORMATS[format]
        kind.require()
        info = desk.library.info(found)
        kept = desk.reviews.get(found.id)
        if kept is None:
            events = desk.analysis(found, by).events(by.recogniser.rules)
        else:
            said = desk.review(found, by, kept)
            shown = (
                Event(e.onset, e.offset, e.label, e.score)
                for e in said.events
                if e.state != "deleted"
            )
            events = in_order([*shown, *desk.not_shown(found, by, said)])
        start = desk.library.start(found)
        rows = Recorded(found.name, events, start, found.path, info.duration_seconds, info.rate_hz)
        clock_times = kind.clock_times and start is not None

        def write(out: Path) -> None:
            kind.write(out, [rows], clock_times)

        return _attached(write, f"{Path(found.name).stem}{kind.suffix}")

    @app.get("/api/labels", responses=table | _problems(), response_class=Response)
    def labels(kind: Literal["strong", "weak"], whole: bool = False) -> Response:
        """Labels of all served recordings that were reviewed, to train with and to evaluate on.

        ``strong`` are the events that people confirmed, corrected or added; with ``whole`` of
        recordings only that were reviewed from start to end, so that whatever is not in the table
        does not sound. ``weak`` says of parts which classes sound in them, and which do not.
        """
        reviews = desk.reviewed()
        if kind == "strong":
            return _attached(
                partial(write_strong_labels, reviews=reviews, whole=whole), "strong.tsv"
            )
        return _attached(partial(write_weak_labels, reviews=reviews), "weak.tsv")


def _page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        """The page."""
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", _Static(directory=STATIC), name="static")


class _Static(StaticFiles):
    """Files that the browser asks for anew: a newer version of them may be here."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _answer_errors(app: FastAPI) -> None:
    """Has every error that is known answered by a line of JSON; see ``Guard`` for others."""

    def problem(status: int, text: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
        line = printable(" ".join(text.split()))
        return JSONResponse(
            {"error": line}, status, {"Cache-Control": "no-store", **(headers or {})}
        )

    @app.exception_handler(UserError)
    def user_error(_: Request, error: UserError) -> JSONResponse:
        return problem(422, str(error))

    @app.exception_handler(AnyHTTPException)
    def refused(request: Request, error: AnyHTTPException) -> JSONResponse:
        text = str(error.detail)
        if error.status_code == 404 and text == "Not Found":
            text = f"there is nothing at {request.url.path[:200]}"
        elif error.status_code == 405:
            text = f"{request.method} is not understood here; see /api/openapi.json"
        return problem(error.status_code, text, error.headers)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, _explained(error))

    @app.exception_handler(NotAnalysed)
    def gone(_: Request, __: NotAnalysed) -> JSONResponse:
        error = not_analysed()
        return problem(error.status_code, str(error.detail))

    @app.exception_handler(OtherVersion)
    def conflict(_: Request, error: OtherVersion) -> JSONResponse:
        text = "the review was changed meanwhile; GET it again and change that"
        return JSONResponse({"error": text, "version": error.version}, 409)


def _explained(error: RequestValidationError) -> str:
    """The first complaint in a line."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    name = ".".join(place[1:]) or place[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"there is no '{name}' here; remove or rename it"
    if first["type"] == "missing":
        return f"'{name}' is missing"
    came = str(first.get("input"))[:60]
    return f"'{name}': {message[:1].lower()}{message[1:200]}, came as {came!r}"


def _described(model: Model) -> ServedModel:
    recogniser = model.recogniser
    return ServedModel(
        id=model.id,
        name=model.id,
        class_names=list(recogniser.class_names),
        hop_seconds=float(recogniser.clock.hop_seconds),
        rules=[
            Rule(
                label=label,
                threshold=rule.threshold,
                low_threshold=rule.low_threshold,
                tag_threshold=rule.tag_threshold,
                max_gap_seconds=rule.max_gap_seconds,
                min_event_seconds=rule.min_event_seconds,
            )
            for label, rule in zip(recogniser.class_names, recogniser.rules, strict=True)
        ],
    )


def _check_span(start: float, end: float) -> None:
    if end <= start:
        raise HTTPException(422, f"the end must lie after the start, came as {start:g} to {end:g}")


def _class_of(names: Sequence[str], label: str) -> int:
    if label not in names:
        known = ", ".join(names)[:300]
        raise HTTPException(422, f"there is no class '{label[:60]}'; known here: {known}")
    return names.index(label)


def _rules(model: Model, changes: Mapping[str, RuleChange]) -> list[ClassDecoding]:
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


def _found(event: Event) -> FoundEvent:
    return FoundEvent(
        onset=event.onset_seconds,
        offset=event.offset_seconds,
        label=event.label,
        score=event.score,
    )


def _floats(values: Any) -> list[float]:
    # As float64 first, so that four decimals are four when written.
    floats: list[float] = np.round(values.astype(np.float64), 4).tolist()
    return floats


def _lasting(recording: Recording) -> dict[str, str]:
    """Says to a browser, which is to ask each time, whether the file is as it was."""
    state = "-".join(str(number) for number in (OVERVIEW_VERSION, *recording.state()))
    return {"Cache-Control": "private, no-cache", "ETag": f'"{state}"'}


def _is_known(request: Request, lasting: Mapping[str, str]) -> bool:
    return request.headers.get("if-none-match") == lasting["ETag"]


def _wav(samples: Any, rate_hz: int) -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        steps = np.clip(np.rint(samples * 32768.0), -32768, 32767)
        file.writeframes(steps.astype("<i2").tobytes())
    return content.getvalue()


def _ranged(request: Request, content: bytes, headers: Mapping[str, str]) -> Response:
    """The content, or the range of it that was asked for, without which browsers can't seek."""
    headers = {"Accept-Ranges": "bytes", **headers}
    unit, _, asked = request.headers.get("range", "").partition("=")
    first, dash, last = asked.partition("-")
    plain = all(not text or _is_number(text) for text in (first, last))
    if unit.strip() != "bytes" or not dash or not plain or not (first or last):
        return Response(content, media_type="audio/wav", headers=headers)
    size = len(content)
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        headers["Content-Range"] = f"bytes */{size}"
        return Response(status_code=416, headers=headers)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Response(content[start:stop], 206, headers, "audio/wav")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 16


def _attached(write: Callable[[Path], None], name: str) -> Response:
    """What ``write`` writes to a file, as a file to be saved."""
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        path = Path(folder, f"table{''.join(Path(name).suffixes[-1:])}")
        try:
            write(path)
        except UserError as error:
            raise UserError(str(error).replace(f"{path}: ", "")) from error
        content = path.read_bytes()
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._- ()") else "_" for c in name)
    headers = {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}",
        "Cache-Control": "no-store",
    }
    kind = _TYPES.get(path.suffix, "application/octet-stream")
    return Response(content, media_type=kind, headers=headers)


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)
