"""Starting popgen imports no heavy package, and names a user's module that hides the package `search`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "ray",
    "nevergrad",
    "transformers",
    "sentence_transformers",
    "open_clip",
    "sklearn",
}


def python(*args: str, cwd: Path, path: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("POPGEN_", "COVERAGE"))}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [*path, ROOT]))
    return subprocess.run([sys.executable, *args], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


def modules(trace: str) -> set[str]:
    """Top-level names of the modules in the output of `-X importtime`."""
    lines = [line for line in trace.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_importing_popgen_imports_nothing_heavy(tmp_path: Path) -> None:
    done = python("-c", "import popgen, sys; print(*sys.modules)", cwd=tmp_path)
    names = {name.partition(".")[0] for name in done.stdout.split()}
    assert "popgen" in names, done.stderr
    assert not names & {*HEAVY, "numpy", "pydantic", "click"}


def test_public_names_load_on_use(tmp_path: Path) -> None:
    code = "import popgen, sys; assert 'torch' not in sys.modules; popgen.ArchSpec; print('torch' in sys.modules)"
    assert python("-c", code, cwd=tmp_path).stdout == "True\n"
    code = "import popgen; print(sorted(dir(popgen)) == sorted(popgen.__all__)); popgen.nothing"
    done = python("-c", code, cwd=tmp_path)
    assert done.stdout == "True\n"
    assert "module 'popgen' has no attribute 'nothing'" in done.stderr


def test_the_trace_would_show_a_heavy_import(tmp_path: Path) -> None:
    done = python("-X", "importtime", "-c", "import numpy.linalg", cwd=tmp_path)
    assert "numpy" in modules(done.stderr)


@pytest.mark.parametrize("args", [["--help"], ["search", "--help"], ["zoo", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(tmp_path: Path, args: list[str]) -> None:
    done = python("-X", "importtime", "-m", "popgen", *args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    seen = modules(done.stderr)
    assert {"click", "popgen"} <= seen
    assert not seen & HEAVY


def test_a_search_module_in_the_current_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text("print('mine')\n")
    done = python("-m", "popgen", "--help", cwd=tmp_path)
    assert done.returncode == 4
    assert done.stdout == ""
    what, why, todo = done.stderr.splitlines()
    assert what == f"error: popgen's own package `search` is hidden by {tmp_path / 'search.py'}"
    assert why == "Python imports that one in its place"
    assert todo.startswith("Rename it (for example to my_search.py), or start")


def test_from_python_too(tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text("")
    done = python("-c", "import popgen; popgen.search", cwd=tmp_path)
    assert f"BadInput: popgen's own package `search` is hidden by {tmp_path / 'search.py'}" in done.stderr


def test_a_search_package_on_pythonpath_is_named(tmp_path: Path) -> None:
    mine, here = tmp_path / "libraries", tmp_path / "here"
    (mine / "search").mkdir(parents=True)
    here.mkdir()
    (mine / "search" / "__init__.py").write_text("raise SystemExit('imported')\n")
    done = python("-m", "popgen", "--help", cwd=here, path=(mine,))
    assert done.returncode == 4
    assert str(mine / "search" / "__init__.py") in done.stderr
    (mine / "search" / "__init__.py").rename(mine / "search.py")
    done = python("-m", "popgen", "--help", cwd=here, path=(mine,))
    assert done.returncode == 4
    assert str(mine / "search.py") in done.stderr


def test_a_folder_called_search_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "search").mkdir()  # no __init__.py: Python prefers the package behind it
    (tmp_path / "search" / "notes.txt").write_text("")
    assert python("-m", "popgen", "--help", cwd=tmp_path).returncode == 0
