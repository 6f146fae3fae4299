"""Compares networks that are generated for an untrained architecture with the other ways to fill it with weights.

All of them are scored on the validation split without any training.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from popgen.baselines.starts import make_starts
from popgen.data import DataSet
from popgen.generator.unseen import Target
from popgen.networks.forward import task_score
from popgen.types import Flat
from popgen.zoo import Zoo


@dataclass(frozen=True)
class Untrained:
    """An untrained architecture: how it was generated, and validation scores before any training, in the unit of the task."""

    arch: str
    source: str  # the trained architecture that was generated
    changes: str
    batch_norm: bool  # whether the architecture has batch norm; it is then kept or re-estimated by validation loss
    generated: float  # mean over the generated networks
    rivals: dict[
        str, float | None
    ]  # score of each start in popgen.baselines.starts.STARTS; None for a start without weights
    origins: dict[str, str]  # the checkpoint that each start came from, or the reason why there is none

    @property
    def best_rival(self) -> str:
        """The rival with the highest score; `random` always has one."""
        return max(
            (name for name, value in self.rivals.items() if value is not None), key=lambda n: self.rivals[n] or 0.0
        )

    @property
    def wins(self) -> bool:
        """Whether the generated networks are, on average, better than every rival."""
        return self.generated > (self.rivals[self.best_rival] or 0.0)

    def to_json(self) -> dict[str, Any]:
        """The keys of --json; they are stable."""
        return {**asdict(self), "wins": self.wins}

    def text(self) -> str:
        """The warning that a user sees."""
        beside = ", ".join(f"{name} {value:.3f}" for name, value in self.rivals.items() if value is not None)
        missing = "; ".join(f"{name}: {self.origins[name]}" for name, value in self.rivals.items() if value is None)
        verdict = (
            "The generated networks are the best start."
            if self.wins
            else f"The generator does not win: {self.best_rival} ({self.origins[self.best_rival]}) is as good or better."
        )
        repaired = ", batch norm kept or re-estimated by validation loss" if self.batch_norm else ""
        return (
            f"untrained architecture: the generator was not trained on {self.arch}; networks of {self.source} were generated and "
            f"{self.changes}{repaired}.\nValidation accuracy without training: generated {self.generated:.3f}; {beside}"
            f"{'; ' + missing if missing else ''}.\n{verdict} Train them before you rely on them."
        )


def untrained(
    target: Target, weights: Flat, zoo: Zoo | None, data: DataSet, closest: list[str], seed: int
) -> Untrained:
    """Compare generated networks (n, p) of an untrained architecture with the other starts."""
    starts = make_starts(target, zoo, data, closest, seed)
    rivals = {s.name: None if s.flat is None else task_score(target.spec, s.flat, data) for s in starts}
    return Untrained(
        target.spec.name,
        target.source,
        "" if target.transplant is None else target.transplant.changes.text(),
        target.spec.has_batch_norm,
        statistics.mean(task_score(target.spec, flat, data) for flat in weights),
        rivals,
        {start.name: start.origin for start in starts},
    )
