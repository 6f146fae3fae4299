"""README.md does what it says: every ```sh command runs, every ```python block runs, in the order of the page.

Installing and testing are left out, searches get a small budget, and what takes minutes is checked by --dry-run; a copy of the shipped zoo or generator then
stands where the command would have written one. What cannot run here is tagged ```text in the README.
"""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from popgen.configs.spec import Spec, load, parse
from popgen.generator import GeneratorConfig
from popgen.refs import ASSETS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
NOT_HERE = (["pip"], ["pytest"], ["python", "-m", "pip"], ["python", "-m", "pytest"])  # installing, and this very test
LONG = {("zoo", "build"): ("zoos", "digits"), ("train",): ("generators", "digits")}  # what stands in for the result


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    tag: str
    line: int
    text: str


def blocks(text: str) -> list[Block]:
    """All fenced blocks with a tag.

    >>> [(b.tag, b.text) for b in blocks("a\\n```sh\\nls\\n```\\n  ```python\\n  x = 1\\n  ```\\n")]
    [('sh', 'ls\\n'), ('python', 'x = 1\\n')]
    """
    found = re.finditer(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```\s*$", text, re.M | re.S)
    return [Block(m[2], text[: m.start()].count("\n") + 1, re.sub(rf"^{m[1]}", "", m[3], flags=re.M)) for m in found]


def commands(text: str) -> list[list[str]]:
    """The commands of a shell block, without comments.

    >>> commands("pip install . && popgen search \\\\\\n  --arch a  # why\\n$ popgen train x; ls")
    [['pip', 'install', '.'], ['popgen', 'search', '--arch', 'a'], ['popgen', 'train', 'x'], ['ls']]
    """
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        lexer = shlex.shlex(line.removeprefix("$ "), punctuation_chars=True, posix=True)
        lexer.whitespace_split = True
        for word in [*lexer, ";"]:
            if word in ("&&", ";"):
                found += [words] if words else []
                words = []
            else:
                words.append(word)
    return found


def all_commands() -> list[list[str]]:
    return [words for block in blocks(README.read_text()) if block.tag == "sh" for words in commands(block.text)]


def test_the_readme_holds_commands_and_python() -> None:
    ours = [words for words in all_commands() if words[0] == "popgen"]
    assert len(ours) >= 6
    assert {"search", "generate", "retrieve", "train", "zoo"} <= {words[1] for words in ours}
    assert any(block.tag == "python" for block in blocks(README.read_text()))
    assert "pip" in {words[0] for words in all_commands()}


def test_every_command_runs(popgen: Any, here: Path) -> None:
    for name in ("zoo_specs", "examples"):
        (here / name).symlink_to(ROOT / name)
    for words in all_commands():
        if any(words[: len(skipped)] == skipped for skipped in NOT_HERE):
            continue
        if words[0] == "python" and Path(words[1]).is_relative_to("examples"):
            assert (here / words[1]).is_file(), f"README names {words[1]}"  # test_examples.py runs it
            continue
        assert words[0] == "popgen", f"README: {shlex.join(words)} cannot be run by this test: tag its block ```text"
        run_one(popgen, here, words[1:])


def run_one(popgen: Any, here: Path, words: list[str]) -> None:
    long = next((key for key in LONG if tuple(words[: len(key)]) == key), None)
    if words[0] == "search":
        words = [*words, "--evaluations", "60" if "--resume" in words else "40"]  # of two, the last one counts
    if long is None or "--dry-run" in words:
        assert popgen(*words, code=None).code == 0, shlex.join(["popgen", *words])
        return
    called = popgen(*words, "--dry-run", code=None)
    assert called.code == 0, f"{shlex.join(['popgen', *words])}\n{called.err}"
    kind, name = LONG[long]
    spec = load(words[len(long)], Spec).zoo.name
    out = here / (words[words.index("--out") + 1] if "--out" in words else f"{kind}/{spec}")
    shutil.copytree(ASSETS / kind / name, out, dirs_exist_ok=True)


def test_every_python_block_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    for block in blocks(README.read_text()):
        if block.tag == "python":
            code = "\n" * block.line + block.text  # so that a traceback has README's line numbers
            exec(compile(code, str(README), "exec"), names)
    assert capsys.readouterr().out.strip(), "the blocks print what they found"


def test_every_linked_file_is_there() -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", README.read_text())
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_every_yaml_block_is_a_spec_or_a_part_of_one() -> None:
    for block in blocks(README.read_text()):
        if block.tag == "yaml":
            content = yaml.safe_load(block.text)
            assert set(content) <= {"zoo", "generator"}, f"line {block.line}"
            if "zoo" in content:
                parse(content, Spec, f"README.md, line {block.line}")
            parse(content.get("generator") or {}, GeneratorConfig, f"README.md, line {block.line}")
