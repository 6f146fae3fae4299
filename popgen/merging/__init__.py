"""Merging: one network of several trained ones, in closed form or with a few passes over unlabelled images.

The names below load their modules on first use, so that a wrong name can be refused before torch is imported.
"""

from typing import TYPE_CHECKING

from popgen.lazy import lazy
from popgen.merging.names import METHODS, NEEDS_BASE, NEEDS_IMAGES, NEEDS_SCORES

if TYPE_CHECKING:
    from popgen.merging.given import Merged, MergeSettings
    from popgen.merging.make import merge


__all__ = ["METHODS", "NEEDS_BASE", "NEEDS_IMAGES", "NEEDS_SCORES", "MergeSettings", "Merged", "merge"]

__getattr__ = lazy(__name__, {"popgen.merging.given": ["MergeSettings", "Merged"], "popgen.merging.make": ["merge"]})
