"""Which devices multiply in bfloat16 by themselves."""

from collections.abc import Callable

import torch


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively, so that it is quicker than float32."""
    if device.type == "cuda":
        supported: bool = torch.cuda.is_bf16_supported(including_emulation=False)
        return supported
    known: Callable[[], bool] | None = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and known is not None and known()
