"""Sources of candidates that have a file of their own; popgen/jobs/searching/source.py has their interface."""
