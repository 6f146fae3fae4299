"""Tasks of few images for directions from trained networks, and the networks that these start from."""
