"""The names of the measures that a search can minimise; measures.py has their functions.

Nothing here imports torch, so that an unknown name is refused at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from popgen.errors import unknown_name
from popgen.refs import is_module_attr

LABEL_FREE = "mutual_information"  # the measure that needs no labels
MEASURE_NAMES = (
    "error",
    "cross_entropy",
    "calibration_error",
    "worst_class_error",
    "balanced_error",
    "f1_error",
    LABEL_FREE,
)
# Measures that compare groups of images; they need the group of each image.
OF_GROUPS = ("worst_group_error", "demographic_parity", "equal_opportunity", "equalised_odds")


def needs_groups(objectives: Iterable[str]) -> list[str]:
    """Those of the objectives that compare groups.

    >>> needs_groups(["error", "equalised_odds"])
    ['equalised_odds']
    """
    return [name for name in objectives if name in OF_GROUPS]


def check_measure_name(name: str) -> None:
    """Refuse a name that is neither a measure nor written as a function, module:function.

    Raises:
        NotFound: there is no such measure.
    """
    known = ("loss", *MEASURE_NAMES, *OF_GROUPS)
    if name not in known and not is_module_attr(name):
        raise unknown_name("objective", name, known, "A function of your own is written module:function.")
