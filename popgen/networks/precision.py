"""Precision in which networks are run: whether a processor is made for bfloat16, and whether that pays for a network.

bfloat16 has the range of float32 and 8 bits of precision. CPUs with avx512_bf16 or AMX and GPUs from NVIDIA's Ampere on
multiply it about twice as fast as float32 or faster; other processors emulate it, which is slower than float32. Networks
with small layers, such as those for 8x8 digits, gain nothing anywhere, because they do not spend their time in products.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.networks.passes import Passes
from popgen.networks.threads import threads
from popgen.types import Images, StateDict

FLOAT32, BFLOAT16 = "float32", "bfloat16"
MARGIN = 1.2  # bfloat16 must be so many times as fast: less would not pay for its rounding, and timing varies by less
# Largest difference of the logits, relative to their own spread. Trained ResNets differ by .01; at .1 the ranks of near
# candidates would be those of the rounding.
TOLERANCE = 0.03
_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16")  # x86 has the first two, ARM the others
_BATCHES, _REPEATS = 2, 5


def has_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Return whether this machine's CPU, or its current GPU, computes in bfloat16 natively."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return multiplies_bfloat16(_capabilities())


def multiplies_bfloat16(capabilities: Mapping[str, Any]) -> bool:
    """Return whether a CPU with these capabilities, named as by torch.cpu, has an instruction for products in bfloat16.

    >>> multiplies_bfloat16({"avx512_bf16": True}), multiplies_bfloat16({"avx2": True, "avx512_bf16": False})
    (True, False)
    """
    return any(capabilities.get(name) for name in _INSTRUCTIONS)


@dataclass(frozen=True)
class Compared:
    """A network's passes in both precisions: the median time of one in seconds, and how much the logits differ.

    `difference` is the root mean square of the logits' difference, relative to their standard deviation within an example;
    for language models, whose outputs are logarithms of the next tokens' probabilities, to that over all tokens.
    """

    float32: float
    bfloat16: float
    difference: float

    @property
    def times(self) -> float:
        """How many times as fast bfloat16 is."""
        return self.float32 / max(self.bfloat16, 1e-12)

    @property
    def faster(self) -> str:
        """The precision to take: bfloat16 where it is faster by a clear margin and the logits agree.

        >>> Compared(1.0, 0.5, 0.01).faster, Compared(1.0, 0.9, 0.01).faster, Compared(1.0, 0.5, float("nan")).faster
        ('bfloat16', 'float32', 'float32')
        """
        return BFLOAT16 if self.times >= MARGIN and self.difference <= TOLERANCE else FLOAT32

    def text(self) -> str:
        """Return the reason for people.

        >>> Compared(1.0, 0.5, 0.0101).text()
        'it is 2.0 times as fast as float32, and the logits differ by 0.010 of their spread'
        >>> Compared(1.0, 0.9, 0.01).text()
        'bfloat16 is only 1.1 times as fast, and less than 1.2 does not pay for its rounding'
        >>> Compared(1.0, 0.5, 0.2).text()
        'in bfloat16 the logits differ by 0.200 of their spread, and up to 0.03 is taken'
        """
        if self.faster == BFLOAT16:
            return f"it is {self.times:.1f} times as fast as float32, and the logits differ by {self.difference:.3f} of their spread"
        if self.times < MARGIN:
            return (
                f"bfloat16 is only {self.times:.1f} times as fast, and less than {MARGIN} does not pay for its rounding"
            )
        return f"in bfloat16 the logits differ by {self.difference:.3f} of their spread, and up to {TOLERANCE} is taken"


def compare_precisions(spec: ArchSpec, flat: Tensor, inputs: Images, fixed: StateDict | None = None) -> Compared:
    """Time the passes of a network (p,) in float32 and bfloat16 by turns, on one thread, and compare the logits.

    On a CPU the time is that of the thread, so that other work on the machine matters little.

    Args:
        inputs: prepared inputs (n, ...) on the device where networks run, of which two batches are taken.
        fixed: tensors that candidates share, as in `Passes`.
    """
    images = inputs[: _BATCHES * Passes(spec, inputs[:1]).batch]
    ways = [Passes(spec, images, fixed, bfloat16=half) for half in (False, True)]
    with threads(1):
        exact, rounded = (way.outputs(flat) for way in ways)  # these calls fill the caches, and are not timed
        seconds: list[list[float]] = [[], []]
        for _ in range(_REPEATS):
            for way, taken in zip(ways, seconds, strict=True):
                begun = _now(images.device)
                way.outputs(flat)
                taken.append(_now(images.device) - begun)
    difference = float((rounded - exact).square().mean().sqrt() / _spread(exact))
    return Compared(statistics.median(seconds[0]), statistics.median(seconds[1]), difference)


def _spread(outputs: Tensor) -> Tensor:
    """Standard deviation of outputs (n, ..., classes) within an example; over all where there is one for each token.

    >>> float(_spread(torch.tensor([[1.0, 3.0], [5.0, 7.0]]))), float(_spread(torch.tensor([[[1.0], [3.0]]])))
    (1.0, 1.0)
    """
    mean = outputs.mean(-1, keepdim=True) if outputs.shape[-1] > 1 else outputs.mean()
    return (outputs - mean).square().mean().sqrt()


def _now(device: torch.device) -> float:
    """A time in seconds, with all work on the device done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.thread_time()


def _capabilities() -> Mapping[str, Any]:
    """What torch knows of the CPU; before version 2.10 it says one instruction at a time."""
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return {} if known is None else {"avx512_bf16": known()}
