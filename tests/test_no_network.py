"""Nothing is fetched and nothing is sent: no command opens a connection."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Scenes
from test_disks import commands, fill

import earmark

PROGRAM = """
import json, sys

seen = []  # what is raised may be caught by who opens the connection

def refuse(event, given):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"):
        seen.append(f"{event} of {given[1:]}")
        raise OSError(seen[-1])

sys.addaudithook(refuse)
from earmark.cli import main

for words in json.load(sys.stdin):
    assert main(words) == 0, words
"""
REPORT = """
print(json.dumps(seen))
"""


@pytest.mark.slow
def test_no_command_opens_a_connection(
    model: Path, clips: Scenes, held_out: Scenes, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    fill(place, model)
    words = commands(place, model, clips, held_out)
    del words["demo"], words["compare"]  # which call the others
    assert events(PROGRAM + REPORT, list(words.values())) == []


@pytest.mark.parametrize(
    "swallowed",
    ["socket.create_connection(('127.0.0.1', 9))", "socket.socket().bind(('127.0.0.1', 0))"],
)
def test_a_connection_is_noticed_whoever_hides_it(swallowed: str) -> None:
    hiding = f"import socket\ntry:\n    {swallowed}\nexcept Exception:\n    pass"
    assert events(PROGRAM + hiding + REPORT, [])


def events(program: str, words: list[list[str]]) -> list[str]:
    """What a process that runs these commands would have opened."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(words),
        env={**os.environ, "PYTHONPATH": str(Path(earmark.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found
