"""Parts of `popgen bench`."""
