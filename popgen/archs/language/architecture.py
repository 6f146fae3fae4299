"""The architecture `lm:BASE` or `lm:BASE/context:TOKENS`: any causal language model of transformers, or a llama2.c file."""

from __future__ import annotations

from typing import Any

from torch import nn

from popgen.archs.language.bases import absolute, base_sha256, check_base, fresh_model, read_config
from popgen.archs.language.inputs import TokenInputs
from popgen.archs.language.network import NextTokens
from popgen.errors import BadInput
from popgen.tasks import NEXT_TOKEN

_CONTEXT = 128  # tokens, where the name has no number


def lm_fields(base: str, options: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the ArchConfig fields of a language model: builder, the hash of the model's files, inputs, one output for each token, and the task.

    Args:
        base: the model, see `popgen.archs.language.bases`.
        options: `context`, the number of tokens that are read of a text.
        given: fields that the user sets.

    Raises:
        NotFound, Offline, BrokenFile: there is no such model, or it cannot be read.
        BadInput: it is no causal language model, an option is unknown, or the context does not fit the model.
    """
    if unknown := sorted(options.keys() - {"context"}):
        raise BadInput(
            f"lm:{base} has no option {unknown[0]!r}", "it has context", f"For example lm:{base}/context:128."
        )
    if refused := sorted(given.keys() & {"input_shape", "mean", "std", "classes"}):
        raise BadInput(f"lm:{base} has no {refused[0]}", "it reads tokens and gives their likelihoods", "Leave it out.")
    base = absolute(base)
    longest = getattr(read_config(base), "max_position_embeddings", None)
    context = options.get("context", min(_CONTEXT, longest or _CONTEXT))
    if not isinstance(context, int) or context < 2 or context > (longest or context):
        raise BadInput(
            f"lm:{base} cannot read {context} tokens",
            f"it reads 2 to {longest or 'any number'}",
            "For example /context:128.",
        )
    return {
        "builder": f"lm:{base}",
        "options": {"base_sha256": base_sha256(base)},
        "inputs": {"kind": TokenInputs.kind, **TokenInputs(base, context).to_json()},
        "classes": 1,
        "task": NEXT_TOKEN,
    }


def lm_network(base: str, base_sha256: str = "") -> nn.Module:
    """Build the network of a language model, with fresh weights.

    Args:
        base_sha256: hash of the model's files; empty where it is not known.

    Raises:
        NotFound, Offline, BrokenFile, BadInput: the model's configuration cannot be read, or its files are others.
    """
    check_base(base, base_sha256)
    return NextTokens(fresh_model(base))
