"""`popgen search`: parse, one library call, print."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from popgen.cli.options import (
    BASE_HELP,
    BATCH_NORMS,
    DATA_DIR,
    JSON,
    PARTS_HELP,
    BatchNorm,
    Names,
    Numbers,
    sampling_options,
)
from popgen.cli.results import print_found
from popgen.cli.say import remark, start
from popgen.json_text import json_text

if TYPE_CHECKING:
    from popgen.configs.search import SearchConfig
    from popgen.jobs.searching.checks import Prepared

_OPTIONS = [
    click.option(
        "--sgd-steps",
        type=int,
        help="Steps of SGD on training images before a candidate is scored; they cost budget.  [default: 0]",
    ),
    click.option("--sgd-lr", type=float, help="Learning rate of the first of them.  [default: 0.01]"),
    click.option("--sgd-batch", type=int, help="Images of a step.  [default: 50]"),
    click.option(
        "--objectives",
        "--objective",
        "objectives",
        type=Names(),
        metavar="NAMES",
        help="loss, error, cross_entropy, balanced_error, f1_error (1 - macro F1), calibration_error, worst_class_error, "
        "mutual_information (needs no labels), or module:function of logits and labels; of groups: worst_group_error, demographic_parity, "
        "equal_opportunity, equalised_odds; several give a Pareto front.  [default: loss]",
    ),
    click.option(
        "--groups",
        type=click.Path(),
        help="CSV file,group (paths in the folder) or [split,]index,group (rows of the validation split), for measures of groups."
        "  [default: those of a style: in the data's name, or groups_val of the npz file]",
    ),
    click.option(
        "--finetune",
        "finetune_mode",
        type=click.Choice(["auto", "never"]),
        help="Train the search's best and the best checkpoint after the search, where labels allow; held-out images choose the result.  [default: auto]",
    ),
    click.option(
        "--finetune-epochs",
        type=Names(),
        metavar="EPOCHS",
        help="Then train every row of the table for so many epochs: 1,10 compares 0, 1 and 10.",
    ),
    click.option(
        "--finetune-lr",
        type=float,
        help="Peak learning rate of all training after the search.  [default: 0.03; 0.003 for adapters; for the result the better one of two]",
    ),
    click.option(
        "--finetune-batch",
        type=int,
        help="Images of its steps.  [default: 50; 16 for adapters, and for the result with few labels]",
    ),
    click.option(
        "--finetune-augment",
        type=click.Choice(["auto", "none", "flip-crop"]),
        help="Mirror and shift images of its steps, or not.  [default: auto: for the result images in colour, unless held-out ones say otherwise]",
    ),
    click.option(
        "--ensemble",
        type=int,
        metavar="N",
        help="Also join the search's best and the zoo's best checkpoints, N networks in all, side by side under one head: N times the cost.",
    ),
    click.option("--finetune-parts", is_flag=True, default=None, help="Train only the tensors of --parts."),
]


def worth_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command("search")
@click.option("--arch", type=Names(), help="Architectures, separated by commas.")
@click.option(
    "--data",
    help="Data set: digits/rotate:45, cifar10, npz:FILE, folder:FOLDER, text:FILE, lines:FILE, hf:OWNER/NAME, module:function.",
)
@click.option("--shots", type=int, help="Labelled examples in all, the same as /labels:N behind the data set.")
@DATA_DIR
@click.option(
    "--generator",
    help="A built-in generator, the folder that `popgen train` wrote, or hub:OWNER/NAME[@REVISION].  [default: digits where it knows the architecture, "
    "else one under ./generators, else the experts of a zoo]",
)
@click.option(
    "--zoo",
    "zoo_name",
    help="The zoo, also hub:OWNER/NAME[@REVISION], for its rows in the table, and for its experts where no generator knows the architecture.  "
    "[default: the generator's own, else one under ./zoos]",
)
@click.option("--parts", type=Names(), help=PARTS_HELP)
@click.option("--base", type=click.Path(), help=BASE_HELP)
@click.option(
    "--head",
    type=click.Choice(["auto", "keep", "remap", "refit"]),
    help="The last layer: as generated, rows by class name, or refitted in closed form.  [default: auto]",
)
@click.option(
    "--batch-norm",
    type=BatchNorm(),
    metavar=BATCH_NORMS,
    help="Batch-norm statistics: the network's own, those of the training images, or a share of the way.  [default: auto]",
)
@click.option("--split", help="Split that candidates are scored on.  [default: val]")
@worth_options
@click.option(
    "--evaluations",
    type=int,
    help="Budget of each architecture, seeds included, in passes over the validation images.  [default: 300]",
)
@click.option("--seconds", type=float, help="Time for each architecture.")
@click.option("--target", type=float, help="Stop at this loss.")
@click.option("--patience", type=int, help="Stop after so many evaluations without a better one.")
@click.option(
    "--optimizer",
    help="CMA, DiagonalCMA, DE, TwoPointsDE, PSO, TBPSA, OnePlusOne, RandomSearch, NGOpt, or module:name.  [default: CMA]",
)
@click.option(
    "--space",
    help="Of a generator's latent: identity (its own coordinates), std or pca; around a zoo's experts: mix, principal or low-rank; auto.  "
    "[default: identity, or auto without a generator]",
)
@click.option("--sigma", type=float, help="First step, in units of the population's spread.")
@click.option("--batch", type=int, help="Candidates asked at a time; part of the algorithm.  [default: 12]")
@click.option(
    "--mode",
    type=click.Choice(["exact", "async"]),
    help="exact: one history for any number of workers; async: no worker waits for another.  [default: exact]",
)
@click.option(
    "--rungs",
    type=Numbers(),
    help="Race: shares of the validation images, such as 0.25,0.5, at which the worse half drops out.",
)
@click.option("--weights", type=Numbers(), help="Weights of the objectives: one sum instead of a front.")
@click.option("--population", type=int, help="Networks sampled from the generator.  [default: 16]")
@click.option(
    "--experts",
    type=int,
    help="The zoo's closest or best checkpoints among the seeds.  [default: 8; all adapters where 64 labels or more choose]",
)
@click.option(
    "--merges",
    type=Names(),
    metavar="METHODS",
    help="Merges of the experts, of which a mixture starts from the best: uniform_soup, greedy_soup, task_arithmetic, ties, dare, regmean, fisher, "
    "adamerging; none.  [default: all that the data allow and the budget affords]",
)
@click.option("--warm-start", type=click.Path(), help="Run folder whose best candidates join the population.")
@click.option("--warm-best", type=int, help="How many of them.  [default: 8]")
@click.option(
    "--prior-width",
    type=float,
    help="How far from the population's mean the best latent is believed to lie; 0: anywhere.  [default: 0.5]",
)
@click.option("--describe", help='Condition in words instead of images: "digits, rotated by 45 degrees".')
@sampling_options
@click.option(
    "--baselines",
    type=click.Choice(["none", "standard", "all"]),
    help="Rows of the table; all adds noise at equal evaluations.  [default: standard]",
)
@click.option("--workers", help="Ray actors; 0: this process; auto: Ray where it pays.  [default: auto]")
@click.option("--address", help="Address of a Ray cluster.  [default: $RAY_ADDRESS, else this machine]")
@click.option("--timeout", type=float, help="Seconds for one candidate, which fails when they are over.")
@click.option("--gpus", type=float, help="Share of a GPU for each worker.  [default: 0]")
@click.option("--at-once", type=int, help="Candidates that a worker evaluates in one pass, for GPUs.  [default: 1]")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    help="Of candidates' passes: bfloat16 is about twice as fast on processors made for it; auto measures. Final scores are float32.  [default: float32]",
)
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--out", type=click.Path(), help="Run folder.  [default: runs/ARCH-DATA-sSEED]")
@click.option(
    "--resume",
    type=click.Path(),
    help="Continue the run in this folder; --evaluations, --seconds and --workers may change.",
)
@click.option("--report", "with_report", is_flag=True, help="Write report.html into the run folder, for a browser.")
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be done.")
@JSON
def search_command(
    generator: str | None,
    zoo_name: str | None,
    out: str | None,
    resume: str | None,
    shots: int | None,
    with_report: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Find weights of each architecture for a data set.

    \b
    Examples:
      popgen search --arch cnn-s --data digits/rotate:45 --report
      popgen search --arch cnn-s,mlp-s --data digits/rotate:45 --head refit --evaluations 500
      popgen search --resume runs/cnn-s-digits-rotate-45-s0 --evaluations 1000
    """
    if resume is not None and out is not None:
        raise click.UsageError("--resume continues in its own folder; leave --out away.")
    if shots is not None and options.get("data"):
        options["data"] += f"/labels:{shots}"
    config = _search_config({"generator": generator, "zoo": zoo_name, **options}, resume)
    if resume is None:
        from popgen.jobs.names import check_search_names

        check_search_names(config)
    start(f"searching weights of {', '.join(config.archs)} for {config.data}")
    from popgen.cli.output import SearchBars
    from popgen.jobs.search import prepare
    from popgen.jobs.search import search as run_search

    if dry_run:
        prepared = prepare(config, remark)
        click.echo(json_text(_plan(config, prepared), indent=1))
        return
    with SearchBars() as bars:
        found = run_search(config, out, resume, bars.show, remark)
    written = None
    if with_report:
        from popgen.jobs.report import report

        written = report(found[0].run).path
    print_found(found, as_json, written)


