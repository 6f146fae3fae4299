"""Decides the precision in which candidates are run, and lets float32 choose the result among the best of a search in bfloat16.

The default is float32 and not `auto`. The same command then gives the same history on a laptop and on a server, and an
evaluation has no rounding that could change ranks; what bfloat16 is worth depends on the processor. A rule on the
processor's instructions and the network's size would be no better a default: it would still give two machines two
histories, and it would be a guess, since caches and libraries decide, too. `auto` therefore measures, once and before the first
evaluation. What it decides stands in the run's folder, holds for all workers and after a resume, and within a precision the
history is the same for any number of workers.

A process that would only emulate bfloat16 never evaluates such a run (`LatentObjective.prepare`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.configs.load import parse
from popgen.configs.search import SearchConfig
from popgen.errors import BadInput, BrokenFile, CannotResume, brief
from popgen.files import write_text
from popgen.fitness import LatentObjective, scores_of
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.pools import cluster_address, joins_cluster
from popgen.json_text import json_text, parse_json
from popgen.networks.precision import BFLOAT16, FLOAT32, Compared, compare_precisions, has_bfloat16
from search import (
    History,
    LocalPool,
    Population,
    RaySession,
    SearchResult,
    SearchSettings,
    best_of,
    evaluate,
    nondominated,
)
from search.loop.judge import judge
from search.optimizers.pareto import knee

Say = Callable[[str], None]
# Candidates of a search in bfloat16 that float32 compares at its end. Around a ResNet20 the best was in every draw among the two that bfloat16
# ranked first, and with refitted heads among the first five (examples/results/speed.md).
_COMPARED = 8
_EXAMPLES = 2000  # most validation examples for the comparison of precisions, which takes two batches


class PrecisionDecision(BaseModel):
    """The precision in which an architecture's candidates are run, as precision-ARCH.json has it."""

    model_config = ConfigDict(extra="forbid")

    precision: Literal["float32", "bfloat16"]
    reason: str
    # Seconds of some passes in each precision, and the difference of the logits, where they were measured.
    measured: dict[str, float] = {}


def in_precision(
    objective: LatentObjective,
    config: SearchConfig,
    folder: RunFolder,
    session: RaySession,
    population: Population,
    arch: str,
    say: Say,
) -> LatentObjective:
    """Return the objective in the precision of the run: as recorded where the run goes on, else as asked for or measured.

    Raises:
        BadInput: bfloat16 was asked for, and candidates would run where it is emulated.
        CannotResume: the run is in bfloat16, and would go on where it is emulated.
        BrokenFile: the record is not what popgen wrote.
    """
    file = folder.precision(arch)
    if file.exists():
        decision = read_precision(file)
        if decision.precision == BFLOAT16 and (where := _emulated(config, session)):
            raise CannotResume(
                f"the run in {folder.path} was evaluated in bfloat16 so far",
                f"{where} would emulate it, and no two precisions are mixed in a history",
                f"Resume where bfloat16 is native, or start a new run from the best of this one: --warm-start {folder.path}.",
            )
    else:
        # Earlier versions recorded nothing and ran candidates in bfloat16 on GPUs alone.
        begun = folder.population(arch).exists()
        if begun:
            earlier: Literal["float32", "bfloat16"] = "bfloat16" if config.compute.gpus else "float32"
            decision = PrecisionDecision(precision=earlier, reason="an earlier version of popgen began the run")
        else:
            decision = _decide(objective, config, session, population)
        # A run in float32 on CPUs needs no record: that is what a run without one is.
        if config.compute.gpus or {config.compute.precision, decision.precision} != {FLOAT32}:
            write_text(file, json_text(decision.model_dump(), indent=1) + "\n")
    if config.compute.gpus and decision.precision == FLOAT32 and config.compute.precision == FLOAT32:
        say(f"{arch}: candidates are run in float32; --precision auto takes bfloat16 where a GPU is faster with it")
    if config.compute.precision != FLOAT32 or decision.precision != FLOAT32:
        say(f"{arch}: candidates are compared in {decision.precision}: {decision.reason}")
    return replace(objective, bfloat16=decision.precision == BFLOAT16)


