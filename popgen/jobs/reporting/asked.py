"""What a run was asked, and how it is done again: the first and the last section of its report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from popgen.configs.command import search_command
from popgen.configs.search import SearchConfig
from popgen.data.names import source_of
from popgen.data.sources.catalogue import CATALOGUE
from popgen.jobs.reporting.searched import Searched
from popgen.report import Block, Code, Facts, Paragraph, Section


def asked(config: SearchConfig, recorded: dict[str, Any], searched: list[Searched]) -> Section:
    """What was asked: the settings, and what was decided from them."""
    first = searched[0]
    origin = config.generator or ("the default generator" if recorded.get("generator_sha256") else None)
    limits = {"seconds": config.seconds, "target loss": config.target, "patience": config.patience}
    budget = [
        f"{config.evaluations:,} evaluations",
        *(f"{name} {value:g}" for name, value in limits.items() if value is not None),
    ]
    pairs = [
        ("architecture" if len(searched) == 1 else "architectures", ", ".join(_arch_text(one) for one in searched)),
        ("data set", config.data),
        ("candidates from", origin or (config.zoo and f"the zoo {config.zoo}") or "the experts of a zoo"),
        ("minimised", _objective(config, "accuracy" if first.own is None else first.own.unit)),
        ("budget", ", ".join(budget)),
        (
            "optimizer",
            f"{config.optimizer}, in batches of {config.batch}{', asynchronous' if config.mode == 'async' else ''}",
        ),
        ("seed", str(config.seed)),
    ]
    if recorded.get("data_sha256"):
        pairs.insert(2, ("data hash", str(recorded["data_sha256"])[:16]))
    if isinstance(first.details.get("validation_images"), int):
        pairs.insert(2, ("validation images", f"{first.details['validation_images']:,}"))
    remarks = [Paragraph(one, is_remark=True) for one in _texts(recorded.get("data_remarks"))]
    return Section("What was asked", (Facts(tuple(pairs)), *remarks, *_contamination(first.details)))


def again(config: SearchConfig, recorded: dict[str, Any], searched: list[Searched]) -> Section:
    """The command that makes the run again, its versions, and what was decided on the way."""
    own = recorded.get("versions")
    versions = {
        "popgen": recorded.get("popgen"),
        **(own if isinstance(own, dict) else {}),
        **searched[0].trace.versions,
    }
    pairs = [("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version))]
    for key, name in (("generator_sha256", "generator hash"), ("zoo_sha256", "zoo hash"), ("base_sha256", "base hash")):
        if recorded.get(key):
            pairs.append((name, str(recorded[key])[:16]))
    for one in searched:
        decided = {
            key: one.details[key]
            for key in ("head", "batch_norm", "space_dim", "stopped_by", "run_with")
            if key in one.details
        }
        words = {
            "batch_norm": "batch norm",
            "space_dim": "coordinates",
            "stopped_by": "stopped by",
            "run_with": "run with",
        }
        if decided:
            name = "decided" if len(searched) == 1 else f"decided for {one.arch}"
            pairs.append((name, "; ".join(f"{words.get(key, key)} {value}" for key, value in decided.items())))
    note = Paragraph(
        "The command gives the same evaluations on the same data and versions; a run that was resumed with a larger budget is the "
        "same as one that had it from the start."
        if config.mode == "exact"
        else "The search was asynchronous, so that no two runs have the same evaluations."
    )
    precisions = {one.details.get("precision") for one in searched}
    if config.compute.precision == "auto" and len(precisions) == 1 and None not in precisions:
        # What was decided on this machine might be decided otherwise on another one.
        compute = config.compute.model_copy(update={"precision": precisions.pop()})
        config = config.model_copy(update={"compute": compute})
    if source_of(config.data) not in CATALOGUE:
        config = config.model_copy(update={"data_dir": None})  # nothing is read from there
    return Section("To do it again", (Code(search_command(config)), note, Facts(tuple(pairs))))


def _arch_text(one: Searched) -> str:
    return one.arch if isinstance(one.predictions, str) else f"{one.arch} ({one.predictions.parameters:,} parameters)"


def _objective(config: SearchConfig, unit: str) -> str:
    names = ", ".join(config.objectives)
    if len(config.objectives) == 1:
        what = "cross-entropy and the share of errors" if unit == "accuracy" else "that of the task"
        return names if names != "loss" else f"loss ({what}) on the validation split"
    if config.weights is not None:
        return f"{names}, weighted {', '.join(f'{w:g}' for w in config.weights)}"
    return f"{names}, as a Pareto front"


def _contamination(details: dict[str, Any]) -> Iterator[Block]:
    """A remark where images are shared with what checkpoints were trained on, or among splits."""
    found = details.get("contamination")
    if not isinstance(found, dict):
        return
    shared = _texts([one.get("data") for one in found.get("shared") or () if isinstance(one, dict)])
    if shared:
        yield Paragraph(
            f"Images are shared with {', '.join(shared)}, which checkpoints were trained on: accuracy on them is inflated.",
            True,
        )
    if found.get("within"):
        yield Paragraph(
            "Images of the data set stand in more than one of its splits: scores on them are inflated.", True
        )
    if unseen := _texts(found.get("not_checked")):
        yield Paragraph(f"Not compared with the training images of {', '.join(unseen)}, which were not here.", True)


def _texts(content: Any) -> list[str]:
    """The texts of a list in a file; what is no list of texts has none."""
    return [one for one in content if isinstance(one, str)] if isinstance(content, list) else []
