"""`popgen zoo`: build, import, list, show, verify. Each command parses, calls one library function, and prints.

Data goes to stdout, progress and remarks to stderr. torch is imported inside the commands, so that --help is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from popgen.cli.options import DATA_DIR, JSON
from popgen.cli.results import print_result
from popgen.cli.say import remark, start
from popgen.cli.zoo.aligning import align_command
from popgen.cli.zoo.archiving import archive_command
from popgen.cli.zoo.importing import import_command, row_of
from popgen.configs.load import load
from popgen.configs.spec import SpecFile, ZooSpec
from popgen.errors import BrokenFile
from popgen.json_text import json_text, parse_json
from popgen.zoo.columns import Columns, read_columns, read_record
from popgen.zoo.info import read_info
from popgen.zoo.names import zoo_folder

if TYPE_CHECKING:
    from popgen.zoo import Zoo
    from popgen.zoo.build.build import Plan


@click.group()
def zoo() -> None:
    """Folders of checkpoints: build, import, list, show, verify, archive."""


zoo.add_command(import_command)
zoo.add_command(align_command)
zoo.add_command(archive_command)


@zoo.command("build")
@click.argument("spec")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the zoo.  [default: zoos/NAME]")
@click.option(
    "--workers", type=click.IntRange(min=0), help="Processes; 0 trains in this one.  [default: one a CPU core]"
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a value of the spec, such as zoo.recipe.epochs=5.",
)
@DATA_DIR
@click.option("--dry-run", is_flag=True, help="Check the spec and say what would be trained or imported.")
@JSON
def build_command(
    spec: str,
    out: Path | None,
    workers: int | None,
    sets: Sequence[str],
    data_dir: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train or import the networks of SPEC (a YAML file) that its zoo lacks. Stop it and start it again as you like.

    A spec with `checkpoints` is imported: files, an index CSV, URLs, entries of torch.hub (these run the repository's code). What does not
    fit or cannot be fetched is named, the rest comes in, and the exit code is that of the first such error.

    \b
    Examples:
      popgen zoo build zoo_specs/digits.yaml
      popgen zoo build zoo_specs/cifar_resnets.yaml --dry-run
      popgen zoo build zoo_specs/digits.yaml --out /data/digits --workers 8
      popgen zoo build zoo_specs/digits.yaml --dry-run --json
    """
    zoo_spec = load(spec, SpecFile, dict(parse_set(item) for item in sets)).zoo
    out = out or Path("zoos") / zoo_spec.name
    _begin_build(zoo_spec, out)
    from popgen.zoo.build.build import build_zoo, plan

    if dry_run:
        _print_plan(zoo_spec, plan(zoo_spec, out, data_dir), out, as_json)
        return
    built = build_zoo(zoo_spec, out, workers=workers, data_dir=data_dir)
    print_result(_summary(built), f"{out}: {len(built)} networks, sha256 {built.sha256[:16]}", as_json)


def _print_plan(zoo_spec: ZooSpec, todo: Plan, out: Path, as_json: bool) -> None:
    """Say what a build would train or import."""
    data = list(dict.fromkeys([*zoo_spec.data_names, *(f.data for f in todo.to_import)]))
    facts = {
        "zoo": str(out),
        "networks": todo.total,
        "to_train": len(todo.to_train),
        "to_import": len(todo.to_import),
        "parameters": todo.sizes,
        "data": data,
        "seeds": zoo_spec.seeds,
        "data_remarks": list(todo.remarks),
    }
    text = f"{out}: {todo.total} networks of {len(todo.sizes)} architectures, {len(todo.to_import)} to import"
    if not zoo_spec.checkpoints:
        grid = f"{len(todo.sizes)} architectures x {len(data)} data sets x {len(zoo_spec.seeds)} seeds"
        if zoo_spec.recipe.snapshots > 1:
            grid += f" x {zoo_spec.recipe.snapshots} snapshots"
        text = f"{out}: {todo.total} networks ({grid}), {len(todo.to_train)} to train"
    for line in todo.remarks:
        remark(line)
    print_result(facts, text, as_json)


