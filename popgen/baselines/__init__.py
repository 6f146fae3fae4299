"""The rivals that every result is shown beside."""
