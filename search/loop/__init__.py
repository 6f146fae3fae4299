"""The search itself: which candidates are asked and told, the budget, the history from which a search is resumed."""
