"""The family of a generator: the data sets that it was trained on, and whether another data set is one of their kind."""
