"""Optimizers behind ask and tell, each with its seeds where it reads them; Pareto fronts."""
