"""The rivals that every result is shown beside."""

from popgen.audit.baselines import Rivals, Row

__all__ = ["Rivals", "Row"]
