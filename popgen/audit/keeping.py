"""Says whether a generator keeps its zoo: what the zoo's checkpoints lose in it and why, and which of the two is smaller."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from popgen.audit.compression import Compression
from popgen.generator.generator import Generator
from popgen.tasks import get_task
from popgen.zoo import Checkpoint, Zoo

_MUCH = 0.02  # mean loss of accuracy that is said; generator.vae.gate refuses as much by default


def keeping_remarks(generator: Generator, zoo: Zoo, measured: Compression) -> list[str]:
    """A paragraph for each thing that whoever takes the generator for an archive of its zoo has to know.

    Args:
        zoo: the zoo that the generator was trained on.
        measured: how its training checkpoints do in the generator.
    """
    losses = {arch: loss.mean for arch, loss in measured.form("generator").archs.items() if loss.mean > _MUCH}
    remarks = []
    if losses:
        records = [record for arch in losses for record in zoo.select(arch=arch, held_out=False)]
        remarks.append(_lost(generator, losses, records))
    size, zoo_size = measured.form("generator").bytes, _folder_bytes(zoo.folder)
    if size > zoo_size:
        remarks.append(
            f"The generator's folder has {_megabytes(size)}, that of its zoo {_megabytes(zoo_size)}: it is no smaller form of "
            "these checkpoints. It becomes one with more of them, since its own parameters stay as many."
        )
    return remarks


def one_base(records: Iterable[Checkpoint]) -> str:
    """The checkpoint or lineage that all of these checkpoints were fine-tuned from, or "" if there is no such one.

    >>> from popgen.zoo import Zoo
    >>> one_base(Zoo.open("digits").records)  # networks from one random start, which are no copies of a trained one
    ''
    """
    records = list(records)
    parents, lineages = {record.parent for record in records}, {record.lineage for record in records}
    parent = parents.pop() if len(parents) == 1 else None
    if parent and ("#" in parent or not parent.startswith("start:")):
        return parent.removeprefix("start:")
    return lineages.pop() if len(lineages) == 1 and len(records) > 1 else ""


def _lost(generator: Generator, losses: dict[str, float], records: list[Checkpoint]) -> str:
    """What the checkpoints of these architectures lose, why, and what to do."""
    latent, rank = generator.codes[0].numel(), generator.config.restore.rank
    base = one_base(records)
    code = f"a latent of {latent} numbers and a residual code of {rank}"
    why = (
        f"They are fine-tuned copies of one base, {base}, and such copies differ in more than {code} can say."
        if base
        else f"They differ in more than {code} can say."
    )
    units = " and ".join(sorted({get_task(generator.spec(arch).config.task).unit for arch in losses}))
    points = ", ".join(f"{arch} {100 * loss:.1f}" for arch, loss in losses.items())
    most = max(sum(record.arch == arch for record in records) for arch in losses)
    less = (
        f"raise generator.restore.rank (now {rank}, at most {most}, the number of checkpoints), which makes the generator larger"
        if rank < most
        else "train longer (generator.vae.steps, generator.restore.steps)"
    )
    return (
        f"The zoo's own checkpoints lose {units} when they are decoded from their codes, in points: {points}. {why} "
        f"`popgen retrieve` gives them back with this loss, so keep the zoo as their archive. To lose less, {less}. "
        "What generated networks are worth is another question, which `popgen search` answers."
    )


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
