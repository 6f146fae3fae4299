"""`popgen audit`: says whether what a generator makes is new, or copies or averages of its training checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from popgen import __version__
from popgen.archs import ArchSpec, trust_named
from popgen.audit.arms import Arm, Yardstick, at_equal
from popgen.audit.controls import Control, latent_controls, weight_controls
from popgen.audit.finishing import Finishing
from popgen.audit.generated import FromGenerator, Source, open_folder
from popgen.audit.plot import can_plot, write_plot
from popgen.audit.training import Group, Outside, Training, find_group, find_outside, training_of
from popgen.audit.verdict import HALF, Verdict, decide
from popgen.configs.audit import AuditConfig
from popgen.data import DataSet, Part, load_data
from popgen.data.names import trust_sources
from popgen.errors import BadInput, NotFound
from popgen.files import check_empty, write_text
from popgen.generator import Generator
from popgen.jobs.parents import with_commits
from popgen.jobs.searching.origin import open_zoo
from popgen.json_text import json_text
from popgen.networks.threads import threads
from popgen.tasks import CLASSIFICATION
from popgen.zoo import Zoo

OnProgress = Callable[[str, int, int], None]
Say = Callable[[str], None]
_DATA_SETS = 4  # data sets of the zoo that are audited where none is named
_SMALL = 100_000  # parameters; several threads cost smaller networks more than they give


@dataclass(frozen=True)
class Audit:
    """The verdict for one architecture on one data set, and everything that it rests on."""

    arch: str
    data: str
    verdict: Verdict
    reference_data: str  # the data set of the references: the same one, or the zoo's that does best on it
    lineages: int  # independent lineages among the references
    generated: Arm
    references: Arm
    arms: tuple[Arm, ...]  # held-out checkpoints, where there are any, and the controls
    equal: dict[str, dict[str, float | None]]  # what controls have at equal accuracy and at equal overlap

    @property
    def all_arms(self) -> tuple[Arm, ...]:
        """All arms: generated networks, references, the others."""
        return (self.generated, self.references, *self.arms)

    def to_json(self) -> dict[str, Any]:
        """The keys of result.json and of --json; they are stable."""
        statistics = {
            name: {**asdict(one), "threshold": HALF, "answer": one.answer}
            for name, one in self.verdict.statistics.items()
        }
        return {
            "arch": self.arch,
            "data": self.data,
            "verdict": self.verdict.word,
            "why": self.verdict.why,
            "reference_data": self.reference_data,
            "lineages": self.lineages,
            "single_copies": self.verdict.single,
            "statistics": statistics,
            "at_equal": self.equal,
            "arms": [_arm_json(arm) for arm in self.all_arms],
        }


@dataclass(frozen=True)
class Audited:
    """All audits of one run, and the files that it wrote."""

    audits: list[Audit]
    settings: dict[str, Any]
    zoo: str
    zoo_sha256: str
    reference_zoo: dict[str, str] | None  # name and sha256, where references are those of another zoo
    seconds: float
    result: str = ""
    plot: str = ""
    generator_sha256: str | None = None  # None for a folder of networks

    def to_json(self) -> dict[str, Any]:
        """The content of result.json; the keys are stable."""
        return {
            "popgen": __version__,
            "settings": self.settings,
            "zoo": {"name": self.zoo, "sha256": self.zoo_sha256},
            "generator_sha256": self.generator_sha256,
            "reference_zoo": self.reference_zoo,
            "seconds": self.seconds,
            "plot": self.plot or None,
            "audits": [audit.to_json() for audit in self.audits],
        }


def _arm_json(arm: Arm) -> dict[str, Any]:
    points = [[round(float(x), 4), round(float(y), 4)] for x, y in zip(arm.accuracy, arm.overlap, strict=True)]
    return {"name": arm.name, "kind": arm.kind, "amount": arm.amount, **arm.means(), "points": points}


def audit(
    config: AuditConfig, out: str, say: Say = lambda _: None, on_progress: OnProgress = lambda *_: None
) -> Audited:
    """Audit networks on each architecture and data set, and write `out/audit.yaml` (the settings), `out/result.json` and `out/overlap.svg`.

    Test images decide about overlap and accuracy; everything that is fitted or chosen sees training and validation images
    alone.

    Args:
        on_progress: called with what is counted and the numbers done and of all.

    Raises:
        PopgenError: an unknown name, settings or networks that do not fit, or an `out` that is not empty.
    """
    began = time.monotonic()
    check_empty(Path(out), "an audit")
    config = with_commits(config, say)
    trust_named(config.archs)
    trust_sources(config.data)
    source, zoo = _opened(config)
    references = None if config.reference_zoo is None else Zoo.open(config.reference_zoo)
    pairs = _pairs(config, source, zoo, say)
    archs_of = {name: [arch for arch, other in pairs if other == name] for _, name in pairs}
    data_sets = {name: _checked(name, archs, zoo, config) for name, archs in archs_of.items()}
    audits: list[Audit] = []
    trainings: dict[str, tuple[Training, Outside | None]] = {}
    for arch, name in pairs:
        spec = zoo.spec(arch)
        with threads(1 if spec.size < _SMALL else None):
            if arch not in trainings:
                outside = None if references is None else find_outside(references, spec, zoo)
                trainings[arch] = training_of(zoo, spec, arch, say, outside), outside
            data = data_sets[name]
            bound = spec.for_classes(data.label_phrases)
            one = _One(config, source, zoo, bound, *trainings[arch], data, on_progress)
            audits.append(one.audit())
    audited = Audited(
        audits,
        config.model_dump(),
        zoo.name,
        zoo.sha256,
        None if references is None else {"name": references.name, "sha256": references.sha256},
        round(time.monotonic() - began, 1),
        str(Path(out) / "result.json"),
        generator_sha256=source.generator.sha256 if isinstance(source, FromGenerator) else None,
    )
    return _written(audited, Path(out), say)


def _written(audited: Audited, out: Path, say: Say) -> Audited:
    plot = ""
    if can_plot():
        plot = str(write_plot(out / "overlap.svg", audited.audits))
    else:
        say('no overlap.svg without matplotlib: pip install "popgen[plots]"')
    audited = replace(audited, plot=plot)
    write_text(out / "audit.yaml", yaml.safe_dump(audited.settings, sort_keys=False))
    write_text(out / "result.json", json_text(audited.to_json(), indent=1) + "\n")
    return audited


@dataclass(frozen=True)
class _One:
    """The audit of one architecture on one data set."""

    config: AuditConfig
    source: Source
    zoo: Zoo
    spec: ArchSpec
    training: Training
    outside: Outside | None
    data: DataSet
    on_progress: OnProgress

    def audit(self) -> Audit:
        """Measure all arms, then decide."""
        config, arch = self.config, self.training.records[0].arch
        yardstick = Yardstick(self.spec, self.data, self._test(), self.training, self._finishing())
        group = find_group(
            self.zoo, self.training, self.data.name, yardstick.val_accuracy, config.references, self.outside
        )
        made = partial(self.source.networks, self.spec, arch, self.data, config.samples, config.seed)
        known = partial(group.zoo.matrix, group.references)
        controls = list(self._controls(arch, group))
        total, name = len(controls) + 2, f"{arch} for {self.data.name}"
        generated = yardstick.arm(Control("generated", "generated", None, made))
        self.on_progress(name, 1, total)
        kind = "training" if self.outside is None else "references"
        references = yardstick.arm(Control(kind, kind, None, known), group.lineages)
        self.on_progress(name, 2, total)
        arms = []
        for done, control in enumerate(controls, 3):
            arms.append(yardstick.arm(control))
            self.on_progress(name, done, total)
        evidence = yardstick.evidence(generated, references, arms)
        verdict = decide(evidence, config.seed, config.rounds)
        equal = at_equal(generated, references, arms)
        lineages = evidence.independent
        return Audit(arch, self.data.name, verdict, group.data, lineages, generated, references, tuple(arms), equal)

    def _finishing(self) -> Finishing:
        return Finishing(self.spec, self.data, self.config.batch_norm, self.config.head)

    def _test(self) -> Part:
        """At most `images` test images, drawn by the seed."""
        order = torch.randperm(len(self.data.test), generator=torch.Generator().manual_seed(self.config.seed))
        return self.data.test.take(order[: self.config.images].sort().values)

    def _controls(self, arch: str, group: Group) -> Iterator[Control]:
        training, n, seed = self.training, self.config.controls, self.config.seed
        if group.held_out:
            yield Control("held out", "held out", None, partial(self.zoo.matrix, group.held_out))
        order = list(group.order)
        aligned = None if training.aligned is None else training.aligned[order]
        near = training.weights[list(group.near)]
        yield from weight_controls(self.spec, near, training.weights[order], aligned, n, seed)
        if isinstance(self.source, FromGenerator):
            yield from latent_controls(self.source.generator, arch, self.data, [group.data], n, seed)


def _opened(config: AuditConfig) -> tuple[Source, Zoo]:
    """The networks' source and the zoo of training checkpoints.

    Raises:
        NotFound: a name that does not exist, or the generator's own zoo is nowhere.
    """
    if config.generated is not None:
        assert config.zoo is not None, "the settings are checked"
        zoo = Zoo.open(config.zoo)
        for arch in config.archs:
            zoo.spec(arch)
        return open_folder(config.generated, zoo, config.archs), zoo
    assert config.generator is not None, "the settings are checked"
    generator = Generator.from_pretrained(config.generator)
    generator.check_latents()
    found = open_zoo(config.zoo, generator)
    if found is None:
        raise NotFound(
            f"the zoo {generator.provenance.zoo!r} of the generator {config.generator!r} was not found",
            "looked in ./zoos and among the packaged ones",
            "Name its folder with --zoo.",
        )
    for arch in config.archs:
        generator.spec(arch)
    generator.load_encoders()
    return FromGenerator(config.generator, generator), found


def _pairs(config: AuditConfig, source: Source, zoo: Zoo, say: Say) -> list[tuple[str, str]]:
    """Architectures and data sets to audit; says which data sets are left out."""
    known = [arch for arch in source.archs() if arch in zoo.archs]
    archs = config.archs or known
    unknown = [arch for arch in archs if arch not in known]
    if unknown or not archs:
        raise BadInput(
            f"the zoo {zoo.name!r} has no checkpoints of {', '.join(unknown or source.archs())}",
            f"it has {', '.join(zoo.archs) or 'none'}",
            "Name the zoo that the networks were learned from with --zoo.",
        )
    if config.data:
        return [(arch, name) for arch in archs for name in config.data]
    pairs = []
    for arch in archs:
        every = list(dict.fromkeys(record.data for record in zoo.select(arch, held_out=False)))
        if config.generated is not None and len(every) > 1:
            raise BadInput(
                f"it is not clear for which data set the networks of {arch!r} are",
                f"the zoo has {len(every)} data sets, such as {', '.join(every[:3])}",
                "Name it with --data.",
            )
        step = max(len(every) / _DATA_SETS, 1)
        names = [every[int(i * step)] for i in range(min(_DATA_SETS, len(every)))]
        if len(names) < len(every):
            say(
                f"{arch}: audited on {len(names)} of the zoo's {len(every)} data sets, evenly spaced; --data names others"
            )
        pairs += [(arch, name) for name in names]
    return pairs


def _checked(name: str, archs: list[str], zoo: Zoo, config: AuditConfig) -> DataSet:
    """Load a data set, and refuse one that networks of these architectures cannot be compared on.

    Raises:
        BadInput: it is not for classification, or has no test or validation examples.
    """
    data = load_data(name, config.data_dir)
    if data.task != CLASSIFICATION:
        raise BadInput(f"data set {name!r} is for {data.task}", "misclassified examples need classes", "")
    if not len(data.test) or not len(data.val):
        raise BadInput(f"data set {name!r} has no test or validation examples", "networks are compared on them", "")
    for arch in archs:
        classes = zoo.spec(arch).for_classes(data.label_phrases).config.classes
        if len(data.classes) != classes:
            raise BadInput(
                f"data set {name!r} has {len(data.classes)} classes, {arch!r} has {classes} outputs",
                "the networks cannot be judged on it",
                "Choose a data set of the zoo's classes.",
            )
    return data
