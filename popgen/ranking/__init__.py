"""Scores of checkpoints for a data set, without training: each is computed from one forward pass of labelled examples."""
