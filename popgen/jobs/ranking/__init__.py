"""The parts of `popgen rank`."""
