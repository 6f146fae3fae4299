"""Adapts a published network to images of a new kind without labels."""
