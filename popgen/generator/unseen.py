"""Generates architectures that the generator was not trained on: the nearest trained one is decoded and transplanted.

Latents are sampled for the data set and the trained architecture. The rule that chooses this architecture did best in
examples/bench/unseen_archs.py: it drops no layer if that can be avoided, then narrows no layer if that can be avoided,
and then widens as little as possible, because widening preserves the network's function and narrowing does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from popgen.archs import ArchSpec, arch_config
from popgen.archs.names import unknown_to_generator
from popgen.archs.variants import split_options
from popgen.errors import BadInput, NotFound
from popgen.generator.decoder import Decoder, TransplantDecoder
from popgen.generator.generator import Generator
from popgen.weights import Scaling
from popgen.weights.transplant import Transplant, plan_transplant

Rule = Literal["widen", "slice"]  # preferred change of a trained architecture's widths
SPREAD = 0.5  # random spread among the shares of duplicated units, see plan_transplant


@dataclass(frozen=True)
class Target:
    """An architecture to generate: a trained one, or one that is made from a trained one by a transplant."""

    spec: ArchSpec
    source: str  # name of the trained architecture
    transplant: Transplant | None = None  # None: the architecture itself was trained

    @property
    def is_trained(self) -> bool:
        """Whether the generator was trained on this architecture, so that no transplant is needed."""
        return self.transplant is None

    def decoder(self, generator: Generator) -> Decoder | TransplantDecoder:
        """Return the decoder of this architecture."""
        decoder = generator.decoder(self.source)
        return decoder if self.transplant is None else TransplantDecoder(decoder, self.transplant)


def find_target(generator: Generator, arch: str, rule: Rule = "widen") -> Target:
    """Find the trained architecture from which an architecture is generated, and the transplant between them.

    Args:
        rule: `widen` prefers a trained architecture whose layers are widened, `slice` one whose layers are narrowed.

    Raises:
        NotFound: there is no architecture of that name.
        BadInput: no trained architecture has the same builder, inputs, classes and task and can be transplanted.

    >>> target = find_target(Generator.from_pretrained("digits"), "cnn-s/channels:12-24")
    >>> target.source, target.transplant.changes.text()
    ('cnn-s', 'widened 0, 3')
    """
    if arch in generator.specs:
        return Target(generator.spec(arch), arch)
    try:
        spec = ArchSpec.from_config(arch_config(arch, generator.archs))
    except NotFound as error:
        if split_options(arch)[1]:
            raise
        raise unknown_to_generator(arch, generator.specs) from error
    same = [name for name, known in generator.specs.items() if _is_same(known, spec)]
    if same:
        return Target(spec, same[0])
    plans = {name: plan for name in generator.specs if (plan := _plan(generator.specs[name], spec)) is not None}
    if not plans:
        known = "; ".join(f"{name}: {config.text()}" for name, config in generator.archs.items())
        raise BadInput(
            f"{arch!r} ({spec.config.text()}) is of no family that this generator knows",
            f"a trained architecture with the same builder, input and classes is needed; it knows {known}",
            "`popgen train` makes a generator for other architectures.",
        )
    source = min(plans, key=lambda name: _cost(plans[name], rule))
    return Target(spec, source, plans[source])


def positions_decoder(generator: Generator, target: Target) -> Decoder:
    """Return a decoder that evaluates the VAE at the token positions of the target itself, for experiments.

    The target has no linear path, and the VAE was not trained at its positions. Reference and scale are those
    of the trained architecture, transplanted tensor by tensor.
    """
    decoder, plan = generator.decoder(target.source), target.transplant
    if plan is None:
        return decoder
    reference = plan(decoder.reference)[0]
    is_log = torch.cat([torch.full((t.size,), t.kind == "norm_var") for t in target.spec.tensors])
    scale = decoder.scaling.of_all().scale[plan.index]
    reference = torch.where(is_log, reference.clamp_min(1e-10).log(), reference)
    return Decoder(target.spec, Scaling(reference, scale, is_log), decoder.vae, decoder.mean, decoder.std)


def _is_same(known: ArchSpec, spec: ArchSpec) -> bool:
    """Whether two architectures are the same but for their names; adapters of two bases, which may have equal tensors, are not."""
    a, b = known.config, spec.config
    same = known.fingerprint == spec.fingerprint and a.builder == b.builder
    return same and (not spec.is_adapter or all(a.options[key] == b.options[key] for key in ("base_sha256", "alpha")))


def _plan(source: ArchSpec, target: ArchSpec) -> Transplant | None:
    """Return the transplant, or None if the two architectures are not of one family."""
    a, b = source.config, target.config
    if source.is_adapter or (a.builder, a.inputs, a.classes, a.task) != (b.builder, b.inputs, b.classes, b.task):
        return None
    try:
        return plan_transplant(source, target, spread=SPREAD)
    except BadInput:
        return None


def _cost(plan: Transplant, rule: Rule) -> tuple[float, ...]:
    """Return the cost of a transplant as a sort key: layers dropped, layers inserted, then octaves of changed width.

    The rule decides whether narrowing or widening counts first.
    """
    octaves = [math.log2(now / was) for was, now in plan.widths]
    narrowed, widened = sum(max(-x, 0) for x in octaves), sum(max(x, 0) for x in octaves)
    dropped, inserted = len(plan.changes.dropped), len(plan.changes.inserted)
    order = (narrowed, widened) if rule == "widen" else (widened, narrowed)
    return dropped, inserted, *order
