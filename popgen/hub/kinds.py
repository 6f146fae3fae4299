"""The kinds of folders that popgen sends to the hub or takes from it, and the files that belong to each.

Only these files are sent and fetched: safetensors, JSON, YAML, and texts for people. Whatever else lies in a folder or
in a repository stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from popgen.errors import NotFound

CARD = "README.md"
AUDIT = "audit/result.json"  # the audit of a generator, where it lies in the generator's folder
_TEXTS = (CARD, "LICENSE", "LICENSE.txt", "LICENSE.md")
# What lies in the folders for peft and transformers beside weights, which match the patterns of weights.
_LIBRARIES = ("*-peft/adapter_config.json", "*-peft/README.md", "*-hf/*.json", "*-hf/*.txt")


@dataclass(frozen=True)
class Kind:
    """A kind of folder.

    `markers` are globs that each match a file of every such folder, `files` globs of all files that belong to it, in which
    a star also matches slashes. `rewrites` says whether paths of this machine in its texts may be replaced: nothing is
    hashed over them.
    """

    name: str
    markers: tuple[str, ...]
    files: tuple[str, ...]
    rewrites: bool = False

    @property
    def patterns(self) -> tuple[str, ...]:
        """Globs of everything that belongs to such a folder, texts for people among them."""
        return (*self.files, *_TEXTS)

    def has(self, path: str) -> bool:
        """Whether a file, by its path in the folder with slashes, belongs to the folder."""
        hidden = any(part.startswith(".") for part in path.split("/"))
        return not hidden and any(fnmatchcase(path, pattern) for pattern in self.patterns)

    def is_data(self, path: str) -> bool:
        """Whether a file that belongs to the folder is no text for people."""
        return path not in _TEXTS

    def is_in(self, paths: Iterable[str]) -> bool:
        """Whether a folder with these files is of this kind."""
        paths = list(paths)
        return all(any(fnmatchcase(path, marker) for path in paths) for marker in self.markers)


GENERATOR = Kind(
    "generator",
    ("config.json", "codes.json", "model.safetensors"),
    ("config.json", "codes.json", "model.safetensors", "texts.json", "family.safetensors", AUDIT),
)
ZOO = Kind(
    "zoo",
    ("zoo.json", "index.jsonl"),
    # The last two are of archives that hold a generator.
    (
        *("zoo.json", "index.jsonl", "columns.json", "references.safetensors", "shards/*.safetensors"),
        *("generator/*.json", "generator/*.safetensors"),
    ),
)
SEARCH = Kind(
    "search",
    ("config.yaml", "result.json", "history.jsonl"),
    (
        *("config.yaml", "result.json", "history.jsonl", "report.html", "report.md", "report-charts/*.svg"),
        *(f"{name}-*.json" for name in ("batch-norm", "experts", "finetuned")),
        *(f"{name}-*.safetensors" for name in ("best", "searched", "population", "front", "finetuned")),
        *_LIBRARIES,
    ),
    rewrites=True,
)
ADAPTED = Kind(
    "adapted network", ("result.json", "weights.safetensors"), ("result.json", "weights.safetensors"), rewrites=True
)
MERGED = Kind(
    "merged networks", ("result.json", "merged-*.safetensors"), ("result.json", "merged-*.safetensors"), rewrites=True
)
GENERATED = Kind(
    "generated networks",
    ("result.json", "*/latents.safetensors"),
    ("result.json", "*/[0-9]*.safetensors", "*/latents.safetensors", *_LIBRARIES),
    rewrites=True,
)
RANKED = Kind(
    "ranked networks",
    ("result.json", "ranked-*.safetensors"),
    ("result.json", "ranked-*.safetensors", *_LIBRARIES),
    rewrites=True,
)
KINDS = (GENERATOR, ZOO, SEARCH, ADAPTED, MERGED, GENERATED, RANKED)


def kind_of(folder: Path) -> Kind:
    """Return the kind of a folder.

    Raises:
        NotFound: there is no such folder, or popgen did not write it.
    """
    for kind in KINDS:
        if all(any(folder.glob(marker)) for marker in kind.markers):
            return kind
    what = f"{folder} is no folder that popgen wrote" if folder.is_dir() else f"there is no folder {str(folder)!r}"
    raise NotFound(
        what,
        "known are generators, zoos, finished searches, adapted, merged, generated and ranked networks, by the files in them",
        "Name the folder that `popgen train`, `zoo build`, `search`, `adapt`, `merge`, `generate` or `rank` wrote.",
    )
