"""The names of the merging methods, and what each needs. Nothing here imports torch, so that an unknown name is refused at once."""

from __future__ import annotations

from popgen.errors import unknown_name

METHODS = (
    "uniform_soup",
    "greedy_soup",
    "task_arithmetic",
    "ties",
    "dare",
    "regmean",
    "fisher",
    "adamerging",
)
NEEDS_BASE = ("task_arithmetic", "ties", "dare", "adamerging")  # they add up differences from a network
NEEDS_IMAGES = ("regmean", "fisher", "adamerging")  # unlabelled
OF_PREDICTIONS = ("fisher", "adamerging")  # for classifiers alone
NEEDS_SCORES = ("greedy_soup",)  # labelled validation images
# Methods that fit their scale to scores where there are any, and have a published one else.
USES_SCORES = ("greedy_soup", "task_arithmetic", "ties", "dare")


def check_method(name: str) -> None:
    """Refuse an unknown method.

    Raises:
        NotFound: there is no such method.

    >>> check_method("ties")
    """
    if name not in METHODS:
        raise unknown_name("merging method", name, METHODS, "popgen merge --method all makes all that it can.")
