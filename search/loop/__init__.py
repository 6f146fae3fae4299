"""The search loop: settings and budget, the plan of candidates, the history from which a search is resumed."""
