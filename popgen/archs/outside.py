"""Networks that are not built in: `module:function`, `timm:NAME`, `hub:OWNER/REPO:ENTRY`, with options behind the name.

What images enter: timm knows it; a function may carry it as attributes (`input_shape`, `classes`, `mean`, `std`, `class_names`; or `inputs` and `task`); a hub's
entry does not say, so there the user has to (a wrong normalisation costs accuracy silently).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_type_hints

from torch import nn

from popgen.archs.hub import hub_network, parse_hub
from popgen.archs.variants import free_options, split_options
from popgen.errors import BadInput
from popgen.refs import check_trusted, is_module_attr, load_attr, trust

_INPUTS = ("input_shape", "mean", "std")
_ATTRIBUTES = (*_INPUTS, "classes", "task")


def is_outside(name: str) -> bool:
    """Whether a name, with or without options, is that of a network from outside.

    >>> is_outside("timm:resnet18/in_chans:1"), is_outside("my.nets:make"), is_outside("cnn-s/channels:8-8")
    (True, True, False)
    """
    return name.startswith(("timm:", "hub:")) or is_module_attr(split_options(name)[0])


def fields(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The fields of ArchConfig that a name from outside has by itself: builder, options, and what is known of its images.

    The user has typed the name: the code behind it may run from here on.

    Args:
        given: fields that the user sets besides.

    Raises:
        NotFound: no such module, function or timm model.
        BadInput: a hub's entry for which `given` does not say what images enter, or options that do not fit.
    """
    base, texts = split_options(name)
    if name.startswith("hub:"):
        ref, rest = parse_hub(name)
        base, texts = ref.name, rest.split("/")[1:]
    options = {**free_options(name, texts), **given.get("options", {})}
    trust(base)
    if base.startswith("timm:"):
        from popgen.archs.timm_models import timm_fields  # noqa: PLC0415 - timm takes seconds

        return {"builder": base, **timm_fields(base.removeprefix("timm:"), options, given)}
    found: dict[str, Any] = {"builder": base, "options": options}
    if base.startswith("hub:"):
        if missing := [key for key in _INPUTS if key not in given]:
            raise BadInput(
                f"what images {base} takes is not known: {', '.join(missing)}",
                "a repository does not say; see how it trains",
                "Give input_shape, mean and std: in the spec's archs, or popgen zoo import --input-shape 3,32,32 --mean ... --std ...",
            )
        return {**found, **{key: given[key] for key in _INPUTS}}
    function = load_attr(base)
    own = {key: getattr(function, key) for key in _ATTRIBUTES if hasattr(function, key)}
    if "classes" not in own:
        own["classes"] = len(getattr(function, "class_names", ())) or 10
    if hasattr(function, "inputs"):  # of another kind than images
        own["inputs"] = {"kind": function.inputs.kind, **function.inputs.to_json()}
    return {**found, **{key: tuple(value) if key in _INPUTS else value for key, value in own.items()}}


def trust_named(names: Iterable[str]) -> None:
    """Remember architectures that the user names, before a zoo or a generator that records them is opened."""
    for name in names:
        if name.startswith("hub:"):
            trust(parse_hub(name)[0].name)
        elif is_outside(name):
            trust(split_options(name)[0])


def network(builder: str, options: dict[str, Any]) -> nn.Module:
    """The network that a builder from outside makes.

    Raises:
        NotTrusted: a hub's entry, or a function that does not say that it makes networks, which the user has not named.
        NotFound, Offline, BadInput: it cannot be had, or refuses its options.
        TypeError: it does not take one of the options.
    """
    if builder.startswith("timm:"):
        from popgen.archs.timm_models import timm_network  # noqa: PLC0415 - timm takes seconds

        return timm_network(builder.removeprefix("timm:"), options)
    if builder.startswith("hub:"):
        check_trusted(builder)
        return hub_network(parse_hub(builder)[0], options)
    function = load_attr(builder)
    if not _makes_networks(function):
        check_trusted(builder)
    made: nn.Module = function(**options)
    return made


def _makes_networks(function: Any) -> bool:
    """Whether it says so: a subclass of nn.Module, or a function annotated to return one. A file cannot have os:system called."""
    made = function
    if not isinstance(function, type):
        try:
            made = get_type_hints(function).get("return")
        except (NameError, TypeError, AttributeError):
            return False
    return isinstance(made, type) and issubclass(made, nn.Module)


def class_names(builder: str, classes: int) -> tuple[str, ...]:
    """The names of the outputs as far as the network's source knows them; () where it does not.

    >>> class_names("timm:resnet18", 1000)[7], class_names("cnn", 10)
    ('cock', ())
    """
    names: tuple[str, ...] = ()
    if builder.startswith("timm:"):
        from popgen.archs.timm_models import timm_class_names  # noqa: PLC0415 - timm takes seconds

        names = timm_class_names(builder.removeprefix("timm:"), classes)
    elif is_module_attr(builder):
        names = tuple(getattr(load_attr(builder), "class_names", ()))
    return names if len(names) == classes else ()


def words(builder: str) -> str:
    """How a sentence names a builder.

    >>> words("timm:resnet18.a1_in1k"), words("hub:me/nets@v1:cifar10_resnet20")
    ('resnet18 network of timm', 'cifar10 resnet20 network of me/nets@v1')
    """
    if builder.startswith("timm:"):
        return f"{builder.removeprefix('timm:').partition('.')[0].replace('_', ' ')} network of timm"
    return parse_hub(builder)[0].text if builder.startswith("hub:") else f"{builder} network"
