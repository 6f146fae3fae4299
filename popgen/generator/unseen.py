"""Architectures that a generator was not trained on: it generates the nearest trained one, which is then transplanted.

The latents are sampled for the data set and for the trained architecture. The rule that chooses it is the one that did
best in examples/bench/unseen_archs.py: no layer is dropped where that can be avoided, nothing is narrowed where that can be
avoided, and then as little as possible is widened, because widening keeps what the network does and narrowing does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from popgen.archs import ArchSpec, arch_config
from popgen.archs.variants import split_options
from popgen.errors import BadInput, NotFound, unknown_name
from popgen.generator.decoder import Decoder, TransplantDecoder
from popgen.generator.generator import Generator
from popgen.weights import Scaling
from popgen.weights.transplant import Transplant, plan_transplant

Rule = Literal["widen", "slice"]
SPREAD = 0.5  # of the shares of duplicated units, see plan_transplant


@dataclass(frozen=True)
class Target:
    """An architecture to generate: trained, or made from the trained architecture `source` by a transplant."""

    spec: ArchSpec
    source: str
    transplant: Transplant | None = None  # None: trained

    @property
    def is_trained(self) -> bool:
        return self.transplant is None

    def decoder(self, generator: Generator) -> Decoder | TransplantDecoder:
        """The part of the generator that gives its weights."""
        decoder = generator.decoder(self.source)
        return decoder if self.transplant is None else TransplantDecoder(decoder, self.transplant)


def find_target(generator: Generator, arch: str, rule: Rule = "widen") -> Target:
    """What the generator does for an architecture.

    Args:
        rule: which trained architecture: one to widen where possible, or one to slice.

    Raises:
        NotFound: no architecture of that name.
        BadInput: the generator knows no architecture of its family: same builder, input and classes.

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
        todo = (
            "Other sizes of these are written like cnn-s/channels:12-24; `popgen train` makes a generator for others."
        )
        raise unknown_name("architecture in this generator", arch, generator.specs, todo) from error
    same = [name for name, known in generator.specs.items() if known.fingerprint == spec.fingerprint]
    if same and generator.archs[same[0]].builder == spec.config.builder:
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
    """The hypernetwork path alone, for experiments: the VAE asked at the target's own token positions.

    No linear path exists there, and the VAE never saw such positions. Reference and scale are those of the trained
    architecture, transplanted tensor by tensor.
    """
    decoder, plan = generator.decoder(target.source), target.transplant
    if plan is None:
        return decoder
    reference = plan(decoder.scaling.denormalise(torch.zeros(1, decoder.spec.size)))[0]
    is_log = torch.cat([torch.full((t.size,), t.kind == "norm_var") for t in target.spec.tensors])
    scale = decoder.scaling.scale[plan.index]
    reference = torch.where(is_log, reference.clamp_min(1e-10).log(), reference)
    return Decoder(target.spec, Scaling(reference, scale, is_log), decoder.vae, decoder.mean, decoder.std)


def _plan(source: ArchSpec, target: ArchSpec) -> Transplant | None:
    """None where the two are not of one family."""
    a, b = source.config, target.config
    if (a.builder, a.inputs, a.classes, a.task) != (b.builder, b.inputs, b.classes, b.task):
        return None
    try:
        return plan_transplant(source, target, spread=SPREAD)
    except BadInput:
        return None


def _cost(plan: Transplant, rule: Rule) -> tuple[float, ...]:
    """Lower is nearer: depth first, then the direction that the rule avoids, then the other one (octaves of width)."""
    octaves = [math.log2(now / was) for was, now in plan.widths]
    narrowed, widened = sum(max(-x, 0) for x in octaves), sum(max(x, 0) for x in octaves)
    dropped, inserted = len(plan.changes.dropped), len(plan.changes.inserted)
    order = (narrowed, widened) if rule == "widen" else (widened, narrowed)
    return dropped, inserted, *order
