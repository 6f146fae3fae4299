"""Finds the networks of a zoo that directions start from: the zoo's start, the best, those that are named, or those best at episodes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from popgen.configs.generator import EpisodesConfig
from popgen.errors import BadInput
from popgen.generator.generator import Generator
from popgen.generator.training.episodes.data import EpisodeData
from popgen.generator.training.loop import OnStep
from popgen.networks.episodes import ridge_loss
from popgen.networks.forward import network_features
from popgen.types import Flat
from popgen.zoo import Checkpoint, Zoo

# Episodes that each network is judged on, and the penalty and scale of the heads there.
_EPISODES, _PENALTY, _SCALE = 32, 1.0, 8.0


@dataclass(frozen=True)
class Starts:
    """Networks (n, p) of one architecture, their ids in the zoo, and the records that tell where they are from.

    The zoo's start, which is not among its networks, has the id "" and the record of a network that goes back to it.
    """

    networks: Flat
    ids: list[str]
    records: list[Checkpoint]


def find_starts(zoo: Zoo, config: EpisodesConfig, episodes: EpisodeData, on_step: OnStep) -> dict[str, Starts]:
    """Return the networks that directions start from, by architecture.

    Those that are named; else, with `starts` above 1, those that do best on episodes; else the zoo's start, or its best network.

    Args:
        on_step: called with the number of networks that were judged on episodes, as in training.

    Raises:
        BadInput, NotFound: as `best_record`.
    """
    named = [zoo.record(one) for one in config.bases]
    starts = {}
    for arch in zoo.archs:
        records = [record for record in named if record.arch == arch]
        if not records and config.starts > 1:
            records = best_at_episodes(zoo, arch, episodes, config.starts, on_step)
        elif not records and (start := zoo.base(arch)) is not None:
            starts[arch] = Starts(start[None], [""], zoo.select(arch=arch)[:1])
            continue
        records = records or [best_record(zoo, arch)]
        starts[arch] = Starts(zoo.matrix(records), [record.id for record in records], records)
    return starts


def set_starts(generator: Generator, starts: dict[str, Starts]) -> None:
    """Give a generator the networks that its directions start from."""
    for arch, own in starts.items():
        generator.bases[arch] = own.networks[0]
        if len(own.networks) > 1:
            generator.add_starts(arch, own.networks[1:].clone())
        generator.provenance.starts[arch] = own.ids


def best_record(zoo: Zoo, arch: str) -> Checkpoint:
    """Return the only network of an architecture, or that with the best score.

    Raises:
        BadInput: there are several, and the zoo recorded no validation scores.
    """
    records = zoo.select(arch=arch, held_out=False)
    if len(records) == 1:
        return records[0]
    scored = [record for record in records if record.score("val") is not None]
    if not scored:
        raise BadInput(
            f"the zoo {zoo.name!r} has {len(records)} networks of {arch!r} that directions could start from",
            "it recorded no validation scores to choose by",
            f"Name one: generator: {{episodes: {{bases: [{records[0].id if records else 'ID'}]}}}}",
        )
    return max(scored, key=lambda record: record.score("val") or 0.0)


@torch.no_grad()
def best_at_episodes(zoo: Zoo, arch: str, episodes: EpisodeData, count: int, on_step: OnStep) -> list[Checkpoint]:
    """Return the `count` networks, or all if there are fewer, whose features fit the heads of some episodes best, the best first.

    All are judged on the same episodes. Scores that a zoo records are of other tasks.
    """
    spec, records, losses = zoo.spec(arch), zoo.select(arch=arch, held_out=False), []
    with torch.random.fork_rng(), torch.device("cpu"):
        torch.manual_seed(0)
        drawn = [episodes.draw() for _ in range(_EPISODES)]
        inputs = [torch.cat([spec.config.inputs.prepare(images) for images in one.inputs]) for one in drawn]
        penalty, scale = torch.tensor(_PENALTY), torch.tensor(_SCALE)
        for done, flat in enumerate(zoo.matrix(records), 1):
            found = [
                ridge_loss(
                    network_features(spec, flat, x), e.labels, e.support, int(e.labels.max()) + 1, penalty, scale
                )
                for x, e in zip(inputs, drawn, strict=True)
            ]
            losses.append(float(torch.stack(found).nan_to_num(torch.inf).mean()))
            on_step(f"starts {arch}", done, len(records), {})
    return [records[i] for i in sorted(range(len(losses)), key=losses.__getitem__)[:count]]
