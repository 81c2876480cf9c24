"""``earmark serve`` from outside: its address, its end, and what is wrong said in a line."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import Scenes

import earmark
from earmark.cli import AFTER_INTERRUPTION, main

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(earmark.__file__).parents[1])}
ENVIRONMENT.pop("EARMARK_TOKEN", None)


@contextmanager
def serving(*words: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of its own on a free port, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "earmark", "serve", "--port", "0", *words],
        env={**ENVIRONMENT, **variables},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # As from a terminal, whoever runs the tests.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.stderr.read()
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")


@pytest.mark.slow
@posix
def test_from_start_to_end(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    work = tmp_path / "work"
    words = ["--model", str(model), "--audio", str(held_out.audio), "--work", str(work)]
    with serving(*words) as (process, address):
        with httpx.Client(base_url=address, timeout=60) as client:
            recordings = client.get("/api/recordings").json()
            recording = recordings[0]["id"]
            order = {"model": "model"}
            job = client.post(f"/api/recordings/{recording}/analyses", json=order).json()["job"]
            until = time.monotonic() + 60
            while client.get(f"/api/jobs/{job}").json()["state"] != "done":
                assert time.monotonic() < until
                time.sleep(0.05)
            sound = sorted(held_out.audio.iterdir())[0].read_bytes()
            sent = client.post("/api/recordings", files={"file": ("a.flac", sound)})
            assert sent.status_code == 201
            answer = client.put(
                f"/api/recordings/{recording}/review",
                params={"model": "model"},
                json={"reviewed": [{"start": 0, "end": 1}]},
                headers={"If-Match": '"0"'},
            )
            assert answer.json() == {"version": 1}
            assert "server" not in answer.headers
        second = subprocess.run(
            [sys.executable, "-m", "earmark", "serve", "--port", "0", *words],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 2
        assert "another server has this folder" in second.stderr
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert said.splitlines()[-1] == f"earmark: interrupted; {AFTER_INTERRUPTION['serve']}"
        assert "Traceback" not in said
    assert not (work / "uploads").exists()
    with serving(*words) as (process, address):
        again = httpx.get(f"{address}api/recordings", timeout=60).json()
        (reviewed,) = [one for one in again if one["review_version"]]
        assert (reviewed["id"], reviewed["analysed"]) == (recording, ["model"])
        assert len(again) == len(recordings)
        assert httpx.post(
            f"{address}api/recordings", files={"file": ("a.flac", sound)}, timeout=60
        ).is_success
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 143
    assert not (work / "uploads").exists()


@pytest.mark.slow
@posix
def test_elsewhere_a_token_is_needed(model: Path, tmp_path: Path) -> None:
    words = ["--model", str(model), "--work", str(tmp_path), "--host", "0.0.0.0"]
    with serving(*words) as (_, address):
        port, token = re.findall(r":(\d+)/\?token=([\w-]{32})$", address)[0]
        here = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{here}/api/models").status_code == 401
        with httpx.Client(base_url=here, follow_redirects=True) as client:
            assert client.get(f"/?token={token}").status_code == 200
            assert client.get("/api/models").is_success
    with serving(*words[:4], EARMARK_TOKEN="from-the-environment") as (_, address):
        assert address.endswith("/?token=from-the-environment")


def test_a_port_that_is_taken(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = ["serve", "--model", str(model), "--work", str(tmp_path), "--port", port]
        assert main(words) == 2
    said = capsys.readouterr().err
    assert f"can't listen at 127.0.0.1, port {port}" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--model", "nowhere"], "nowhere"),
        (["--audio", "nowhere"], "there is no such file or folder"),
        (["--token", "short"], "a token has 12 to 200"),
        (["--token", "a token with spaces"], "a token has 12 to 200"),
        (["--host", "no.such.host.invalid"], "there is no address"),
        (["--port", "70000"], "a port lies between"),
        (["--prot", "1"], "--prot"),
        (["--work", "file"], "the folder can't be made"),
    ],
)
def test_a_users_error(
    words: list[str],
    reason: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    given = ["--port", "0"] if "--port" not in words else []
    given += ["--model", str(model)] if "--model" not in words else []
    assert main(["serve", *given, *words]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1


def test_the_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = importlib.util.find_spec
    monkeypatch.setattr(
        "earmark.tasks.serving.find_spec",
        lambda name: None if name == "uvicorn" else before(name),
    )
    assert main(["serve", "--model", str(tmp_path)]) == 2
    assert "pip install 'earmark[serve]'" in capsys.readouterr().err
