"""The codecs by name. A further one is one more entry here."""

from __future__ import annotations

from popgen.errors import unknown_name
from popgen.zoo.archive.codecs.codec import Codec
from popgen.zoo.archive.codecs.halves import Halves
from popgen.zoo.archive.codecs.integers import Integers
from popgen.zoo.archive.codecs.low_rank import LowRank
from popgen.zoo.archive.codecs.planes import Planes
from popgen.zoo.archive.codecs.signs import Signs

LOSSLESS = "lossless"
_ALL: list[Codec] = [
    Planes(),
    Halves(),
    *(Integers(bits) for bits in (8, 6, 5, 4, 3)),
    *(LowRank(percent) for percent in (95, 80, 50)),
    Signs(),
]
CODECS: dict[str, Codec] = {codec.name: codec for codec in _ALL}


def get_codec(name: str) -> Codec:
    """The codec of that name.

    Raises:
        NotFound: there is none.
    """
    if name not in CODECS:
        raise unknown_name("codec", name, CODECS)
    return CODECS[name]
