"""Who may ask, and what a page may do: stands before every request and behind every answer."""

import asyncio
import hmac
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException

logger = logging.getLogger("earmark")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "earmark"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SHORTEST_TOKEN = 12

# Of the one style sheet that wavesurfer puts into its shadow root; a new version has another.
_STYLE = "sha256-GDz2FZP0i7VZaDhs1mgc43IRUXU2xajPIjvThHvZvbs="

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'self'; style-src 'self' '{_STYLE}'; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How large a request may be, and how long it may take to arrive."""

    body_bytes: int = 16 << 20
    body_seconds: float = 60.0
    upload_bytes: int = 2 << 30
    upload_seconds: float = 3600.0


class Refused(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers or {}


class Guard:
    """Lets pass who may pass.

    A page of another address can't ask, whatever its name leads to (DNS rebinding): the name that
    is asked for must be this machine's own, or a token is needed. Nor can it have a browser write
    (CSRF): what a browser says of where a request comes from must be here.

    Args:
        app: what is guarded.
        token: what everybody must show, as a bearer or as the cookie that ``/?token=...`` sets.
        any_host: whether any name is good; only with a token.
        limits: of what is sent.
    """

    def __init__(
        self, app: Application, *, token: str | None, any_host: bool, limits: BodyLimits
    ) -> None:
        if any_host and token is None:
            raise ValueError("a server for any host needs a token")
        self._app = app
        self._token = token
        self._any_host = any_host
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        begun = False

        async def dressed(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                own = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"]] + [
                    (name.lower().encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.lower().encode() not in own
                ]
            await send(message)

        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        try:
            self._check_host(headers)
            self._check_origin(scope, headers)
            if self._brings_token(scope):
                await _answer(dressed, 303, "", {"location": "/", "set-cookie": self._cookie()})
                return
            self._check_token(headers)
            received = self._limited(scope, headers, receive)
        except Refused as refused:
            await _answer(dressed, refused.status, str(refused), refused.headers)
            return
        try:
            await self._app(scope, received, dressed)
        except Exception:
            if begun:
                raise
            logger.exception("%s %s failed", scope["method"], scope["path"])
            await _answer(dressed, 500, "something went wrong here; the server's log says why", {})

    def _check_host(self, headers: dict[str, str]) -> None:
        if not self._any_host and _host_name(headers.get("host", "")) not in LOOPBACK:
            raise Refused(421, "this server answers to 127.0.0.1 and localhost only; ask for that")

    def _check_origin(self, scope: Scope, headers: dict[str, str]) -> None:
        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "none")
        here = site in ("same-origin", "none")
        if scope["method"] not in _READING and origin is not None:
            here = here and _netloc(origin) == headers.get("host", "")
        page = scope["method"] in _READING and not scope["path"].startswith("/api/")
        if not here and not page:
            raise Refused(403, "a page of another address may not ask here; open this one's own")

    def _brings_token(self, scope: Scope) -> bool:
        """Whether the address says the token; refuses a wrong one."""
        if self._token is None or scope["path"] != "/":
            return False
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if not given:
            return False
        if not self._right(given[-1]):
            raise _no_token()
        return True

    def _check_token(self, headers: dict[str, str]) -> None:
        if self._token is None:
            return
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._right(bearer.strip()):
            return
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            morsel = None
        if morsel is None or not self._right(morsel.value):
            raise _no_token()

    def _right(self, given: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())

    def _cookie(self) -> str:
        return f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"

    def _limited(self, scope: Scope, headers: dict[str, str], receive: Receive) -> Receive:
        """What gives the body, as long as it is neither too large nor too slow."""
        upload = scope["method"] == "POST" and scope["path"] == "/api/recordings"
        limits = self._limits
        most = limits.upload_bytes if upload else limits.body_bytes
        until = time.monotonic() + (limits.upload_seconds if upload else limits.body_seconds)
        said = headers.get("content-length", "0")
        too_large = f"a request may have {most:,} bytes, this one has more"
        if upload:
            too_large += "; put the recording into a folder and serve that with --audio"
        if said.isdecimal() and (len(said) > 15 or int(said) > most):
            raise Refused(413, too_large, {"connection": "close"})
        got = 0
        whole = False

        async def limited() -> Message:
            nonlocal got, whole
            if whole:
                return await receive()  # which tells that nobody waits any more
            try:
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(
                    408, "the request took too long to arrive; send it again"
                ) from None
            got += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if got > most:
                raise HTTPException(413, too_large)
            return message

        return limited


def _no_token() -> Refused:
    return Refused(
        401,
        "a token is needed: open the address that 'earmark serve' printed, token included",
        {"www-authenticate": "Bearer"},
    )


def _host_name(host: str) -> str:
    """The name in a Host header, without its port; empty if it is none."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+))(?::[0-9]{1,5})?", host)
    return (match[1] or match[2]).lower() if match else ""


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


async def _answer(send: Send, status: int, reason: str, headers: dict[str, str]) -> None:
    body = json.dumps({"error": reason}).encode() if reason else b""
    fields = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        **headers,
    }
    pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
