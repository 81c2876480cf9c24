"""A real server and a real browser for the tests of the page."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium isn't installed")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Served:
    """``earmark serve`` in a process of its own, which can die and come back."""

    def __init__(self, model: Path, audio: Path, work: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "earmark", "serve", "--device", "cpu"]
        self._command += ["--model", str(model), "--audio", str(audio), "--work", str(work)]
        self._command += ["--port", str(self.port)]
        self._log = work.with_suffix(".log")

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=environment, stdout=log, stderr=log)
        until = time.monotonic() + 400
        while time.monotonic() < until:
            assert self._process.poll() is None, self._log.read_text()
            try:
                httpx.get(f"{self.url}/api/models")
                return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(f"the server does not answer: {self._log.read_text()}")

    def kill(self) -> None:
        """As if the power failed."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def revive(self) -> None:
        """Starts it again if it is dead."""
        if self._process.poll() is not None:
            self.start()

    def get(self, path: str, **query: Any) -> Any:
        """What it answers under /api."""
        answer = httpx.get(f"{self.url}/api{path}", params=query, timeout=60)
        answer.raise_for_status()
        is_json = answer.headers["content-type"] == "application/json"
        return answer.json() if is_json else answer.text

    def recording(self, name: str) -> dict[str, Any]:
        """A recording's row."""
        return next(row for row in self.get("/recordings") if row["name"] == name)

    def review(self, name: str) -> dict[str, Any]:
        """What is decided about a recording."""
        return dict(self.get(f"/recordings/{self.recording(name)['id']}/review", model="model"))


class Visitor:
    """A page with what it asked for, and what went wrong on it."""

    def __init__(self, page: Any, served: Served) -> None:
        self.page = page
        self.served = served
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.bytes = 0
        page.on("console", self._told)
        page.on("pageerror", lambda error: self.faults.append(f"{error}\n{error.stack}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("response", self._answered)

    def _told(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def _answered(self, response: Any) -> None:
        self.bytes += int(response.headers.get("content-length", 0))

    def open(self, name: str | None = None) -> None:
        """Opens the page, with a recording if one is named, and waits for its events."""
        fragment = ""
        if name is not None:
            fragment = f"#recording={self.served.recording(name)['id']}&model=model"
        self.page.goto(f"{self.served.url}/{fragment}")
        if name is None:
            self.page.wait_for_selector("#recordings button")
        else:
            self.await_events()

    def await_events(self) -> None:
        """Waits until the recording is analysed and its events are there."""
        self.page.wait_for_selector("#job", state="hidden", timeout=60_000)
        self.page.wait_for_selector("#add:not(:disabled)")
        self.page.wait_for_selector(".lane .event")

    def drawn(self) -> None:
        """Waits until the page shows what was done: it draws with a frame, and then focuses."""
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def kept(self) -> None:
        """Waits until the server has everything."""
        self.drawn()
        self.page.wait_for_selector("#kept[data-state=kept]")

    def count(self, label: str) -> int:
        """Events of a class, as its lane says."""
        self.drawn()
        return int(self.lane(label).locator(".count").inner_text().split()[0])

    def lane(self, label: str) -> Any:
        """The lane of a class."""
        return self.page.get_by_role("region", name=label, exact=True)

    def events(self, label: str) -> Any:
        """The events of a class on the screen."""
        return self.lane(label).locator(".event")

    def said(self, words: str) -> None:
        """Waits until the page says so to those who listen."""
        playwright.expect(self.page.locator("#live")).to_contain_text(words)

    def chosen(self) -> str:
        """The title of the panel of the chosen event."""
        self.drawn()
        return str(self.page.locator("#inspector-title").inner_text())

    def press(self, *keys: str) -> None:
        """Presses keys, with time for the page to follow."""
        for key in keys:
            self.page.keyboard.press(key)
            self.drawn()


def times(words: str) -> tuple[float, float]:
    """Onset and offset of what an event is called."""
    found = re.search(r"(\d+):(\d+\.\d+) to (\d+):(\d+\.\d+)", words)
    assert found, words
    minutes, seconds, end_minutes, end_seconds = map(float, found.groups())
    return 60 * minutes + seconds, 60 * end_minutes + end_seconds