@zoo.command("list")
@click.argument("folder")
@click.option("--arch", help="Only this architecture.")
@click.option("--data", help="Only this data set.")
@click.option("--all", "each", is_flag=True, help="A line for each checkpoint.")
@JSON
def list_command(folder: str, arch: str | None, data: str | None, each: bool, as_json: bool) -> None:
    """Show the content of the zoo FOLDER (or of a packaged zoo) by architecture and data set.

    \b
    Examples:
      popgen zoo list zoos/digits
      popgen zoo list zoos/digits --arch cnn-s --all
      popgen zoo list zoos/digits --json
    """
    if as_json:
        from popgen.zoo import Zoo

        found = Zoo.open(folder)
        known = {record.id: record for record in found.select(arch=arch, data=data)}
        rows = [row_of(known[i]) for i in Columns.of(list(known.values())).ids]
        click.echo(json_text({**_summary(found), "checkpoints": rows}))
        return
    columns = _columns(folder)
    shown = columns.select(arch, data)
    if each:
        held = ["yes" if held_out else "" for held_out in columns.held_out]
        lines = [[columns.ids[i], columns.lineages[i], held[i], _mean_score(columns, [i])] for i in shown]
        _table(["id", "lineage", "held out", "test score"], lines)
        return
    groups: dict[tuple[str, str], list[int]] = {}
    for i in shown:
        groups.setdefault((columns.archs[i], columns.data[i]), []).append(i)
    lines = [[a, d, str(len(g)), _seeds(columns, g), _mean_score(columns, g)] for (a, d), g in groups.items()]
    _table(["architecture", "data", "networks", "seeds (held out)", "test score"], lines)


@zoo.command("show")
@click.argument("folder")
@click.argument("checkpoint_id", metavar="ID")
@JSON
def show_command(folder: str, checkpoint_id: str, as_json: bool) -> None:
    """The record of one checkpoint of the zoo FOLDER.

    \b
    Example:
      popgen zoo show zoos/digits cnn-s/digits/rotate:15/s0
    """
    record = _record(folder, checkpoint_id)
    lines = [f"{name:13} {_plain(value)}" for name, value in record.items() if value not in ("", None)]
    print_result(record, "\n".join(lines), as_json)


@zoo.command("verify")
@click.argument("folder")
@JSON
def verify_command(folder: str, as_json: bool) -> None:
    """Check every checkpoint of the zoo FOLDER against its hash; exit code 5 when something is damaged.

    \b
    Example:
      popgen zoo verify zoos/digits
    """
    from popgen.zoo import Zoo

    found = Zoo.open(folder)
    problems = found.verify()
    print_result(
        {**_summary(found), "problems": problems},
        "\n".join(problems) or f"{folder}: {len(found)} networks, nothing damaged",
        as_json,
    )
    if problems:
        raise BrokenFile(
            f"the zoo {folder} has {len(problems)} problems",
            problems[0],
            "Restore those files, or build the zoo again.",
        )


def parse_set(item: str) -> tuple[str, Any]:
    """A dotted key and its value, read as YAML, of KEY=VALUE."""
    key, equals, text = item.partition("=")
    if not equals:
        raise click.BadParameter(f"{item!r} is not KEY=VALUE", param_hint="--set")
    try:
        return key, parse_json(text)
    except ValueError:
        return key, text


def _begin_build(spec: ZooSpec, out: Path) -> None:
    """Refuse unknown names, then say what is begun."""
    from popgen.jobs.names import check_zoo_names

    check_zoo_names(spec)
    start(f"building the zoo {out}")


def _summary(found: Zoo) -> dict[str, Any]:
    return {
        "zoo": str(found.folder),
        "name": found.name,
        "networks": len(found),
        "archs": found.archs,
        "data": found.data,
        "sha256": found.sha256,
    }


def _columns(folder: str) -> Columns:
    """What lists show of each checkpoint of a zoo; the zoo is opened only if it has no columns."""
    path = zoo_folder(folder)
    read_info(path / "zoo.json")
    found = read_columns(path)
    if found is None:
        from popgen.zoo import Zoo

        found = Columns.of(Zoo.open(folder).records)
    return found


def _record(folder: str, checkpoint_id: str) -> dict[str, Any]:
    """The record of one checkpoint as JSON; the zoo is opened only if it has no columns, or no such checkpoint."""
    path = zoo_folder(folder)
    read_info(path / "zoo.json")
    columns = read_columns(path)
    if columns is not None and checkpoint_id in columns.ids:
        return read_record(path, columns, checkpoint_id)
    from popgen.zoo import Zoo

    return Zoo.open(folder).record(checkpoint_id).model_dump(mode="json")


def _seeds(columns: Columns, group: Sequence[int]) -> str:
    known = ((columns.seeds[i], columns.held_out[i]) for i in group if columns.seeds[i] is not None)
    return " ".join(
        dict.fromkeys(f"({seed})" if held_out else str(seed) for seed, held_out in known)
    )  # snapshots share one


def _mean_score(columns: Columns, group: Sequence[int]) -> str:
    values = [score for i in group if (score := columns.scores[i]) is not None]
    return f"{sum(values) / len(values):.3f}" if values else "-"


def _table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in [head, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)
