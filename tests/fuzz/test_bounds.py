"""Files that say more than they hold: read or refused in bounded memory and time.

Each runs in a process of its own, whose memory may grow by no more than a few hundred megabytes.
"""

import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from parsers import model_files

import earmark

MOST_BYTES = 512 * 2**20

PROGRAM = """
import resource, sys
from pathlib import Path
import torch
from earmark import audio
from earmark.errors import UserError
from earmark.formats.labels import read_labels
from earmark.model.bundle import load

held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + {most}, held + {most}))
path = Path({path!r})
try:
    {work}
except UserError as error:
    print(error)
"""

READ = """
    audio.probe(path)
    audio.read(path, 16_000, 0.0, 10.0)
    total = 0
    for block in audio.blocks(path, 16_000, 10.0):
        total += block.size
        if total > 16_000 * 600:
            break
    print(total)
"""


def bounded(path: Path, work: str, most: int = MOST_BYTES) -> str:
    """What is printed, in a process that may take little memory and a minute."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is bounded by means of Linux")
    code = PROGRAM.format(path=str(path), work=work.strip(), most=most)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(earmark.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def sound(path: Path, seconds: float = 0.1, **kind: str) -> bytearray:
    noise = np.random.default_rng(0).normal(0, 0.1, round(16_000 * seconds))
    file = io.BytesIO()
    soundfile.write(file, noise, 16_000, format=path.suffix[1:].upper(), **kind)
    return bytearray(file.getvalue())


def lying_wav(path: Path) -> bytearray:
    raw = sound(path)
    raw[4:8] = raw[40:44] = struct.pack("<I", 0xFFFFFFF0)
    return raw


def lying_flac(path: Path) -> bytearray:
    raw = sound(path)
    raw[21] |= 0x0F  # the upper 4 of the 36 bits of total samples
    raw[22:26] = b"\xff" * 4
    return raw


def lying_ogg(path: Path) -> bytearray:
    raw = sound(path)
    last = raw.rindex(b"OggS")
    raw[last + 6 : last + 14] = struct.pack("<q", 2**60)
    return raw


def many_channels(path: Path) -> bytearray:
    raw = sound(path)
    raw[22:24] = struct.pack("<H", 1024)
    return raw


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "forge"),
    [
        ("long.wav", lying_wav),
        ("long.flac", lying_flac),
        ("long.ogg", lying_ogg),
        ("wide.wav", many_channels),
    ],
)
def test_a_sound_that_says_it_is_huge(tmp_path: Path, name, forge) -> None:
    path = tmp_path / name
    path.write_bytes(forge(path))
    assert bounded(path, READ)


@pytest.mark.slow
@pytest.mark.parametrize("rates", [(1, 400_000), (10_000_000, 1), (10_000_000, 16_000)])
def test_rates_far_apart_take_bounded_memory(tmp_path: Path, rates) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(3 * max(rates[0], 3), np.int16)[:3_000_000], rates[0])
    work = f"""
    print(audio.read(path, {rates[1]}, 0.0, 0.3).size)
    print(sum(block.size for block in audio.blocks(path, {rates[1]}, 0.1)))
"""
    assert bounded(path, work)


def forged_model(folder: Path, header: bytes, size: int | None = None, **network: object) -> Path:
    text, weights = model_files()
    described = json.loads(text)
    described["settings"]["network"] |= network
    (folder / "model.json").write_text(json.dumps(described))
    if header:
        length = len(header) if size is None else size
        weights = struct.pack("<Q", length) + header
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.mark.slow
def test_weights_that_say_they_are_huge(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2**18, 2**20], "data_offsets": [0, 2**40]}
    header = json.dumps({"0/classifier": entry}).encode()
    assert "can't be read" in bounded(forged_model(tmp_path, header), "load(path)")
    assert "can't be read" in bounded(forged_model(tmp_path, b"{}", 2**40), "load(path)")
    assert "can't be read" in bounded(forged_model(tmp_path, b"[" * 10**6), "load(path)")


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        {"filters": 4096, "layers_per_block": 16, "kernel_size": 31},
        {"recurrent": "gru", "recurrent_units": 8192},
    ],
)
def test_settings_of_a_huge_network_make_none(tmp_path: Path, network) -> None:
    assert "does not fit" in bounded(forged_model(tmp_path, b"", **network), "load(path)")
