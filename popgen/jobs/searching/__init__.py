"""The steps of `popgen search`, one file a step."""
