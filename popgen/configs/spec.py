"""Models of a spec file: the zoo to build or import, and the generator to train on it.

Nothing here imports torch. Names of architectures and data sets are checked where they are used.
"""

from __future__ import annotations

import re
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from popgen.configs.load import Strict
from popgen.errors import near_matches


class Recipe(Strict):
    """The training of one network of a zoo; the defaults train digits networks to .97 in a second or two."""

    epochs: int = Field(default=30, ge=0, le=10_000)
    batch: int = Field(default=50, ge=1)
    lr: float = Field(default=5e-3, gt=0)  # learning rate; its peak, where the schedule changes it
    # Keeps the weights of all networks of one architecture at one scale.
    weight_decay: float = Field(default=1e-2, ge=0)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = Field(default=0.9, ge=0, lt=1)  # sgd only
    # One-cycle ends at a rate near 0, so seeds end close together.
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    augment: Literal["none", "flip-crop", "augmix"] = "none"  # augmix flips and crops, too
    # Variants of images (noise:0.06, blur:0.6/noise:0.04): in each step an image is shown as one of these or as it is,
    # drawn anew in every epoch. A network that is trained so is robust against shifts of these kinds.
    variants: list[str] = []
    batch_norm: Literal["train", "frozen"] = "train"  # frozen: running statistics stay those of the start
    # Tensors that are trained, as globs of their names; none: all of them. The others stay as they were at the start.
    parts: list[str] = []
    # Networks that a run leaves in the zoo: the trained one, and with 2 or more its states at earlier steps, of the same lineage.
    examples: int | None = Field(
        default=None, ge=1
    )  # training examples that are used, drawn once for all runs; null: all
    snapshots: int = Field(default=1, ge=1)
    snapshot_every: int = Field(default=1, ge=1)  # steps between two of them


class ArchEntry(Strict):
    """An architecture of a zoo: a known name, or a new name for an architecture that is `like` a known one but for some fields."""

    name: str = Field(min_length=1)
    like: str | None = None
    options: dict[str, Any] | None = None
    input_shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None  # channels, height, width
    classes: int | None = Field(default=None, ge=2)
    mean: tuple[float, ...] | None = Field(None, min_length=1)  # one value a channel, or one for all
    std: tuple[PositiveFloat, ...] | None = Field(None, min_length=1)

    @property
    def replaced(self) -> dict[str, Any]:
        """The fields given here, as `popgen.archs.arch_config` takes them."""
        return {"name": self.name, **self.model_dump(exclude={"name", "like"}, exclude_none=True)}


