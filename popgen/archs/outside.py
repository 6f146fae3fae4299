"""Networks that are not built in: `module:function`, `timm:NAME`, `hub:OWNER/REPO:ENTRY`, `lm:BASE`, `hf:NAME`, each with optional options.

A network's image size and normalisation come from timm's own records, or from attributes of the function
(`input_shape`, `classes`, `mean`, `std`, `class_names`; `inputs` and `task` for other kinds of data). A hub entry
carries no such record, so the user has to give them: a wrong normalisation would silently cost accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, get_type_hints

from torch import nn

from popgen.archs.hub import hub_network, parse_hub
from popgen.archs.names import WITH_WEIGHTS, brings_weights, is_outside
from popgen.archs.variants import free_options, split_options
from popgen.errors import BadInput
from popgen.refs import is_module_attr, load_attr
from popgen.trust import check_trusted, remember, trust
from popgen.types import StateDict

if TYPE_CHECKING:
    from popgen.archs.config import ArchConfig

_INPUTS = ("input_shape", "mean", "std")
_ATTRIBUTES = (*_INPUTS, "classes", "task")
_WITHOUT_CODE = ("timm:", *WITH_WEIGHTS)  # builders that run no code but that of installed packages


def fields(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the ArchConfig fields that follow from a name: builder, options, inputs and classes, as far as known.

    The name counts as typed by the user, so its code is trusted from here on.

    Args:
        given: fields that the user sets in addition to the name.

    Raises:
        NotFound: the module, function or timm model does not exist.
        BadInput: the options do not fit, or a hub entry comes without input_shape, mean and std in `given`.
    """
    base, texts = split_options(name)
    if name.startswith("hub:"):
        ref, rest = parse_hub(name)
        base, texts = ref.name, rest.split("/")[1:]
    options = {**free_options(name, texts), **given.get("options", {})}
    trust(base)
    if base.startswith("timm:"):
        from popgen.archs.timm_models import timm_fields  # noqa: PLC0415 - importing timm takes seconds

        return {"builder": base, **timm_fields(base.removeprefix("timm:"), options, given)}
    if base.startswith("lm:"):
        from popgen.archs.language.architecture import lm_fields  # noqa: PLC0415 - importing transformers takes seconds

        return lm_fields(base.removeprefix("lm:"), options, given)
    if base.startswith("hf:"):
        from popgen.archs.classifiers.architecture import hf_fields  # noqa: PLC0415 - importing transformers takes seconds

        return hf_fields(base.removeprefix("hf:"), options, given)
    found: dict[str, Any] = {"builder": base, "options": options}
    if base.startswith("hub:"):
        if missing := [key for key in _INPUTS if key not in given]:
            raise BadInput(
                f"what images {base} takes is not known: {', '.join(missing)}",
                "a repository does not say; see how it trains",
                "Give input_shape, mean and std: in the spec's archs, or popgen zoo import --input-shape 3,32,32 "
                "--mean ... --std ...",
            )
        return {**found, **{key: given[key] for key in _INPUTS}}
    function = load_attr(base)
    own = {key: getattr(function, key) for key in _ATTRIBUTES if hasattr(function, key)}
    if "classes" not in own:
        own["classes"] = len(getattr(function, "class_names", ())) or 10
    if hasattr(function, "inputs"):  # the function's networks read another kind of data than images
        own["inputs"] = {"kind": function.inputs.kind, **function.inputs.to_json()}
    return {**found, **{key: tuple(value) if key in _INPUTS else value for key, value in own.items()}}


def trust_named(names: Iterable[str]) -> None:
    """Trust the code of architectures that the user has named.

    Call it before opening a zoo or generator whose files name the same architectures.
    """
    for name in names:
        if name.startswith("hub:"):
            trust(parse_hub(name)[0].name)
        elif is_outside(name):
            trust(split_options(name)[0])


def remember_builders(configs: Iterable[ArchConfig]) -> None:
    """Trust the code of these architectures on this machine from now on: the user has made checkpoints of them here."""
    remember(c.builder for c in configs if is_outside(c.builder) and not c.builder.startswith(_WITHOUT_CODE))


