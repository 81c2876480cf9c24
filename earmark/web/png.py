"""Shades in, a grey picture out (PNG, ISO/IEC 15948)."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEPTH, _GREY = 8, 0
_LEVEL = 3


def png(shades: NDArray[np.uint8]) -> bytes:
    """A picture of shades (H, W), 0 black and 255 white; whoever shows it may colour it."""
    height, width = shades.shape
    unfiltered = np.zeros((height, width + 1), np.uint8)  # each row says first that it is
    unfiltered[:, 1:] = shades
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, _DEPTH, _GREY, 0, 0, 0)),
        (b"IDAT", zlib.compress(unfiltered.tobytes(), _LEVEL)),
        (b"IEND", b""),
    ]
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check