def read_precision(file: Path) -> PrecisionDecision:
    """The decision that an earlier session of a run wrote.

    Raises:
        BrokenFile: it is not what popgen wrote.
    """
    try:
        return parse(parse_json(file.read_text()), PrecisionDecision, str(file))
    except (OSError, ValueError, BadInput) as error:
        raise BrokenFile(f"{file} cannot be read", brief(error), "Start a new run.") from error


def check_precision(config: SearchConfig) -> None:
    """Refuse bfloat16 on this machine's CPU where that is emulated; workers elsewhere are asked when they are known.

    Raises:
        BadInput: it is.
    """
    is_here = not config.compute.gpus and not joins_cluster(config)
    if config.compute.precision == BFLOAT16 and is_here and not has_bfloat16():
        raise _not_native("this machine's CPU")


def settled(
    result: SearchResult,
    settings: SearchSettings,
    objective: LatentObjective,
    folder: RunFolder,
    population: Population,
    arch: str,
) -> SearchResult:
    """Return the result of a search in bfloat16 with its best, or its front, chosen by values in float32.

    The few best candidates by their recorded losses are scored again, and all of a front, which then loses the points that
    others dominate. No candidate is new, so that this is no further evaluation of the budget.
    """
    if not objective.bfloat16 or result.best_vector is None:
        return result
    exact = LocalPool(replace(objective, bfloat16=False, device="cpu"))
    if result.front:
        judged = [judge(one, settings) for one in evaluate(exact, [point.vector for point in result.front])]
        points = [
            replace(point, values=values, metrics=one.metrics)
            for point, (one, values) in zip(result.front, judged, strict=True)
            if values is not None
        ]
        if not points:
            return result
        kept = nondominated(np.array([point.values for point in points]))
        front = [point for point, is_kept in zip(points, kept, strict=True) if is_kept]
        best = front[knee(np.array([point.values for point in front]))]
        return replace(
            result, front=front, **_as_best(best.vector, best.values[0], best.index, best.metrics, folder, arch)
        )
    near = best_of(folder.history, arch, population, _COMPARED)
    found = [judge(one, settings)[0] for one in evaluate(exact, list(near.vectors))]
    scored = [(one.loss, row) for row, one in enumerate(found) if one.loss is not None]
    if not scored:
        return result
    loss, row = min(scored)
    index = int(near.origins[row].removeprefix("best:"))
    return replace(result, **_as_best(near.vectors[row].copy(), loss, index, found[row].metrics, folder, arch))


def _as_best(
    vector: np.ndarray, loss: float, index: int, metrics: dict[str, float], folder: RunFolder, arch: str
) -> dict[str, Any]:
    """The fields of a result whose best is the candidate of the record `index`."""
    with History(folder.history, arch) as history:
        origin = history.records[index].origin
    return {
        "best_vector": vector,
        "best_loss": loss,
        "best_index": index,
        "best_origin": origin,
        "best_metrics": metrics,
    }


def _decide(
    objective: LatentObjective, config: SearchConfig, session: RaySession, population: Population
) -> PrecisionDecision:
    """The precision of a new run.

    Raises:
        BadInput: bfloat16 was asked for, and candidates would run where it is emulated.
    """
    asked = config.compute.precision
    if asked == FLOAT32:
        return PrecisionDecision(precision="float32", reason="it was asked for, or nothing else was")
    where = _emulated(config, session)
    probe = None if where else _probe(objective, population)
    compared = None if probe is None else _measured(probe, config, session)
    if probe is not None and compared is None:
        where = "a worker's GPU" if config.compute.gpus else "a worker's CPU"
    if where and asked == BFLOAT16:
        raise _not_native(where)
    if where:
        return PrecisionDecision(precision="float32", reason=f"{where} would emulate bfloat16")
    measured = {} if compared is None else asdict(compared)
    if asked == BFLOAT16:
        slow = "" if compared is None or compared.faster == BFLOAT16 else f", but {compared.text()}"
        return PrecisionDecision(precision="bfloat16", reason=f"it was asked for{slow}", measured=measured)
    if compared is None:
        return PrecisionDecision(precision="float32", reason="no network of the population could be timed")
    return PrecisionDecision(precision=compared.faster, reason=compared.text(), measured=measured)


