"""Building a zoo from its spec: which networks are missing, how one is trained, workers on Ray."""
