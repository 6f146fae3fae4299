"""Checks of what a generator and a result are: compression against its cost in accuracy, images seen in training."""
