"""A server in this process, to be asked without a network."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from earmark.inference.fusion import load_recogniser
from earmark.web.analyses import served_models
from earmark.web.desk import Limits
from earmark.web.server import application


@contextmanager
def asked(
    model: Path,
    audio: list[Path],
    work: Path,
    *,
    token: str | None = None,
    any_host: bool = False,
    limits: Limits | None = None,
    host: str = "127.0.0.1:8383",
) -> Iterator[TestClient]:
    """Someone who asks the server, and gets even its failures as answers."""
    models = served_models([model], lambda folder: load_recogniser(folder), "cpu-float32")
    app = application(models, audio, work, token=token, any_host=any_host, limits=limits)
    with TestClient(app, f"http://{host}", raise_server_exceptions=False) as client:
        yield client


def ids(client: TestClient) -> dict[str, str]:
    """Recordings' ids by name."""
    return {one["name"]: one["id"] for one in client.get("/api/recordings").json()}


def ended(client: TestClient, job: str) -> dict[str, Any]:
    """The state of a job when it has ended."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        state: dict[str, Any] = client.get(f"/api/jobs/{job}").json()
        if state["state"] not in ("queued", "running"):
            return state
        time.sleep(0.01)
    raise AssertionError(f"the job did not end: {state}")


def analysed(client: TestClient, recording: str, model: str = "model") -> None:
    """Has a recording analysed."""
    answer = client.post(f"/api/recordings/{recording}/analyses", json={"model": model})
    assert answer.status_code == 202, answer.text
    state = ended(client, answer.json()["job"])
    assert state == {"state": "done", "progress": 1.0, "position": 0, "error": None}
