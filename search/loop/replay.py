"""Check, on resuming, that a plan asks for the candidates that the history has recorded."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ResumeMismatch
from .history import Record
from .plan import Candidate
from .settings import versions

TOLERANCE = 1e-12  # relative and absolute difference up to which two coordinates count as the same


def check_replay(candidate: Candidate, record: Record, header: dict[str, Any] | None, where: str) -> None:
    """Compare a candidate with its record; `where` names the history and the search in messages.

    Raises:
        ResumeMismatch: the record is of a candidate with another number or other coordinates.
    """
    if candidate.number != record.candidate or not _same(candidate.coordinates, record.coordinates):
        raise ResumeMismatch(
            f"{where} cannot be replayed: evaluation {record.index} has other coordinates\n"
            f"recorded with {(header or {}).get('versions')}, now {versions()}\n"
            "install the recorded versions, or start a new search from the best of this one: search.best_of"
        )


def _same(asked: np.ndarray | None, recorded: list[float] | None) -> bool:
    if asked is None or recorded is None:
        return asked is None and recorded is None
    return asked.shape == (len(recorded),) and np.allclose(asked, recorded, rtol=TOLERANCE, atol=TOLERANCE)
