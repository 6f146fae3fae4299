"""Texts as examples of a data set."""
