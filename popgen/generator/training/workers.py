"""Where a training runs: on which device, and beside which other workers of the same training.

Every step of training has `accumulate` parts, each with random numbers of its own; the workers share the parts out among them. What a
step does then depends on the number of parts, not on that of the workers, up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist

from popgen.configs.generator import GeneratorConfig
from popgen.errors import BadInput


@dataclass(frozen=True)
class Workers:
    """This worker's place among all of them, its device, and the type that products are computed in."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"
    precision: torch.dtype = torch.float32

    @classmethod
    def find(cls, config: GeneratorConfig, device: str | None = None) -> Workers:
        """This process: alone, or one of a process group that has been set up.

        Args:
            device: None: as `config.device` says.

        Raises:
            BadInput: the parts of a step cannot be shared out, or there is no GPU where the settings ask for one.
        """
        joined = dist.is_available() and dist.is_initialized()
        rank, count = (dist.get_rank(), dist.get_world_size()) if joined else (0, 1)
        check_workers(config, count)
        if config.device == "cuda" and not torch.cuda.is_available():
            raise BadInput("generator.device is cuda", "torch finds no GPU here", "Set it to auto or cpu.")
        if device is None:
            device = "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"
        half = config.precision == "bfloat16"
        if config.precision == "auto":  # on CPUs bfloat16 is emulated more often than not, and 50 times slower
            half = device.startswith("cuda") and torch.cuda.is_bf16_supported()
        return cls(rank, count, device, torch.bfloat16 if half else torch.float32)

    @property
    def is_first(self) -> bool:
        """Whether it is this one that writes and reports."""
        return self.rank == 0

    def parts(self, accumulate: int) -> range:
        """The parts of a step that are this worker's."""
        each = accumulate // self.count
        return range(self.rank * each, (self.rank + 1) * each)

    def autocast(self) -> AbstractContextManager[object]:
        """For the losses; weights, gradients and optimizer stay in float32."""
        kind = self.device.partition(":")[0]
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self.precision == torch.bfloat16)

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients over workers; a parameter that none of them used stays without."""
        if self.count == 1:
            return
        used = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
        dist.all_reduce(used)
        some = [p for p, n in zip(parameters, used.tolist(), strict=True) if n]
        if not some:
            return
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in some])
        dist.all_reduce(flat)
        for p, grad in zip(some, flat.split([p.numel() for p in some]), strict=True):
            p.grad = grad.view_as(p).clone()

    def gather(self, rows: Tensor) -> Tensor:
        """Rows (n, ...) of all workers, the first one's first; all have as many."""
        if self.count == 1:
            return rows
        everyone = [torch.empty_like(rows) for _ in range(self.count)]
        dist.all_gather(everyone, rows.contiguous())
        return torch.cat(everyone)


def check_workers(config: GeneratorConfig, count: int) -> None:
    """Refuse a number of workers that the parts of a step cannot be shared out among.

    Raises:
        BadInput: they cannot.
    """
    if count < 1 or config.accumulate % count:
        raise BadInput(
            f"{count} workers cannot share a step of {config.accumulate} parts",
            "every worker takes as many parts (generator.accumulate) as any other",
            f"Set generator.accumulate to a multiple of {max(count, 1)}: a step then sees as many batches.",
        )
