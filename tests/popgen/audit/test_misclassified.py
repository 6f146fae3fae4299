"""Overlap of misclassified examples: closed forms, lineages, resampled images, networks without finite logits."""

from __future__ import annotations

import torch

from popgen.archs import ArchSpec, build
from popgen.audit.misclassified import is_own, largest_overlap, misclassified, similarities
from popgen.data import load_data


def test_similarity_is_intersection_over_union() -> None:
    random = torch.Generator().manual_seed(0)
    wrong, others = (torch.rand(n, 200, generator=random) < 0.2 for n in (5, 7))
    found = similarities(wrong, others)
    for i, a in enumerate(wrong):
        for j, b in enumerate(others):
            assert torch.isclose(found[i, j], (a & b).sum() / (a | b).sum())
    assert similarities(torch.zeros(1, 4, dtype=torch.bool), torch.zeros(1, 4, dtype=torch.bool)).item() == 0


def test_weights_of_images_are_repetitions() -> None:
    random = torch.Generator().manual_seed(1)
    wrong, others = (torch.rand(n, 50, generator=random) < 0.3 for n in (3, 4))
    counts = torch.randint(0, 4, (50,), generator=random)
    repeated = [one.repeat_interleave(counts, dim=1) for one in (wrong, others)]
    assert torch.allclose(similarities(wrong, others, counts.float()), similarities(*repeated))


def test_a_network_is_not_compared_with_its_own_lineage() -> None:
    own = is_own(["a", None, "b"], ["a", "a", "b"])
    assert own.tolist() == [[True, True, False], [False, False, False], [False, False, True]]
    similarity = torch.tensor([[1.0, 0.9, 0.2], [0.3, 0.8, 0.1], [0.5, 0.4, 1.0]])
    assert torch.allclose(largest_overlap(similarity, own), torch.tensor([0.2, 0.8, 0.5]))


def test_what_a_network_misclassifies() -> None:
    spec, data = ArchSpec.from_config("mlp-s"), load_data("digits").test
    flat = spec.to_flat(build("mlp-s", seed=0).state_dict())
    broken = flat.clone()
    broken[-1] = torch.nan
    wrong = misclassified(spec, torch.stack([flat, broken]), data.inputs, data.targets)
    net = build("mlp-s", seed=0).eval()
    with torch.no_grad():
        assert torch.equal(wrong[0], net(data.inputs).argmax(1) != data.targets)
    assert wrong[1].all(), "logits that are no numbers are right by chance at most"
