"""Where a run was: one file that is replaced whole after every epoch, without any pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from earmark.errors import UserError
from earmark.model.tensors import write_tensors


def save_tensors(path: Path, tensors: dict[str, Tensor], notes: dict[str, Any]) -> None:
    """Writes named tensors and JSON notes into a file that appears whole or not at all."""
    write_tensors(path, tensors, {"notes": json.dumps(notes)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What ``save_tensors`` wrote; a UserError if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            notes = json.loads((file.metadata() or {}).get("notes", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, notes  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"is not a readable file of tensors ({error})", where=path) from error


def training_state(
    network: nn.Module, optimiser: torch.optim.Optimizer, **others: nn.Module | None
) -> dict[str, Tensor]:
    """All that the next step depends on: weights of all networks, moments, random state."""
    state: dict[str, Tensor] = {}
    for part, module in {"network": network, **others}.items():
        if module is not None:
            state |= {f"{part}/{name}": tensor for name, tensor in module.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        for name, value in moments.items():
            state[f"optimiser/{index}/{name}"] = torch.as_tensor(value)
    state["random"] = torch.get_rng_state()
    if next(network.parameters()).is_cuda:
        state["random_cuda"] = torch.cuda.get_rng_state()
    return state


def restore(
    state: dict[str, Tensor],
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    **others: nn.Module | None,
) -> None:
    """Puts all of them back to where ``training_state`` saw them."""
    for part, module in {"network": network, **others}.items():
        if module is not None:
            start = f"{part}/"
            own = {n.removeprefix(start): t for n, t in state.items() if n.startswith(start)}
            module.load_state_dict(own)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name.startswith("optimiser/"):
            _, index, key = name.split("/")
            moments.setdefault(int(index), {})[key] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": moments, "param_groups": groups})
    torch.set_rng_state(state["random"])
    if "random_cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["random_cuda"])
