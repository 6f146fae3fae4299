"""The command line: parse, one library call, print. Data goes to stdout, progress and remarks to stderr.

torch is imported inside the commands, so that --help is quick.
"""

from __future__ import annotations

import json
from typing import Any

import click

from popgen import __version__
from popgen.cli_codes import encode, print_report, report
from popgen.cli_options import DATA_DIR, DATA_DIR_SETTING, Names, Numbers
from popgen.cli_sweep import sweep
from popgen.cli_worth import print_found, worth_options
from popgen.cli_zoo import zoo

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
_GENERATOR = click.option(
    "--generator",
    default="digits",
    show_default=True,
    help="A built-in generator, or the folder that `popgen train` wrote.",
)

_PARTS_HELP = "Generate only these tensors: head, or globs of names such as 'conv*'; the others are those of --base."
_BASE_HELP = "Checkpoint (.safetensors) of the architecture whose other tensors are kept, with --parts."


_PRIOR = click.option(
    "--prior",
    type=click.Choice(["network", "ridge", "kde"]),
    help="What samples latents.  [default: the one chosen in training]",
)
_STRENGTH = click.option(
    "--strength",
    type=click.FloatRange(0, 1),
    help="How far the condition is trusted: 0 is the average data set's.  [default: the generator's own]",
)
_SAMPLER = click.option(
    "--sampler",
    type=click.Choice(["euler", "heun", "ddim", "ddpm"]),
    help="Of the trained prior.  [default: the generator's own]",
)


@click.group()
@click.version_option(__version__)
def cli() -> None:
    """Turns a zoo of checkpoints into one conditional generator, and the generator into good weights for a new job.

    \b
    Exit codes: 0 done, 1 the search failed, 2 wrong usage, 3 unknown name, 4 input that does not fit,
    5 broken file, 6 not reachable without a network or an extra package, 7 cannot go on, 130 Ctrl-C.
    POPGEN_DEBUG=1 shows the traceback of an error.
    """


cli.add_command(zoo)
cli.add_command(sweep)
cli.add_command(encode)
zoo.add_command(report)


