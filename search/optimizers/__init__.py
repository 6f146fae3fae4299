"""Optimizers with `ask` and `tell`, each of which gets the seeds in the way that it uses them; Pareto fronts."""
