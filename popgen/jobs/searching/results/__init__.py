"""What a search gives back besides its best: an earlier network where that is as good, several side by side, the gain over its start."""
