"""The documents do what they say: README.md, examples/guides and examples/results.

Every ```sh command and every ```python block runs, in the order of its page, in an empty folder of the page's own. Installing and
testing are left out, searches get a small budget, and what takes minutes is checked by --dry-run; a copy of the shipped zoo or
generator then stands where the command would have written one. Of a script of examples/ only the name and the options are checked,
because test_examples.py runs it. What cannot run here is tagged ```text, and only the names of its commands and options are checked.
"""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from popgen.cli import cli
from popgen.configs.bench import BenchConfig
from popgen.configs.load import load, parse
from popgen.configs.spec import SpecFile
from popgen.configs.sweep import SweepConfig
from popgen.generator import GeneratorConfig
from popgen.refs import ASSETS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
FOLDERS = [ROOT / "examples" / name for name in ("guides", "results")]
PAGES = [README, *(page for folder in FOLDERS for page in sorted(folder.glob("*.md")))]
NOT_HERE = (["pip"], ["pytest"], ["python", "-m", "pip"], ["python", "-m", "pytest"])  # installing, and this very test
LONG = {("zoo", "build"): ("zoos", "digits"), ("train",): ("generators", "digits")}  # what stands in for the result
SMALL = {"adapters.yaml", "layers.yaml", "few.yaml"}  # specs that the pages themselves have made small
OTHERS = {"--working-dir", "--runtime-env-json", "--generate"}  # options of Ray's commands that the pages name
README_WORDS = 1300
SLOW = {
    "fairness.md",
    "search.md",
    "real_networks.md",
    "engine.md",
    "audit.md",
    "bench.md",
    "adapt.md",
    "merge.md",
    "language_layers.md",
    "texts.md",
    "text_adapters.md",
    "adapters.md",
    "photos.md",
    "python.md",
    "layers.md",
    "generate.md",
    "compress.md",
    "report.md",
    "files.md",
    "rank.md",
    "archive.md",
}  # pages whose commands take more than four seconds

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@dataclass(frozen=True)
class Block:
    """One fenced block, and the line that opens it."""

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


def prose(text: str) -> str:
    """A page without its fenced blocks.

    >>> prose("a\\n```sh\\nls\\n```\\nb\\n")
    'a\\nb\\n'
    """
    return re.sub(r"^( *)```.*?^\1```\n", "", text, flags=re.M | re.S)


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


def page_commands(page: Path, tag: str = "sh") -> list[list[str]]:
    return [words for block in blocks(page.read_text()) if block.tag == tag for words in commands(block.text)]


def find_command(words: list[str]) -> click.Command:
    """The command that `popgen WORDS` calls.

    >>> find_command(["zoo", "list", "digits"]).name
    'list'
    """
    command: click.Command = cli
    for word in words:
        if not isinstance(command, click.Group):
            break
        assert word in command.commands, f"popgen has no command {word!r} in {shlex.join(['popgen', *words])}"
        command = command.commands[word]
    return command


def options(command: click.Command) -> set[str]:
    """The names of a command's options, and of those of the commands below it."""
    own = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    below = command.commands.values() if isinstance(command, click.Group) else []
    return own.union(*(options(one) for one in below))


def test_every_kind_of_command_stands_on_some_page() -> None:
    ours = [words for page in PAGES for words in page_commands(page) if words[0] == "popgen"]
    assert {words[1] for words in ours} >= set(cli.commands)
    assert any(block.tag == "python" for block in blocks(README.read_text()))


def test_the_readme_is_short_and_starts_quickly() -> None:
    text = README.read_text()
    assert len(text.split()) <= README_WORDS
    start = text.split("## Quick start", 1)[1].split("\n## ", 1)[0]
    install, check = (block.text.strip().splitlines() for block in blocks(start) if block.tag == "sh")
    assert (len(install), len(check)) == (1, 1), "an outside script takes one command from each of two blocks"
    assert commands(install[0])[0] == ["pip", "install", "."] and commands(install[0])[1][:2] == ["popgen", "search"]
    assert commands(check[0]) == [["pip", "install", ".[test]"], ["pytest"]]


@pytest.mark.slow  # the whole search
@pytest.mark.usefixtures("here")
def test_the_readme_shows_what_its_first_command_prints(popgen: Any) -> None:
    start, _, shown = blocks(README.read_text())[:3]
    table, printed = (
        shown.text.strip().splitlines(),
        popgen(*commands(start.text)[1][1:], "--finetune", "auto").out.splitlines(),
    )
    assert [line.strip() for line in printed] == [line.strip() for line in table]


