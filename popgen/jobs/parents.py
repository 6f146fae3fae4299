"""What a run was made from: exact names of what is on the hub, and the record of the parents that its card shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from popgen.generator import Generator
from popgen.hub.download import pinned
from popgen.hub.kinds import GENERATOR, ZOO
from popgen.jobs.searching.origin import open_zoo
from popgen.zoo import Zoo
from popgen.zoo.parents import parents_of

Config = TypeVar("Config", bound=BaseModel)


def with_commits(config: Config, say: Callable[[str], None] = lambda _: None) -> Config:
    """Return the settings with the commits of a generator and a zoo on the hub, so that a run records what it read.

    Raises:
        BadInput, NotFound, Offline, BrokenFile: see `popgen.hub.download.hub_folder`.
    """
    kinds = {"generator": GENERATOR, "zoo": ZOO}
    named = {field: getattr(config, field, None) for field in kinds}
    return config.model_copy(
        update={field: pinned(name, kinds[field], say) for field, name in named.items() if name is not None}
    )


def made_from(generator: Generator | None, zoo: Zoo | None, name: str | None = None) -> dict[str, Any]:
    """Describe the networks that something is made from, with the keys of `popgen.zoo.parents.parents_of`.

    Args:
        zoo: the zoo of a search around experts; of a generator it only says what an old generator did not record.
        name: the generator as the user named it; None: its zoo's name.
    """
    if generator is None:
        return (
            {} if zoo is None else {"zoo": zoo.name, "zoo_sha256": zoo.sha256, **parents_of(zoo.select(held_out=False))}
        )
    own, parents = generator.provenance, generator.provenance.parents
    if not parents:
        zoo = zoo if zoo is not None and zoo.sha256 == own.zoo_sha256 else open_zoo(None, generator)
        parents = {} if zoo is None else parents_of(zoo.select(held_out=False), generator.config.robust)
    named = {"generator": name or own.zoo, "generator_sha256": generator.sha256}
    return {**named, "zoo": own.zoo, "zoo_sha256": own.zoo_sha256, **parents}
