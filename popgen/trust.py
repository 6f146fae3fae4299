"""Whose code may run, and where a user's own code lies.

A zoo or a generator names the code of its networks. That of popgen and of timm always runs; other code runs only if the
user has named it: in this process, in the environment variable POPGEN_TRUST, or earlier on this machine, which a file in
the user's folder of configuration records. A line of that file holds a reference and where its module lay, so that a
module of the same name in another folder is not trusted with it.

A user's own modules are found in the current folder and beside the spec, behind everything else on the path. A folder
joins the path only when the user has named a module that lies in it: other programs and libraries see nothing of it.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from popgen.errors import NotTrusted

_named: set[str] = set()  # references that the user of this process has named
_spec_folders: list[str] = []  # folders of the specs that this process has read
_joined: list[str] = []  # folders that have joined the path


def trust(ref: str) -> None:
    """Note that the user has named `ref`, so that the code behind it may run in this process."""
    _named.add(ref)


def remember(refs: Iterable[str]) -> None:
    """Trust references in this process, and from now on in every process of this user on this machine."""
    for ref in refs:
        trust(ref)
        line = _line(ref)
        if line in _remembered():
            continue
        try:
            trust_file().parent.mkdir(parents=True, exist_ok=True)
            with trust_file().open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            warnings.warn(f"{trust_file()}: {reason}: {ref} is trusted in this run alone", stacklevel=2)


def is_trusted(ref: str) -> bool:
    """Whether the user has named `ref`: here, on this machine before, or in the environment variable POPGEN_TRUST.

    The variable holds references separated by spaces.
    """
    if ref in _named or ref in os.environ.get("POPGEN_TRUST", "").split():
        return True
    return ":" in ref and _line(ref) in _remembered()  # a builder of popgen's own has no colon


def check_trusted(ref: str) -> None:
    """Refuse code that the user has not named.

    A file of a zoo or generator made elsewhere must not decide which code runs here.

    Raises:
        NotTrusted: the user has not named `ref`.

    >>> trust("hub:me/nets:small")
    >>> check_trusted("hub:me/nets:small")
    """
    if not is_trusted(ref):
        raise NotTrusted(
            f"{ref} is code from outside that a zoo or a generator names, and you have not",
            "it would be fetched and run" if ref.startswith("hub:") else "it would run",
            f"If you trust it, give --trust {ref} once, set POPGEN_TRUST={ref!r}, or name it yourself as the architecture.",
        )


def trust_file() -> Path:
    """The file of what the user has named on this machine: popgen/trusted in $XDG_CONFIG_HOME, else in ~/.config."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "popgen" / "trusted"


def add_spec_folder(folder: Path | str) -> None:
    """Let modules that the user names be found in the folder of a spec, too."""
    path = str(Path(folder).resolve())
    if path not in _spec_folders:
        _spec_folders.append(path)


def own_code() -> dict[str, list[str]]:
    """What another process needs to run the same code as this one, as JSON; see `take_own_code`."""
    return {"named": sorted(_named), "folders": _own_folders()}


def take_own_code(of_sender: dict[str, list[str]]) -> None:
    """Trust what the process that sent this trusts, and find modules where it does."""
    _named.update(of_sender["named"])
    for folder in of_sender["folders"]:
        add_spec_folder(folder)


def make_importable(ref: str) -> None:
    """Put the folder of `module:function` on the path, if only the current folder or a spec's has such a module.

    Raises:
        NotTrusted: there is one, and the user has not named `ref`: importing the module would run it.
    """
    own = _own_module(_top(ref))
    if own is None:
        return
    check_trusted(ref)
    folder, _ = own
    if folder not in sys.path:
        sys.path.append(folder)
        _joined.append(folder)
        importlib.invalidate_caches()


def _remembered() -> set[str]:
    file = trust_file()
    return set(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else set()


def _line(ref: str) -> str:
    """The line of the trust file for a reference, with the place of its code as far as that is on this machine."""
    if ref.startswith(("hub:", "timm:")):
        source = Path(ref.split(":")[1]).expanduser()
        return f"{ref}\t{source.resolve() if source.is_dir() else ''}"
    own = _own_module(_top(ref))
    return f"{ref}\t{_elsewhere(_top(ref)) or '' if own is None else own[1]}"


def _top(ref: str) -> str:
    """The module or package that stands first in `package.module:function`."""
    return ref.partition(":")[0].partition(".")[0]


def _own_folders() -> list[str]:
    return list(dict.fromkeys([str(Path.cwd()), *_spec_folders]))


def _own_module(module: str) -> tuple[str, str] | None:
    """The folder and file of a module that is in the current folder or a spec's, and nowhere else."""
    if _elsewhere(module) is None:
        for folder in _own_folders():
            spec = PathFinder.find_spec(module, [folder])
            if spec is not None:
                return folder, _file(spec)
    return None


def _elsewhere(module: str) -> str | None:
    """The file of a module that is found without the folders that have joined the path; None if there is none."""
    paths = [path for path in sys.path if path not in _joined]
    for finder in sys.meta_path:
        spec = PathFinder.find_spec(module, paths) if finder is PathFinder else finder.find_spec(module, None)
        if spec is not None:
            return _file(spec)
    file = getattr(sys.modules.get(module), "__file__", None)
    return file if file is not None and not any(Path(file).is_relative_to(folder) for folder in _joined) else None


def _file(spec: ModuleSpec) -> str:
    """The file of a module, the folder of a package without a file, or what stands for one that is built in."""
    return spec.origin or next(iter(spec.submodule_search_locations or ()), "")
