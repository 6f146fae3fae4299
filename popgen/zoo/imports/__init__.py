"""Importing foreign checkpoints: files, index CSVs and URLs, read without running any code, and torch.hub entries."""
