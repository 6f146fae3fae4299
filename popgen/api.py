"""popgen from Python: the commands as functions, with the options' names as arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from popgen.configs.adapt import AdaptConfig
from popgen.configs.audit import AuditConfig
from popgen.configs.bench import BenchConfig, load_bench
from popgen.configs.generate import GenerateConfig
from popgen.configs.load import parse
from popgen.configs.merge import MergeConfig
from popgen.configs.rank import RankConfig
from popgen.configs.sampling import Sampling
from popgen.configs.search import Compute, Finetune, Sgd, search_config
from popgen.configs.sweep import SweepConfig, load_sweep
from popgen.errors import BadInput
from popgen.jobs.adapt import Adapted
from popgen.jobs.adapt import adapt as _adapt
from popgen.jobs.audit import Audited
from popgen.jobs.audit import audit as _audit
from popgen.jobs.bench import Benched
from popgen.jobs.bench import bench as _bench
from popgen.jobs.encode import Encoded, encode
from popgen.jobs.generate import Generated
from popgen.jobs.generate import generate as _generate
from popgen.jobs.merging.job import MergedNetworks, merge_experts
from popgen.jobs.push import Pushed, push
from popgen.jobs.ranking.rank import Ranked
from popgen.jobs.ranking.rank import rank as _rank
from popgen.jobs.retrieve import Retrieved, retrieve
from popgen.jobs.search import Found
from popgen.jobs.search import search as _search
from popgen.jobs.searching.arch import OnEvaluation
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.sweep import SweepRow, sweep
from popgen.jobs.train import TrainingCompute, read_spec, train

__all__ = [
    "Adapted",
    "Audited",
    "BenchConfig",
    "Benched",
    "Compute",
    "Encoded",
    "Finetune",
    "Found",
    "Generated",
    "MergedNetworks",
    "Pushed",
    "Ranked",
    "Retrieved",
    "Sampling",
    "Sgd",
    "SweepConfig",
    "SweepRow",
    "TrainingCompute",
    "adapt",
    "encode",
    "generate",
    "load_bench",
    "load_sweep",
    "merge",
    "push",
    "rank",
    "read_spec",
    "retrieve",
    "run_audit",
    "run_bench",
    "search",
    "sweep",
    "train",
]


def search(
    arch: str | Sequence[str] | None = None,
    data: str | None = None,
    *,
    out: str | None = None,
    resume: str | None = None,
    on_evaluation: OnEvaluation | None = None,
    verbose: bool = False,
    **options: Any,
) -> list[Found]:
    """Find weights of each architecture for a data set.

    Args:
        arch: an architecture, or several; with `resume` None: those of the run.
        data: the data set; with `resume` None: that of the run.
        out: the run folder; None: one under ./runs, named after the settings.
        resume: the folder of a run to continue. Its settings hold where none are given; evaluations, seconds and
            workers may change.
        on_evaluation: called after every evaluation with the architecture and the state of its search.
        verbose: print what the command line says on stderr.
        options: the fields of SearchConfig; sections are given as `Sampling(...)`, `Compute(...)` or as a dict.

    Raises:
        PopgenError: a name, value, shape or combination that does not fit, or a run that cannot be continued.
        SearchError: every candidate fails, another process writes the run, or there is no cluster at the address.

    Example:
        >>> import tempfile
        >>> found = search("mlp-s", "digits/rotate:45", evaluations=40, out=tempfile.mkdtemp())
        >>> found[0].row("search").evaluations
        40
    """
    if resume is not None and out is not None:
        raise BadInput("resume and out are both given", "a run is continued in its own folder", "Leave out away.")
    archs = None if arch is None else [arch] if isinstance(arch, str) else list(arch)
    named = {name: value for name, value in {"archs": archs, "data": data}.items() if value is not None}
    before = None if resume is None else RunFolder.open(resume).config()[0]
    config = search_config({**named, **options}, before, "popgen.search")
    return _search(config, out, resume, on_evaluation, say=print if verbose else lambda _: None)


def adapt(arch: str, data: str, out: str, *, verbose: bool = False, **options: Any) -> Adapted:
    """Fit a published network to unlabelled images and write it as `out/weights.safetensors`.

    Args:
        data: a data set, whose labels are used for the table alone, or `folder:FOLDER` with images and no folders in it.
        out: the folder, which must be empty.
        verbose: print what the command line says on stderr.
        options: the other fields of AdaptConfig, such as `generator`: a built-in one, or the folder that `train` wrote of
            a zoo that starts from a trained network.

    Raises:
        PopgenError: a name, value, shape or combination that does not fit.
    """
    given = {"arch": arch, "data": data, **options}
    return _adapt(parse(given, AdaptConfig, "popgen.adapt"), out, say=print if verbose else lambda _: None)


def rank(data: str, *, out: str | None = None, verbose: bool = False, **options: Any) -> Ranked:
    """Rank the checkpoints of a zoo for a data set, without training and at a share of an exhaustive evaluation's cost.

    Args:
        out: the folder, which must be empty, that the best are written into; None: nothing is written.
        verbose: print what the command line says on stderr.
        options: the other fields of RankConfig, such as `zoo`, `archs` and `top`.

    Raises:
        PopgenError: a name, value, shape or combination that does not fit.

    Example:
        >>> rank("digits/rotate:45", archs=["mlp-s"]).chosen[0].data
        'digits/rotate:30'
    """
    config = parse({"data": data, **options}, RankConfig, "popgen.rank")
    return _rank(config, out, say=print if verbose else lambda _: None)


def merge(
    experts: str | Sequence[str], zoo: str, out: str, method: str = "all", *, verbose: bool = False, **options: Any
) -> MergedNetworks:
    """Merge checkpoints of a zoo into one network, and write each merge as `out/merged-METHOD.safetensors`.

    Args:
        experts: ids in the zoo, or globs of ids.
        out: the folder, which must be empty.
        method: one of popgen.merging.METHODS, or all of them.
        verbose: print what the command line says on stderr.
        options: the other fields of MergeConfig, such as `base`, and `data`, which is a name or a list.

    Raises:
        PopgenError: a name, value, shape or combination that does not fit.

    Example:
        >>> import tempfile
        >>> pair = ["mlp-s/digits/rotate:0/s0", "mlp-s/digits/rotate:15/s0"]
        >>> [row.name for row in merge(pair, "digits", tempfile.mkdtemp(), "ties").merges]
        ['ties']
    """
    lists = {
        name: [value] if isinstance(value, str) else list(value)
        for name, value in (("experts", experts), ("data", options.pop("data", [])))
    }
    config = parse({**lists, "zoo": zoo, "method": method, **options}, MergeConfig, "popgen.merge")
    return merge_experts(config, out, say=print if verbose else lambda _: None)


def generate(
    arch: str | Sequence[str], data: str | None, out: str, n: int = 16, *, verbose: bool = False, **options: Any
) -> list[Generated]:
    """Sample `n` networks of each architecture and write them as `out/ARCH/00.safetensors`, ...

    Args:
        data: the data set that they are for; None with the option `describe`.
        out: the folder, which must be empty.
        verbose: print what the command line says on stderr.
        options: the other fields of GenerateConfig.

    Raises:
        PopgenError: a name, value, shape or combination that does not fit.

    Example:
        >>> import tempfile
        >>> made = generate("mlp-s", "digits/rotate:45", tempfile.mkdtemp(), n=2)
        >>> [network.index for network in made]
        [0, 1]
    """
    archs = [arch] if isinstance(arch, str) else list(arch)
    config = parse({"archs": archs, "data": data, "n": n, **options}, GenerateConfig, "popgen.generate")
    return _generate(config, out, say=print if verbose else lambda _: None)


def run_bench(spec: str | BenchConfig, *, out: str | None = None, verbose: bool = False, **options: Any) -> Benched:
    """Compare the search with its rivals at equal image passes, over a grid of architectures, data sets and seeds.

    Args:
        spec: the path of a bench.yaml, or its settings.
        out: the folder of the bench; None: ./benches/NAME.
        verbose: print what the command line says on stderr.
        options: `resume`, `address`, `parallel`, `data_dir` and `on_progress` of popgen.jobs.bench.bench.

    Raises:
        PopgenError: a name, value, shape or combination that does not fit.
        SearchError: the cluster cannot be reached, is too small, or does not share the folder.
    """
    config = spec if isinstance(spec, BenchConfig) else load_bench(spec)
    return _bench(config, out, say=print if verbose else lambda _: None, **options)


def run_audit(generator: str | None = None, *, out: str, verbose: bool = False, **options: Any) -> Audited:
    """Say whether generated networks are new, in one word for each architecture and data set; see popgen/audit/verdict.py.

    Args:
        generator: a built-in generator, or the folder that `train` wrote; None with the option `generated`, a folder of
            state dicts that another tool made, and `zoo`, the checkpoints that it was trained on.
        out: the folder of result.json and overlap.svg, which must be empty.
        verbose: print what the command line says on stderr.
        options: the other fields of AuditConfig, such as `data` and `archs`, which are lists.

    Raises:
        PopgenError: a name, value, shape or combination that does not fit.
    """
    config = parse({"generator": generator, **options}, AuditConfig, "popgen.run_audit")
    return _audit(config, out, say=print if verbose else lambda _: None)
