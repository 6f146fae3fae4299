"""The Generator: everything needed to make weights from an architecture and a data set, saved as one folder.

Latents that leave or enter it are standardised: over an architecture's training checkpoints every coordinate has mean 0 and
variance 1.
A folder holds config.json (settings, architectures, encoders' names, the zoo it came from), codes.json (one line of record
for each training checkpoint) and model.safetensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from popgen.archs import ArchConfig, ArchSpec
from popgen.configs.generator import GeneratorConfig
from popgen.configs.sampling import Sampling
from popgen.data import DataSet
from popgen.data.classes import match_classes
from popgen.encoders.arch import ArchTextEncoder
from popgen.encoders.examples import ExampleEncoder, load_example_encoder
from popgen.errors import BadInput, BrokenFile, NotFound, brief, unknown_name
from popgen.files import write_tensors, write_text
from popgen.generator.controls import Control
from popgen.generator.decoder import Decoder
from popgen.generator.draws import draw_features
from popgen.generator.folder import FORMAT, generator_folder, read_folder
from popgen.generator.model.closed_form_priors import CodeTable
from popgen.generator.model.conditions import ARCH_NUMBERS, DataSetEncoder, Description, arch_vectors
from popgen.generator.model.prior import Prior
from popgen.generator.model.residual import Remainder
from popgen.generator.model.vae import WeightVAE
from popgen.generator.records import Code, Condition, Provenance
from popgen.generator.storage import pack, unpack, unpack_scalings
from popgen.generator.strength import Strength, choose_strength
from popgen.types import Flat, Latents, StateDict
from popgen.weights import Scaling

PRIORS = ("network", "ridge", "kde")


class Generator(nn.Module):
    """One conditional generator for a zoo.

    Example:
        >>> from popgen.data import load_data
        >>> generator = Generator.from_pretrained("digits")
        >>> latents = generator.sample("cnn-s", load_data("digits/rotate:45"), n=4, seed=0)
        >>> generator.decode("cnn-s", latents).shape
        torch.Size([4, 3818])
    """

    latent_mean: Tensor  # (architectures, k, d), over the codes of each trained architecture
    latent_std: Tensor
    codes: Tensor  # (n, k, d), latents of the training checkpoints
    remainder_codes: Tensor  # (n, r), the rest of their codes
    data_vectors: Tensor  # (data sets, out), mean embeddings of the training data sets

    def __init__(
        self,
        config: GeneratorConfig,
        specs: Mapping[str, ArchSpec],
        scalings: Mapping[str, Scaling],
        feature_dim: int,
        text_dim: int,
        ranks: Mapping[str, int] | None = None,  # of remainders, where fewer than `restore.rank`
    ) -> None:
        super().__init__()
        self.config, self.specs, self.scalings = config, dict(specs), dict(scalings)
        self.feature_dim, self.text_dim = feature_dim, text_dim
        self.records: list[Code] = []
        self.provenance = Provenance()
        self.sha256 = ""  # of model.safetensors; empty until it is saved or loaded
        self.vae = WeightVAE(config.vae, list(specs.values()))
        self.data_encoder = DataSetEncoder(config.encoders, feature_dim, text_dim)
        self.prior = Prior(config.prior, config.vae, config.encoders.out, text_dim + ARCH_NUMBERS)
        shape = (config.vae.latent_tokens, config.vae.latent_width)
        rank = config.restore.rank
        rank_of = {name: min(rank, (ranks or {}).get(name, rank)) for name in specs}
        self.remainders = nn.ModuleDict(
            {spec.fingerprint: Remainder(rank_of[name], spec.size, rank) for name, spec in specs.items()}
        )
        self.register_buffer("remainder_codes", torch.zeros(0, rank))
        self.register_buffer("latent_mean", torch.zeros(len(specs), *shape))
        self.register_buffer("latent_std", torch.ones(len(specs), *shape))
        self.register_buffer("codes", torch.zeros(0, *shape))
        self.register_buffer("data_vectors", torch.zeros(0, config.encoders.out))
        self._images: ExampleEncoder | None = None
        self._texts: ArchTextEncoder | None = None

    @property
    def latent_shape(self) -> tuple[int, int]:
        """k and d."""
        return self.config.vae.latent_tokens, self.config.vae.latent_width

    @property
    def archs(self) -> dict[str, ArchConfig]:
        """The architectures it was trained on."""
        return {name: spec.config for name, spec in self.specs.items()}

    def spec(self, arch: str) -> ArchSpec:
        """The ArchSpec of a trained architecture.

        Raises:
            NotFound: the generator was not trained on an architecture of that name.
        """
        if arch not in self.specs:
            raise unknown_name(
                "architecture in this generator",
                arch,
                self.specs,
                "`popgen train` makes a generator for other architectures.",
            )
        return self.specs[arch]

    def load_encoders(self) -> tuple[ExampleEncoder, ArchTextEncoder]:
        """The encoders named in its settings, loaded once.

        Raises:
            PopgenError: they are not here and cannot be fetched.
        """
        if self._images is None or self._texts is None:
            self._images = load_example_encoder(self.config.encoders.images)
            self._texts = ArchTextEncoder.load(self.config.encoders.text)
        return self._images, self._texts

    @torch.no_grad()
    def condition(self, arch: str, data: DataSet | Description, n: int = 1, seed: int = 0) -> Condition:
        """Both conditions, `n` times; that of the data set is the mean embedding of 8 draws of its own (`draw_features`)."""
        image_encoder, text_encoder = self.load_encoders()
        vector = arch_vectors([self.spec(arch)], text_encoder)
        if isinstance(data, Description):
            embedding = self.data_encoder.from_text(text_encoder.encode([data.text])).expand(n, -1)
        else:
            drawn = draw_features(data, image_encoder, self.config.encoders, n, seed)
            embedding = self.data_encoder(drawn.flatten(0, 1), self._places(data)).unflatten(0, drawn.shape[:2]).mean(1)
        return Condition(embedding, vector.expand(n, -1))

    def _places(self, data: DataSet) -> Tensor | None:
        """Which of the training classes a data set's classes are, where it has some of them under their names."""
        known = self.provenance.classes if self.config.encoders.labels else []
        rows = match_classes(data.classes, known)
        return None if None in rows else torch.tensor(rows)

    def mean_embedding(self, arch: str, data: DataSet | Description, draws: int = 8) -> Tensor:
        """The data set's embedding (out,), averaged over draws of its images."""
        return self.condition(arch, data, draws).data.mean(0)

    def closest(self, arch: str, data: DataSet | Description) -> list[str]:
        """The training data sets, closest in embedding first."""
        distance = (self.data_vectors - self.mean_embedding(arch, data)).norm(dim=1)
        return [self.provenance.data[i] for i in distance.argsort().tolist()]

    @torch.no_grad()
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
        """`n` latents (n, k, d) for an architecture and a data set; each sees its own draw of the data set's images.

        Args:
            sampling: prior, sampler, steps, guidance and strength; what it leaves open is as the generator's settings say.
            control: `shuffled` conditions on training data sets drawn at random instead, `empty` on none.
            condition: the data set's, where it is known already (`condition`, `n` times): the images are not read again.

        Raises:
            NotFound: no such prior.
            BadInput: a sampler that the prior was not trained for, or a cheap prior without a condition.
        """
        how = sampling or Sampling()
        prior = self.prior_name(how.prior)
        strength = self.strength_for(arch, data, how, control).value
        rng = torch.Generator().manual_seed(seed)
        noise = torch.randn(n, *self.latent_shape, generator=rng)
        condition = condition or self.condition(arch, data, n, seed)
        embedding = strength * condition.data
        if control == "shuffled":
            embedding = self.data_vectors[torch.randint(len(self.data_vectors), (n,), generator=rng)]
        if prior == "network":
            without = torch.tensor([[control == "empty", False]]).expand(n, -1)
            raw = self.prior.sample(embedding, condition.arch, noise, how, without)
            return self.standardise(arch, raw)
        if control == "empty":
            raise BadInput(f"the prior {prior!r} has no empty condition", "it is a function of the data set", "")
        table = self.code_table(arch)
        return table.ridge(embedding, noise) if prior == "ridge" else table.kde(embedding, noise, rng)

    def strength_for(
        self,
        arch: str,
        data: DataSet | Description,
        sampling: Sampling | None = None,
        control: Control | None = None,
    ) -> Strength:
        """How far a condition is trusted: as `sampling` or the generator's settings say; see popgen/generator/strength.py.

        `auto` chooses it for the networks that the prior of `sampling` makes; descriptions and controls are then followed all
        the way.
        """
        given = Sampling() if sampling is None else sampling
        wanted = given.over(self.config.prior.sampling).strength
        if control is not None and given.strength is None:
            wanted = 1.0
        if wanted != "auto" or isinstance(data, Description):
            return Strength(1.0 if wanted in ("auto", None) else float(wanted), {})
        condition = self.condition(arch, data)

        def network(strength: float) -> Tensor:
            latents = self.sample(
                arch, data, 1, sampling=Sampling(prior=given.prior, strength=strength), condition=condition
            )
            return self.decode(arch, latents)[0]

        return choose_strength(self.spec(arch), data.val.inputs, network)

    def prior_name(self, prior: str | None) -> str:
        """One of PRIORS; None is the one that was chosen in training.

        Raises:
            NotFound: no such prior.
            BadInput: the generator was trained without a network.
        """
        prior = prior or self.provenance.prior
        if prior not in PRIORS:
            raise unknown_name("prior", prior, PRIORS)
        kind = self.config.prior.kind
        if prior == "network" and kind in PRIORS:
            raise BadInput(
                "the generator has no trained prior", f"its spec says prior: {kind}", "Choose --prior ridge or kde."
            )
        return prior

    def code_table(self, arch: str) -> CodeTable:
        """The codes of the training checkpoints of an architecture, as the cheap priors read them."""
        place = {name: i for i, name in enumerate(self.provenance.data)}
        records = [r for r in self.records if r.arch == arch and r.data in place]
        return CodeTable(
            self.codes[[r.row for r in records]],
            self.data_vectors[[place[r.data] for r in records]],
            torch.tensor([r.val_score for r in records]),
        )

    def decoder(self, arch: str) -> Decoder:
        """The part that decodes one architecture."""
        row = self._row(arch)
        return Decoder(self.spec(arch), self.scalings[arch], self.vae, self.latent_mean[row], self.latent_std[row])

    def decode(self, arch: str, latents: Latents) -> Flat:
        """Weights (n, p) of standardised latents (n, k, d)."""
        decoder = self.decoder(arch)
        return torch.stack([decoder.weights(latent) for latent in latents])

    @torch.no_grad()
    def encode(self, arch: str, weights: Flat) -> Latents:
        """Standardised latents (n, k, d) of weights (n, p)."""
        mean, _ = self.vae.encode(self.spec(arch), self.scalings[arch].normalise(weights))
        return self.standardise(arch, mean)

    def standardise(self, arch: str, z: Latents) -> Latents:
        """The VAE's latents (n, k, d) as all else sees them: mean 0 and variance 1 over the architecture's checkpoints."""
        return (z - self.latent_mean[self._row(arch)]) / self.latent_std[self._row(arch)]

    def unstandardise(self, arch: str, z: Latents) -> Latents:
        """The inverse of `standardise`."""
        return z * self.latent_std[self._row(arch)] + self.latent_mean[self._row(arch)]

    def _row(self, arch: str) -> int:
        return list(self.specs).index(arch)

    @torch.no_grad()
    def remainder(self, arch: str, weights: Flat, latents: Latents) -> Tensor:
        """The rest (n, r) of the codes of networks `weights` (n, p) whose latents are (n, k, d)."""
        left = self._normalised(arch, latents)
        code: Tensor = self.remainder_of(arch).code(self.scalings[arch].normalise(weights) - left)
        return code

    @torch.no_grad()
    def restore(self, arch: str, latents: Latents, remainder: Tensor) -> Flat:
        """Weights (n, p) of whole codes: latents (n, k, d) and the rest (n, r)."""
        return self.scalings[arch].denormalise(self._normalised(arch, latents) + self.remainder_of(arch)(remainder))

    def _normalised(self, arch: str, latents: Latents) -> Flat:
        parts = [self.vae.decode(self.spec(arch), self.unstandardise(arch, z[None])) for z in latents]
        return torch.cat(parts) if parts else torch.zeros(0, self.spec(arch).size)

    def remainder_of(self, arch: str) -> Remainder:
        """The components that a stored checkpoint of an architecture has beside its latent."""
        found = self.remainders[self.spec(arch).fingerprint]
        assert isinstance(found, Remainder)
        return found

    def state(self, arch: str, latent: Tensor) -> StateDict:
        """The state dict of one latent (k, d)."""
        return {k: v.clone() for k, v in self.spec(arch).to_state(self.decode(arch, latent[None])[0]).items()}

    def stored(self, arch: str, data: str) -> list[tuple[Code, Tensor]]:
        """Records and latents (k, d) of the training checkpoints of an architecture and a data set, best first."""
        found = [(r, self.codes[r.row]) for r in self.records if r.arch == arch and r.data == data]
        return sorted(found, key=lambda pair: -pair[0].val_score)

    def to_cpu(self) -> None:
        """All of it on the CPU, where a generator is used."""
        self.cpu()
        self.vae.forget_layouts()
        self.scalings = {name: scaling.to("cpu") for name, scaling in self.scalings.items()}

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the folder; popgen/generator/storage.py says in which precision."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = pack(self.state_dict(), self.specs, self.scalings, self.config.storage)
        write_tensors(folder / "model.safetensors", tensors)
        lines = ",\n".join(json.dumps(r.to_json()) for r in self.records)
        write_text(folder / "codes.json", f"[\n{lines}\n]\n")
        self.save_config(folder)
        return folder

    def save_config(self, folder: Path) -> None:
        """Write config.json alone, whole or not at all: for figures that are known only after the rest was saved."""
        config = {
            "format": FORMAT,
            "generator": self.config.model_dump(),
            "archs": {name: spec.config.to_json() for name, spec in self.specs.items()},
            "feature_dim": self.feature_dim,
            "text_dim": self.text_dim,
            "provenance": asdict(self.provenance),
        }
        write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")

    @classmethod
    def from_pretrained(cls, name: str | Path) -> Generator:
        """Load a generator by the name of a built-in one or by its folder.

        Raises:
            NotFound: neither a built-in generator nor a folder.
            BrokenFile: a file is missing, truncated, or does not fit the others.
        """
        folder = generator_folder(name)
        config, records, tensors = read_folder(folder)
        try:
            generator = cls._assemble(config, records, tensors)
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError, NotFound, BadInput) as error:
            raise BrokenFile(
                f"the files of the generator in {folder} do not fit together", brief(error), "Train or copy it again."
            ) from error
        generator.sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        return generator.eval().requires_grad_(False)

    @classmethod
    def _assemble(cls, config: dict[str, Any], records: list[dict[str, Any]], tensors: dict[str, Tensor]) -> Generator:
        """A generator from what its files hold. Raises whatever does not fit."""
        specs = {arch: ArchSpec.from_config(ArchConfig.from_json(c)) for arch, c in config["archs"].items()}
        scalings = unpack_scalings(tensors, specs)
        state = unpack(tensors, specs)
        ranks = {arch: len(state[f"remainders.{spec.fingerprint}.basis"]) for arch, spec in specs.items()}
        generator = cls(
            GeneratorConfig(**config["generator"]), specs, scalings, config["feature_dim"], config["text_dim"], ranks
        )
        for name in ("codes", "remainder_codes", "data_vectors"):
            setattr(generator, name, torch.empty_like(state[name]))
        generator.load_state_dict(state)
        generator.records = [Code.from_json(record) for record in records]
        generator.provenance = Provenance(**config["provenance"])
        if len(generator.remainder_codes) != len(generator.codes):
            raise ValueError(f"{len(generator.codes)} codes, and the rest of {len(generator.remainder_codes)}")
        if sorted(r.row for r in generator.records) != list(range(len(generator.codes))):
            raise ValueError(f"codes.json lists {len(records)} codes, model.safetensors holds {len(generator.codes)}")
        if len(generator.provenance.data) != len(generator.data_vectors):
            raise ValueError("provenance.data does not list the data sets of data_vectors")
        return generator

    def check_data(self, data: DataSet) -> None:
        """Refuse a data set without training images in one of its classes, where the condition needs them."""
        if not self.config.encoders.labels:
            return
        counts = data.train.targets.bincount(minlength=len(data.classes))
        empty = [data.classes[i] for i in (counts == 0).nonzero().flatten().tolist()]
        if empty:
            raise BadInput(
                f"data set {data.name!r} has classes without training images: {', '.join(empty)}",
                "the condition needs images of each",
                "",
            )
