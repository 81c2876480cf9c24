"""A model and recordings in; a page in the browser to look, listen and correct."""

import os
import re
import signal
import socket
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import quote

from filelock import FileLock, Timeout

from earmark.config import Precision
from earmark.errors import UserError
from earmark.model.hub import BUNDLED
from earmark.tasks.progress import counted, say
from earmark.tasks.recordings import made_folder

if TYPE_CHECKING:
    from fastapi import FastAPI

TOKEN_VARIABLE = "EARMARK_TOKEN"
_NEEDED = ("fastapi", "uvicorn", "python_multipart")
_LAST_SECONDS = 5


def serve(
    *,
    model: Sequence[Path] = (BUNDLED,),
    audio: Sequence[Path] = (),
    work: Path = Path("earmark-review"),
    host: str = "127.0.0.1",
    port: int = 8383,
    token: str | None = None,
    open: bool = False,
    device: str = "auto",
    precision: Precision = "auto",
) -> None:
    """Shows what models find, in the browser: look, listen, correct, and take labels home.

    The page works without the network. Reviews are kept at once and outlast the server; what was
    uploaded goes with it.

    Args:
        model: model folders, or hf://USER/NAME; without, the one in the box.
        audio: recordings, and folders that are searched; others can be uploaded.
        work: the folder that keeps reviews and probabilities; of one server at a time.
        host: the address to listen at; 0.0.0.0 for all of this machine, which needs a token.
        port: likewise; 0 for any that is free.
        token: what everybody has to show; without, one is made if the host needs one. Better given
            as EARMARK_TOKEN, since others on this machine see what was typed.
        open: opens the page in the browser.
        device: auto, cpu, cuda or mps.
        precision: of the networks: float32 (the reference), bfloat16, or auto for the fastest here.

    Raises:
        UserError: something isn't there, the port is taken, or another server has the folder.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UserError(f"serve needs {missing[0]}; install it: pip install 'earmark[serve]'")
    # Torch takes a second to import: help and errors in what was typed should not wait for it.
    from earmark.web.security import LOOPBACK

    elsewhere = host not in LOOPBACK
    token = _checked_token(token or os.environ.get(TOKEN_VARIABLE) or None, elsewhere)
    if not model:
        raise UserError("give at least one model folder with --model")
    if not 0 <= port <= 65535:
        raise UserError(f"a port lies between 0 and 65535, came as {port}")
    with _listening(host, port) as listener, _alone(work):
        app = _application(model, audio, work, token, elsewhere, device, precision)
        address = _address(host, listener, token)
        recordings = counted(len(app.state.desk.library), "recording")
        say(f"{recordings} at {address}")
        say(f"reviews are kept in {work}; Ctrl-C ends the server")
        if open:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        _run(app, listener)


def _application(
    model: Sequence[Path],
    audio: Sequence[Path],
    work: Path,
    token: str | None,
    elsewhere: bool,
    device: str,
    precision: Precision,
) -> "FastAPI":
    from earmark.inference.fusion import load_recogniser
    from earmark.training.devices import choose_device
    from earmark.web.analyses import served_models
    from earmark.web.server import application

    chosen = choose_device(device)
    models = served_models(
        model,
        lambda folder: load_recogniser(folder, chosen, precision),
        f"{chosen.type}-{precision}",
    )
    return application(models, audio, work, token=token, any_host=elsewhere)


def _run(app: "FastAPI", listener: socket.socket) -> None:
    import uvicorn

    def end(_: int, __: FrameType | None) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=200,
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    # The server ends in peace, and then raises the signal again.
    before = signal.signal(signal.SIGTERM, end)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)
        app.state.desk.close()


def _checked_token(token: str | None, elsewhere: bool) -> str | None:
    from earmark.web.security import SHORTEST_TOKEN
    from earmark.web.server import new_token

    if token is None:
        return new_token() if elsewhere else None
    if not re.fullmatch(rf"[A-Za-z0-9._~-]{{{SHORTEST_TOKEN},200}}", token):
        raise UserError(
            f"a token has {SHORTEST_TOKEN} to 200 letters, digits, or any of . _ ~ -; give "
            "another, or leave it out"
        )
    return token


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens, which says at once if the port is taken."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f"there is no address '{host}' here: {error.strerror}") from error
    with listener:
        try:
            if os.name == "posix":  # elsewhere two servers could then share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen(128)
        except OSError as error:
            raise UserError(
                f"can't listen at {host}, port {port}: {error.strerror}; give another with "
                "--port, or 0 for any that is free"
            ) from error
        yield listener


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Sees to it that one server at a time writes to the folder."""
    lock = FileLock(made_folder(work) / ".lock")
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout:
        raise UserError(
            "another server has this folder; end it, or give another with --work", where=work
        ) from None


def _address(host: str, listener: socket.socket, token: str | None) -> str:
    """What to open in a browser."""
    port = listener.getsockname()[1]
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + (f"?token={quote(token)}" if token else "")
