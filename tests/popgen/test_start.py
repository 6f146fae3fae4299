"""Starting popgen imports no heavy package, nor does the refusal of an unknown name; a search imports them one by one.

A user's module that hides the package `search` is named.
"""

from __future__ import annotations

import importlib
import json
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
    "scipy",
    "diffusers",
}
SEARCH = ["search", "--arch", "cnn-s", "--data", "digits"]
UNKNOWN = [
    (["serch"], 2),
    (["search", "--arch", "nosuch", "--data", "digits"], 3),
    (["search", "--arch", "cnn-s", "--data", "nosuch"], 3),
    (["search", "--arch", "cnn-s", "--data", "digits/rotat:45"], 3),
    ([*SEARCH, "--optimizer", "nosuch"], 3),
    ([*SEARCH, "--objective", "nosuch"], 3),
    ([*SEARCH, "--space", "nosuch"], 3),
    ([*SEARCH, "--generator", "nosuch"], 3),
    ([*SEARCH, "--generator", "digits", "--arch", "nosuch"], 3),
    ([*SEARCH, "--zoo", "nosuch"], 3),
    (["generate", "--arch", "nosuch", "--data", "digits"], 3),
    (["generate", "--arch", "cnn-s", "--data", "nosuch"], 3),
    (["retrieve", "--arch", "nosuch", "--data", "digits"], 3),
    (["retrieve", "--arch", "cnn-s", "--data", "digits/rotate:31"], 3),
    (["encode", "nosuch", "--out", "out"], 3),
    (["compression", "nosuch"], 3),
    (["train", "spec.yaml"], 3),
    (["train", "spec.yaml", "--set", "generator.nosuch=1"], 4),
    (["zoo", "build", "spec.yaml"], 3),
    (["zoo", "build", "spec.yaml", "--set", "zoo.nosuch=1"], 4),
    (["zoo", "import", "spec.yaml", "--zoo", "new", "--arch", "nosuch"], 3),
    (["sweep", "sweep.yaml"], 3),
    (["report", "nosuch"], 3),
]
LONG = [
    SEARCH,
    ["generate", "--arch", "cnn-s", "--data", "digits"],
    ["retrieve", "--arch", "cnn-s", "--data", "digits/rotate:30"],
    ["encode", "digits", "--out", "out"],
    ["compression", "digits"],
    ["train", "spec.yaml"],
    ["zoo", "build", "spec.yaml"],
    ["zoo", "import", "spec.yaml", "--zoo", "new", "--arch", "cnn-s", "--data", "digits"],
    ["sweep", "sweep.yaml", "--dry-run"],
    ["report", "."],
]


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


def specs(folder: Path, arch: str = "nosuch", optimizer: str = "nosuch") -> None:
    (folder / "spec.yaml").write_text(f"zoo: {{name: z, archs: [{arch}], data: [digits]}}\n")
    (folder / "sweep.yaml").write_text(
        f"{{name: s, archs: [cnn-s], data: [digits], search: {{optimizer: {optimizer}}}}}\n"
    )


def test_an_unknown_name_is_refused_without_a_heavy_import(tmp_path: Path) -> None:
    specs(tmp_path)
    code = (
        "import json, sys; from popgen.__main__ import run\n"
        f"codes = [run(args) for args in {[args for args, _ in UNKNOWN]!r}]\n"
        "print(json.dumps([codes, list(sys.modules)]))"
    )
    done = python("-c", code, cwd=tmp_path)
    codes, names = json.loads(done.stdout)
    assert codes == [code for _, code in UNKNOWN], done.stderr
    assert "click" in names
    assert not {name.partition(".")[0] for name in names} & HEAVY
    assert done.stderr.count("nearest known") + done.stderr.count("did you mean") > 10


def test_long_commands_print_a_line_before_a_heavy_import(tmp_path: Path) -> None:
    specs(tmp_path, "cnn-s", "CMA")
    code = f"""
import sys
from popgen.__main__ import run
real, lines = sys.stderr, []
class First:
    def write(self, text):
        if isinstance(text, bytes):
            raise TypeError("a stream of text")
        if not text:
            return
        lines.append((text, sorted({HEAVY!r} & set(sys.modules))))
        raise SystemExit  # it is not begun
    def flush(self):
        pass
for args in {LONG!r}:
    sys.stderr = First()
    try:
        run(args)
    except SystemExit:
        pass
    sys.stderr = real
for text, heavy in lines:
    print(text.strip(), heavy)
"""
    done = python("-c", code, cwd=tmp_path)
    printed = done.stdout.splitlines()
    assert len(printed) == len(LONG), (done.stdout, done.stderr)
    assert all(line.endswith("... []") for line in printed), printed
    assert printed[0].startswith("searching weights of cnn-s for digits")


def test_the_first_evaluation_needs_torch_alone(tmp_path: Path) -> None:
    code = f"""
import sys
from popgen.configs.search import SearchConfig
from popgen.jobs.search import search
def first(arch, progress):
    print(sorted({HEAVY!r} & set(sys.modules)))
    raise KeyboardInterrupt
config = SearchConfig(archs=["cnn-s"], data="digits/rotate:45")
try:
    search(config, {str(tmp_path / "run")!r}, on_evaluation=first, say=lambda _: None)
except KeyboardInterrupt:
    pass
"""
    done = python("-c", code, cwd=tmp_path)
    assert done.stdout == "['torch']\n", done.stderr


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


@pytest.mark.parametrize("room", ["archs", "data", "fitness", "generator", "zoo"])
def test_a_package_has_all_names_that_it_lists(room: str) -> None:
    package = importlib.import_module(f"popgen.{room}")
    assert [name for name in package.__all__ if not hasattr(package, name)] == []
    with pytest.raises(AttributeError, match=f"module 'popgen.{room}' has no attribute 'nothing'"):
        _ = package.nothing
