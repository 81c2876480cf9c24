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

def refuse(event, given):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"):
        raise AssertionError(f"{event} of {given[1:]}")

sys.addaudithook(refuse)
from earmark.cli import main

for words in json.load(sys.stdin):
    assert main(words) == 0, words
import socket
try:
    socket.create_connection(("127.0.0.1", 9))
except AssertionError:
    print("refused")
"""


@pytest.mark.slow
def test_no_command_opens_a_connection(
    model: Path, clips: Scenes, held_out: Scenes, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    fill(place, model)
    words = commands(place, model, clips, held_out)
    del words["demo"], words["compare"]  # which call the others
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(list(words.values())),
        env={**os.environ, "PYTHONPATH": str(Path(earmark.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "refused"
