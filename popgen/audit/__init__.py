"""The rivals that every result is shown beside."""

from popgen.audit.baselines import Row, Rivals

__all__ = ["Rivals", "Row"]
