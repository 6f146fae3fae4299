"""The processes that share a training, and the device that each one uses.

A step of training has `accumulate` micro-batches, each with random numbers of its own, and the workers divide them
among themselves. The result of a step then depends on the number of micro-batches and, but for the order of sums, not
on the number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from popgen.configs.generator import GeneratorConfig
from popgen.errors import BadInput


@dataclass(frozen=True)
class Workers:
    """This worker's rank among `count` workers, its device, and the type in which matrix products are computed."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"
    precision: torch.dtype = torch.float32

    @classmethod
    def find(cls, config: GeneratorConfig, device: str | None = None) -> Workers:
        """Describe this process: the only worker, or one of a torch.distributed process group that has been set up.

        Args:
            device: None: as `config.device` says.

        Raises:
            BadInput: the micro-batches cannot be divided evenly, or there is no GPU where the settings ask for one.
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
        """Whether this worker writes files and reports progress."""
        return self.rank == 0

    def metrics(self, seconds: float, losses: dict[str, dict[str, float]], steps: dict[str, int]) -> dict[str, Any]:
        """Return what a generator records of its training: how long it took, where, and each stage's losses at its end and its steps."""
        where = {"device": self.device, "workers": self.count}
        return {"seconds": round(seconds, 1), **where, "losses": losses, "steps": steps}

    def micro_batches(self, accumulate: int) -> range:
        """Return the numbers of the micro-batches of a step that this worker computes."""
        each = accumulate // self.count
        return range(self.rank * each, (self.rank + 1) * each)

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context for the losses; weights, gradients and the optimizer stay in float32."""
        kind = self.device.partition(":")[0]
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self.precision == torch.bfloat16)

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients over workers; a parameter that no worker used gets none."""
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
        """Return the rows (n, ...) of all workers in the order of their ranks; each must have the same number."""
        if self.count == 1:
            return rows
        everyone = [torch.empty_like(rows) for _ in range(self.count)]
        dist.all_gather(everyone, rows.contiguous())
        return torch.cat(everyone)


def check_workers(config: GeneratorConfig, count: int) -> None:
    """Refuse a number of workers that does not divide the number of micro-batches in a step.

    Raises:
        BadInput: it does not.
    """
    if count < 1 or config.accumulate % count:
        raise BadInput(
            f"{count} workers cannot share a step of {config.accumulate} micro-batches",
            "every worker takes the same number of them (generator.accumulate)",
            f"Set generator.accumulate to a multiple of {max(count, 1)}; a step then has that many batches.",
        )
