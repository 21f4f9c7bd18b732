"""Exact sparse encoding and training past the full product: a proven bound, kernels and their plain twins."""
