"""Who may ask: requests that are refused, and what every answer says to the browser."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Scenes
from desks import analysed, asked, ids
from starlette.testclient import TestClient

from earmark.web.desk import Limits
from earmark.web.security import HEADERS, BodyLimits, Guard

TOKEN = "a-token-that-nobody-guesses"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8383", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8383", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:8383", 421),
        ("evil.example@127.0.0.1:x", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_only_this_machines_names_are_answered(
    model: Path, tmp_path: Path, host: str, status: int
) -> None:
    with asked(model, [], tmp_path) as client:
        for path in ("/", "/api/models", "/static/style.css"):
            assert client.get(path, headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "http://127.0.0.1:8383"}, True),
        ({"Origin": "http://127.0.0.1:8383", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "http://127.0.0.1:9999"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[::1"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
    ],
)
def test_another_page_can_not_write(
    model: Path, held_out: Scenes, tmp_path: Path, headers: dict[str, str], allowed: bool
) -> None:
    with asked(model, [held_out.audio], tmp_path) as client:
        recording = next(iter(ids(client).values()))
        path = f"/api/recordings/{recording}"
        review = {"url": f"{path}/review", "params": {"model": "model"}, "json": {}}
        answers = [
            client.put(**review, headers={"If-Match": "0", **headers}),
            client.post(f"{path}/analyses", json={"model": "model"}, headers=headers),
            client.post("/api/recordings", files={"file": b"x"}, headers=headers),
            client.delete(path, headers=headers),
        ]
        assert [answer.status_code == 403 for answer in answers] == [not allowed] * 4
        version = client.get(path).json()["review_version"]
        assert version == int(allowed)


def test_another_page_can_not_read(model: Path, tmp_path: Path) -> None:
    with asked(model, [], tmp_path) as client:
        elsewhere = {"Sec-Fetch-Site": "cross-site"}
        assert client.get("/api/recordings", headers=elsewhere).status_code == 403
        assert client.get("/", headers=elsewhere).status_code == 200  # a link that leads here


def test_without_the_token_nothing_is_said(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    with asked(
        model, [held_out.audio], tmp_path, token=TOKEN, any_host=True, host="my.machine:80"
    ) as client:
        paths = ("/", "/static/style.css", "/api/models", "/api/openapi.json", "/api/nothing")
        for headers in (
            {},
            {"Authorization": "Bearer "},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Cookie": "earmark=wrong"},
            {"Cookie": "\x01"},
        ):
            for path in paths:
                answer = client.get(path, headers=headers)
                assert answer.status_code == 401
                assert "token" in answer.json()["error"]
        assert client.get("/?token=wrong").status_code == 401
        assert client.get(f"/api/models?token={TOKEN}").status_code == 401
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get("/api/models", headers=bearer).status_code == 200

        opened = client.get(f"/?token={TOKEN}", follow_redirects=False)
        assert (opened.status_code, opened.headers["location"]) == (303, "/")
        cookie = opened.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        for path in ("/", "/api/models", "/api/recordings"):
            assert client.get(path).status_code == 200  # the client keeps the cookie


def test_a_server_for_any_host_has_a_token(model: Path, tmp_path: Path) -> None:
    async def nothing(*_: object) -> None:
        """Is never asked."""

    with pytest.raises(ValueError, match="needs a token"):
        Guard(nothing, token=None, any_host=True, limits=BodyLimits())


def test_every_answer_is_dressed(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    with asked(model, [held_out.audio], tmp_path) as client:
        recording = next(iter(ids(client).values()))
        analysed(client, recording)
        client.app.state.desk.library.all = None  # type: ignore[attr-defined]
        answers = [
            client.get("/"),
            client.get("/static/style.css"),
            client.get("/api/models"),
            client.get("/api/nothing"),
            client.get("/api/models", headers={"Host": "evil"}),
            client.post("/api/recordings", data={}),
            client.get("/api/queue", params={"model": "model"}),
        ]
        assert [a.status_code for a in answers] == [200, 200, 200, 404, 421, 422, 500]
        for answer in answers:
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS
            assert "server" not in answer.headers
        assert answers[-1].json() == {
            "error": "something went wrong here; the server's log says why"
        }
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_what_is_too_large(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    sound = sorted(held_out.audio.iterdir())[0].read_bytes()
    small = Limits(body=BodyLimits(body_bytes=1000, upload_bytes=len(sound)))
    with asked(model, [], tmp_path, limits=small) as client:
        told = client.post("/api/recordings", files={"file": ("a.flac", sound)})
        assert told.status_code == 413
        assert "--audio" in told.json()["error"]

        def parts() -> Any:
            yield from (sound[i : i + 512] for i in range(0, len(sound), 512))
            yield b"\0" * 2000

        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n'
        untold = client.post(
            "/api/recordings",
            content=(part for part in [head, *parts()]),
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
        assert untold.status_code == 413
        assert client.get("/api/recordings").json() == []
        long = client.post("/api/recordings/x/analyses", json={"model": "m" * 2000})
        assert long.status_code == 413
        endless = client.post(
            "/api/recordings", content=b"", headers={"Content-Length": "9" * 5000}
        )
        assert endless.status_code == 413


def test_what_is_too_slow() -> None:
    limits = BodyLimits(body_seconds=0.05)
    heard: list[Any] = []

    async def app(_: Any, receive: Callable[[], Awaitable[Any]], __: Any) -> None:
        try:
            await receive()
        except Exception as error:
            heard.append(error)

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(_: Any) -> None:
        """Nobody listens."""

    scope = {
        "type": "http",
        "method": "PUT",
        "path": "/api/x",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    guard = Guard(app, token=None, any_host=False, limits=limits)
    asyncio.run(guard(scope, receive, send))
    assert heard[0].status_code == 408


def test_web_sockets_are_refused(model: Path, tmp_path: Path) -> None:
    from starlette.websockets import WebSocketDisconnect

    with (
        asked(model, [], tmp_path) as client,
        pytest.raises(WebSocketDisconnect),
        TestClient.websocket_connect(client, "/"),
    ):
        pass
