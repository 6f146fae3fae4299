"""Adapters as architectures: LoRA on a frozen transformer, whose tensors are the adapter's alone."""