def _not_native(where: str) -> BadInput:
    return BadInput(
        f"--precision bfloat16 is asked for, and {where} would emulate it",
        "that is slower than float32; CPUs with avx512_bf16 or AMX and GPUs from Ampere on compute in bfloat16",
        "Use --precision float32, or auto, which takes bfloat16 only where it pays.",
    )


def _emulated(config: SearchConfig, session: RaySession) -> str:
    """Where candidates would run on CPUs without bfloat16, in words; "" where nowhere. GPUs answer when they are timed."""
    if config.compute.gpus:
        return ""
    if not joins_cluster(config):
        return "" if has_bfloat16() else "this machine's CPU"
    from search.pools.ray_map import ray_on_nodes  # noqa: PLC0415 - Ray is imported only where it is used

    session.start(None, cluster_address(config))
    native = ray_on_nodes(has_bfloat16, "cpu")
    lacking = native.count(False)
    return f"{lacking} of the cluster's {len(native)} nodes" if lacking else ""


@dataclass(frozen=True)
class _Probe:
    """Compares the precisions where it is called: a worker calls it as if it were an objective."""

    spec: ArchSpec
    flat: Tensor  # (p,)
    inputs: Tensor  # prepared inputs (n, ...)
    fixed: dict[str, Tensor] | None
    device: str

    def __call__(self, _: np.ndarray) -> tuple[float, dict[str, float]]:
        """0, and what was measured; nothing where bfloat16 is emulated."""
        if not has_bfloat16(self.device):
            return 0.0, {}
        fixed = self.fixed and {name: tensor.to(self.device) for name, tensor in self.fixed.items()}
        here = (self.flat.to(self.device), self.inputs.to(self.device))
        return 0.0, asdict(compare_precisions(self.spec, *here, fixed))


def _probe(objective: LatentObjective, population: Population) -> _Probe | None:
    """The probe of the population's mean, finished; of its first member that can be scored where that cannot."""
    fitness, decoder = objective.fitness, objective.decoder
    mask = getattr(decoder, "mask", None)
    for vector in (population.mean(), *population.vectors):
        for scored in scores_of(fitness, [decoder.weights(vector.copy())]):
            fixed = None if mask is None else mask.fixed(fitness.spec)
            return _Probe(scored.spec, scored.flat, fitness.val[0][:_EXAMPLES], fixed, objective.device)
    return None


def _measured(probe: _Probe, config: SearchConfig, session: RaySession) -> Compared | None:
    """What the probe measures on a worker of the run; None where bfloat16 is emulated there.

    Raises:
        BadInput: the network cannot be run there.
    """
    is_remote = bool(config.compute.gpus) or joins_cluster(config)
    if is_remote:
        from search import RayPool  # noqa: PLC0415 - Ray is imported only where it is used

        session.start(1, cluster_address(config))
        pool: Any = RayPool(probe, 1, cluster_address(config), gpus=config.compute.gpus)
    else:
        pool = LocalPool(probe)
    try:
        [found] = evaluate(pool, [np.zeros(1)])
    finally:
        pool.close()
    if found.error is not None:
        raise BadInput("the precisions cannot be compared", found.error, f"Use --precision {FLOAT32}.")
    return Compared(**found.metrics) if found.metrics else None