def network(builder: str, options: dict[str, Any]) -> nn.Module:
    """Build the network of a builder from outside.

    Raises:
        NotTrusted: the user has not named the builder, and it is a hub entry or a function whose annotations do not
            say that it returns an nn.Module.
        NotFound, Offline, BadInput: the builder cannot be loaded, or refuses its options.
        TypeError: the builder does not know one of the options.
    """
    if builder.startswith("timm:"):
        from popgen.archs.timm_models import timm_network  # noqa: PLC0415 - importing timm takes seconds

        return timm_network(builder.removeprefix("timm:"), options)
    if builder.startswith("lm:"):
        from popgen.archs.language.architecture import lm_network  # noqa: PLC0415 - importing transformers takes seconds

        return lm_network(builder.removeprefix("lm:"), **options)
    if builder.startswith("hf:"):
        from popgen.archs.classifiers.architecture import hf_network  # noqa: PLC0415 - importing transformers takes seconds

        return hf_network(builder.removeprefix("hf:"), **options)
    if builder.startswith("hub:"):
        check_trusted(builder)
        return hub_network(parse_hub(builder)[0], options)
    function = load_attr(builder)
    if not _makes_networks(function):
        check_trusted(builder)
    made: nn.Module = function(**options)
    return made


def pretrained_state(name: str, options: dict[str, Any] | None = None) -> StateDict:
    """Return the weights that come with an architecture's name, by the names of its network's tensors.

    Args:
        name: with or without options.
        options: the architecture's options, beside those in the name.

    Raises:
        BadInput: the name brings no weights; only `lm:BASE` and `hf:NAME` do.
        NotFound, Offline, BrokenFile: they cannot be read.
    """
    if not brings_weights(name):
        raise BadInput(
            f"{name!r} brings no weights of its own",
            "only language models and classifiers of transformers do: lm:BASE, hf:NAME",
            "Name a checkpoint instead.",
        )
    from popgen.archs.from_transformers import absolute  # noqa: PLC0415 - as above

    base, texts = split_options(name)
    prefix, _, path = base.partition(":")
    if prefix == "lm":
        from popgen.archs.language.bases import pretrained_state as state_of_model  # noqa: PLC0415 - as above

        return state_of_model(absolute(path))
    from popgen.archs.classifiers.bases import pretrained_state as state_of_classifier  # noqa: PLC0415 - as above

    classes = {**free_options(name, texts), **(options or {})}.get("num_classes")
    return state_of_classifier(absolute(path), classes)


def _makes_networks(function: Any) -> bool:
    """Whether a callable is a subclass of nn.Module, or annotated to return one.

    Only such callables run without the user's trust, so that a file cannot have os:system called.
    """
    returned = function
    if not isinstance(function, type):
        try:
            returned = get_type_hints(function).get("return")
        except (NameError, TypeError, AttributeError):
            return False
    return isinstance(returned, type) and issubclass(returned, nn.Module)


def class_names(builder: str, classes: int) -> tuple[str, ...]:
    """Names of the network's outputs, or () if its source does not record them for this number of classes.

    >>> class_names("timm:resnet18", 1000)[7], class_names("cnn", 10)
    ('cock', ())
    """
    names: tuple[str, ...] = ()
    if builder.startswith("timm:"):
        from popgen.archs.timm_models import timm_class_names  # noqa: PLC0415 - importing timm takes seconds

        names = timm_class_names(builder.removeprefix("timm:"), classes)
    elif builder.startswith("hf:"):
        from popgen.archs.classifiers.bases import label_names  # noqa: PLC0415 - importing transformers takes seconds

        names = label_names(builder.removeprefix("hf:"))
    elif is_module_attr(builder):
        names = tuple(getattr(load_attr(builder), "class_names", ()))
    return names if len(names) == classes else ()


def describe_builder(builder: str) -> str:
    """Describe a builder in words, for an architecture's canonical text.

    >>> describe_builder("timm:resnet18.a1_in1k"), describe_builder("hub:me/nets@v1:cifar10_resnet20")
    ('resnet18 network of timm', 'cifar10 resnet20 network of me/nets@v1')
    """
    if builder.startswith("timm:"):
        return f"{builder.removeprefix('timm:').partition('.')[0].replace('_', ' ')} network of timm"
    if builder.startswith("lm:"):
        return f"language model {builder.rpartition('/')[2].removeprefix('lm:')}"
    if builder.startswith("hf:"):
        return f"classifier {builder.rpartition('/')[2].removeprefix('hf:')} of transformers"
    return parse_hub(builder)[0].text if builder.startswith("hub:") else f"{builder} network"
