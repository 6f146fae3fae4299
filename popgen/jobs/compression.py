"""`popgen compression`: measures the size of a generator beside its zoo, and the accuracy that smaller forms lose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from popgen.audit.compression import Compression, measure_compression
from popgen.errors import BadInput, NotFound
from popgen.generator import Generator
from popgen.jobs.searching.origin import open_zoo
from popgen.networks.threads import threads
from popgen.zoo import Zoo


def compression(
    generator: str | None,
    zoo: str | None = None,
    split: str = "val",
    *,
    held_out: bool = False,
    data_dir: str | None = None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Compression:
    """Measure a generator and the codecs of archives against a zoo, by default the one that the generator was trained on.

    Args:
        generator: None compares the codecs alone; then a zoo is needed.
        on_progress: called with the number of evaluated networks, and how many there will be at most.

    Raises:
        NotFound: an unknown name, or the generator's own zoo is nowhere.
        BadInput: the generator has no latents, or neither it nor a zoo is named.
    """
    how: dict[str, Any] = {"codecs": True, "data_dir": data_dir, "on_progress": on_progress}
    if generator is None:
        if zoo is None:
            raise BadInput("there is nothing to compare", "neither a generator nor a zoo is named", "Use --zoo.")
        with threads(1):
            return measure_compression(None, Zoo.open(zoo), split, held_out=held_out, **how)
    made = Generator.from_pretrained(generator)
    made.check_latents()
    found = open_zoo(zoo, made)
    if found is None:
        raise NotFound(
            f"the zoo {made.provenance.zoo!r} of the generator {generator!r} was not found",
            "looked in ./zoos and among the packaged ones",
            "Name its folder with --zoo.",
        )
    with threads(1):
        return measure_compression(made, found, split, held_out=held_out, **how)
