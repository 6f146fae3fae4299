"""Who may import whom, read off the sources with `ast`: imports go down the layers, heavy packages stay in their place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Top to bottom; a part imports only parts of lower rows, never of its own row or above. `popgen` itself is __version__.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"api"},
    {"jobs"},
    {"adaptation", "audit", "baselines", "bench", "ranking", "report"},
    {"fitness"},
    {"generator"},
    {"encoders", "merging", "zoo"},
    {"weights"},
    {"networks"},
    {"archs", "data"},
    {"cards"},
    {"configs", "__init__"},  # __init__ runs before all others, and itself imports next to nothing
    {"hub"},
    {"files", "first_bytes", "json_text", "progress", "refs", "shadow", "tables", "tasks", "texts"},
    {"trust"},
    {"errors", "lazy", "types"},
]
SEARCH_ROOMS = ["sweep", "loop", "optimizers", "pools"]  # the same within `search`; all import its errors
LEVEL = {part: -row for row, parts in enumerate(LAYERS) for part in parts}
# Packages that only these files or folders import.
ONLY_IN = {
    "search": ("popgen/jobs/", "popgen/cli/output.py", "popgen/zoo/build/workers.py"),
    "ray": ("search/", "popgen/zoo/build/workers.py", "popgen/jobs/ray_train.py"),
    "nevergrad": ("search/",),
    "cma": ("search/",),
    "datasets": ("popgen/data/sources/hub.py",),
    "huggingface_hub": ("popgen/hub/", "popgen/cards/", "popgen/encoders/", "popgen/archs/from_transformers.py"),
    "open_clip": ("popgen/encoders/",),
    "timm": ("popgen/archs/timm_models.py",),
    "transformers": (
        *("popgen/encoders/", "popgen/archs/adapters/", "popgen/archs/language/", "popgen/archs/classifiers/"),
        "popgen/archs/from_transformers.py",
    ),
    "peft": ("popgen/archs/adapters/",),
    "sentence_transformers": ("popgen/encoders/",),
    "pickle": ("popgen/zoo/imports/loading.py",),  # for the name of the error that torch.load raises
    "_pickle": (),
    "cPickle": (),
    "cloudpickle": (),
    "dill": (),
    "joblib": (),
    "marshal": (),
    "shelve": (),
}
# Ray Tune takes some settings from the environment alone; they are put back when it ends.
SETS_ENVIRONMENT = ["search/sweep/_tune.py"]
# Modules that start the command line: nothing heavy when they are imported, only inside functions or for type checkers.
LIGHT = [
    *(f"popgen/{name}.py" for name in ("__init__", "__main__", "errors", "lazy")),
    *(f"popgen/configs/{name}.py" for name in ("__init__", "bench", "generator", "search", "spec", "sweep")),
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "popgen" / "cli").rglob("*.py"))),
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "popgen").glob("*/names.py"))),
    *(f"popgen/{room}/__init__.py" for room in ("archs", "data", "fitness", "generator", "merging", "zoo")),
    "search/optimizers/names.py",
]
HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "ray",
    "nevergrad",
    "transformers",
    "sentence_transformers",
    "open_clip",
}


def sources() -> dict[str, str]:
    files = [p for package in ("popgen", "search") for p in (ROOT / package).rglob("*.py")]
    return {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in files}


def imported(tree: ast.AST) -> Iterator[str]:
    """Absolute names of what is imported anywhere in a source, `from a import b` as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def part_of(path: str) -> str:
    """`popgen/zoo/store.py` -> `zoo`, `popgen/cli/__init__.py` -> `cli`."""
    return path.removeprefix("popgen/").partition("/")[0].removesuffix(".py")