class Rotations(Strict):
    """All angles from 0 to below 360 degrees in equal steps, except for some."""

    every: float = Field(gt=0, le=180)
    except_: list[float] = Field(default=[], alias="except")

    @property
    def angles(self) -> list[float]:
        """The angles in degrees, from 0 up to 360."""
        steps = (i * self.every for i in range(int(360 // self.every) + 1))
        return [angle for angle in steps if angle < 360 and angle not in self.except_]


class Mixtures(Strict):
    """Combinations of variants that are applied one after the other; each combination of different kinds occurs once."""

    of: int = Field(default=2, ge=2, le=4)
    except_: list[tuple[str, str]] = Field(default=[], alias="except")

    def names(self, variants: list[str]) -> list[str]:
        """All combinations of `variants`, in their order.

        >>> Mixtures(**{"except": [("blur", "rotate")]}).names(["rotate:30", "rotate:60", "invert", "blur"])
        ['rotate:30/invert', 'rotate:60/invert', 'invert/blur']
        """
        refused = {frozenset(pair) for pair in self.except_}
        return [
            "/".join(chosen)
            for chosen in combinations(variants, self.of)
            if not any(
                frozenset(pair) in refused or pair[0] == pair[1]
                for pair in combinations([name.partition(":")[0] for name in chosen], 2)
            )
        ]


class DataGrid(Strict):
    """One data set; or, with `rotate` or `variants`, a data set for each of these, and with `mixtures` for their combinations, too."""

    source: str = Field(min_length=1)
    rotate: Rotations | None = None
    variants: list[str] = []
    mixtures: Mixtures | None = None

    @property
    def names(self) -> list[str]:
        """The names of all data sets."""
        if self.rotate is None and not self.variants:
            return [self.source]
        angles = [f"rotate:{angle:g}" for angle in self.rotate.angles] if self.rotate else []
        singles = [*angles, *self.variants]
        mixed = self.mixtures.names(singles) if self.mixtures else []
        return [f"{self.source}/{variant}" for variant in [*singles, *mixed]]


class HeldOut(Strict):
    """Seeds, data sets, pairs and lineages whose networks are in the zoo, marked as held out, and that no generator trains on."""

    seeds: list[int] = []
    data: list[str] = []
    pairs: list[tuple[str, str]] = []  # an architecture and a data set
    lineages: list[str] = []  # lineages of imported networks


class CheckpointEntry(Strict):
    """Networks to import: their description, and the source of their weights: one of file, index, hub and url."""

    arch: ArchEntry | None = None  # a name, of the spec's `archs` or any other, or an entry as in `archs`
    data: str = ""  # the data set that the networks were trained on
    file: str | None = None  # a file in the spec's root
    index: str | None = None  # a CSV in the spec's root, one file a row; what a row does not say is taken from here
    hub: str | None = None  # OWNER/REPO:ENTRY or FOLDER:ENTRY of torch.hub, called with pretrained=True: runs its code
    url: str | None = Field(None, pattern=r"^https?://\S+/[\w.%+-]+$")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{8,64}$")  # the file's sha256, or its first digits
    # The name in the zoo; without it the file's or entry's name.
    name: str | None = Field(None, pattern=r"^[\w][\w.-]*$")
    key: str = ""  # key of the state dict in the file
    use: Literal["ema"] | None = None  # ema: the moving average of the weights that the file holds beside them
    ignore: list[str] = []  # names of tensors to leave out; * stands for any text
    class_names: list[str] = []  # names of the outputs, in order
    lineage: str = ""  # the training run or base that the networks come from; without it their name
    parent: str = ""
    source: str = ""
    licence: str | None = None  # else the zoo's
    metrics: dict[str, float] = {}  # metrics that the source states; accuracies are 0 to 1

    @field_validator("arch", mode="before")
    @classmethod
    def _arch_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> CheckpointEntry:
        sources = [key for key in ("file", "index", "hub", "url") if getattr(self, key) is not None]
        if len(sources) != 1:
            raise ValueError(f"weights lie in one of file, index, hub, url; given: {', '.join(sources) or 'none'}")
        if self.index is None and (self.arch is None or not self.data):
            raise ValueError(f"{self.where}: arch and data are needed; a file of weights does not say what it is")
        if self.index is not None and (self.name or self.key or self.sha256):
            raise ValueError(
                f"{self.index}: name, key and sha256 are of one file (an index may have columns name, key, sha256)"
            )
        if self.url is not None and not self.digest:
            raise ValueError(f"{self.url}: give its sha256; what is downloaded has to be what was meant")
        if self.hub is not None and self.sha256:
            raise ValueError(f"{self.hub}: sha256 is of a file or url")
        if self.hub is not None and (self.key or self.use):
            raise ValueError(f"{self.hub}: key and use are of a file or url")
        if self.key and self.use:
            raise ValueError(f"{self.where}: key names the state dict already; leave use out")
        return self

    @property
    def where(self) -> str:
        """Path, hub entry or URL of the weights, as the spec writes it."""
        return self.file or self.index or self.hub or self.url or ""

    @property
    def digest(self) -> str:
        """First digits of the file's sha256: as given, or from a name in torch.hub's style (resnet20-12fca82f.th); "" if unknown."""
        in_name = re.search(r"-([0-9a-f]{8,64})\.\w+$", self.url or "")
        return self.sha256 or (in_name[1] if in_name else "")


class ZooSpec(Strict):
    """A zoo to build: every architecture on every data set with every seed is trained; or `checkpoints` are imported."""

    name: str = Field(pattern=r"^[\w][\w.-]*$")
    archs: list[ArchEntry] = []
    data: list[DataGrid] = []
    checkpoints: list[CheckpointEntry] = []
    root: str = "."  # folder of the files to import, relative to the spec's folder
    seeds: list[int] = Field([0], min_length=1)
    # Seed of the start that all networks of an architecture share; null: each starts from its own; a text: the zoo's folder
    # and the checkpoint that they start from, ZOO#ID; or the folder alone of a zoo with one checkpoint of each architecture,
    # whose classes may be others; or pretrained: the weights that come with the architecture.
    start: int | str | None = 0
    held_out: HeldOut = HeldOut()
    recipe: Recipe = Recipe()
    licence: str = "unknown"
    # Null: one a CPU core; 0: in this process. Changes the time, never the weights.
    workers: int | None = Field(None, ge=0)
    _folder: Path = PrivateAttr(Path())  # the folder of the spec's file

    @field_validator("archs", mode="before")
    @classmethod
    def _arch_names(cls, value: Any) -> Any:
        return (
            [{"name": item} if isinstance(item, str) else item for item in value] if isinstance(value, list) else value
        )

    @field_validator("data", mode="before")
    @classmethod
    def _data_names(cls, value: Any) -> Any:
        items = value if isinstance(value, list) else [value]
        return [{"source": item} if isinstance(item, str) else item for item in items]

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> ZooSpec:
        self._folder = (info.context or {}).get("folder", Path())
        if bool(self.checkpoints) == bool(self.data) or (self.data and not self.archs):
            raise ValueError("a zoo has archs and data, which are trained, or checkpoints, which are imported")
        lists = {"archs": [a.name for a in self.archs], "data": self.data_names, "seeds": list(map(str, self.seeds))}
        for kind, names in lists.items():
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{kind} lists {', '.join(twice)} twice")
        if self.checkpoints:
            if self.held_out.seeds or self.held_out.pairs:
                raise ValueError(
                    "held_out.seeds and .pairs are of trained networks; name lineages or data sets of imported ones"
                )
            return self
        if self.held_out.lineages:
            raise ValueError("held_out.lineages are of imported networks; name seeds or data sets of trained ones")
        unknown = [n for n in self.held_out.data if n not in self.data_names]
        if unknown:
            near = near_matches(unknown[0], self.data_names)
            raise ValueError(f"held_out.data has {unknown[0]!r}, which data has not; nearest: {near}")
        known = set(product(lists["archs"], lists["data"]))
        for arch, data in self.held_out.pairs:
            if (arch, data) not in known:
                raise ValueError(
                    f"held_out.pairs has {arch!r} on {data!r}, which is no architecture and data set of this zoo"
                )
        stray = [s for s in self.held_out.seeds if s not in self.seeds]
        if stray:
            raise ValueError(f"held_out.seeds has {stray[0]}, which seeds {self.seeds} has not")
        return self

    @property
    def data_names(self) -> list[str]:
        """The names of all data sets, with their variants written out."""
        return [name for grid in self.data for name in grid.names]

    @property
    def root_folder(self) -> Path:
        """The folder of the files to import."""
        return self._folder / Path(self.root).expanduser()

    def is_held_out(self, data: str, seed: int | None = None, lineage: str = "", arch: str = "") -> bool:
        """Whether a network of this data set, seed, lineage, or architecture and data set is held out from training a generator."""
        held = self.held_out
        return data in held.data or seed in held.seeds or lineage in held.lineages or (arch, data) in held.pairs

    def content(self) -> dict[str, Any]:
        """Return the fields that determine the zoo's content: all but the number of workers and the folder of the files."""
        return self.model_dump(mode="json", by_alias=True, exclude={"workers", "root"})


class SpecFile(Strict):
    """The content of a spec file: the zoo to build, and optionally the generator to train on it."""

    zoo: ZooSpec
    generator: dict[str, Any] | None = None
