"""Training by gradients after a search: of every row for comparison, and of the best starts for the result."""
