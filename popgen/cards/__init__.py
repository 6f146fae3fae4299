"""Cards: the README.md of generators, zoos and results, made from the files of their folders."""
