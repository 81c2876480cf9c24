"""What the machine reaches at best, to say how far from it a speed is.

python -m benchmarks.floor
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TRIES = 6
MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}
COPIED_BYTES = {"cpu": 2**28, "cuda": 2**30}


@dataclass(frozen=True, slots=True)
class Floor:
    """Rates of a device, at the number of threads that torch had.

    Attributes:
        float32_flops: operations a second of a large matrix product, two for each multiplication
            with its addition.
        bfloat16_flops: the same in bfloat16.
        copy_bytes: bytes a second of a large copy, those read and those written.
    """

    float32_flops: float
    bfloat16_flops: float
    copy_bytes: float

    def seconds(self, operations: float, moved_bytes: float, precision: str) -> float:
        """The least time for so much work, if operations and copies overlap perfectly.

        Args:
            operations: as they are counted above.
            moved_bytes: read and written.
            precision: of the operations, ``float32`` or ``bfloat16``.
        """
        flops = {"float32": self.float32_flops, "bfloat16": self.bfloat16_flops}[precision]
        return max(operations / flops, moved_bytes / self.copy_bytes)

    def __str__(self) -> str:
        return (
            f"a large matrix product reaches {_short(self.float32_flops, 'FLOP')}/s in float32 and "
            f"{_short(self.bfloat16_flops, 'FLOP')}/s in bfloat16, a large copy "
            f"{_short(self.copy_bytes, 'B')}/s (read and written)"
        )


def floor(device: str = "cpu") -> Floor:
    """Measures ``cpu`` or ``cuda``: the best of a few tries, about two seconds in all."""
    return Floor(
        _product_flops(device, torch.float32),
        _product_flops(device, torch.bfloat16),
        _copy_bytes(device),
    )


def _product_flops(device: str, dtype: torch.dtype) -> float:
    size = MATRIX_SIZE[device]
    left = torch.rand(size, size, device=device).to(dtype)
    # The layout of a dense layer's weights, and one that suits every library.
    right = torch.rand(size, size, device=device).to(dtype).T
    product = torch.empty(size, size, device=device, dtype=dtype)
    return 2 * size**3 / _best_seconds(lambda: torch.mm(left, right, out=product), device)


def _copy_bytes(device: str) -> float:
    source = torch.ones(COPIED_BYTES[device] // 4, device=device)
    target = torch.ones_like(source)
    return 2 * COPIED_BYTES[device] / _best_seconds(lambda: target.copy_(source), device)


def _best_seconds(run: Callable[[], Tensor], device: str) -> float:
    taken = []
    for _ in range(TRIES):
        _wait(device)
        started = time.perf_counter()
        run()
        _wait(device)
        taken.append(time.perf_counter() - started)
    return min(taken)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _short(rate: float, unit: str) -> str:
    for factor, letter in ((1e12, "T"), (1e9, "G")):
        if rate >= factor:
            return f"{rate / factor:.3g} {letter}{unit}"
    return f"{rate / 1e6:.3g} M{unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=sorted(MATRIX_SIZE), default="cpu")
    device = parser.parse_args().device
    print(f"{device}, {torch.get_num_threads()} threads: {floor(device)}")


if __name__ == "__main__":
    main()
