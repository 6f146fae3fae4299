"""Comparisons over a grid of data sets and seeds: intervals, wins and losses, tables."""
