"""Treatments of batch norm: kept, re-estimated on the training images, or a share of the way from the one to the other.

A share mixes both statistics (Schneider et al., arXiv 2006.16971). Which treatment fits can be judged by labels, or without
them by mutual information; re-estimated statistics can flatter a network there, so that it is left as it is unless the gain
is above zero beyond its error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from popgen.archs import ArchSpec
from popgen.errors import BadInput, unknown_name
from popgen.fitness.information import STANDARD_ERRORS, information_gain, is_gain
from popgen.generator.strength import mutual_information
from popgen.networks.batchnorm import mix_statistics, reestimate
from popgen.networks.passes import Passes
from popgen.types import Images

BatchNorm = str | float  # keep, reestimate, or a share between 0 and 1
NAMES = ("auto", "keep", "reestimate")
# What `auto` compares. Of equal treatments the first is taken, so the simple ones come first.
CHOICES: tuple[BatchNorm, ...] = ("keep", "reestimate", 0.25, 0.5, 0.75)
KEPT_OR_NOT = CHOICES[:2]  # what earlier versions of popgen compared


def checked(value: BatchNorm) -> BatchNorm:
    """Return the treatment, with the shares 0 and 1 under their names.

    Raises:
        NotFound: an unknown name.
        BadInput: a number that is no share.

    >>> checked(0), checked(1.0), checked(0.5), checked("keep")
    ('keep', 'reestimate', 0.5, 'keep')
    """
    if isinstance(value, str):
        if value not in NAMES:
            raise unknown_name("batch-norm", value, NAMES, "A number from 0 to 1 is a share of re-estimation.")
        return value
    if not 0 <= value <= 1:
        raise BadInput(f"the batch norm's share is {value}", "it is a number from 0 to 1", "Give 0.5, for example.")
    return KEPT_OR_NOT[int(value)] if value in (0, 1) else float(value)


def in_words(treatment: BatchNorm) -> str:
    """Return the treatment for people.

    >>> in_words("keep"), in_words(0.25)
    ('keep', 'reestimate by 0.25')
    """
    return treatment if isinstance(treatment, str) else f"reestimate by {treatment:g}"


def treated(spec: ArchSpec, flat: Tensor, inputs: Images, treatment: BatchNorm) -> Tensor:
    """Return the weights (p,) with their batch norm treated.

    Args:
        inputs: prepared training images, whose statistics are measured.
    """
    return flat if treatment == "keep" else mixed(spec, flat, reestimate(spec, flat, inputs), treatment)


def mixed(spec: ArchSpec, flat: Tensor, reestimated: Tensor, treatment: BatchNorm) -> Tensor:
    """Return the weights (p,) under a treatment, given those with re-estimated statistics (p,)."""
    if isinstance(treatment, str):  # Exactly one of both: mixing would spread a statistic that is not a number.
        return flat if treatment == "keep" else reestimated
    return mix_statistics(spec, flat, reestimated, treatment)


@dataclass(frozen=True)
class Chosen:
    """A treatment that was chosen without labels, and the mutual information of each that was compared, in nats."""

    treatment: BatchNorm
    information: dict[BatchNorm, float]
    gain: float = 0.0  # gain of the most informative treatment over keep
    error: float = 0.0  # its standard error

    def text(self) -> str:
        """Return a line for people.

        >>> Chosen(0.5, {"keep": 1.2, 0.5: 1.4}, 0.2, 0.03).text()
        'batch norm reestimate by 0.5, by mutual information on unlabelled images (keep: 1.200, 0.5: 1.400)'
        >>> Chosen("keep", {"keep": 1.2, 0.5: 1.21}, 0.01, 0.03).text()
        'batch norm keep: no gain in mutual information beyond 2 standard errors (0.010 ± 0.030; keep: 1.200, 0.5: 1.210)'
        """
        if not self.information:
            return "batch norm keep: under no treatment the outputs are finite"
        tried = ", ".join(f"{name}: {value:.3f}" for name, value in self.information.items())
        if self.treatment == "keep" and max(self.information, key=self.information.__getitem__) != "keep":
            beyond = f"{STANDARD_ERRORS:g} standard errors ({self.gain:.3f} ± {self.error:.3f}; {tried})"
            return f"batch norm keep: no gain in mutual information beyond {beyond}"
        return f"batch norm {in_words(self.treatment)}, by mutual information on unlabelled images ({tried})"

    def to_json(self) -> dict[str, Any]:
        """Return the measurements as they stand in JSON."""
        information = {str(name): value for name, value in self.information.items()}
        return {"mutual_information": information, "gain": self.gain, "standard_error": self.error}


def choose_batch_norm(spec: ArchSpec, flat: Tensor, train: Images, val: Images) -> Chosen:
    """Choose the treatment of batch norm of a network (p,) by its mutual information on unlabelled images.

    Args:
        train: prepared images whose statistics are measured.
        val: prepared images on which the network is run; a network is too certain about images of its own training.
    """
    if not spec.has_batch_norm:
        return Chosen("keep", {})
    passes, reestimated = Passes(spec, val), reestimate(spec, flat, train)
    return most_informative({name: passes.outputs(mixed(spec, flat, reestimated, name)) for name in CHOICES})


def most_informative(outputs: Mapping[BatchNorm, Tensor]) -> Chosen:
    """Choose the treatment with the highest mutual information; keep, unless the gain over it is beyond its error.

    Args:
        outputs: logits (n, classes) of one network under each treatment, for the same images. Treatments whose logits are
            not finite do not count.
    """
    finite = {name: logits for name, logits in outputs.items() if logits.isfinite().all()}
    if not finite:
        return Chosen("keep", {})
    found = {name: mutual_information(logits) for name, logits in finite.items()}
    best = max(found, key=found.__getitem__)
    if "keep" not in finite or best == "keep":
        return Chosen(best, found)
    gain, error = information_gain(finite["keep"], finite[best])
    return Chosen(best if is_gain(gain, error) else "keep", found, gain, error)
