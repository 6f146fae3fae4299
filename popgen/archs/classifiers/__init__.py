"""Classifiers of texts and of images from transformers, `hf:NAME`: all their tensors, under their own names."""
