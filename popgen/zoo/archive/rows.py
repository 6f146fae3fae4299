"""The weights of checkpoints one after another, read from a zoo in chunks of bounded size and checked against their hashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from popgen.errors import BrokenFile
from popgen.zoo.record import Checkpoint, weights_sha256
from popgen.zoo.shards import SHARD_BYTES
from popgen.zoo.store import Zoo


def rows_of(zoo: Zoo, records: Sequence[Checkpoint]) -> Iterator[tuple[Checkpoint, NDArray[np.float32]]]:
    """Yield each record with its weights (p,); all are of one architecture.

    Raises:
        BrokenFile: weights cannot be read, or do not have the recorded hash.
    """
    step = max(1, SHARD_BYTES // (4 * zoo.spec(records[0].arch).size))
    for first in range(0, len(records), step):
        chunk = records[first : first + step]
        for record, flat in zip(chunk, zoo.matrix(chunk), strict=True):
            if weights_sha256(flat) != record.sha256:
                raise BrokenFile(
                    f"{record.id}: its weights do not have the recorded sha256",
                    f"{zoo.folder / record.shard}, row {record.row}",
                    "Restore the file, or remove the checkpoint; `popgen zoo verify` lists all that is damaged.",
                )
            yield record, flat.numpy()
