"""Archives: zoos whose checkpoints are coded, each by the codec that takes the fewest bytes under the user's limit."""