def _plan(config: SearchConfig, prepared: Prepared) -> dict[str, Any]:
    """The facts that `--dry-run` prints."""
    from popgen.audit.contamination import contamination

    data, generator, zoo = prepared.data, prepared.generator, prepared.zoo
    searches = prepared.searches
    return {
        "archs": {s.arch: {"parameters": s.fitness.spec.size, "head": s.fitness.head} for s in searches},
        "data": data.name,
        "images": {"train": len(data.train), "val": len(data.val), "test": len(data.test)},
        "generator": None if generator is None else generator.provenance.zoo,
        "zoo": None if zoo is None else zoo.name,
        "evaluations": config.evaluations,
        "data_remarks": list(prepared.data_remarks),
        "contamination": contamination(data, generator, zoo, config.data_dir),
        "cost": searches[0].fitness.cost,
    }


def _search_config(options: dict[str, Any], resume: str | None) -> SearchConfig:
    from popgen.configs.search import search_config

    given = {key: value for key, value in options.items() if value is not None}
    if "workers" in given and given["workers"] != "auto":
        given["workers"] = _whole("--workers", given["workers"])
    if given.get("merges") == ["none"]:
        given["merges"] = []
    if "arch" in given:
        given["archs"] = given.pop("arch")
    before = None
    if resume is not None:
        from popgen.jobs.searching.folder import RunFolder

        before, _ = RunFolder.open(resume).config()
    for option in ("archs", "data"):
        if option not in given and before is None:
            raise click.UsageError(
                f"Missing option '--{option.removesuffix('s')}', for example --arch cnn-s --data digits/rotate:45."
            )
    return search_config(given, before, "popgen search" if before is None else "popgen search --resume")


def _whole(option: str, value: str) -> int:
    if not value.isdigit():
        raise click.BadParameter(f"{value!r} is neither a whole number nor auto", param_hint=option)
    return int(value)
