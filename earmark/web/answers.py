"""How the server answers: errors in a line, files to be saved, parts of what is played."""

import io
import tempfile
import wave
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException

from earmark.errors import UserError, printable
from earmark.web.analyses import NotAnalysed
from earmark.web.desk import not_analysed
from earmark.web.library import Recording
from earmark.web.messages import Problem
from earmark.web.overview import VERSION as OVERVIEW_VERSION
from earmark.web.reviews import OtherVersion

TYPES = {  # of tables, by the ends of their names
    ".csv": "text/csv; charset=utf-8",
    ".tsv": "text/tab-separated-values; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".txt": "text/plain; charset=utf-8",
}


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What else a route may answer."""
    return {code: {"model": Problem} for code in (400, 401, 403, 408, 413, 421, 422, 500, *codes)}


def answer_errors(app: FastAPI) -> None:
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


def lasting_headers(recording: Recording) -> dict[str, str]:
    """Says to a browser, which is to ask each time, whether the file is as it was."""
    state = "-".join(str(number) for number in (OVERVIEW_VERSION, *recording.state()))
    return {"Cache-Control": "private, no-cache", "ETag": f'"{state}"'}


def is_known(request: Request, lasting: Mapping[str, str]) -> bool:
    """Whether the browser has what these headers go with."""
    return request.headers.get("if-none-match") == lasting["ETag"]


def as_wav(samples: Any, rate_hz: int) -> bytes:
    """Samples (N,) as a file of 16 bits."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        steps = np.clip(np.rint(samples * 32768.0), -32768, 32767)
        file.writeframes(steps.astype("<i2").tobytes())
    return content.getvalue()


def ranged(request: Request, content: bytes, headers: Mapping[str, str]) -> Response:
    """The content, or the range of it that was asked for, without which browsers can't seek."""
    headers = {"Accept-Ranges": "bytes", **headers}
    unit, _, asked = request.headers.get("range", "").partition("=")
    first, dash, last = asked.partition("-")
    plain = all(not text or is_number(text) for text in (first, last))
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


def is_number(text: str) -> bool:
    """Whether a header's text is a number that can be read."""
    return text.isascii() and text.isdecimal() and len(text) < 16


def attached(write: Callable[[Path], None], name: str) -> Response:
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
    kind = TYPES.get(path.suffix, "application/octet-stream")
    return Response(content, media_type=kind, headers=headers)
