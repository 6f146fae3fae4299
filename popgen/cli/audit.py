"""`popgen audit`: one word for each data set on whether generated networks are new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from popgen.cli.options import DATA_DIR, JSON, Names
from popgen.cli.say import remark, start
from popgen.json_text import json_text

if TYPE_CHECKING:
    from popgen.jobs.audit import Audit, Audited


@click.command("audit")
@click.argument("generator", required=False)
@click.option(
    "--generated", type=click.Path(), help="Folder of state dicts that another tool made, instead of GENERATOR."
)
@click.option("--zoo", help="Zoo of the training checkpoints.  [default: the generator's own]")
@click.option(
    "--reference-zoo", help="Zoo of independent networks that the generator was not trained on.  [default: --zoo]"
)
@click.option("--data", type=Names(), help="Data sets.  [default: four of the zoo's]")
@click.option("--arch", "archs", type=Names(), help="Architectures.  [default: all]")
@DATA_DIR
@click.option("--samples", type=int, help="Networks of each architecture and data set.  [default: 20]")
@click.option("--controls", type=int, help="Networks of each control.  [default: 16]")
@click.option("--images", type=int, help="Test images at most.  [default: 2000]")
@click.option(
    "--batch-norm",
    type=click.Choice(["auto", "keep", "reestimate"]),
    help="The same for every network that is compared.  [default: auto]",
)
@click.option("--head", type=click.Choice(["keep", "ridge"]), help="The same for every network.  [default: keep]")
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--out", type=click.Path(), default="audit", show_default=True, help="Folder, which must be empty.")
@JSON
def audit_command(generator: str | None, out: str, as_json: bool, **options: Any) -> None:
    """Say whether what GENERATOR makes is new: copies, interpolates, novel, fails, or unsure.

    Generated networks are compared with the zoo's training checkpoints in weight space and by the test images that they
    misclassify, beside checkpoints of other lineages, noise, averages and other controls on the same axes.

    \b
    Example:
      popgen audit digits --arch cnn-s --data digits/rotate:30
      popgen audit --generated FOLDER --zoo zoos/mine --data digits/rotate:30
    """
    from popgen.configs.audit import AuditConfig
    from popgen.configs.load import parse
    from popgen.jobs.names import check_audit_names

    given = {name: value for name, value in {"generator": generator, **options}.items() if value is not None}
    config = parse(given, AuditConfig, "popgen audit")
    check_audit_names(config)
    start(f"auditing {config.generator or config.generated}")
    from popgen.jobs.audit import audit
    from popgen.progress import Bars

    with Bars() as bars:
        audited = audit(config, out, remark, bars.update)
    if as_json:
        click.echo(json_text(audited.to_json(), indent=1))
        return
    _print_audited(audited)


def _print_audited(audited: Audited) -> None:
    from popgen.cli.output import table

    for one in audited.audits:
        _print_audit(one)
    if len(audited.audits) > 1:
        rows = [[one.arch, one.data, one.verdict.word] for one in audited.audits]
        table("verdicts", ["architecture", "data set", "verdict"], rows)
    click.echo(f"{audited.result}" + (f", {audited.plot}" if audited.plot else ""))


def _print_audit(one: Audit) -> None:
    from popgen.cli.output import table

    columns = ["", "networks", "accuracy", "overlap", "distance", "to span", "anchor", "spread"]
    rows = []
    for arm in one.all_arms:
        means = arm.means()
        counts = [f"{means[name]:.2f}" for name in ("overlap", "nearest", "span", "anchor", "spread")]
        rows.append([arm.name, str(means["networks"]), f"{means['accuracy']:.3f}", *counts])
    table(f"{one.arch} for {one.data}", columns, rows)
    questions = [
        [name, f"{s.value:.2f}", f"{s.low:.2f} to {s.high:.2f}", {True: "yes", False: "no", None: "unsure"}[s.answer]]
        for name, s in one.verdict.statistics.items()
    ]
    table("is it above one half?", ["", "value", "95 % interval", "answer"], questions)
    made, known = one.generated, one.references
    click.echo(
        f"diversity: generated networks are {made.spread:.2f} apart, with errors alike by {made.error_similarity:.2f}; "
        f"training checkpoints {known.spread:.2f}, {known.error_similarity:.2f}"
    )
    for kind, values in one.equal.items():
        overlap, accuracy = (_known(values[name]) for name in ("overlap", "accuracy"))
        click.echo(f"{kind}: overlap {overlap} at the generated accuracy, accuracy {accuracy} at the generated overlap")
    click.echo(f"{one.arch} for {one.data}: {one.verdict.word} ({one.verdict.why})")


def _known(value: float | None) -> str:
    return "out of reach" if value is None else f"{value:.3f}"
