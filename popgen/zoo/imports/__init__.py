"""Checkpoints from elsewhere: files, index CSVs, URLs, torch.hub; read without running any code of theirs."""