def problems(path: str, text: str) -> list[str]:
    """One line for every import or call in a source that breaks a rule."""
    tree, found = ast.parse(text), []
    for name in imported(tree):
        top, *rest = name.split(".")
        if name.startswith("."):
            level = len(name) - len(name.lstrip("."))
            if path.startswith("popgen/") or level > path.count("/"):
                found.append(f"{path}: relative import {name}")
            elif level > 1:
                found += _room_problem(path, name.lstrip("."))
        elif top == "popgen" and path.startswith("search/"):
            found.append(f"{path}: search imports {name}")
        elif top == "popgen":
            found += _layer_problem(path, rest)
        elif top in ONLY_IN and not (top == "search" and path.startswith("search/")):
            found += [f"{path}: imports {name}"] * (not path.startswith(ONLY_IN[top] or ("-",)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "pickle" and node.attr != "UnpicklingError":
                found.append(f"{path}: uses pickle.{node.attr}")
            if (node.value.id, node.attr) == ("torch", "load") and path != "popgen/zoo/imports/loading.py":
                found.append(f"{path}: names torch.load")
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = [k for k in node.keywords if k.arg == "weights_only" and ast.unparse(k.value) == "True"]
            found += [f"{path}: torch.load without weights_only=True"] * (not safe)
        if isinstance(node, ast.ImportFrom) and node.module == "torch" and "load" in [a.name for a in node.names]:
            found.append(f"{path}: imports torch.load by name")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
            pickles = [k for k in node.keywords if k.arg == "allow_pickle" and ast.unparse(k.value) != "False"]
            found += [f"{path}: load with allow_pickle"] * len(pickles)
    if path not in SETS_ENVIRONMENT:
        found += [f"{path}: writes os.environ" for node in ast.walk(tree) if _writes_environment(node)]
    if path in LIGHT:
        found += [f"{path}: imports {name} at once" for name in _at_once(tree) if name.partition(".")[0] in HEAVY]
    return found


def _writes_environment(node: ast.AST) -> bool:
    """Whether a statement changes the environment of the process."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in {f"os.environ.{name}" for name in ("update", "setdefault", "pop", "clear")} | {
            "os.putenv"
        }
    targets = node.targets if isinstance(node, (ast.Assign, ast.Delete)) else []
    return any(ast.unparse(target).startswith("os.environ") for target in targets)


def _room_problem(path: str, other: str) -> list[str]:
    """What is wrong with a room of `search` that imports from another one."""
    mine, room = path.split("/")[1], other.partition(".")[0]
    fine = room == "errors" or (room in SEARCH_ROOMS and SEARCH_ROOMS.index(mine) < SEARCH_ROOMS.index(room))
    return [] if fine else [f"{path}: {mine} imports {room}"]


def _layer_problem(path: str, rest: list[str]) -> list[str]:
    mine, other = part_of(path), rest[0] if rest else "__version__"
    if other in ("__version__", mine) and rest:
        return []
    if mine not in LEVEL or other not in LEVEL:
        return [f"{path}: {mine} or {other} has no layer"]
    return [f"{path}: {mine} imports {other}"] * (LEVEL[other] >= LEVEL[mine])


def _at_once(tree: ast.Module) -> Iterator[str]:
    """What is imported when the module is: outside functions and `if TYPE_CHECKING`."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from imported(node)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


@pytest.mark.parametrize("path", sorted(sources()))
def test_imports_keep_to_the_layers(path: str) -> None:
    assert problems(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_the_check_sees_what_it_is_about() -> None:
    texts = sources()
    assert "torch.load(path, map_location=" in texts["popgen/zoo/imports/loading.py"]
    assert len([p for p in texts if p.startswith("search/")]) > 10
    assert {part_of(p) for p in texts if p.startswith("popgen/")} <= LEVEL.keys()
    loads = [p for p, text in texts.items() if "torch.load(" in text]
    assert loads == ["popgen/zoo/imports/loading.py"]
    assert {part_of(p) for p in texts if p.startswith("popgen/")} >= set().union(*LAYERS), "a layer that does not exist"


def test_json_has_no_nan() -> None:
    """popgen writes JSON by `json_text`; the engine refuses what is not a number."""
    lines = [(p, line) for p, text in sources().items() for line in text.splitlines() if "json.dumps(" in line]
    loose = [p for p, line in lines if "allow_nan=False" not in line]
    assert sorted(set(loose)) == ["search/loop/population.py", "search/sweep/sweep.py"], "texts alone"


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        ("popgen/archs/spec.py", "from popgen.weights import Scaling", "archs imports weights"),
        ("popgen/archs/spec.py", "def f():\n    import popgen.zoo.store", "archs imports zoo"),
        ("popgen/archs/spec.py", "from popgen import data", "archs imports data"),  # neighbours do not meet
        ("popgen/zoo/store.py", "from popgen.encoders.arch import ArchTextEncoder", "zoo imports encoders"),
        ("popgen/generator/model/vae.py", "from popgen.fitness import Score", "generator imports fitness"),
        ("popgen/errors.py", "from popgen import refs", "errors imports refs"),
        ("popgen/__init__.py", "def f():\n    from popgen.archs import build", "__init__ imports archs"),
        ("popgen/audit/x.py", "from popgen.baselines import row", "audit imports baselines"),
        ("popgen/jobs/search.py", "from popgen.shiny import new", "jobs or shiny has no layer"),
        ("popgen/archs/spec.py", "import popgen", "no layer"),
        ("popgen/archs/spec.py", "from .builders import build", "relative import"),
        ("popgen/fitness/heads.py", "from search import Population", "imports search"),
        ("search/loop/run.py", "from popgen.errors import PopgenError", "search imports popgen"),
        ("search/loop/run.py", "from ...popgen import errors", "relative import"),
        ("search/pools/pool.py", "from ..loop.run import run_search", "pools imports loop"),
        ("popgen/jobs/search.py", "import ray", "imports ray"),
        ("popgen/zoo/store.py", "from ray.util import queue", "imports ray.util"),
        ("popgen/zoo/build/workers.py", "import nevergrad as ng", "imports nevergrad"),
        ("popgen/generator/model/conditions.py", "import open_clip", "imports open_clip"),
        ("popgen/generator/model/conditions.py", "from transformers import AutoModel", "imports transformers"),
        ("popgen/archs/spec.py", "from sentence_transformers import models", "imports sentence_transformers"),
        ("popgen/weights/tokens.py", "import pickle", "imports pickle"),
        ("search/loop/history.py", "import pickle", "imports pickle"),
        ("popgen/data/folder.py", "import os\nos.environ['POPGEN_DATA'] = 'x'", "writes os.environ"),
        ("search/pools/pool.py", "import os\nos.environ.update(OMP_NUM_THREADS='1')", "writes os.environ"),
        ("popgen/zoo/imports/loading.py", "import pickle\npickle.load(open('x', 'rb'))", "uses pickle.load"),
        ("popgen/zoo/imports/loading.py", "from pickle import loads\nimport dill", "imports dill"),
        ("popgen/zoo/store.py", "import torch\ntorch.load('x', weights_only=True)", "names torch.load"),
        ("popgen/zoo/store.py", "import torch\nread = torch.load", "names torch.load"),
        ("popgen/zoo/imports/loading.py", "import torch\ntorch.load('x')", "without weights_only=True"),
        (
            "popgen/zoo/imports/loading.py",
            "import torch\ntorch.load('x', weights_only=False)",
            "without weights_only=True",
        ),
        ("popgen/zoo/store.py", "from torch import load", "torch.load by name"),
        ("popgen/data/load.py", "import numpy as np\nnp.load('x', allow_pickle=True)", "allow_pickle"),
        ("popgen/cli/__init__.py", "import torch", "imports torch at once"),
        (
            "popgen/configs/spec.py",
            "try:\n    from numpy import array\nexcept ImportError:\n    pass",
            "numpy.array at once",
        ),
    ],
)
def test_a_violation_is_found(path: str, text: str, problem: str) -> None:
    assert any(problem in line for line in problems(path, text)), problems(path, text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("popgen/cli/__init__.py", "def run():\n    import torch\n    from popgen.jobs.search import search"),
        ("popgen/cli/__init__.py", "if TYPE_CHECKING:\n    import torch"),
        ("popgen/zoo/store.py", "from popgen import __version__\nfrom popgen.zoo.index import FORMAT"),
        (
            "search/loop/run.py",
            "import nevergrad\nfrom .pool import Pool\nfrom ..pools.pool import Pool\nimport search.loop.space",
        ),
        ("popgen/zoo/build/workers.py", "import ray\nfrom ray.exceptions import RayError"),
    ],
)
def test_what_is_allowed_passes(path: str, text: str) -> None:
    assert problems(path, text) == []
