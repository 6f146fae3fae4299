"""Ablation of the generator: each row is a training without one of its parts, with test accuracy of generated networks.

    python examples/bench/ablation.py --scale 0.25

It takes 5 minutes for each row on one CPU core, at a quarter of the steps. A row is one run with one seed, so differences
of a point or two are not significant. Columns are the zoo's own rotations, those that it holds out (45, 135, 225, 315),
and these under the conditions of other data sets. Numbers are means over architectures and 5 generated networks, without
a search. `raw weights` samples the weights of cnn-s by a flow over their tokens: it has no VAE, and so neither a shared
latent nor a loss on behaviour.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

import popgen
from popgen.archs import ArchSpec
from popgen.configs.generator import PriorConfig, VAEConfig
from popgen.data import DataSet
from popgen.generator import Generator, GeneratorConfig
from popgen.generator.model.prior import Prior
from popgen.generator.training import train_generator
from popgen.jobs.train import read_spec
from popgen.networks.forward import task_score
from popgen.types import Flat
from popgen.weights import Scaling, TokenLayout
from popgen.zoo import Zoo

KNOWN = [f"digits/rotate:{angle}" for angle in (30, 120, 210, 300)]
HELD_OUT = [f"digits/rotate:{angle}" for angle in (45, 135, 225, 315)]
WITHOUT: dict[str, dict[str, dict[str, Any]]] = {
    "all of it": {},
    "no behaviour loss": {"vae": {"behaviour": 0}, "tune": {"steps": 0}},
    "no tuning": {"tune": {"steps": 0}},
    "no tasks but the zoo's": {"tune": {"tasks": []}},
    "no mixup": {"vae": {"mixup": 0}},
    "no linear path": {"vae": {"linear": False}},
    "no data set condition": {"prior": {"use_data": False}},
    "no architecture condition": {"prior": {"use_arch": False}},
}
_TOKEN = 64  # weights in a token of the flow over raw weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.25, help="share of the spec's steps")
    parser.add_argument("--spec", default="zoo_specs/digits.yaml")
    parser.add_argument("--zoo", default="digits")
    parser.add_argument("--rows", help="names of rows, separated by commas; all by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    _, config = read_spec(options.spec)
    base = config.model_dump()
    base["tune"]["tasks"] = base["tune"]["tasks"][
        :1
    ]  # the rotations: the mixtures' images take longer than the training
    base["vae"]["gate"], base["prior"]["kind"] = 1.0, "flow"
    for section in ("vae", "encoders", "prior", "tune"):
        base[section]["steps"] = max(1, round(options.scale * base[section]["steps"]))
    base["describe"]["steps"] = base["restore"]["steps"] = 0  # nothing here is described, or given back
    zoo, chosen = Zoo.open(options.zoo), options.rows.split(",") if options.rows else [*WITHOUT, "raw weights"]
    print(f"{'':28s}known  held out  shuffled")
    for row in chosen:
        figures = _raw(zoo, base) if row == "raw weights" else _without(zoo, base, WITHOUT[row])
        print(f"{row:28s}" + "  ".join(f"{value:.3f}" for value in figures), flush=True)


def _without(zoo: Zoo, base: dict[str, Any], changes: dict[str, dict[str, Any]]) -> list[float]:
    settings = {
        key: {**value, **changes.get(key, {})} if isinstance(value, dict) else value for key, value in base.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        made = train_generator(zoo, GeneratorConfig.model_validate(settings), Path(folder), lambda *_: None)
    return [
        statistics.mean(_score(made, arch, name, control) for arch in made.specs for name in names)
        for names, control in ((KNOWN, None), (HELD_OUT, None), (HELD_OUT, "shuffled"))
    ]


def _score(made: Generator, arch: str, name: str, control: Any) -> float:
    data = popgen.load_data(name)
    flats = made.decode(arch, made.sample(arch, data, 5, sampling=popgen.Sampling(prior="network"), control=control))
    return _mean_accuracy(made.spec(arch), flats, data)


def _mean_accuracy(spec: ArchSpec, flats: Flat, data: DataSet) -> float:
    return statistics.mean(task_score(spec, flat, data, "test") for flat in flats)


def _raw(zoo: Zoo, base: dict[str, Any]) -> list[float]:
    """A flow over the tokens of cnn-s, conditioned on the mean CLIP features of each class."""
    torch.manual_seed(0)
    spec, records = zoo.spec("cnn-s"), zoo.select(arch="cnn-s", held_out=False)
    scaling = Scaling.fit(spec, zoo.matrix(records), zoo.reference("cnn-s"))
    layout = TokenLayout(spec, _TOKEN)
    x = layout.to_tokens(scaling.normalise(zoo.matrix(records)))
    names = list(dict.fromkeys([r.data for r in records] + HELD_OUT))
    encoder = popgen.Generator.from_pretrained("digits").load_encoders()
    condition = {}
    for name in names:
        images = popgen.load_data(name).per_class("train", 20, torch.Generator().manual_seed(0))
        condition[name] = encoder.features(images.flatten(0, 1)).unflatten(0, images.shape[:2]).mean(1).flatten()
    prior = Prior(
        PriorConfig(**{**base["prior"], "use_arch": False}),
        VAEConfig(latent_tokens=len(layout), latent_width=_TOKEN),
        len(condition[names[0]]),
        1,
    )
    optimizer = torch.optim.AdamW(prior.parameters(), lr=1e-3)
    for _ in range(base["prior"]["steps"]):
        pick = torch.randint(len(records), (16,))
        data = torch.stack([condition[records[i].data] for i in pick.tolist()])
        loss = torch.stack(list(prior.losses(x[pick], data, torch.zeros(16, 1)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    prior.eval()

    @torch.no_grad()
    def accuracy(name: str, shown: str) -> float:
        noise = torch.randn(5, len(layout), _TOKEN)
        tokens = prior.sample(condition[shown].expand(5, -1), torch.zeros(5, 1), noise, popgen.Sampling(steps=20))
        return _mean_accuracy(spec, scaling.denormalise(layout.to_flat(tokens)), popgen.load_data(name))

    others = [KNOWN[(i + 2) % 4] for i in range(4)]
    pairs = [
        list(zip(KNOWN, KNOWN, strict=True)),
        list(zip(HELD_OUT, HELD_OUT, strict=True)),
        list(zip(HELD_OUT, others, strict=True)),
    ]
    return [statistics.mean(accuracy(name, shown) for name, shown in group) for group in pairs]


if __name__ == "__main__":
    main()
