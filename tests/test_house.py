"""The house stays in order: sizes of files, functions and rooms, comments that are sentences, nothing tracked that does not belong."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for package in ("popgen", "search") for path in (ROOT / package).rglob("*.py"))
ALL = [*FILES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "examples").rglob("*.py"))]
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS, MOST_FILES = 400, 50, 8, 16
FRAGMENT = re.compile(r"#\s?(of|that|which|on which)\b")  # one space: lists in comments are indented
TOP = {"pyproject.toml", "popgen", "search", "zoo_specs", "tests", "examples", "README.md", "LICENSE", "CHANGELOG.md"}
TOP |= {".ci", ".gitignore"}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def problems(text: str, where: str) -> list[str]:
    """One line for every function that is too long or takes too much. A Click command's parameters are its options."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        own = [name for name in arguments if name not in ("self", "cls")]
        is_command = any("command" in ast.unparse(decorator) for decorator in node.decorator_list)
        if lines > MOST_FUNCTION_LINES:
            found.append(f"{where}: {node.name} has {lines} lines")
        if len(own) > MOST_PARAMETERS and not is_command:
            found.append(f"{where}: {node.name} has {len(own)} parameters")
    return found


@pytest.mark.parametrize("path", FILES, ids=named)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES
    assert problems(text, named(path)) == []


def test_the_check_sees_long_functions_and_long_signatures() -> None:
    body = "\n".join(["    pass"] * MOST_FUNCTION_LINES)
    parameters = ", ".join("abcdefghi")
    assert problems(f"def f():\n{body}\n", "x") == ["x: f has 51 lines"]
    assert problems(f"def f({parameters}): pass\n", "x") == ["x: f has 9 parameters"]
    assert problems(f"@click.command()\ndef f({parameters}): pass\n", "x") == []
    assert problems(f"class A:\n    def f(self, {parameters[:-3]}): pass\n", "x") == []


def test_a_room_has_few_files() -> None:
    rooms = Counter(named(path.parent) for path in FILES)
    assert {room: count for room, count in rooms.items() if count > MOST_FILES} == {}


def fragments(text: str) -> list[int]:
    """Numbers of the lines on which a comment begins as a fragment; a comment may go on with any word."""
    lines = ["", *text.splitlines()]
    goes_on = [line.strip().startswith("#") and before.strip().startswith("#") for before, line in pairwise(lines)]
    return [i for i, line in enumerate(lines[1:], 1) if FRAGMENT.search(line) and not goes_on[i - 1]]


def test_no_comment_is_a_fragment() -> None:
    texts = {named(path): path.read_text(encoding="utf-8") for path in ALL if path != Path(__file__)}
    assert {name: found for name, text in texts.items() if (found := fragments(text))} == {}
    assert fragments("x = 1  # of a step\n# Images\n# of a step\n# that\ny = 2\n# which is it?") == [1, 6]


def test_every_file_says_what_it_is() -> None:
    assert [named(path) for path in FILES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


def git(*arguments: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a checkout knows what is tracked")
def test_the_repository_holds_the_source_and_nothing_else() -> None:
    tracked = git()
    assert {name.split("/")[0] for name in tracked} <= TOP
    assert [name for name in tracked if re.search(r"\.(whl|tar\.gz|log|pt|pth|zip)$", name)] == []
    # The build backend leaves ignored files out of the wheel, even where git tracks them.
    assert git("--cached", "--ignored", "--exclude-standard") == []
    assert git("--others", "--ignored", "--exclude-standard", "--", "*.py", ":!/build") == []


def test_names_of_test_files_are_unique() -> None:
    """Folders of tests are no packages, so pytest refuses two files of one name."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert {name for name in names if names.count(name) > 1} == set()
