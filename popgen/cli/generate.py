"""`popgen generate` and `popgen retrieve`: networks from a generator, without a search."""

from __future__ import annotations

from typing import Any

import click

from popgen.cli.options import (
    BASE_HELP,
    BATCH_NORMS,
    DATA_DIR,
    GENERATOR,
    JSON,
    PARTS_HELP,
    BatchNorm,
    Names,
    sampling_options,
)
from popgen.cli.say import remark, start
from popgen.json_text import json_text


@click.command("generate")
@click.option("--arch", type=Names(), required=True, help="Architectures, separated by commas.")
@click.option("--data", help="Data set that the networks are for.")
@DATA_DIR
@click.option("--describe", help='The same in words: "digits, rotated by 45 degrees"; --data then only scores them.')
@click.option(
    "--phrase",
    "phrases",
    multiple=True,
    help='For adapters: what a class means, such as "a positive opinion"; once for each class, in order.',
)
@click.option("-n", "n", type=int, help="Networks of each architecture.  [default: 16]")
@GENERATOR
@sampling_options
@click.option(
    "--batch-norm",
    type=BatchNorm(),
    metavar=BATCH_NORMS,
    help="Batch-norm statistics: the networks' own, those of the training images, or a share of the way; auto chooses without "
    "labels.  [default: keep]",
)
@click.option(
    "--finish",
    metavar="tent|eta[:EPOCHS]",
    help="Entropy minimisation of each network on the unlabelled training images; takes gradients.",
)
@click.option("--parts", type=Names(), help=PARTS_HELP)
@click.option("--base", type=click.Path(), help=BASE_HELP)
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--out", type=click.Path(), default="generated", show_default=True, help="Folder, which must be empty.")
@click.option(
    "--address", envvar="RAY_ADDRESS", help="Ray cluster that samples the architectures.  [default: $RAY_ADDRESS]"
)
@JSON
def generate_command(arch: list[str], out: str, as_json: bool, **options: Any) -> None:
    """Write a population of networks, without a search.

    \b
    Example:
      popgen generate --arch cnn-s,mlp-s --data digits/rotate:45 -n 16
      popgen generate --arch cnn-s --describe "digits, rotated by 45 degrees"
      popgen generate --arch cnn-s/channels:12-24 --data digits/rotate:45
      popgen generate --arch lora-minilm --generator DIR --describe "Decide whether a hotel review is good." \
        --phrase "a bad review" --phrase "a good review"
    """
    from popgen.configs.generate import GenerateConfig
    from popgen.configs.load import parse
    from popgen.configs.search import nested
    from popgen.jobs.names import check_generate_names

    given = {name: value for name, value in options.items() if value not in (None, ())}
    if not given.keys() & {"data", "describe"}:
        raise click.UsageError("Missing option '--data' or '--describe', for example --data digits/rotate:45.")
    config = parse(nested({"archs": arch, **given}, GenerateConfig), GenerateConfig, "popgen generate")
    check_generate_names(config.generator, config.archs, config.data)
    start(f"generating networks of {', '.join(config.archs)} for {config.describe or config.data}")
    from popgen.cli.output import table
    from popgen.jobs.generate import generate as run_generate

    made = run_generate(config, out, say=remark)
    if as_json:
        click.echo(json_text({"networks": [g.to_json() for g in made]}, indent=1))
        return
    rows = [[g.weights, "-" if g.val_score is None else f"{g.val_score:.3f}"] for g in made]
    table(f"generated for {config.describe or config.data}", ["weights", f"val {made[0].unit}"], rows)


@click.command("retrieve")
@click.option("--arch", required=True, help="Architecture of the checkpoint.")
@click.option("--data", required=True, help="Data set that it was trained on.")
@DATA_DIR
@GENERATOR
@click.option("--zoo", help="Folder or name of a zoo or archive that it is read from, instead of a generator.")
@click.option("--seed", type=int, help="Its seed.  [default: the best by validation accuracy]")
@click.option("--out", type=click.Path(), help="File.  [default: ARCH-DATA.safetensors]")
@JSON
def retrieve_command(
    arch: str,
    data: str,
    data_dir: str | None,
    generator: str,
    zoo: str | None,
    seed: int | None,
    out: str | None,
    as_json: bool,
) -> None:
    """Give a checkpoint of the zoo back from the generator, or from an archive, with its accuracy beside the original's.

    \b
    Example:
      popgen retrieve --arch cnn-s --data digits/rotate:30
      popgen retrieve --arch cnn-s --data digits/rotate:30 --zoo archives/mine
    """
    from popgen.jobs.names import check_retrieve_names, check_zoo_checkpoint_names

    if zoo is None:
        check_retrieve_names(generator, arch, data)
    else:
        check_zoo_checkpoint_names(zoo, arch)
    start(f"retrieving {arch} on {data}")
    from popgen.cli.output import table
    from popgen.jobs.retrieve import retrieve as run_retrieve

    got = run_retrieve(arch, data, out, generator=generator, zoo=zoo, seed=seed, data_dir=data_dir)
    if as_json:
        click.echo(json_text(got.to_json(), indent=1))
        return
    originals = (got.original_val_score, got.original_test_score)
    rows = [
        ["original", *("-" if score is None else f"{score:.3f}" for score in originals)],
        ["retrieved", f"{got.val_score:.3f}", f"{got.test_score:.3f}"],
    ]
    table(got.id, ["", f"val {got.unit}", f"test {got.unit}"], rows)
    click.echo(f"weights: {got.weights}")
