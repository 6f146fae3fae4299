"""Reconstruction of checkpoints by the VAE, measured by what the networks do: figures, the gate, and a watch."""

from __future__ import annotations

from collections.abc import Callable

from popgen.errors import PopgenError
from popgen.generator.generator import Generator
from popgen.generator.training.data import TrainingData
from popgen.networks.forward import task_score
from popgen.tasks import get_task, lost
from popgen.types import Flat
from popgen.zoo import Checkpoint
from popgen.zoo.weight_rows import WeightRows

_TOGETHER = 64  # checkpoints that are decoded at a time, which bounds memory
_WATCHED = 4  # held-out checkpoints of each architecture that are reconstructed while training runs


def reconstruction_scores(generator: Generator, data: TrainingData) -> dict[str, dict[str, float]]:
    """Return for each architecture the mean validation scores of its checkpoints, original and reconstructed.

    The keys are `train_original`, `train_decoded`, `held_out_original` and `held_out_decoded`; those of a group without
    checkpoints on known data sets are missing.
    """
    scores: dict[str, dict[str, float]] = {}
    for name, own in data.archs.items():
        scores[name] = {}
        for group, records, x in (("train", own.records, own.x), ("held_out", own.held_out, own.held_out_x)):
            found = _mean_scores(generator, data, records, x)
            if found is not None:
                scores[name] |= {f"{group}_original": found[0], f"{group}_decoded": found[1]}
    return scores


def check_gate(generator: Generator, data: TrainingData) -> None:
    """Refuse to train a prior on latents that lose what the networks do.

    Raises:
        PopgenError: reconstruction costs more than `vae.gate` of validation score, on average over architectures, on
            held-out lineages (on training checkpoints where none are held out).
    """
    losses, units = {}, {}
    for arch, scores in reconstruction_scores(generator, data).items():
        group = "held_out" if "held_out_original" in scores else "train"
        units[arch] = get_task(generator.spec(arch).config.task).unit
        losses[arch] = lost(units[arch], scores[f"{group}_original"], scores[f"{group}_decoded"])
    mean, allowed = sum(losses.values()) / len(losses), generator.config.vae.gate
    if not mean <= allowed:
        raise PopgenError(
            f"the VAE loses {100 * mean:.1f} points of the checkpoints' validation {' and '.join(sorted(set(units.values())))}, "
            f"{100 * allowed:.1f} are allowed (generator.vae.gate)",
            "points lost: " + ", ".join(f"{arch} {100 * value:.1f}" for arch, value in losses.items()),
            "Train longer (generator.vae.steps), with a larger latent (latent_tokens, latent_width), or on more checkpoints.",
        )


def held_out_watch(generator: Generator, data: TrainingData) -> Callable[[], dict[str, float]]:
    """Return a function that computes the mean validation score of some held-out checkpoints after reconstruction."""
    chosen = {}
    for name, own in data.archs.items():
        known = [i for i, record in enumerate(own.held_out) if record.data in data.data_sets]
        if known:
            rows = known[:: max(1, len(known) // _WATCHED)][:_WATCHED]
            chosen[name] = [own.held_out[i] for i in rows], own.scaling.denormalise(own.held_out_x[rows])

    def watch() -> dict[str, float]:
        if not chosen:
            return {}
        scores = []
        for name, (records, weights) in chosen.items():
            scores.append(_mean_score(generator, data, records, _restored(generator, name, weights)))
        [unit, *others] = {get_task(generator.spec(name).config.task).unit for name in chosen}
        return {f"held-out {'score' if others else unit}": sum(scores) / len(scores)}

    return watch


def _mean_scores(
    generator: Generator, data: TrainingData, records: list[Checkpoint], x: WeightRows
) -> tuple[float, float] | None:
    """Return the mean scores of checkpoints before and after reconstruction; None without checkpoints."""
    known = [i for i, record in enumerate(records) if record.data in data.data_sets]
    before, after = 0.0, 0.0
    for first in range(0, len(known), _TOGETHER):
        rows = known[first : first + _TOGETHER]
        chosen = [records[i] for i in rows]
        arch = chosen[0].arch
        weights = data.archs[arch].scaling.denormalise(x[rows])
        restored = _restored(generator, arch, weights)
        before += len(rows) * _mean_score(generator, data, chosen, weights)
        after += len(rows) * _mean_score(generator, data, chosen, restored)
    return (before / len(known), after / len(known)) if known else None


def _restored(generator: Generator, arch: str, weights: Flat) -> Flat:
    latents = generator.encode(arch, weights)
    return generator.restore(arch, latents, generator.residual(arch, weights, latents))


def _mean_score(generator: Generator, data: TrainingData, records: list[Checkpoint], weights: Flat) -> float:
    spec = generator.spec(records[0].arch)
    pairs = zip(records, weights, strict=True)
    scores = [task_score(spec, flat, data.data_sets[record.data]) for record, flat in pairs]
    return sum(scores) / len(scores)
