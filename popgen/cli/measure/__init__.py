"""Commands that measure what exists and write nothing: the size of generators, the layers of networks."""
