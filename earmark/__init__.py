"""From clip labels to timestamps: weakly supervised sound event detection.

model = earmark.load("model")
model.detect("recording.wav")  # [Event(onset_seconds, offset_seconds, label, score), ...]
"""

from pathlib import Path
from typing import TYPE_CHECKING

from earmark.errors import UserError
from earmark.events import Event
from earmark.scores import ScoreTrack

if TYPE_CHECKING:
    from earmark.inference.recogniser import Recogniser

__all__ = ["Event", "ScoreTrack", "UserError", "load"]


def load(model: str | Path, device: str = "auto", precision: str = "auto") -> "Recogniser":
    """The recogniser in a model folder: ``detect``, ``tag`` and ``scores`` of recordings.

    Args:
        model: the folder, or ``hf://USER/NAME`` of a model on the Hugging Face hub, or ``bundled``
            for the one that comes with the package.
        device: auto, cpu, cuda or mps.
        precision: float32 for plain torch, whose numbers are the reference; bfloat16; or auto for
            the quickest that the machine has: probabilities within 0.01 of the reference.

    Raises:
        UserError: the folder holds no model, or a damaged one.
    """
    # Torch takes a second to import; only who loads a model waits for it.
    from earmark.inference.fusion import load_recogniser
    from earmark.model.hub import named
    from earmark.training.devices import choose_device

    return load_recogniser(named(model), choose_device(device), precision)
