"""`popgen merge`: merges checkpoints of a zoo into one network, by one method or by all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from popgen import __version__
from popgen.cards.make import keep_card
from popgen.configs.merge import MergeConfig
from popgen.data.names import trust_sources
from popgen.errors import BadInput
from popgen.files import check_empty, write_tensors, write_text
from popgen.hub.kinds import MERGED
from popgen.jobs.merging.experts import Experts, find_experts
from popgen.jobs.merging.images import OWN, Tasks, load_tasks
from popgen.jobs.parents import with_commits
from popgen.json_text import json_text
from popgen.merging import METHODS, MergeSettings, merge
from popgen.merging.make import check_needs
from popgen.merging.names import check_method
from popgen.networks.threads import for_networks, threads
from popgen.tasks import goodness, keyed_scores
from popgen.types import Flat
from popgen.zoo.parents import parents_of

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class MergeRow:
    """A network of the table: an expert, the base, or a merge. Scores are None without labels."""

    name: str  # id of the expert, `base`, or the method
    what: str
    evaluations: int = 0  # networks that were scored to make it
    passes: int = 0  # forward passes of an image beside those; a backward pass counts as two
    seconds: float = 0.0
    val: tuple[float, ...] | None = None  # scores on each data set
    test: tuple[float, ...] | None = None
    weights: str | None = None  # its file

    def mean(self, split: str) -> float | None:
        """The mean score over the data sets."""
        scores: tuple[float, ...] | None = getattr(self, split)
        return None if scores is None else fmean(scores)

    def to_json(self, unit: str, data: list[str]) -> dict[str, Any]:
        """The row as it stands in JSON, with scores under the keys of their unit."""
        plain = {name: value for name, value in vars(self).items() if name not in ("val", "test")}
        scores = [] if self.val is None or self.test is None else zip(data, self.val, self.test, strict=True)
        by_data = [{"data": name, **keyed_scores(unit, val=val, test=test)} for name, val, test in scores]
        return {**plain, **keyed_scores(unit, val=self.mean("val"), test=self.mean("test")), "by_data": by_data}


@dataclass(frozen=True)
class MergedNetworks:
    """The table of a merge, what was done before it, and the best of its merges."""

    arch: str
    experts: list[str]
    base: str | None
    data: list[str]
    aligned: list[str]  # ids of experts whose units were permuted
    rows: list[MergeRow]
    best: str | None  # the method with the best mean validation score; None for several without scores
    left_out: dict[str, str] = field(default_factory=dict)  # why a method was not made, with --method all
    unit: str = "accuracy"
    made_with: dict[str, Any] = field(default_factory=dict)  # the version of popgen, and the settings
    made_from: dict[str, Any] = field(default_factory=dict)  # the zoo, and the licences in it

    @property
    def merges(self) -> list[MergeRow]:
        """The rows of merges."""
        return [row for row in self.rows if row.name in METHODS]

    def to_json(self) -> dict[str, Any]:
        """The keys of --json; they are stable."""
        rows = [row.to_json(self.unit, self.data) for row in self.rows]
        return {**vars(self), "rows": rows}


def merge_experts(
    config: MergeConfig,
    out: str,
    say: Callable[[str], None] = lambda _: None,
    on_progress: OnProgress = lambda *_: None,
) -> MergedNetworks:
    """Merge checkpoints and write each merge as `out/merged-METHOD.safetensors`, and the table as `out/result.json`.

    Statistics, Gram matrices, Fisher information and entropies are of training images without their labels; scales and soups are
    chosen by validation images, and test images are used once, for the table.

    Args:
        on_progress: called with what is counted, and the numbers done and of all.

    Raises:
        PopgenError: an unknown name, experts or data that do not fit, or an `out` that is not empty.
    """
    if config.method != "all":
        check_method(config.method)
    config = with_commits(config, say)
    trust_sources([name for name in config.data if name != OWN])
    check_empty(Path(out), "a merge")
    experts = find_experts(config.zoo, config.experts, config.base)
    if config.method != "all":  # before anything is loaded
        given = bool(config.data)
        check_needs(config.method, len(experts.records), experts.base is not None, given, given)
    tasks = load_tasks(config, experts.spec, experts.records, say)
    weights, aligned = experts.weights(None if tasks is None else tasks.inputs[0], say)
    if experts.spec.is_adapter:
        say("the factors A and B of the adapters are merged one by one, which is not the merge of their products")
    one = _Merge(config, experts, tasks, weights, Path(out), say, on_progress)
    with threads(for_networks(experts.spec.size)):
        found = one.made(aligned)
    write_text(Path(out) / "result.json", json_text(found.to_json(), indent=1) + "\n")
    keep_card(Path(out), MERGED)
    return found


@dataclass(frozen=True)
class _Merge:
    """All that merging needs, checked and loaded."""

    config: MergeConfig
    experts: Experts
    tasks: Tasks | None
    weights: Flat
    out: Path
    say: Callable[[str], None]
    on_progress: OnProgress

    def made(self, aligned: list[str]) -> MergedNetworks:
        """Make the merges one by one, and score them beside the experts and the base."""
        methods = METHODS if self.config.method == "all" else (self.config.method,)
        rows, left_out = [], {}
        for done, method in enumerate(methods):
            self.on_progress("merges", done, len(methods))
            try:
                rows.append(self._row(method))
            except BadInput as error:
                if self.config.method != "all":
                    raise
                left_out[method] = error.what
                self.say(f"no {method}: {error.what}")
        self.on_progress("merges", len(methods), len(methods))
        zoo, records, base = self.experts.zoo, self.experts.records, self.experts.base_name
        unit = "accuracy" if self.tasks is None else self.tasks.unit
        foreign = [base] if base is not None and "#" in base else []  # a checkpoint of another zoo
        return MergedNetworks(
            arch=records[0].arch,
            experts=[record.id for record in records],
            base=base,
            data=[] if self.tasks is None else self.tasks.names,
            aligned=aligned,
            rows=[*self._singles(), *rows],
            best=_best(rows, unit),
            left_out=left_out,
            unit=unit,
            made_with={"popgen": __version__, "settings": self.config.model_dump(exclude={"data_dir"})},
            made_from={"zoo": zoo.name, "zoo_sha256": zoo.sha256, **parents_of(records, foreign)},
        )

    def _row(self, method: str) -> MergeRow:
        """Merge by one method, and write the network."""
        config, tasks, began = self.config, self.tasks, time.monotonic()
        made = merge(
            method,
            self.experts.spec if tasks is None else tasks.spec,
            self.weights,
            base=self.experts.base,
            inputs=None if tasks is None else tasks.inputs,
            validate=None if tasks is None or not tasks.labelled else tasks.goodness,
            seed=config.seed,
            settings=_settings(config),
        )
        seconds = round(time.monotonic() - began, 2)
        card = {"format": "pt", "popgen": __version__, "arch": self.experts.spec.name, "method": method}
        state = self.experts.spec.to_state(made.weights)
        file = write_tensors(self.out / f"merged-{method}.safetensors", state, card)
        val, test = self._scores(made.weights)
        return MergeRow(method, made.text, made.evaluations, made.passes, seconds, val, test, str(file))

    def _singles(self) -> list[MergeRow]:
        """The experts and the base, each as it is."""
        named = [(record.id, "expert", flat) for record, flat in zip(self.experts.records, self.weights, strict=True)]
        if self.experts.base is not None:
            named.append(("base", str(self.experts.base_name), self.experts.base))
        return [
            MergeRow(name, what, val=val, test=test) for name, what, flat in named for val, test in [self._scores(flat)]
        ]

    def _scores(self, flat: Tensor) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
        """Validation and test scores on each data set, or None."""
        if self.tasks is None or not self.tasks.labelled:
            return None, None
        val, test = (tuple(self.tasks.scores(flat, split)) for split in ("val", "test"))
        return val, test


def _settings(config: MergeConfig) -> MergeSettings:
    return MergeSettings(
        scale=config.scale,
        keep=config.keep,
        drop=config.drop,
        shrink=config.shrink,
        images=config.fisher_images,
        steps=config.steps,
        lr=config.lr,
        batch=config.batch,
        reestimate=config.batch_norm == "reestimate",
    )


def _best(rows: list[MergeRow], unit: str) -> str | None:
    scored = {row.name: goodness(unit, mean) for row in rows if (mean := row.mean("val")) is not None}
    if scored:
        return max(scored, key=scored.__getitem__)
    return rows[0].name if len(rows) == 1 else None
