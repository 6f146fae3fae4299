"""A generator in an archive: its codes are one more form in which checkpoints are kept."""
