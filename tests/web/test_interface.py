"""Whatever is sent that the description allows, or doesn't: the answers are those it promises."""

import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Scenes
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from earmark.inference.fusion import load_recogniser
from earmark.web.analyses import served_models
from earmark.web.server import application

EXAMPLES = 15
"""Of each request, and as many of what is none."""


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """The address of a real server in a thread."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_server_keeps_to_its_description(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schemathesis = pytest.importorskip("schemathesis")
        # Before the server has threads: Python 3.11 can't rewrite modules in two at once.
        pytest.importorskip("schemathesis.specs.openapi.schemas")

    models = served_models([model], lambda folder: load_recogniser(folder), "cpu float32")
    with listening(application(models, [held_out.audio], tmp_path)) as address:
        recording = httpx.get(f"{address}/api/recordings").json()[0]["id"]
        order = {"model": "model"}
        httpx.post(f"{address}/api/recordings/{recording}/analyses", json=order)
        schema = schemathesis.openapi.from_url(f"{address}/api/openapi.json")
        modes = schemathesis.GenerationMode
        accepted = schemathesis.checks.positive_data_acceptance
        there = {"recording": recording, "model": "model", "start": 0.5, "end": 1.5}
        seen: dict[str, set[int]] = {}

        def check(operation: Any, mode: Any) -> None:
            @seed(0)
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(operation.as_strategy(generation_mode=mode), st.booleans())
            def holds(case: Any, known: bool) -> None:
                # Hardly anything would get past what isn't there.
                if known and mode is modes.POSITIVE:
                    for name, value in there.items():
                        for given_ones in (case.path_parameters, case.query):
                            if name in (given_ones or {}):
                                given_ones[name] = value
                    if isinstance(case.body, dict) and "model" in case.body:
                        case.body["model"] = "model"
                # A schema can't say that an end lies after its start.
                answer = case.call_and_validate(base_url=address, excluded_checks=[accepted])
                seen.setdefault(operation.label, set()).add(answer.status_code)

            try:
                holds()
            except Unsatisfiable:
                assert mode is modes.NEGATIVE  # nothing can be wrong where nothing is said

        for found in schema.get_all_operations():
            for mode in (modes.POSITIVE, modes.NEGATIVE):
                check(found.ok(), mode)
        answered = {label for label, codes in seen.items() if min(codes) < 300}
        assert len(seen) > 15
        # An id of a job, or a sound to send, is nothing that is guessed.
        assert seen.keys() - answered <= {
            "GET /api/jobs/{job}",
            "DELETE /api/jobs/{job}",
            "DELETE /api/recordings/{recording}",
            "POST /api/recordings",
            "PUT /api/recordings/{recording}/review",
        }