def test_the_picture_is_that_of_the_quick_start() -> None:
    rows = re.findall(r"│ (\w+) +│ +\d+ │ +[\d.]+ ± [\d.]+ │[ \d.±]+│ +([\d.]+) ± [\d.]+ │", README.read_text())
    rows = [row for row in rows if not row[0].startswith("finetuned_")]  # the picture ends with the search
    assert len(rows) >= 9
    for picture in re.findall(r"examples/images/run-\w+\.svg", README.read_text()):
        shown = re.findall(r">([^<>]+)</text>", (ROOT / picture).read_text())
        assert {text for name, accuracy in rows for text in (name.replace("_", " "), accuracy)} <= set(shown)


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=[pytest.mark.slow] if p.name in SLOW else [], id=str(p.relative_to(ROOT))) for p in PAGES],
)
@pytest.mark.usefixtures("photos")  # what `folder:PHOTOS` names
def test_what_a_page_shows_runs(page: Path, popgen: Any, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("zoo_specs", "examples"):
        (here / name).symlink_to(ROOT / name)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page.read_text()):
        where = f"{page.name}, line {block.line}"
        if block.tag == "python":
            code = "\n" * block.line + block.text  # so that a traceback has the page's line numbers
            exec(compile(code, str(page), "exec"), names)
            assert capsys.readouterr().out.strip(), f"{where}: a block prints what it found"
        for words in commands(block.text) if block.tag == "sh" else []:
            if any(words[: len(skipped)] == skipped for skipped in NOT_HERE):
                continue
            if words[0] == "python":
                check_script(words[1:], where)
                continue
            assert words[0] == "popgen", f"{where}: {shlex.join(words)} cannot be run here: tag its block ```text"
            run_one(popgen, here, words[1:], where)


def check_script(words: list[str], where: str) -> None:
    script = ROOT / words[0]
    assert script.is_relative_to(ROOT / "examples") and script.is_file(), f"{where}: there is no {words[0]}"
    text = script.read_text()
    unknown = [word for word in words[1:] if word.startswith("--") and f'"{word}"' not in text]
    assert not unknown, f"{where}: {words[0]} has no {', '.join(unknown)}"


def run_one(popgen: Any, here: Path, words: list[str], where: str) -> None:
    long = next((key for key in LONG if tuple(words[: len(key)]) == key), None)
    if words[0] == "search":
        words = [*words, "--evaluations", "60" if "--resume" in words else "40"]  # the last of two values counts
    said = f"{where}: {shlex.join(['popgen', *words])}"
    if long is None or "--dry-run" in words or not SMALL.isdisjoint(words):
        called = popgen(*words, code=None)
        assert called.code == 0, f"{said}\n{called.err}"
        return
    called = popgen(*words, "--dry-run", code=None)
    assert called.code == 0, f"{said}\n{called.err}"
    kind, name = LONG[long]
    spec = load(words[len(long)], SpecFile).zoo.name
    out = here / (words[words.index("--out") + 1] if "--out" in words else f"{kind}/{spec}")
    shutil.copytree(ASSETS / kind / name, out, dirs_exist_ok=True)


@every_page
def test_what_cannot_run_here_is_spelt_right(page: Path) -> None:
    """Commands that are shown as text, and options that are named in sentences."""
    for words in page_commands(page, "text"):
        if words[0] == "popgen":
            known = options(find_command(words[1:]))
            unknown = [word for word in words if word.startswith("--") and word not in known]
            assert not unknown, f"{shlex.join(words)} has no {', '.join(unknown)}"
        elif words[0] == "python" and words[1].endswith(".py"):
            check_script(words[1:], page.name)
    named = re.findall(r"`([^`]+)`", prose(page.read_text()))
    for text in named:
        if text.startswith("python examples/"):
            check_script(text.split()[1:], page.name)
    if page.parent.name != "results":  # where an option may be a script's
        written = {word for text in named if not text.startswith("python ") for word in text.split()}
        assert {word for word in written if re.fullmatch("--[a-z-]+", word)} - options(cli) - OTHERS == set()


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    text = prose(page.read_text())
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|srcset|href)=\"([^\"]+)\"", text)
    for link in links:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in headings(target.read_text()), f"{page.name}: {link}"


def headings(text: str) -> set[str]:
    """The anchors of a page, as GitHub makes them.

    >>> headings("# How good is it?\\n## A, `b` and c\\n")
    {'how-good-is-it', 'a-b-and-c'}
    """
    titles = re.findall(r"^#+ (.+)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_index_names_every_page_of_its_folder(folder: Path) -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+\.md)\)", (folder / "README.md").read_text()))
    assert {page.name for page in folder.glob("*.md")} - {"README.md"} <= linked


@every_page
def test_every_yaml_block_is_a_spec_a_sweep_or_a_part_of_one(page: Path) -> None:
    for block in blocks(page.read_text()):
        if block.tag == "yaml":
            content, where = yaml.safe_load(block.text), f"{page.name}, line {block.line}"
            if "rivals" in content:
                parse(content, BenchConfig, where).cells()
                continue
            if "search" in content:
                parse(content, SweepConfig, where).searches()
                continue
            assert set(content) <= {"zoo", "generator"}, where
            if "zoo" in content:
                parse(content, SpecFile, where)
            parse(content.get("generator") or {}, GeneratorConfig, where)
