"""Readers for each source of data sets: torchvision's sets, CIFAR's binary files, the user's files and folders, the Hugging Face hub."""
