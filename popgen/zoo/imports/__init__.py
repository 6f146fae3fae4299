"""Import of checkpoints that popgen did not train: files, index CSVs, URLs, torch.hub entries."""
