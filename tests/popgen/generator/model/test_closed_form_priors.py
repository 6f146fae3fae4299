"""The priors that need no training, against closed forms."""

from __future__ import annotations

import pytest
import torch

from popgen.configs.sampling import Sampling
from popgen.data import load_data
from popgen.errors import BadInput, NotFound
from popgen.generator import Generator
from popgen.generator.model.closed_form_priors import CodeTable, _nearest_distance


def table(rows: int = 60, noise: float = 0.0) -> tuple[CodeTable, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    x, slope = torch.randn(rows, 4, generator=rng), torch.randn(4, 6, generator=rng)
    codes = (x @ slope + 1 + noise * torch.randn(rows, 6, generator=rng)).view(rows, 2, 3)
    return CodeTable(codes, x, torch.rand(rows, generator=rng)), slope


def test_ridge_is_exact_where_latents_are_linear_in_the_embedding() -> None:
    codes, slope = table()
    at = torch.randn(5, 4)
    found = codes.ridge(at, torch.randn(5, 2, 3))
    assert torch.allclose(found.flatten(1), at @ slope + 1, atol=0.01)  # no residuals, so no noise


def test_ridge_spreads_its_samples_as_the_residuals_are_spread() -> None:
    codes, slope = table(400, noise=0.5)
    at = torch.zeros(4000, 4)
    found = codes.ridge(at, torch.randn(4000, 2, 3, generator=torch.Generator().manual_seed(1))).flatten(1)
    assert torch.allclose(found.std(0), torch.full((6,), 0.5), atol=0.06)
    assert torch.allclose(found.mean(0), torch.ones(6), atol=0.1)


def test_the_density_is_of_the_best_codes_of_close_data_sets() -> None:
    embeddings = torch.tensor([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]]).repeat_interleave(10, 0)
    codes = (embeddings[:, :1] + torch.linspace(0, 1, 10).repeat(3)[:, None]).expand(30, 6).reshape(30, 2, 3)
    density = CodeTable(codes, embeddings, torch.linspace(0, 1, 10).repeat(3))  # the better, the larger the code
    rng = torch.Generator().manual_seed(0)
    found = density.kde(torch.tensor([[10.0, 0.0]]).expand(4000, 2), torch.zeros(4000, 2, 3), rng).flatten(1)
    values = set((found * 9).round().int().flatten().tolist())
    assert {97, 98, 99} <= values  # 10 + 7/9, 8/9, 1: the best 30 % of the middle data set
    near = ((found > 10.7) & (found < 11.1)).float().mean()
    assert 0.97 < near < 0.985  # its two neighbours, three kernel widths away, have weight exp(-9/2) each
    assert set(values) <= {7, 8, 9, 97, 98, 99, 187, 188, 189}
    wide = density.kde(torch.tensor([[10.0, 0.0]]).expand(4000, 2), torch.randn(4000, 2, 3), rng).flatten(1)
    assert wide.std() > found.std() * 1.1


def test_the_kernel_is_as_wide_for_pieces_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    places = torch.tensor([0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 21.0])  # the nearest are 1, 1, 2, 3, 4, 5 and 6 away
    embeddings = torch.stack([places, torch.zeros(7)], 1).repeat(2, 1)
    for rows in (2, 3, 7, 100):
        monkeypatch.setattr("popgen.generator.model.closed_form_priors._ROWS", rows)
        assert float(_nearest_distance(embeddings)) == 3.0
    assert float(_nearest_distance(embeddings[:1])) == 1.0


def test_the_generator_samples_from_each_prior() -> None:
    generator, data = Generator.from_pretrained("digits"), load_data("digits/rotate:45")
    found = {
        name: generator.sample("mlp-s", data, 3, seed=1, sampling=Sampling(prior=name))
        for name in ("network", "ridge", "kde")
    }
    for latents in found.values():
        assert latents.shape == (3, *generator.latent_shape)
        assert torch.isfinite(latents).all()
    assert torch.equal(found["kde"], generator.sample("mlp-s", data, 3, seed=1, sampling=Sampling(prior="kde")))
    assert torch.equal(found[generator.provenance.prior], generator.sample("mlp-s", data, 3, seed=1))
    with pytest.raises(NotFound, match="no prior called 'ridg'\nnearest known: ridge"):
        generator.prior_name("ridg")
    with pytest.raises(BadInput, match="the prior 'kde' has no empty condition\nit is a function of the data set"):
        generator.sample("mlp-s", data, 3, sampling=Sampling(prior="kde"), control="empty")
