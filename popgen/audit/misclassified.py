"""How similarly networks behave: the overlap of the test examples that they misclassify.

With W(f) the set of examples that a network f misclassifies, the similarity of f and h is |W(f) & W(h)| / |W(f) | W(h)|, and the overlap
of a network is its largest similarity to any training checkpoint (Generative Modeling of Weights: Generalization or Memorization?,
arXiv 2506.07998). A replica has the overlap 1; a lower overlap is more novel, as long as the accuracy is equal. Checkpoints of
one lineage are no evidence about each other, so a network is never compared with its own lineage.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.networks.passes import Passes
from popgen.types import Flat, Images, Labels


def misclassified(spec: ArchSpec, weights: Flat, inputs: Images, targets: Labels) -> Tensor:
    """Mask (networks, n) of the prepared inputs (n, ...) that each network misclassifies; all, where its logits are not finite."""
    passes, rows = Passes(spec, inputs), []
    for flat in weights:
        logits = passes.outputs(flat)
        rows.append((logits.argmax(1) != targets) | ~logits.isfinite().all(1))
    return torch.stack(rows) if rows else torch.zeros(0, len(targets), dtype=torch.bool)


def similarities(wrong: Tensor, others: Tensor, image_weights: Tensor | None = None) -> Tensor:
    """Similarity (n, m), 0 to 1, of each network's misclassified examples to those of each other network.

    Two networks without any mistake have the similarity 0, as in the paper.

    Args:
        wrong, others: masks (n, images) and (m, images).
        image_weights: how often each image counts (images,), as in a bootstrap; None counts each once.

    >>> wrong = torch.tensor([[True, True, False], [False, True, True]])
    >>> [round(float(one), 2) for one in similarities(wrong, wrong[:1])]
    [1.0, 0.33]
    """
    a, b = wrong.float(), others.float()
    weighted = a if image_weights is None else a * image_weights
    both = weighted @ b.T
    size_a = weighted.sum(1)
    size_b = b.sum(1) if image_weights is None else b @ image_weights
    return both / (size_a[:, None] + size_b[None] - both + 1e-8)


def is_own(lineages: Sequence[str | None], others: Sequence[str | None]) -> Tensor:
    """Mask (n, m) of the pairs of one lineage; None is a network outside of all lineages."""
    return torch.tensor([[a is not None and a == b for b in others] for a in lineages], dtype=torch.bool).reshape(
        len(lineages), len(others)
    )


def largest_overlap(similarity: Tensor, own: Tensor) -> Tensor:
    """Overlap (n,) of networks by their similarities (n, m) to the training checkpoints.

    Args:
        own: mask (n, m) of the pairs that do not count, see `is_own`.
    """
    return similarity.masked_fill(own, 0.0).amax(1)
