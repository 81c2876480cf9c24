"""Which device, and how many bits, a run uses."""

import ctypes
import sys

import torch

from earmark.errors import UserError
from earmark.model.precision import native_bfloat16


def choose_device(name: str) -> torch.device:
    """The device called ``name``: auto, cpu, cuda or mps; auto takes the fastest that is there."""
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if name not in there:
        raise UserError(f"device must be auto, cpu, cuda or mps, came as '{name}'")
    if not there[name]:
        raise UserError(f"device '{name}' is not there; use --device auto or cpu")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> str:
    """``float32`` or ``bfloat16`` for the convolutions; auto takes bfloat16 where the device
    multiplies it natively."""
    if name != "auto":
        return name
    return "bfloat16" if native_bfloat16(device) else "float32"


def keep_freed_memory() -> None:
    """Lets this process reuse what it frees, where the C library is glibc.

    By default every large tensor is mapped from the system and given back, and a training step
    on a CPU spends a third of its time on the page faults.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)


# From malloc.h; -1 as a threshold means never.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
