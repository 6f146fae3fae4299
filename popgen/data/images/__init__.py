"""Transforms of images: variants, which are part of a data set's name, and augmentation for training."""
