"""Whether an architecture has networks that can stand side by side, which is known before a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from popgen.configs.search import SearchConfig
from popgen.errors import BadInput
from popgen.fitness.make import head_is_output
from popgen.generator import Generator
from popgen.jobs.searching.origin import has_directions
from popgen.tasks import CLASSIFICATION
from popgen.zoo import Zoo

if TYPE_CHECKING:
    from popgen.jobs.searching.checks import ArchSearch


def check_ensemble(
    config: SearchConfig, searches: Sequence[ArchSearch], generator: Generator | None, zoo: Zoo | None
) -> None:
    """Refuse an ensemble of networks that cannot stand side by side, or have no others beside them.

    Raises:
        BadInput: they cannot, or the zoo has none.
    """
    if not config.ensemble:
        return
    if config.ensemble == 1:
        raise BadInput("--ensemble 1 has nothing beside the search's best", "", "Give 2 or more networks in all.")
    for one in searches:
        spec, why, todo = one.fitness.finished, "", "Leave --ensemble out."
        if one.fitness.task.name != CLASSIFICATION or spec.is_adapter or not head_is_output(spec):
            why = "its outputs are not those of a last linear layer of its own"
        elif not _has_others(one, generator, zoo):
            why, todo = "there is no network of it in a zoo to stand beside the search's best", "Name a zoo with --zoo."
        if why:
            raise BadInput(f"--ensemble {config.ensemble} cannot be made of {one.arch!r}", why, todo)


def _has_others(one: ArchSearch, generator: Generator | None, zoo: Zoo | None) -> bool:
    """Whether a zoo, or a generator's directions from several starts, give networks beside the search's best."""
    arch = one.target.source
    if generator is not None and has_directions(generator, one.target) and len(generator.starts(arch)) > 1:
        return True
    return zoo is not None and one.target.is_trained and bool(zoo.select(arch=arch, held_out=False))
