"""The fifteen corruptions of CIFAR-10-C (Hendrycks and Dietterich, arXiv 1903.12261), a file for each family."""
