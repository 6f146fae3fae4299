"""What a user should know of a result: compression against its cost, images that were seen in training."""
