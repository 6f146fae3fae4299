"""Networks as functions of their weights: forward passes, fast passes, batch norm, training."""
