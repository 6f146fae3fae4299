"""Readers for each source of data sets: torchvision, CIFAR's binary files, the user's files, the Hugging Face hub."""
