"""Controls: their statistics, fresh copies, and the same treatment of batch norm and head for all networks."""

from __future__ import annotations

import pytest
import torch

from popgen.archs import ArchSpec, build
from popgen.audit.arms import first_at
from popgen.audit.controls import AVERAGED, NOISE, averages, gaussian, latent_controls, noisy, weight_controls
from popgen.audit.finishing import Finishing
from popgen.data import load_data
from popgen.generator import Generator
from popgen.networks.batchnorm import reestimate
from popgen.networks.forward import task_score
from popgen.zoo import Zoo

ZOO = Zoo.open("digits")


def checkpoints(arch: str, n: int) -> torch.Tensor:
    return ZOO.matrix(ZOO.select(arch=arch, held_out=False)[:n])


def test_noise_is_relative_to_each_tensor() -> None:
    spec, weights = ZOO.spec("resnet-s"), checkpoints("resnet-s", 2)
    made = noisy(spec, weights, 0.1, 40, seed=0)
    sizes = [t.size for t in spec.tensors]
    for t, part, before in zip(spec.tensors, made.split(sizes, 1), weights.split(sizes, 1), strict=True):
        if t.kind == "norm_var":
            assert part.min() > 0
        elif t.size > 100:
            difference = part[0::2] - before[0]
            assert float(difference.std() / before[0].std(unbiased=False)) == pytest.approx(0.1, rel=0.1)


def test_averages_are_of_fresh_copies() -> None:
    weights = checkpoints("mlp-s", 8)
    before = weights.clone()
    made = averages(weights, 2, 5, seed=0)
    assert torch.equal(weights, before)
    pairs = torch.stack([weights[[i, j]].mean(0) for i in range(4) for j in range(i)])
    assert torch.cdist(made, pairs).amin(1).max() < 1e-3, "each is the mean of two of the first four"
    assert torch.allclose(averages(weights, 8, 1, seed=0)[0], weights.mean(0), atol=1e-6)


def test_the_gaussian_has_each_parameter_s_moments() -> None:
    spec, weights = ZOO.spec("mlp-s"), checkpoints("mlp-s", 20)
    made = gaussian(spec, weights, 4000, seed=0)
    assert torch.allclose(made.mean(0), weights.mean(0), atol=0.1)
    assert torch.allclose(made.std(0), weights.std(0), rtol=0.1, atol=1e-6)


def test_which_controls_there_are() -> None:
    spec, weights = ZOO.spec("mlp-s"), checkpoints("mlp-s", 10)
    names = [one.name for one in weight_controls(spec, weights[:2], weights, weights, 3, seed=0)]
    noise = [f"noise {strength:g}" for strength in NOISE]
    sizes = [k for k in AVERAGED if k <= 10]
    assert names == [*noise, *(f"{kind} of {k}" for kind in ("average", "aligned average") for k in sizes), "Gaussian"]
    alone = weight_controls(spec, weights[:1], weights[:1], None, 3, seed=0)
    assert [one.name for one in alone] == noise, "one checkpoint has neither an average nor a deviation"


def test_latent_controls_are_networks() -> None:
    generator, data = Generator.from_pretrained("digits"), load_data("digits/rotate:30")
    made = {one.name: one.draw() for one in latent_controls(generator, "mlp-s", data, [data.name], 2, seed=0)}
    assert list(made) == ["latent noise 0.1", "latent noise 0.3", "latent noise 1", "latent kde"]
    spec = generator.spec("mlp-s")
    assert task_score(spec, made["latent noise 0.1"][0], data, "test") > 0.9
    unknown = list(latent_controls(generator, "mlp-s", data, ["mnist"], 2, seed=0))
    assert [one.name for one in unknown] == ["latent kde"]


def test_batch_norm_is_treated_alike_and_without_test_images() -> None:
    spec, data = ArchSpec.from_config("resnet-s"), load_data("digits/rotate:30")
    good = checkpoints("resnet-s", 1)
    wrong = {**spec.to_state(good[0])}
    for t in spec.tensors:
        if t.kind == "norm_mean":
            wrong[t.name] = wrong[t.name] + 2
    both = torch.stack([good[0], spec.to_flat(wrong)])
    anew = torch.stack([reestimate(spec, flat, data.train.inputs) for flat in both])
    assert torch.equal(Finishing(spec, data, "keep").finish(both), both)
    assert torch.allclose(Finishing(spec, data, "reestimate").finish(both), anew)
    auto = Finishing(spec, data, "auto").finish(both)
    assert torch.allclose(auto[1], anew[1]), "statistics that do not fit are replaced"
    assert torch.equal(auto[0], good[0]) or torch.allclose(auto[0], anew[0])
    broken = torch.full((1, spec.size), torch.nan)
    assert Finishing(spec, data).finish(broken).isnan().all()


def test_a_ridge_head_is_fitted_for_every_network() -> None:
    spec, data = ArchSpec.from_config("mlp-s"), load_data("digits")
    fresh = spec.to_flat(build("mlp-s", seed=3).state_dict())[None]
    finished = Finishing(spec, data, head="ridge").finish(fresh)
    assert task_score(spec, fresh[0], data, "test") < 0.3 < 0.85 < task_score(spec, finished[0], data, "test")
    body = spec.size - sum(t.size for t in spec.tensors if t.name.startswith(spec.head))
    assert torch.equal(finished[0, :body], fresh[0, :body])


def test_a_curve_is_read_where_it_first_comes_to_a_value() -> None:
    noise = [(0.96, 1.0), (0.94, 0.5), (0.80, 0.3), (0.50, 0.5)]
    assert first_at(noise, 0.95) == pytest.approx(0.75)
    assert first_at([(y, x) for x, y in noise], 0.4) == pytest.approx(0.87)
    assert first_at(noise, 0.97) is None and first_at(noise, 0.4) is None and first_at([], 0.4) is None
    assert first_at([(0.5, 0.1), (0.5, 0.9)], 0.5) == 0.1
