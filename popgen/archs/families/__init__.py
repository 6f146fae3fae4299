"""Families of convolutional networks for small images, narrow enough to train on a CPU, as the built-in builders make them.

Each family is the design of its paper with fewer stages, because images of 32x32 pixels can be halved three times and not five:
a stem with stride 2, or 1 where an option asks for it, then stages, of which all but the first halve the image.
"""

from popgen.archs.families.mobilenetv2 import mobilenetv2
from popgen.archs.families.repvgg import repvgg
from popgen.archs.families.shufflenetv2 import shufflenetv2
from popgen.archs.families.vgg import vgg

__all__ = ["mobilenetv2", "repvgg", "shufflenetv2", "vgg"]
