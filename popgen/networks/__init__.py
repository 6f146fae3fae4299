"""Networks as functions of their weights: forward passes, their fast versions, batch-norm statistics, training."""
