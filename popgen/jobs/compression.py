"""`popgen compression`: measures the size of a generator beside its zoo, and the accuracy that smaller forms lose."""

from __future__ import annotations

from popgen.audit.compression import Compression, measure_compression
from popgen.errors import NotFound
from popgen.generator import Generator
from popgen.jobs.searching.origin import open_zoo
from popgen.networks.threads import threads


def compression(
    generator: str, zoo: str | None = None, split: str = "val", *, held_out: bool = False, data_dir: str | None = None
) -> Compression:
    """Measure a generator against a zoo, by default the one that it was trained on.

    Raises:
        NotFound: an unknown name, or the generator's own zoo is nowhere.
        BadInput: the generator has no latents.
    """
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
        return measure_compression(made, found, split, held_out=held_out, data_dir=data_dir)
