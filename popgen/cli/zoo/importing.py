"""`popgen zoo import`: foreign checkpoints into a zoo."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from popgen.cli.options import DATA_DIR, JSON
from popgen.cli.results import print_result
from popgen.cli.say import remark, start
from popgen.configs.load import parse
from popgen.configs.spec import ArchEntry
from popgen.errors import BadInput, PopgenError

if TYPE_CHECKING:
    from popgen.data import DataSet
    from popgen.zoo import Checkpoint
    from popgen.zoo.imports.checkpoint import ForeignCheckpoint


@click.command("import")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--zoo",
    "folder",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the zoo; made where there is none.",
)
@click.option(
    "--arch",
    default="",
    help="Architecture: a built-in name, timm:NAME, hf:NAME, hub:OWNER/REPO:ENTRY (runs its code) or module:function.",
)
@click.option("--data", default="", help="Name of the data set that it was trained on.")
@click.option(
    "--name", default="", help="Last part of the checkpoint's id, ARCH/DATA/NAME.  [default: the file's name]"
)
@click.option("--lineage", default="", help="The run or base that it comes from.  [default: the checkpoint's name]")
@click.option("--source", default="", help="Where the file is from.")
@click.option("--licence", default="unknown", show_default=True, help="Licence of the weights.")
@click.option("--key", default="", help="Where the state dict lies in the file, such as ema or state_dict.1.")
@click.option("--use", type=click.Choice(["ema"]), help="Take the moving average of the weights, where a file has one.")
@click.option(
    "--ignore",
    multiple=True,
    metavar="GLOB",
    help="Leave out tensors of such names, such as 'total_*'; may be given several times.",
)
@click.option(
    "--as", "new_name", help="Name of the architecture in the zoo, needed where it differs from the named one."
)
@click.option("--mean", help="Mean of each channel that images in [0, 1] are normalised with: 0.49,0.48,0.45.")
@click.option("--std", help="Standard deviation of each channel.")
@click.option("--input-shape", help="Channels, height and width: 3,32,32.")
@click.option("--classes", help="Names of the outputs, in order: cat,dog.")
@click.option("--base", default="", help="For adapters: the frozen base, a folder, minilm or a hub name.")
@click.option("--check", help="Data set on whose test split each network is evaluated.")
@DATA_DIR
@JSON
def import_command(
    path: Path,
    folder: Path,
    arch: str,
    data: str,
    new_name: str | None,
    mean: str | None,
    std: str | None,
    input_shape: str | None,
    classes: str | None,
    check: str | None,
    data_dir: str | None,
    as_json: bool,
    **described: Any,
) -> None:
    """Add foreign checkpoints: PATH is a file, a folder, or an index CSV (file,architecture,dataset,lineage,...).

    A folder with adapter_config.json is a LoRA adapter of peft, and one with config.json a classifier of transformers; both say their architecture.
    Reads .pt, .pth, .pth.tar, .th, .model, .ckpt, .bin (tensors only, no code is run), .safetensors, and sharded ones by their .index.json.
    What cannot be read or does not fit is named, the rest comes in; the exit code is that of the first such error.

    \b
    Examples:
      popgen zoo import net.pth --zoo zoos/mine --arch resnet20 --data cifar10
      popgen zoo import model_best.pth --name run7 --zoo zoos/mine --arch resnet20 --data cifar10
      popgen zoo import index.csv --zoo zoos/mine --check npz:cifar10.npz
      popgen zoo import my-lora --zoo zoos/mine --base bert-base --data text:mine.jsonl
      popgen zoo import finetunes --zoo zoos/mine --arch hf:bert-base-uncased/num_classes:2 --data text:mine.jsonl
      popgen zoo import net.pt --zoo zoos/mine --arch my.nets:lenet --data cifar10 --input-shape 3,32,32
    """
    names = tuple(name.strip() for name in classes.split(",")) if classes else ()
    inputs = {"mean": _numbers(mean), "std": _numbers(std), "input_shape": _numbers(input_shape)}
    changes = _changes(new_name or arch or "?", inputs | {"classes": len(names) or None})
    _begin_import(path, folder, arch, check)
    from popgen.data import load_data
    from popgen.data.names import trust_sources
    from popgen.zoo.imports.checkpoint import ForeignCheckpoint
    from popgen.zoo.imports.listing import list_checkpoints

    stated = {name: value for name, value in described.items() if value is not None}
    listed = list_checkpoints(path, ForeignCheckpoint(path, arch, data, class_names=names, **stated), remark)
    _check_named(described["name"], path, len(listed))
    trust_sources([check] if check else [])
    files = [replace(f, changes=changes.model_copy(update={"name": new_name or f.arch})) for f in listed]
    added, total, failed = _import_into(folder, files, load_data(check, data_dir) if check else None)
    if added or failed is None:
        rows = [row_of(record) for record in added]
        print_result({"zoo": str(folder), "added": rows}, f"{folder}: {len(added)} added, {total} networks", as_json)
    if failed is not None:
        raise failed


def row_of(record: Checkpoint) -> dict[str, Any]:
    """The fields of a record that lists of checkpoints show, as JSON."""
    return record.model_dump(
        mode="json", include={"id", "arch", "data", "lineage", "seed", "held_out", "metrics", "note", "sha256"}
    )


def _begin_import(path: Path, zoo: Path, arch: str, evaluated_on: str | None) -> None:
    """Refuse unknown names, then say what is begun."""
    from popgen.jobs.names import check_import_names

    check_import_names(arch, zoo, evaluated_on)
    start(f"importing {path} into the zoo {zoo}")


def _check_named(name: str, path: Path, files: int) -> None:
    """Refuse one name for several checkpoints, and a name that would not be one part of an id.

    Raises:
        BadInput: `name` has other characters than a spec allows, or `path` lists several files.
    """
    if name and not re.fullmatch(r"\w[\w.-]*", name):
        raise BadInput(f"--name {name!r}", "a name has letters, digits, and _ . - within", "Choose another name.")
    if name and files > 1:
        raise BadInput(
            f"--name {name!r} for the {files} checkpoints of {path}",
            "it names one checkpoint",
            "Leave it out: files are named after themselves. An index CSV can have a column `name`.",
        )


def _changes(name: str, fields: dict[str, Any]) -> ArchEntry:
    """The entry of an architecture whose fields are those that are not None."""
    given = {field: value for field, value in fields.items() if value is not None}
    return parse({"name": name, **given}, ArchEntry, "popgen zoo import")


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a list of numbers such as 0.5,0.5,0.5") from error


def _import_into(
    folder: Path, files: Sequence[ForeignCheckpoint], evaluate_on: DataSet | None
) -> tuple[list[Checkpoint], int, PopgenError | None]:
    """Import into the zoo of a folder; returns the new records, the zoo's size, and the error if files were left out."""
    from popgen.archs import remember_builders
    from popgen.zoo import Zoo
    from popgen.zoo.imports.add import import_checkpoints
    from popgen.zoo.imports.causes import write_cause
    from popgen.zoo.unfinished import removed_if_empty

    added: list[Checkpoint] = []

    def show(record: Checkpoint, is_new: bool) -> None:
        _show_import(record, is_new)
        added.extend([record] if is_new else [])

    with removed_if_empty(folder):
        try:
            target = Zoo.open(folder) if (folder / "zoo.json").exists() else Zoo.create(folder, folder.resolve().name)
        except OSError as error:
            raise write_cause(f"the zoo {folder}", error) from error
        try:
            import_checkpoints(target, files, evaluate_on=evaluate_on, on_import=show, on_remark=remark)
        except PopgenError as error:
            return added, len(target), error
        finally:
            remember_builders(record.arch_config for record in added)
    return added, len(target), None


def _show_import(record: Checkpoint, new: bool) -> None:
    accuracy = record.metrics.get("test_accuracy")
    remarks = [
        f"test accuracy {accuracy:.3f}" if accuracy is not None else "",
        record.note,
        "" if new else "already there",
    ]
    click.echo("; ".join([record.id, *filter(None, remarks)]), err=True)
    if accuracy is not None and accuracy < 1.5 / record.arch_config.classes:
        click.echo(
            "  as good as guessing: check --mean and --std, the order of the classes, and the architecture", err=True
        )
