"""The generator: its parts against closed forms, the built-in one by what its networks do, its folder sound and broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from popgen.archs import ArchSpec
from popgen.configs.generator import EncoderConfig, PriorConfig, VAEConfig
from popgen.configs.sampling import Sampling
from popgen.data import load_data
from popgen.errors import BadInput, BrokenFile, NotFound
from popgen.generator import Generator, GeneratorConfig
from popgen.generator.model.conditions import DataSetEncoder, Standardise
from popgen.generator.model.prior import Mean, Prior
from popgen.generator.model.vae import WeightVAE, kl_to_normal, sample_posterior
from popgen.networks.forward import task_score
from popgen.weights import Scaling
from popgen.zoo import Zoo

VAE = VAEConfig(latent_tokens=2, latent_width=3, token_width=16, width=16, heads=2)


@pytest.fixture(scope="module")
def digits() -> Generator:
    return Generator.from_pretrained("digits")


def mean_accuracy(generator: Generator, arch: str, latents: Tensor, data: str) -> float:
    weights, part = generator.decode(arch, latents), load_data(data).val
    return sum(task_score(generator.spec(arch), flat, part) for flat in weights) / len(weights)


# The data set encoder


def test_the_data_set_embedding_is_one_of_sets_of_images_by_class() -> None:
    torch.manual_seed(0)
    encoder = DataSetEncoder(EncoderConfig(width=32, heads=4, out=6), 12, 7).eval()
    features = torch.randn(2, 5, 4, 12)
    found = encoder(features)
    assert found.shape == (2, 6)
    shuffled = torch.stack([torch.stack([c[torch.randperm(4)] for c in row]) for row in features])
    assert torch.allclose(encoder(shuffled), found, atol=1e-5)
    assert not torch.allclose(encoder(features[:, [1, 0, 2, 3, 4]]), found, atol=1e-3)  # output i is of class i
    assert torch.allclose(encoder(features.flip(0)), found.flip(0), atol=1e-5)
    for classes, images in ((1, 1), (3, 7), (50, 2)):
        assert encoder(torch.randn(1, classes, images, 12)).shape == (1, 6)
    some = torch.tensor([4, 1])  # fewer classes, in any order, with their indices
    assert torch.allclose(encoder(features[:, some], some), encoder(features[:, some.flip(0)], some.flip(0)), atol=1e-5)
    assert not torch.allclose(encoder(features[:, some], some), encoder(features[:, some]), atol=1e-3)
    assert encoder.from_text(torch.randn(2, 7)).shape == (2, 6)


def test_the_condition_of_a_data_set_depends_on_its_training_images_alone(digits: Generator) -> None:
    data = load_data("digits/rotate:45")
    first = digits.condition("cnn-s", data, seed=1)
    assert torch.equal(first.data, digits.condition("cnn-s", data, seed=1).data)
    assert not torch.equal(first.data, digits.condition("cnn-s", data, seed=2).data)
    assert not torch.equal(first.arch, digits.condition("mlp-s", data, seed=1).arch)
    swapped = type(data)(data.name, data.classes, data.train, data.test, data.val)
    assert torch.equal(first.data, digits.condition("cnn-s", swapped, seed=1).data)


# The prior


class Towards(nn.Module):
    """The exact denoiser of a distribution that is one point: `target` under a condition, `alone` where it is all zeros."""

    def __init__(self, kind: str, target: Tensor, alone: Tensor, kept: Tensor) -> None:
        super().__init__()
        self.kind, self.target, self.alone, self.kept = kind, target, alone, kept

    def forward(self, z: Tensor, t: Tensor, data: Tensor, arch: Tensor) -> Tensor:
        goal = self.target if data.any() else self.alone
        if self.kind == "flow":  # z = (1 - t) goal + t noise
            return (z - goal) / t.view(-1, 1, 1)
        alpha = self.kept[(t * 1000).round().long()].view(-1, 1, 1)  # z = sqrt(alpha) goal + sqrt(1 - alpha) noise
        return (z - alpha.sqrt() * goal) / (1 - alpha).sqrt()


class Zero(nn.Module):
    """A mean that is zero whatever the conditions."""

    def forward(self, data: Tensor, arch: Tensor) -> Tensor:
        return torch.zeros(len(data), 6)


def exact_prior(kind: str) -> tuple[Prior, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    target, alone = (torch.randn(5, 2, 3, generator=generator).clamp(-1.2, 1.2) for _ in range(2))
    prior = Prior(PriorConfig(kind=kind, width=16, heads=2, temperature=1), VAE, 4, 4)
    betas = torch.linspace(1e-4, 0.02, 1000)  # Ho et al., section 4
    prior.denoiser, prior.mean = Towards(kind, target, alone, (1 - betas).cumprod(0)), Zero()
    return prior, target, alone


CONDITIONS = torch.ones(5, 4), torch.ones(5, 4)


@pytest.mark.parametrize(("kind", "sampler"), [("flow", "euler"), ("flow", "heun"), ("ddpm", "ddim")])
@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_the_sampler_ends_where_an_exact_denoiser_points(kind: str, sampler: str, steps: int) -> None:
    prior, target, _ = exact_prior(kind)
    found = prior.sample(*CONDITIONS, torch.randn(5, 2, 3), Sampling(steps=steps, sampler=sampler))
    # 7 does not divide the 1000 levels: diffusers' DDIM then ends at level 0, where a hundredth of the noise is left
    assert torch.allclose(
        found, target, atol=0.04 if (kind, steps) == ("ddpm", 7) else 1e-2 if sampler == "heun" else 1e-4
    )


def test_the_ancestral_sampler_draws_noise_of_its_own_and_ends_there_too() -> None:
    prior, target, _ = exact_prior("ddpm")
    torch.manual_seed(0)
    assert torch.allclose(
        prior.sample(*CONDITIONS, torch.randn(5, 2, 3), Sampling(steps=20, sampler="ddpm")), target, atol=0.05
    )


def test_a_sampler_of_the_other_kind_is_refused() -> None:
    prior, _, _ = exact_prior("flow")
    text = "sampler 'ddim' does not go with a prior of kind flow\nit was trained as a flow\nChoose euler or heun."
    with pytest.raises(BadInput, match=text):
        prior.sample(*CONDITIONS, torch.randn(5, 2, 3), Sampling(steps=2, sampler="ddim"))


def test_what_is_sampled_stands_around_the_mean() -> None:
    prior, target, alone = exact_prior("flow")
    prior.spread = torch.full((2, 3), 0.5)
    prior.mean = Mean(4, 4, 8, 6).eval()
    some, none = (prior.mean(*(torch.full((5, 4), value),) * 2).view(5, 2, 3) for value in (1.0, 0.0))
    assert not torch.allclose(some, none, atol=0.1)
    noise = torch.randn(5, 2, 3)
    assert torch.allclose(prior.sample(*CONDITIONS, noise, Sampling(steps=2)), some + 0.5 * target, atol=1e-5)
    empty = prior.sample(*CONDITIONS, noise, Sampling(steps=2), without=torch.ones(5, 2, dtype=torch.bool))
    assert torch.allclose(empty, none + 0.5 * alone, atol=1e-5)
    doubled = prior.sample(*CONDITIONS, noise, Sampling(steps=2, guidance=2))
    assert torch.allclose(doubled, 2 * (some + 0.5 * target) - (none + 0.5 * alone), atol=1e-4)


def test_a_flow_of_constant_velocity_is_exact() -> None:
    prior, target, _ = exact_prior("flow")
    noise = torch.randn(5, 2, 3)

    class Constant(nn.Module):
        def forward(self, z: Tensor, *_: Tensor) -> Tensor:
            return noise - target

    prior.denoiser = Constant()
    for steps in (1, 3, 20):
        assert torch.allclose(prior.sample(*CONDITIONS, noise, Sampling(steps=steps)), target, atol=1e-5)


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 2.0])
def test_guidance_extrapolates_from_the_unconditional_prediction(guidance: float) -> None:
    prior, target, alone = exact_prior("flow")
    found = prior.sample(*CONDITIONS, torch.randn(5, 2, 3), Sampling(steps=4, guidance=guidance))
    assert torch.allclose(found, alone + guidance * (target - alone), atol=1e-4)


@pytest.mark.parametrize("kind", ["flow", "ddpm"])
def test_the_losses_of_an_untrained_and_of_an_exact_denoiser(kind: str) -> None:
    torch.manual_seed(0)
    prior = Prior(PriorConfig(kind=kind, width=16, heads=2, temperature=1), VAE, 4, 6)
    prior.mean = Zero()
    z = torch.randn(2000, 2, 3)
    losses = prior.losses(z, torch.randn(2000, 4), torch.randn(2000, 6))
    assert float(losses["prior"].detach()) == pytest.approx({"flow": 2, "ddpm": 1}[kind], rel=0.1)  # it starts at zero
    assert float(losses["mean"]) == pytest.approx(1, rel=0.1)
    losses["prior"].backward()
    gradients = [p.grad for p in prior.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(g).all() for g in gradients)
    exact, target, _ = exact_prior(kind)
    exact.config = exact.config.model_copy(update={"drop_condition": 0.0})
    assert float(exact.eval().losses(target, *CONDITIONS)["prior"]) < 1e-3


def test_the_spread_follows_what_the_mean_leaves() -> None:
    torch.manual_seed(0)
    prior = Prior(PriorConfig(width=16, heads=2), VAE, 4, 6)
    prior.mean, sizes = Zero(), torch.tensor([[0.1, 0.5, 1.0], [2.0, 0.3, 0.2]])
    for _ in range(600):
        prior.losses(sizes * torch.randn(64, 2, 3), torch.randn(64, 4), torch.randn(64, 6))
        prior.update(torch.stack(prior.take_seen()))
    assert torch.allclose(prior.spread, sizes, rtol=0.1)
    before = prior.eval().spread
    prior.losses(torch.randn(64, 2, 3), torch.randn(64, 4), torch.randn(64, 6))
    assert prior.take_seen() == [] and torch.equal(prior.spread, before)


def test_running_statistics_are_updated_in_order() -> None:
    """Two workers with a batch each, and one with both, keep the same statistics."""
    encoder = Standardise(3)
    batches = [torch.randn(8, 3) * k + k for k in (1.0, 2.0)]
    for batch in batches:
        assert torch.allclose(encoder(batch).mean(0), torch.zeros(3), atol=1e-5)
        assert torch.allclose(encoder(batch).var(0, unbiased=False), torch.ones(3), atol=1e-3)
    seen = torch.stack(encoder.take_seen()[::2])
    assert encoder.take_seen() == []
    encoder.update(seen)
    mean, variance = torch.zeros(3), torch.ones(3)
    for batch in batches:
        mean, variance = torch.lerp(mean, batch.mean(0), 0.02), torch.lerp(variance, batch.var(0), 0.02)
    x = torch.randn(4, 3)
    assert torch.allclose(encoder.eval()(x), (x - mean) / (variance + 1e-5).sqrt(), atol=1e-5)
    assert encoder.take_seen() == []


def test_a_dropped_condition_is_not_seen() -> None:
    torch.manual_seed(0)
    prior = Prior(PriorConfig(width=16, heads=2, layers=1), VAE, 4, 6).eval()
    for parameter in prior.parameters():
        nn.init.normal_(parameter, std=0.3)
    noise = torch.randn(3, 2, 3)
    first, second = ((torch.randn(3, 4), torch.randn(3, 6)) for _ in range(2))
    both = torch.ones(3, 2, dtype=torch.bool)
    no_data = torch.tensor([[True, False]]).expand(3, 2)

    def sample(data: Tensor, arch: Tensor, without: Tensor | None = None) -> Tensor:
        return prior.sample(data, arch, noise, Sampling(steps=2), without=without)

    assert torch.allclose(sample(*first, both), sample(*second, both))
    assert torch.allclose(sample(*first, no_data), sample(second[0], first[1], no_data))
    assert not torch.allclose(sample(*first, no_data), sample(first[0], second[1], no_data), atol=1e-3)
    assert torch.allclose(sample(*first), sample(*first, ~both))
    prior.config = prior.config.model_copy(update={"use_data": False})
    assert torch.allclose(sample(*first), sample(second[0], first[1]))


# The VAE


def test_the_vae_decodes_an_architecture_without_a_linear_path() -> None:
    torch.manual_seed(0)
    known, other = ArchSpec.from_config("mlp-s"), ArchSpec.from_config("cnn-m")
    vae = WeightVAE(VAE, [known])
    z = torch.randn(3, 2, 3)
    assert torch.equal(vae.decode(other, z), torch.zeros(3, other.size))  # the nonlinear path starts at zero
    path = vae.linear[known.fingerprint]
    path.offset.data.normal_()
    assert torch.allclose(vae.decode(known, z), path.offset + z.flatten(1) @ path.basis, atol=1e-5)
    nn.init.normal_(vae.to_token[1].weight)
    decoded = vae.decode(other, z)
    assert decoded.shape == (3, other.size)
    assert torch.isfinite(decoded).all()
    assert float(decoded.std(0).mean()) > 1e-3  # it depends on the latent
    assert float(decoded.std(1).mean()) > 1e-2  # and on the position
    assert vae.encode(other, decoded)[0].shape == (3, 2, 3)


def test_the_posterior_and_its_divergence() -> None:
    mean, log_variance = torch.randn(4, 2, 3), torch.randn(4, 2, 3)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0)).mean()
    assert torch.allclose(kl_to_normal(mean, log_variance), expected, atol=1e-5)
    draws = sample_posterior(mean.expand(4000, 4, 2, 3), log_variance.expand(4000, 4, 2, 3))
    assert torch.allclose(draws.mean(0), mean, atol=0.2)
    assert torch.allclose(draws.var(0).log(), log_variance, atol=0.2)


# The built-in generator


@pytest.mark.parametrize("arch", ["mlp-s", "cnn-s", "cnn-m", "resnet-s"])
def test_checkpoints_keep_their_accuracy_through_the_latent(digits: Generator, arch: str) -> None:
    zoo, lost = Zoo.open("digits"), []
    for held_out in (False, True):
        for data in ("digits/rotate:30", "digits/invert", "digits/rotate:180", "digits/rotate:0"):
            weights = zoo.matrix(zoo.select(arch, data, held_out)[:1])
            part = load_data(data).val
            before = task_score(digits.spec(arch), weights[0], part)
            lost.append(before - mean_accuracy(digits, arch, digits.encode(arch, weights), data))
    assert sum(lost) / len(lost) < 0.05
    assert max(lost) < 0.15


def test_stored_codes_are_the_zoo(digits: Generator) -> None:
    zoo = Zoo.open("digits")
    assert digits.provenance.zoo_sha256 == zoo.sha256
    assert sorted(r.id for r in digits.records) == sorted(r.id for r in zoo.select(held_out=False))
    assert [r.row for r in digits.records] == list(range(len(digits.codes)))
    flat = digits.codes.flatten(1)
    assert torch.allclose(flat.mean(0), torch.zeros(flat.shape[1]), atol=0.01)
    assert torch.allclose(flat.std(0), torch.ones(flat.shape[1]), atol=0.01)
    found = digits.stored("cnn-s", "digits/rotate:30")
    assert [c.val_score for c, _ in found] == sorted((c.val_score for c, _ in found), reverse=True)
    assert {(c.arch, c.data) for c, _ in found} == {("cnn-s", "digits/rotate:30")}
    code, latent = found[0]
    assert torch.allclose(digits.encode("cnn-s", zoo.matrix([zoo.record(code.id)]))[0], latent, atol=0.05)
    assert mean_accuracy(digits, "cnn-s", latent[None], "digits/rotate:30") > 0.85
    assert digits.stored("cnn-s", "digits/rotate:45") == []


def test_samples_are_of_their_seed(digits: Generator) -> None:
    data = load_data("digits/rotate:45")
    first = digits.sample("cnn-s", data, n=3, seed=1)
    assert first.shape == (3, *digits.latent_shape)
    assert torch.equal(first, digits.sample("cnn-s", data, n=3, seed=1))
    assert (first - digits.sample("cnn-s", data, n=3, seed=2)).abs().max() > 1e-3
    assert (first[0] - first[1]).abs().max() > 1e-3


def test_samples_are_of_their_condition(digits: Generator) -> None:
    """The control that a generator ignoring its condition would fail."""
    for arch in ("cnn-s", "mlp-s"):
        own, other, ignored = (
            mean_accuracy(
                digits,
                arch,
                digits.sample(arch, load_data(f"digits/rotate:{a}"), n=6, sampling=Sampling(guidance=g)),
                target,
            )
            for a, g, target in [
                (30, None, "digits/rotate:30"),
                (210, None, "digits/rotate:30"),
                (30, 0.0, "digits/rotate:30"),
            ]
        )
        assert own > 0.75
        assert other < own - 0.3
        assert ignored < own - 0.3


def test_the_closest_data_sets_of_a_rotation_are_its_neighbours(digits: Generator) -> None:
    closest = digits.closest("cnn-s", load_data("digits/rotate:45"))
    assert set(closest[:2]) == {"digits/rotate:30", "digits/rotate:60"}
    assert sorted(closest) == sorted(digits.provenance.data)


def test_the_decoder_takes_what_a_search_has(digits: Generator) -> None:
    latent = digits.codes[0]
    arch = digits.records[0].arch
    flat = digits.decode(arch, latent[None])[0]
    assert torch.equal(digits.decoder(arch).weights(latent.flatten().double().numpy()), flat)
    assert digits.state(arch, latent).keys() == digits.spec(arch).to_state(flat).keys()
    with pytest.raises(NotFound, match="no architecture in this generator called 'cnn-x'\nnearest known: cnn-s"):
        digits.spec("cnn-x")


# The folder


def untrained() -> Generator:
    torch.manual_seed(1)
    specs = {name: ArchSpec.from_config(name) for name in ("mlp-s", "resnet-s")}
    weights = {name: 0.1 * torch.randn(3, spec.size) for name, spec in specs.items()}
    scalings = {name: Scaling.fit(specs[name], w) for name, w in weights.items()}
    config = GeneratorConfig(vae=VAE, encoders=EncoderConfig(width=16, heads=2, out=8))
    generator = Generator(config, specs, scalings, 128, 64)
    generator.codes = torch.randn(0, 2, 3)
    return generator.eval().requires_grad_(False)


def test_a_saved_generator_is_the_same_within_half_precision_and_then_exactly(tmp_path: Path) -> None:
    made = untrained()
    once = Generator.from_pretrained(made.save_pretrained(tmp_path / "once"))
    twice = Generator.from_pretrained(once.save_pretrained(tmp_path / "twice"))
    state, first, second = made.state_dict(), once.state_dict(), twice.state_dict()
    assert state.keys() == first.keys() == second.keys()
    for name, tensor in state.items():
        assert torch.allclose(first[name], tensor, rtol=1e-3, atol=1e-6), name
        assert torch.equal(first[name], second[name]), name
        assert first[name].dtype == tensor.dtype
    for file in ("model.safetensors", "config.json", "codes.json"):
        assert (tmp_path / "once" / file).read_bytes() == (tmp_path / "twice" / file).read_bytes()
    assert once.sha256 == twice.sha256 != ""
    z = torch.randn(2, 2, 3)
    for arch in made.archs:
        scale = made.scalings[arch].scale
        assert torch.equal(once.decode(arch, z), twice.decode(arch, z))
        normal = (once.decode(arch, z) - made.decode(arch, z))[:, ~made.scalings[arch].is_log]
        assert (normal / scale[~made.scalings[arch].is_log]).abs().max() < 0.01
    assert not any(p.requires_grad for p in once.parameters())


def test_the_built_in_generator_is_copied_exactly(digits: Generator, tmp_path: Path) -> None:
    copy = Generator.from_pretrained(digits.save_pretrained(tmp_path / "copy"))
    assert copy.sha256 == digits.sha256
    assert copy.records == digits.records
    assert copy.provenance == digits.provenance
    assert copy.config == digits.config
    data = load_data("digits/rotate:45")
    assert torch.equal(copy.sample("mlp-s", data, n=2), digits.sample("mlp-s", data, n=2))


def cut(file: str, share: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: int(share * len(content))])

    return damage


def remove(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def write(file: str, content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / file).write_bytes(content)

    return damage


def setting(*keys: str, value: object = None) -> Callable[[Path], None]:
    """Replace a value of config.json, or remove it."""

    def damage(folder: Path) -> None:
        config = inner = json.loads((folder / "config.json").read_text())
        for key in keys[:-1]:
            inner = inner[key]
        inner.pop(keys[-1], None)
        if value is not None:
            inner[keys[-1]] = value
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def tensor(name: str, change: Callable[[Tensor], Tensor] | None) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        old = tensors.pop(name)
        if change is not None:
            tensors[name] = change(old).contiguous()
        save_file(tensors, folder / "model.safetensors")

    return damage


def broken(folder: Path, damage: Callable[[Path], None]) -> Path:
    untrained().save_pretrained(folder)
    damage(folder)
    return folder


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (cut("model.safetensors", 0.5), "cannot be read"),
        (cut("model.safetensors", 0), "cannot be read"),
        (cut("config.json", 0.5), "cannot be read"),
        (cut("codes.json", 0.3), "cannot be read"),
        (remove("model.safetensors"), "cannot be read"),
        (remove("codes.json"), "cannot be read"),
        (write("codes.json", b"[1]"), "do not fit together"),
        (setting("format", value=99), "has format 99\nthis popgen reads format 3"),
        (setting("generator", "vae", "width", value=32), "do not fit together"),
        (setting("generator", "vae", "unknown", value=32), "do not fit together"),
        (setting("archs", "mlp-s", "options", value={"hidden": [32]}), "do not fit together"),
        (setting("text_dim"), "do not fit together"),
        (tensor("vae.queries", None), "do not fit together"),
        (tensor("scaling.mlp-s.scale", None), "do not fit together"),
        (tensor("latent_mean", lambda t: t[:1]), "do not fit together"),
    ],
)
def test_broken_folders(tmp_path: Path, damage: Callable[[Path], None], text: str) -> None:
    with pytest.raises(BrokenFile) as caught:
        Generator.from_pretrained(broken(tmp_path / "g", damage))
    assert f"{tmp_path / 'g'} {text}" in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        write("config.json", b"[]"),
        write("config.json", b"\xff\xfe{}"),
        setting("archs"),
        setting("archs", "mlp-s", "builder"),
        setting("archs", "mlp-s", "builder", value="zzz"),
        tensor("scaling.mlp-s.scale", lambda t: t[:3]),
        setting("provenance", "data", value=["digits"]),  # one name, no vector
        write(
            "codes.json", b'[{"id":"a","arch":"mlp-s","data":"d","seed":0,"val_accuracy":1,"test_accuracy":1,"row":7}]'
        ),
    ],
    ids=["list", "bytes", "no archs", "no builder", "builder", "scale", "data vectors", "row"],
)
def test_other_broken_folders(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    with pytest.raises(BrokenFile):
        Generator.from_pretrained(broken(tmp_path / "g", damage))


def test_names_that_are_no_generator(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no generator called 'digit'\nnearest known: digits\nName a built-in"):
        Generator.from_pretrained("digit")
    with pytest.raises(NotFound, match="is not a generator\nit has no config.json\n`popgen train SPEC.yaml` makes one"):
        Generator.from_pretrained(tmp_path)
    with pytest.raises(NotFound):
        Generator.from_pretrained("../assets/generators/digits")