@cli.command()
@click.option("--arch", type=Names(), help="Architectures, separated by commas.")
@click.option(
    "--data", help="Data set: digits/rotate:45, cifar10, npz:FILE, folder:FOLDER, hf:OWNER/NAME, module:function."
)
@DATA_DIR_SETTING
@click.option(
    "--generator",
    help="A built-in generator, or the folder that `popgen train` wrote.  [default: digits where it knows the architecture, "
    "else one under ./generators, else the experts of a zoo]",
)
@click.option(
    "--zoo",
    "zoo_name",
    help="The zoo, for its rows in the table, and for its experts where no generator knows the architecture.  "
    "[default: the generator's own, else one under ./zoos]",
)
@click.option("--parts", type=Names(), help=_PARTS_HELP)
@click.option("--base", type=click.Path(), help=_BASE_HELP)
@click.option(
    "--head",
    type=click.Choice(["auto", "keep", "remap", "refit"]),
    help="The last layer: as generated, rows by class name, or refitted in closed form.  [default: auto]",
)
@click.option(
    "--batch-norm", type=click.Choice(["auto", "keep", "reestimate"]), help="Batch-norm statistics.  [default: auto]"
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
    help="Of a generator's latent: identity (its own coordinates), std or pca; around a zoo's experts: mix or low-rank; auto.  "
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
@click.option("--experts", type=int, help="The zoo's closest or best checkpoints among the seeds.  [default: 8]")
@click.option("--warm-start", type=click.Path(), help="Run folder whose best candidates join the population.")
@click.option("--warm-best", type=int, help="How many of them.  [default: 8]")
@click.option(
    "--prior-width",
    type=float,
    help="How far from the population's mean the best latent is believed to lie; 0: anywhere.  [default: 0.5]",
)
@click.option("--describe", help='Condition in words instead of images: "digits, rotated by 45 degrees".')
@_PRIOR
@_STRENGTH
@_SAMPLER
@click.option("--sample-steps", type=int, help="Steps of the sampler.")
@click.option("--guidance", type=float, help="Strength of the condition; 1 is plain.")
@click.option(
    "--baselines",
    type=click.Choice(["none", "standard", "all"]),
    help="Rows of the table; all adds noise at equal evaluations.  [default: standard]",
)
@click.option("--workers", help="Ray actors; 0: this process; auto: Ray where it pays.  [default: auto]")
@click.option("--address", help="Address of a Ray cluster.  [default: $RAY_ADDRESS, else this machine]")
@click.option("--timeout", type=float, help="Seconds for one candidate, which fails when they are over.")
@click.option("--gpus", type=float, help="Share of a GPU for each worker.  [default: 0]")
@click.option("--group", type=int, help="Candidates that a worker evaluates at once, for GPUs.  [default: 1]")
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--out", type=click.Path(), help="Run folder.  [default: runs/ARCH-DATA-sSEED]")
@click.option(
    "--resume",
    type=click.Path(),
    help="Continue the run in this folder; --evaluations, --seconds and --workers may change.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be done.")
@_JSON
def search(
    generator: str | None,
    zoo_name: str | None,
    out: str | None,
    resume: str | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Find weights of each architecture for a data set.

    \b
    Examples:
      popgen search --arch cnn-s --data digits/rotate:45
      popgen search --arch cnn-s,mlp-s --data digits/rotate:45 --head refit --evaluations 500
      popgen search --resume runs/cnn-s-digits-rotate-45-s0 --evaluations 1000
    """
    from popgen.jobs.contamination import contamination
    from popgen.jobs.search import prepare
    from popgen.jobs.search import search as run_search
    from popgen.progress import SearchBars, remark

    if resume is not None and out is not None:
        raise click.UsageError("--resume continues in its own folder; leave --out away.")
    config = _search_config({"generator": generator, "zoo": zoo_name, **options}, resume)
    if dry_run:
        jobs, made, found_zoo = prepare(config, remark)
        facts = {
            "archs": {j.arch: {"parameters": j.fitness.spec.size, "head": j.fitness.head} for j in jobs},
            "data": jobs[0].data.name,
            "images": {"train": len(jobs[0].data.train), "val": len(jobs[0].data.val), "test": len(jobs[0].data.test)},
            "generator": None if made is None else made.provenance.zoo,
            "zoo": None if found_zoo is None else found_zoo.name,
            "evaluations": config.evaluations,
            "data_remarks": list(jobs[0].data.remarks),
            "contamination": contamination(jobs[0].data, made, found_zoo),
            "cost": jobs[0].fitness.cost,
        }
        click.echo(json.dumps(facts, indent=1))
        return
    with SearchBars() as bars:
        found = run_search(config, out, resume, bars.report, remark)
    print_found(found, as_json)


def _search_config(options: dict[str, Any], resume: str | None) -> Any:
    from popgen.configs.search import SearchConfig
    from popgen.configs.spec import parse
    from popgen.jobs.run_folder import RunFolder

    given = {key: value for key, value in options.items() if value is not None}
    if "workers" in given and given["workers"] != "auto":
        given["workers"] = _whole("--workers", given["workers"])
    if "arch" in given:
        given["archs"] = given.pop("arch")
    if resume is not None:
        before, _ = RunFolder.open(resume).config()
        return parse({**before.model_dump(), **given}, SearchConfig, "popgen search --resume")
    for option in ("archs", "data"):
        if option not in given:
            raise click.UsageError(
                f"Missing option '--{option.removesuffix('s')}', for example --arch cnn-s --data digits/rotate:45."
            )
    return parse(given, SearchConfig, "popgen search")


def _whole(option: str, value: str) -> int:
    if not value.isdigit():
        raise click.BadParameter(f"{value!r} is neither a whole number nor auto", param_hint=option)
    return int(value)


@cli.command()
@click.option("--arch", type=Names(), required=True, help="Architectures, separated by commas.")
@click.option("--data", help="Data set that the networks are for.")
@DATA_DIR
@click.option("--describe", help='The same in words: "digits, rotated by 45 degrees"; --data then only scores them.')
@click.option("-n", "count", default=16, show_default=True, help="Networks of each architecture.")
@_GENERATOR
@_PRIOR
@_STRENGTH
@_SAMPLER
@click.option("--guidance", type=float, help="Strength of the condition; 1 is plain.")
@click.option("--steps", type=int, help="Steps of the sampler.")
@click.option("--parts", type=Names(), default=[], help=_PARTS_HELP)
@click.option("--base", type=click.Path(), help=_BASE_HELP)
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(), default="generated", show_default=True, help="Folder, which must be empty.")
@click.option(
    "--address", envvar="RAY_ADDRESS", help="Ray cluster that samples the architectures.  [default: $RAY_ADDRESS]"
)
@_JSON
def generate(arch: list[str], data: str | None, count: int, out: str, as_json: bool, **options: Any) -> None:
    """Write a population of networks, without a search.

    \b
    Example:
      popgen generate --arch cnn-s,mlp-s --data digits/rotate:45 -n 16
      popgen generate --arch cnn-s --describe "digits, rotated by 45 degrees"
      popgen generate --arch cnn-s/channels:12-24 --data digits/rotate:45
    """
    from popgen.jobs.generate import generate as run_generate
    from popgen.progress import remark, table

    if data is None and options["describe"] is None:
        raise click.UsageError("Missing option '--data' or '--describe', for example --data digits/rotate:45.")
    made = run_generate(arch, data, out, count, **options, say=remark)
    if as_json:
        click.echo(json.dumps({"networks": [g.to_json() for g in made]}, indent=1))
        return
    rows = [[g.weights, "-" if g.val_accuracy is None else f"{g.val_accuracy:.3f}"] for g in made]
    table(f"generated for {options['describe'] or data}", ["weights", "val accuracy"], rows)


@cli.command()
@click.option("--arch", required=True, help="Architecture of the checkpoint.")
@click.option("--data", required=True, help="Data set that it was trained on.")
@DATA_DIR
@_GENERATOR
@click.option("--seed", type=int, help="Its seed.  [default: the best by validation accuracy]")
@click.option("--out", type=click.Path(), help="File.  [default: ARCH-DATA.safetensors]")
@_JSON
def retrieve(arch: str, data: str, generator: str, seed: int | None, out: str | None, as_json: bool) -> None:
    """Give a checkpoint of the zoo back from the generator, with its accuracy beside the original's.

    \b
    Example:
      popgen retrieve --arch cnn-s --data digits/rotate:30
    """
    from popgen.jobs.retrieve import retrieve as run_retrieve
    from popgen.progress import table

    got = run_retrieve(arch, data, out, generator=generator, seed=seed)
    if as_json:
        click.echo(json.dumps(got.to_json(), indent=1))
        return
    rows = [
        ["original", f"{got.original_val_accuracy:.3f}", f"{got.original_test_accuracy:.3f}"],
        ["retrieved", f"{got.val_accuracy:.3f}", f"{got.test_accuracy:.3f}"],
    ]
    table(got.id, ["", "val accuracy", "test accuracy"], rows)
    click.echo(f"weights: {got.weights}")


@cli.command()
@click.argument("spec")
@click.option("--out", type=click.Path(), help="Folder of the generator.  [default: generators/NAME]")
@click.option("--zoo", "zoo_name", help="Folder of the zoo.  [default: zoos/NAME, built first where it is missing]")
@DATA_DIR
@click.option("--workers", type=click.IntRange(min=0), help="Processes that build the zoo.  [default: one a CPU core]")
@click.option(
    "--train-workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Workers that share every step of the generator's training (Ray Train); they divide generator.accumulate.",
)
@click.option("--address", envvar="RAY_ADDRESS", help="Ray cluster that they run on.  [default: $RAY_ADDRESS]")
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a value of the spec, such as generator.vae.steps=100.",
)
@click.option("--dry-run", is_flag=True, help="Check the spec and print the settings.")
@_JSON
def train(
    spec: str,
    out: str | None,
    zoo_name: str | None,
    workers: int | None,
    train_workers: int,
    address: str | None,
    sets: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train a generator on the zoo of SPEC (a YAML file), building the zoo first where it is missing.

    \b
    Example:
      popgen train zoo_specs/digits.yaml
    """
    from popgen.audit import CompressionReport
    from popgen.cli_zoo import parse_set
    from popgen.jobs.train import read_spec
    from popgen.jobs.train import train as run_train
    from popgen.progress import TrainBars, table

    overrides = dict(parse_set(item) for item in sets)
    content, config = read_spec(spec, overrides)
    if dry_run:
        click.echo(json.dumps({"zoo": content.zoo.name, "generator": config.model_dump()}, indent=1))
        return
    with TrainBars() as bars:
        made = run_train(
            spec,
            out,
            zoo=zoo_name,
            workers=workers,
            train_workers=train_workers,
            address=address if train_workers > 1 else None,
            overrides=overrides,
            report=bars.report,
        )
    metrics = made.provenance.metrics
    if as_json:
        click.echo(json.dumps({"generator": str(out or f"generators/{content.zoo.name}"), **metrics}, indent=1))
        return
    names = ["train_original", "train_decoded", "held_out_original", "held_out_decoded"]
    titles = ["", "train", "decoded", "held out", "decoded"]
    rows = [
        [arch, *(f"{row[name]:.3f}" if name in row else "-" for name in names)]
        for arch, row in metrics["retrieval"].items()
    ]
    table("mean validation accuracy of the zoo's checkpoints", titles, rows)
    print_report(CompressionReport.from_json(metrics["compression"]))
    click.echo(f"generator: {out or f'generators/{content.zoo.name}'} ({metrics['seconds']:.0f} s)")
