"""The names of data sets, variants and subsets, and what a wrong one is answered with.

Nothing here imports torch, so that an unknown name is refused at once. The rest of a name is checked in load.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from popgen.data.sources.catalogue import CATALOGUE
from popgen.errors import NotFound, unknown_name
from popgen.refs import is_module_attr
from popgen.trust import trust

BUILT_IN = ("digits",)
FORMS = (
    "npz:FILE",
    "text:FILE",
    "folder:FOLDER",
    "lines:FILE",
    "hf:OWNER/NAME",
    "module:function",
)  # names of data sets from outside
SUBSETS = ("classes", "shots", "labels", "blocks")
# The corruptions of CIFAR-10-C in their published order; the argument is the severity, a whole number.
CORRUPTIONS = (
    "gaussian_noise_c",
    "shot_noise_c",
    "impulse_noise_c",
    "defocus_blur_c",
    "glass_blur_c",
    "motion_blur_c",
    "zoom_blur_c",
    "snow_c",
    "frost_c",
    "fog_c",
    "brightness_c",
    "contrast_c",
    "elastic_transform_c",
    "pixelate_c",
    "jpeg_compression_c",
)
MIXED = "mixed"  # mixed:A+B+C gives each image one of the variants A, B and C
STYLE = "style"  # style:VARIANT:SHARE changes a share of the images, which are a group of their own
UNION = "union"  # union:A+B+C shows each image under each of the variants A, B and C, whose images are a group each
ALL_CORRUPTIONS = "all_c"  # inside of mixed, all_c:5 stands for all corruptions at severity 5
# For each variant: the default of its argument (None if the argument must be given), and the lowest and highest value.
VARIANT_RANGES: dict[str, tuple[float | None, float, float]] = {
    "rotate": (None, -360, 360),
    "invert": (0, 0, 0),
    "blur": (0.8, 0.05, 20),
    "edges": (0, 0, 0),
    "mirror": (0, 0, 0),
    "noise": (0.1, 0, 2),
    "contrast": (0.5, 0, 5),
    "threshold": (0.5, 0, 1),
    "brightness": (0.2, -1, 1),
    "gamma": (1.5, 0.1, 10),
    "pixelate": (2, 1, 64),
    "posterize": (6, 2, 256),
    "desaturate": (1, 0, 1),
    "chroma": (2, 1, 64),
    "impulse": (0.03, 0, 1),
    "motion": (4, 1, 32),
    "jpeg": (50, 1, 100),
    **dict.fromkeys(CORRUPTIONS, (None, 1, 5)),
}
READING = ("size", "alpha", "block")  # modifiers that say how images and texts are read
MODIFIERS = (*VARIANT_RANGES, MIXED, STYLE, UNION, *SUBSETS, *READING)  # everything that may follow a source's name


def unknown_source(base: str) -> NotFound:
    """Return the error for the name of a source that is neither built in nor in the catalogue nor from outside."""
    first, _, rest = base.partition("/")
    if first in (*BUILT_IN, *CATALOGUE) and rest:
        unknown = next(p for p in (part.partition(":")[0] for part in rest.split("/")) if p not in MODIFIERS)
        example = f"{MIXED}:{ALL_CORRUPTIONS}:5" if unknown == ALL_CORRUPTIONS else "rotate:45"
        return unknown_name("variant", unknown, MODIFIERS, f"Variants stand behind the data set: {first}/{example}.")
    return unknown_name("data set", base, [*BUILT_IN, *CATALOGUE, *FORMS])


def source_of(name: str) -> str:
    """The source of a data set's name, without what follows it: variants, subsets, and how images are read.

    >>> source_of("my.sets:letters/rotate:45/shots:5")
    'my.sets:letters'
    """
    parts = name.split("/")
    while len(parts) > 1 and parts[-1].partition(":")[0] in MODIFIERS:
        parts.pop()
    return "/".join(parts)


def trust_sources(names: Iterable[str]) -> None:
    """Trust the functions among the sources of data sets that the user has named."""
    for name in names:
        if is_module_attr(source_of(name)):
            trust(source_of(name))


def check_source(name: str) -> None:
    """Refuse a data set whose source, or one of whose modifiers, has an unknown name; other mistakes pass here.

    Raises:
        NotFound: there is no such source or modifier.

    >>> check_source("digits/rotate:45"), check_source("folder:photos")
    (None, None)
    """
    if name.startswith(("npz:", "text:", "folder:", "hf:", "lines:")) or name.endswith("/"):
        return  # a path may contain anything, and a slash at the end is another mistake
    base = source_of(name)
    if base not in (*BUILT_IN, *CATALOGUE) and not is_module_attr(base):
        raise unknown_source(base)
