"""The server of ``earmark serve``: what can be asked under /api, and the page that asks it."""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Body, FastAPI, Header, HTTPException, Query, Request, Response, UploadFile
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from earmark.audio import AudioInfo, read
from earmark.errors import UserError
from earmark.events import Event, in_order
from earmark.formats.event_formats import EVENT_FORMATS
from earmark.formats.recorded import Recorded
from earmark.web.analyses import Model
from earmark.web.answers import (
    TYPES,
    answer_errors,
    as_wav,
    attached,
    is_known,
    is_number,
    lasting_headers,
    problems,
    ranged,
)
from earmark.web.desk import MOST_UNSURE, Desk, Limits, rules_of
from earmark.web.jobs import QueueFull
from earmark.web.library import Recording, TooMany
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
    Review,
    Reviewed,
    Rule,
    ServedModel,
    ServedRecording,
    Tag,
    UnsureEvent,
    Version,
)
from earmark.web.overview import NotMade, Picture
from earmark.web.reviews import write_strong_labels, write_weak_labels
from earmark.web.security import Guard

STATIC = Path(__file__).parent / "static"
LONGEST_AUDIO_SECONDS = 120.0
HIGHEST_AUDIO_HZ = 48_000
MOST_POINTS = 8192
MOST_VALUES = 200_000
RETRY_SECONDS = 2
_KNOWN = {"description": "what If-None-Match names is still right"}
RecordingId = Annotated[str, InPath(pattern="^[0-9a-f]{32}$")]
ModelId = Annotated[str, InPath(max_length=300)]
ModelQuery = Annotated[str, Query(max_length=300)]
Start = Annotated[float, Query(ge=0, le=1e8, allow_inf_nan=False)]
End = Annotated[float, Query(gt=0, le=1e8, allow_inf_nan=False)]
Points = Annotated[int, Query(ge=1, le=MOST_POINTS)]


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
    answer_errors(app)
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

    @app.get("/api/models", responses=problems())
    def models() -> list[ServedModel]:
        """The models, and how they decide."""
        return [_described(model) for model in desk.models.values()]

    @app.get("/api/recordings", responses=problems())
    def recordings() -> list[ServedRecording]:
        """All recordings by name."""
        return [described(recording, info) for recording, info in desk.library.listed()]

    @app.post("/api/recordings", status_code=201, responses=problems(503))
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

    @app.get("/api/recordings/{recording}", responses=problems(404))
    def one_recording(recording: RecordingId) -> ServedRecording:
        """What is known of a recording."""
        found = desk.recording(recording)
        try:
            return described(found, desk.library.info(found))
        except UserError as error:
            return described(found, error)

    @app.delete("/api/recordings/{recording}", status_code=204, responses=problems(404, 409))
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

    @app.post("/api/recordings/{recording}/analyses", status_code=202, responses=problems(404, 503))
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

    @app.get("/api/jobs/{job}", responses=problems(404))
    def job_state(job: str) -> JobState:
        """How far a job is."""
        known = desk.jobs.get(job)
        if known is None:
            raise HTTPException(404, "there is no such job; it may have ended long ago")
        found, position = known
        return JobState(
            state=found.state, progress=found.progress, position=position, error=found.error
        )

    @app.delete("/api/jobs/{job}", status_code=204, responses=problems(404))
    def cancel(job: str) -> None:
        """Ends a job; one that has ended stays as it is."""
        if desk.jobs.get(job) is None:
            raise HTTPException(404, "there is no such job; it may have ended long ago")
        desk.jobs.cancel(job)

    @app.get(f"{analysis_path}/curves", responses=problems(404, 409))
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

    @app.post(f"{analysis_path}/events", responses=problems(404, 409))
    def events(recording: RecordingId, model: ModelId, order: EventsOrder) -> FoundEvents:
        """The events by the model's rules, or by others; the tags are of the whole recording."""
        found, by = desk.recording(recording), desk.model(model)
        names = list(by.recogniser.class_names)
        for label in order.rules:
            _class_of(names, label)
        analysis = desk.analysis(found, by)
        rules = rules_of(by, order.rules)
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
        responses=pictures | problems(404, 503),
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
        lasting = lasting_headers(found)
        if is_known(request, lasting):
            return Response(status_code=304, headers=lasting)
        show = partial(desk.overviews.spectrogram, found, start, end, (width, height))
        picture: Picture = looked(show)
        headers = lasting if picture.lasting else {"Cache-Control": "no-store"}
        return Response(picture.png, media_type="image/png", headers=headers)

    @app.get("/api/recordings/{recording}/peaks", responses=problems(404, 503))
    def peaks(recording: RecordingId, start: Start, end: End, points: Points) -> Peaks:
        """The smallest and the largest sample of each of ``points`` equal parts."""
        found, start = checked(recording, start, end)
        return Peaks(values=looked(partial(desk.overviews.peaks, found, start, end, points)))

    @lru_cache(maxsize=4)
    def wav(path: Path, name: str, rate_hz: int, start: float, end: float, _: str) -> bytes:
        return as_wav(read(path, rate_hz, start, end), rate_hz)

    sound: dict[int | str, dict[str, Any]] = {
        200: {"content": {"audio/wav": {}}, "description": "16 bit mono"},
        206: {"content": {"audio/wav": {}}, "description": "the bytes asked for"},
        304: _KNOWN,
        416: {"description": "there are no such bytes"},
    }

    @app.get(
        "/api/recordings/{recording}/audio.wav",
        responses=sound | problems(404),
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
        lasting = lasting_headers(found)
        if is_known(request, lasting):
            return Response(status_code=304, headers=lasting)
        try:
            content = wav(found.file(), found.name, rate_hz, start, end, lasting["ETag"])
        except UserError as error:
            raise found.said(error) from error
        return ranged(request, content, lasting)


def _reviews(app: FastAPI, desk: Desk) -> None:
    @app.get("/api/recordings/{recording}/review", responses=problems(404))
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
        responses=problems(404, 428) | {409: {"model": Conflict}},
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
        if not is_number(text):
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

    @app.get("/api/queue", responses=problems(404))
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
            "content": {kind: {} for kind in (*TYPES.values(), "application/octet-stream")},
            "description": "a table",
        }
    }

    @app.get(
        "/api/recordings/{recording}/download",
        responses=table | problems(404, 409),
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

        return attached(write, f"{Path(found.name).stem}{kind.suffix}")

    @app.get("/api/labels", responses=table | problems(), response_class=Response)
    def labels(kind: Literal["strong", "weak"], whole: bool = False) -> Response:
        """Labels of all served recordings that were reviewed, to train with and to evaluate on.

        ``strong`` are the events that people confirmed, corrected or added; with ``whole`` of
        recordings only that were reviewed from start to end, so that whatever is not in the table
        does not sound. ``weak`` says of parts which classes sound in them, and which do not.
        """
        reviews = desk.reviewed()
        if kind == "strong":
            return attached(
                partial(write_strong_labels, reviews=reviews, whole=whole), "strong.tsv"
            )
        return attached(partial(write_weak_labels, reviews=reviews), "weak.tsv")


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


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)
