"""Reads YAML files into pydantic models, and explains what does not fit.

Unknown keys are refused. Every refusal names the field, what stood there, and the nearest known keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from popgen.errors import BadInput, BrokenFile, NotFound, near_matches
from popgen.refs import asset, asset_names
from popgen.trust import add_spec_folder

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)  # pydantic does not export it

Model = TypeVar("Model", bound=BaseModel)


class _Explained(ModelMetaclass):
    """Lets the models that Python code makes itself be refused as those of a file are."""

    def __call__(cls, *args: Any, **fields: Any) -> Any:
        try:
            return super().__call__(*args, **fields)
        except ValidationError as error:
            raise refusal(error, cls, cls.__name__) from error  # type: ignore[arg-type]  # a class of Settings


class Settings(BaseModel, metaclass=_Explained):
    """Settings that Python code makes itself; an unknown key or a value that does not fit raises BadInput."""


class Strict(Settings):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def find_spec(path_or_name: str | Path) -> Path:
    """The YAML file of that path, or of that name in ./zoo_specs or in the package.

    Raises:
        NotFound: there is neither.
    """
    path, name = Path(path_or_name), str(path_or_name)
    if path.is_file():
        return path
    beside = Path("zoo_specs") / f"{name}.yaml"
    packaged = asset("specs", name)
    if "/" not in name and beside.is_file():
        return beside
    if packaged is not None and (packaged / "spec.yaml").is_file():
        return packaged / "spec.yaml"
    known = [p.stem for p in Path("zoo_specs").glob("*.yaml")] + asset_names("specs")
    raise NotFound(
        f"there is no spec {name!r}",
        f"neither a file nor a known name; nearest known: {near_matches(path.stem, known)}",
        "Give the path of a YAML file.",
    )


def load(path_or_name: str | Path, model: type[Model], overrides: Mapping[str, Any] | None = None) -> Model:
    """Read and check a YAML file; `overrides` are dotted keys that replace its values.

    Modules that the user names are found in its folder, too.

    Raises:
        NotFound: no such file or name.
        BrokenFile: not YAML.
        BadInput: an unknown key, one that stands twice, a missing one, or a value that does not fit.

    >>> from popgen.configs.spec import SpecFile
    >>> load("zoo_specs/digits.yaml", SpecFile, {"zoo.seeds": [5], "zoo.held_out.seeds": []}).zoo.seeds
    [5]
    """
    path = find_spec(path_or_name)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise BadInput(
            f"{path} holds {_shown(content)}",
            f"expected keys: {', '.join(model.model_fields)}",
            "See zoo_specs/ for examples.",
        )
    for key, value in (overrides or {}).items():
        _put(content, key, value, path)
    add_spec_folder(path.parent)
    return parse(content, model, str(path), path.parent)


def read_yaml(path: Path) -> Any:
    """Read a YAML file whose mappings have no key twice. All YAML that popgen reads is read by this.

    Raises:
        BrokenFile: the file is not YAML.
        BadInput: a key stands twice in one mapping; YAML forbids that, and its readers take the last value.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _check_keys(root, path, set())
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # dates that do not exist are ValueErrors
        raise BrokenFile(f"{path} is not YAML", " ".join(str(error).split()), "Correct that line.") from error


def _check_keys(node: yaml.Node, path: Path, seen: set[int]) -> None:
    """Refuse a key that stands twice in a mapping of a YAML document; `seen` has the nodes that were checked."""
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(id(node))
    lines: dict[tuple[str, str], int] = {}
    for child in node.value:
        if isinstance(child, tuple):
            key, child = child
            line, name = key.start_mark.line + 1, (key.tag, str(key.value))
            if isinstance(key, yaml.ScalarNode) and name in lines:
                raise BadInput(
                    f"{path}: {key.value} stands twice in one section",
                    f"in line {lines[name]} and in line {line}; only one of them can count",
                    "Remove one of them.",
                )
            lines[name] = line
        _check_keys(child, path, seen)


def parse(content: Any, model: type[Model], where: str, folder: Path = Path()) -> Model:
    """The model of `content`; `where` stands first in the error, and paths in it start from `folder`.

    Raises:
        BadInput: an unknown key, a missing one, or a value that does not fit.
    """
    try:
        return model.model_validate(content, context={"folder": folder})
    except ValidationError as error:
        raise refusal(error, model, where) from error


def refusal(error: ValidationError, model: type[BaseModel], where: str) -> BadInput:
    """The error that explains the first thing that does not fit, and counts the others."""
    problems = error.errors(include_url=False)
    first, others = problems[0], problems[1:]
    more = f" (and {len(others)} more: {', '.join(_dotted(p['loc']) for p in others[:3])})" if others else ""
    what, why, todo = _explain(first, model)
    return BadInput(f"{where}: {what}{more}", why, todo)


def _explain(problem: ErrorDetails, model: type[BaseModel]) -> tuple[str, str, str]:
    key, loc = _dotted(problem["loc"]), problem["loc"]
    if problem["type"] == "extra_forbidden":
        known = _keys_at(model, loc[:-1])
        near = _sections_with(model, str(loc[-1])) if len(loc) == 1 else ""
        return (
            f"{key} is not a known key",
            f"received {_shown(problem['input'])}; nearest known: {near or near_matches(str(loc[-1]), known)}",
            "Correct or remove the key.",
        )
    if problem["type"] == "missing":
        return f"{key} is missing", f"known keys there: {', '.join(_keys_at(model, loc[:-1]))}", f"Add {loc[-1]}."
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key or 'the file'} does not fit", message, "Correct the spec."
    return (
        f"{key} has a value that does not fit",
        f"received {_shown(problem['input'])}: {message}",
        "Correct the value.",
    )


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are allowed in a section of the file."""
    for step in loc:
        field = next((f for name, f in model.model_fields.items() if step in (name, f.alias)), None)
        if field is not None:
            inner = [
                t
                for t in (field.annotation, *get_args(field.annotation))
                if isinstance(t, type) and issubclass(t, BaseModel)
            ]
            model = inner[0] if inner else model
    return [field.alias or name for name, field in model.model_fields.items()]


def _sections_with(model: type[BaseModel], name: str) -> str:
    """The sections of a model that have a field of that name, as `section.name`."""
    sections = {key: field.annotation for key, field in model.model_fields.items()}
    models = {key: one for key, one in sections.items() if isinstance(one, type) and issubclass(one, BaseModel)}
    return ", ".join(f"{key}.{name}" for key, one in models.items() if name in one.model_fields)


def _dotted(loc: tuple[int | str, ...]) -> str:
    return ".".join(map(str, loc)).replace("except_", "except")


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) < 80 else text[:77] + '...'} ({type(value).__name__})"


def _put(content: dict[str, Any], key: str, value: Any, path: Path) -> None:
    *parents, last = key.split(".")
    for depth, parent in enumerate(parents):
        inner = content.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise BadInput(
                f"{path}: {key} cannot be set",
                f"{'.'.join(parents[: depth + 1])} is {_shown(inner)}",
                "Name a key of a section.",
            )
        content = inner
    content[last] = value
