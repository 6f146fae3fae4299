"""Building a zoo from its spec: the plan of missing networks, the training of one network, and workers on Ray."""
