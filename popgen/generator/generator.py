"""The Generator makes weights for an architecture and a data set.

Its methods take and return standardised latents: each coordinate has mean 0 and variance 1 over the training
checkpoints of an architecture. A generator is saved as one folder, which folder.py writes and reads. Conditions are
computed by conditioner.py, and latents are sampled by sampling.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from popgen.archs import ArchConfig, ArchSpec
from popgen.archs.names import not_trained
from popgen.configs.generator import GeneratorConfig
from popgen.configs.sampling import Sampling
from popgen.data import DataSet
from popgen.encoders.examples import ExampleEncoder
from popgen.encoders.texts import is_text_encoder
from popgen.errors import BadInput
from popgen.generator.conditioner import Conditioner
from popgen.generator.controls import Control
from popgen.generator.decoder import Decoder
from popgen.generator.family.reference import Reference
from popgen.generator.folder import load_generator, save_generator
from popgen.generator.model.conditions import ARCH_NUMBERS, DataSetEncoder, Description
from popgen.generator.model.directions import Directions, Start
from popgen.generator.model.prior import Prior
from popgen.generator.model.residual import Residual
from popgen.generator.model.vae import WeightVAE
from popgen.generator.records import Code, Condition, Provenance
from popgen.generator.sampling import prior_name, sample, strength_for
from popgen.generator.strength import Strength
from popgen.generator.task_sets import TaskKind
from popgen.generator.texts import StoredTexts
from popgen.types import Flat, Latents, StateDict
from popgen.weights import Scaling


class Generator(nn.Module):
    """Conditional generator that was trained on the checkpoints of a zoo.

    Example:
        >>> from popgen.data import load_data
        >>> generator = Generator.from_pretrained("digits")
        >>> latents = generator.sample("cnn-s", load_data("digits/rotate:45"), n=4, seed=0)
        >>> generator.decode("cnn-s", latents).shape
        torch.Size([4, 3818])
    """

    latent_mean: Tensor  # (architectures, k, d), mean of the VAE's latents of each trained architecture
    latent_std: Tensor  # (architectures, k, d), their standard deviation
    codes: Tensor  # (n, k, d), standardised latents of the training checkpoints
    residual_codes: Tensor  # (n, r), residual codes of the training checkpoints
    data_vectors: Tensor  # (data sets, out), mean embeddings of the training data sets

    def __init__(
        self,
        config: GeneratorConfig,
        specs: Mapping[str, ArchSpec],
        scalings: Mapping[str, Scaling],
        feature_dim: int,
        text_dim: int,
        ranks: Mapping[str, int] | None = None,  # numbers of residual components that are below `restore.rank`
    ) -> None:
        super().__init__()
        self.config, self.specs, self.scalings = config, dict(specs), dict(scalings)
        self.feature_dim, self.text_dim = feature_dim, text_dim
        self.records: list[Code] = []
        self.provenance = Provenance()
        self.sha256 = ""  # hash of model.safetensors; empty until the generator is loaded
        # Weights (p,) of the trained network that the zoo's networks go back to, by architecture, where there is one.
        self.bases: dict[str, Tensor] = {}
        self.further: dict[str, Flat] = {}  # further networks (n, p) that directions start from
        self.reference: Reference | None = None  # summaries of the training data sets; none in earlier versions
        self.robust: dict[str, Tensor] = {}  # weights (p,) of the base that was fine-tuned on many shifts at once
        # The architectures with only those tensors that the zoo's networks move; the others are the reference's.
        self.moved = {name: scalings[name].moved(spec) for name, spec in specs.items()}
        self.vae = WeightVAE(config.vae, list(self.moved.values()))
        self.data_encoder = DataSetEncoder(config.encoders, feature_dim, text_dim)
        self.prior = Prior(config.prior, config.vae, config.encoders.out, text_dim + ARCH_NUMBERS)
        shape = (config.vae.latent_tokens, config.vae.latent_width)
        rank = config.restore.rank
        rank_of = {name: min(rank, (ranks or {}).get(name, rank)) for name in specs}
        self.residuals = nn.ModuleDict(
            {spec.fingerprint: Residual(rank_of[name], spec.size, rank) for name, spec in self.moved.items()}
        )
        count, width = config.episodes.directions if config.episodes.steps else 0, config.encoders.out
        self.directions = nn.ModuleDict(
            {spec.fingerprint: Directions(spec, count, width) for spec in specs.values() if count}
        )
        self.register_buffer("residual_codes", torch.zeros(0, rank))
        self.register_buffer("latent_mean", torch.zeros(len(specs), *shape))
        self.register_buffer("latent_std", torch.ones(len(specs), *shape))
        self.register_buffer("codes", torch.zeros(0, *shape))
        self.register_buffer("data_vectors", torch.zeros(0, config.encoders.out))
        self._conditioner = Conditioner(config.encoders)

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Number of latent tokens k, and their width d."""
        return self.config.vae.latent_tokens, self.config.vae.latent_width

    @property
    def has_latents(self) -> bool:
        """Whether it was trained on checkpoints, and not on bases and episodes alone."""
        return self.config.vae.steps > 0

    def check_latents(self) -> None:
        """Refuse a generator of directions alone.

        Raises:
            BadInput: the generator has no latents.
        """
        if not self.has_latents:
            raise BadInput(
                "this generator has no latents to sample",
                "its zoo has one network of each architecture, and directions from it were trained on episodes",
                "popgen search chooses along these directions by your labels.",
            )

    def add_starts(self, arch: str, further: Flat) -> None:
        """Make directions, which are zero, from further networks (n, p) of an architecture, behind those from its base."""
        spec, config = self.specs[arch], self.config
        self.further[arch] = further
        for i in range(1, len(further) + 1):
            made = Directions(spec, config.episodes.directions, config.encoders.out)
            self.directions[f"{spec.fingerprint}_{i}"] = made

    def starts(self, arch: str) -> list[Start]:
        """Return the networks of an architecture that directions start from, the base first, each with its directions.

        Raises:
            BadInput: the generator was trained without the stage of episodes.
        """
        self.directions_of(arch)
        bases = [self.bases[arch], *self.further.get(arch, ())]
        ids = self.provenance.starts.get(arch, [""] * len(bases))  # earlier versions did not keep them
        return [
            Start(name, base, self.directions_of(arch, i))
            for i, (name, base) in enumerate(zip(ids, bases, strict=True))
        ]

    def directions_of(self, arch: str, start: int = 0) -> Directions:
        """Return the directions from the base of a trained architecture, or from a further start.

        Raises:
            BadInput: the generator was trained without the stage of episodes.
        """
        name = self.spec(arch).fingerprint + (f"_{start}" if start else "")
        found = self.directions[name] if self.directions else None
        if not isinstance(found, Directions):
            raise BadInput("this generator has no directions", "it was trained without generator.episodes", "")
        return found

    @torch.no_grad()
    def propose(self, arch: str, data: DataSet | Description, draws: int = 8, start: int = 0) -> Tensor:
        """Return the coordinates (directions * groups,) that a data set proposes along the directions from a start.

        Raises:
            BadInput: the generator has no directions; or as `condition`.
        """
        directions = self.directions_of(arch, start)
        proposed: Tensor = directions.propose(self.condition(arch, data, draws).data).mean(0)
        return proposed

    @property
    def archs(self) -> dict[str, ArchConfig]:
        """Configurations of the trained architectures, by name."""
        return {name: spec.config for name, spec in self.specs.items()}

    @property
    def is_of_texts(self) -> bool:
        """Whether conditions are tasks of texts: their words, their texts, both or neither."""
        return is_text_encoder(self.config.encoders.images)

    def spec(self, arch: str) -> ArchSpec:
        """Return the ArchSpec of a trained architecture.

        Raises:
            NotFound: the generator was not trained on an architecture of that name.
        """
        if arch not in self.specs:
            raise not_trained(arch, self.specs)
        return self.specs[arch]

    @property
    def texts(self) -> StoredTexts:
        """The stored embeddings of the architectures' texts, which spare conditions the encoder of texts."""
        return self._conditioner.stored

    @texts.setter
    def texts(self, stored: StoredTexts) -> None:
        self._conditioner.stored = stored

    def load_encoders(self, described: bool = False) -> ExampleEncoder:
        """Load the encoders that conditions need, so that a missing one is an error before long work starts.

        Args:
            described: whether data sets are described in words, which need the encoder of texts.

        Returns:
            The encoder of examples.

        Raises:
            PopgenError: an encoder is not on this machine and cannot be downloaded.
        """
        return self._conditioner.load(self.specs.values(), described)

    def check_data(self, data: DataSet) -> None:
        """Check that a data set can be a condition.

        Raises:
            BadInput: it has no images, no training examples, or no training images of a class where the condition
                needs images of each.
        """
        self._conditioner.check_data(data)

    def condition(
        self, arch: str, data: DataSet | Description, n: int = 1, seed: int = 0, kind: TaskKind = "both"
    ) -> Condition:
        """Return `n` conditions on a trained architecture and a data set, each from its own draws of images.

        Args:
            kind: what of a data set of texts is shown, see popgen.generator.task_sets.

        Raises:
            NotFound: the generator was not trained on the architecture.
            BadInput: the data set cannot be a condition, see `check_data`.
            PopgenError: an encoder is not on this machine and cannot be downloaded.
        """
        classes = self.provenance.classes
        return self._conditioner.condition(self.data_encoder, self.spec(arch), data, classes, n, seed, kind)

    def mean_embedding(self, arch: str, data: DataSet | Description, draws: int = 8) -> Tensor:
        """Return the mean embedding (out,) of a data set over `draws` conditions."""
        return self.condition(arch, data, draws).data.mean(0)

    def closest(self, arch: str, data: DataSet | Description) -> list[str]:
        """Return the names of the training data sets, those with the closest embeddings first.

        Tasks of texts whose descriptions are known are compared by these: the learned embeddings of few tasks say less.
        """
        description = data.text if isinstance(data, Description) else data.description
        if description and self.provenance.descriptions:
            return self._conditioner.by_description(description, self.provenance.descriptions)
        return self.nearest(self.mean_embedding(arch, data))

    def nearest(self, embedding: Tensor) -> list[str]:
        """Return the names of the training data sets by their distance from an embedding (out,), the closest first."""
        distance = (self.data_vectors - embedding).norm(dim=1)
        return [self.provenance.data[i] for i in distance.argsort().tolist()]

    def sample(
        self,
        arch: str,
        data: DataSet | Description,
        n: int = 16,
        *,
        seed: int = 0,
        sampling: Sampling | None = None,
        control: Control | None = None,
        condition: Condition | None = None,
    ) -> Latents:
        """Sample `n` latents (n, k, d) for a trained architecture and a data set, each under its own draws of images.

        Args:
            sampling: prior, sampler, steps, guidance and strength; fields that are None are taken from the settings.
            control: `shuffled` uses the embeddings of randomly drawn training data sets, `empty` uses none.
            condition: `n` conditions that were computed before, so that images need not be encoded again.

        Raises:
            NotFound: the generator has no such prior, or was not trained on the architecture.
            BadInput: the data set cannot be a condition, see `check_data`; the prior was not trained for the sampler, or
                the control of a closed-form prior is `empty`.
        """
        self.spec(arch)
        self.check_latents()
        if isinstance(data, DataSet):
            self.check_data(data)
        how = sampling or Sampling()
        self.prior_name(how.prior)
        strength = strength_for(self, arch, data, how, control).value
        condition = condition or self.condition(arch, data, n, seed)
        return sample(self, arch, condition, seed, how, strength, control)

    def strength_for(self, arch: str, data: DataSet | Description, sampling: Sampling | None = None) -> Strength:
        """Return the strength of the condition: that of `sampling`, else that of the settings.

        `auto` chooses it without labels; for a description it means 1.
        """
        return strength_for(self, arch, data, sampling or Sampling())

    def prior_name(self, prior: str | None) -> str:
        """Return the name of the prior to sample from: `prior`, or the one that training chose if it is None.

        Raises:
            NotFound: `prior` is not network, ridge or kde.
            BadInput: `prior` is network, which was not trained.
        """
        return prior_name(self, prior)

    def decoder(self, arch: str) -> Decoder:
        """Return the decoder of one architecture."""
        row = self._row(arch)
        return Decoder(self.spec(arch), self.scalings[arch], self.vae, self.latent_mean[row], self.latent_std[row])

    def decode(self, arch: str, latents: Latents) -> Flat:
        """Return the weights (n, p) of standardised latents (n, k, d)."""
        decoder = self.decoder(arch)
        return torch.stack([decoder.weights(latent) for latent in latents])

    @torch.no_grad()
    def encode(self, arch: str, weights: Flat) -> Latents:
        """Return the standardised latents (n, k, d) of weights (n, p)."""
        mean, _ = self.vae.encode(self.moved[arch], self.scalings[arch].normalise(weights))
        return self.standardise(arch, mean)

    def standardise(self, arch: str, z: Latents) -> Latents:
        """Return the VAE's latents (n, k, d), scaled to mean 0 and variance 1 over the training checkpoints."""
        return (z - self.latent_mean[self._row(arch)]) / self.latent_std[self._row(arch)]

    def unstandardise(self, arch: str, z: Latents) -> Latents:
        """Return the VAE's latents (n, k, d); the inverse of `standardise`."""
        return z * self.latent_std[self._row(arch)] + self.latent_mean[self._row(arch)]

    def _row(self, arch: str) -> int:
        """Index of an architecture in `latent_mean` and `latent_std`."""
        return list(self.specs).index(arch)

    @torch.no_grad()
    def residual(self, arch: str, weights: Flat, latents: Latents) -> Tensor:
        """Return the residual codes (n, r) of networks `weights` (n, p) whose latents are (n, k, d)."""
        decoded = self._normalised(arch, latents)
        code: Tensor = self.residual_of(arch).code(self.scalings[arch].normalise(weights) - decoded)
        return code

    @torch.no_grad()
    def restore(self, arch: str, latents: Latents, residual: Tensor) -> Flat:
        """Return the weights (n, p) of latents (n, k, d) and residual codes (n, r)."""
        return self.scalings[arch].denormalise(self._normalised(arch, latents) + self.residual_of(arch)(residual))

    def _normalised(self, arch: str, latents: Latents) -> Flat:
        """Return the normalised weights (n, q) of standardised latents (n, k, d)."""
        decoded = [self.vae.decode(self.moved[arch], self.unstandardise(arch, z[None])) for z in latents]
        return torch.cat(decoded) if decoded else torch.zeros(0, self.moved[arch].size)

    def residual_of(self, arch: str) -> Residual:
        """Return the low-rank model of the reconstruction errors of an architecture."""
        found = self.residuals[self.moved[arch].fingerprint]
        assert isinstance(found, Residual)
        return found

    def state(self, arch: str, latent: Tensor) -> StateDict:
        """Return the weights of one latent (k, d) as a state dict."""
        return {k: v.clone() for k, v in self.spec(arch).to_state(self.decode(arch, latent[None])[0]).items()}

    def stored(self, arch: str, data: str) -> list[tuple[Code, Tensor]]:
        """Return the records and latents (k, d) of training checkpoints: the best validation score first, those without one last."""
        found = [(r, self.codes[r.row]) for r in self.records if r.arch == arch and r.data == data]
        return sorted(found, key=lambda pair: -pair[0].goodness)

    def stored_near(self, arch: str, names: Iterable[str], most: int | None) -> list[tuple[Code, Tensor]]:
        """Return at most `most` of what `stored` returns for one data set after the other; None returns all."""
        by_data: dict[str, list[Code]] = {}
        for record in self.records:
            if record.arch == arch:
                by_data.setdefault(record.data, []).append(record)
        found: list[Code] = []
        for name in names:
            found += sorted(by_data.get(name, []), key=lambda record: -record.goodness)
            if most is not None and len(found) >= most:
                break
        return [(record, self.codes[record.row]) for record in found[:most]]

    def to_cpu(self) -> None:
        """Move all tensors to the CPU, where generators are saved and sampled."""
        self.cpu()
        self.vae.forget_layouts()
        self.scalings = {name: scaling.to("cpu") for name, scaling in self.scalings.items()}

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the generator's folder, and return its path."""
        save_generator(self, Path(folder))
        return Path(folder)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> Generator:
        """Load a generator by the name of a built-in one, by its folder, or from the hub as hub:OWNER/NAME[@REVISION].

        Raises:
            NotFound: `name` is none of these.
            Offline: it is on the hub, which does not answer, and the hub's cache does not hold it.
            BrokenFile: a file is missing, truncated, or does not fit the others.
        """
        return load_generator(cls, name)
