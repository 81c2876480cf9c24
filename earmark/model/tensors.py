"""Named tensors into a file, without any pickle."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from earmark.writing import replacing, unfinished


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], notes: dict[str, str] | None = None
) -> None:
    """Writes a safetensors file that appears whole or not at all, and survives a loss of power.

    Raises:
        UserError: it can't be written.
    """
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path, beside=unfinished(path), lasting=True) as part:
        part.unlink(missing_ok=True)
        part.touch()
        mode = part.stat().st_mode
        try:
            save_file(copies, part, notes)
            part.chmod(mode)  # that of any new file: safetensors lets nobody else read it
        except SafetensorError as error:
            # It has the system's error in its text alone.
            if code := re.search(r"os error (\d+)", str(error)):
                number = int(code[1])
                raise OSError(number, os.strerror(number)) from error
            raise
