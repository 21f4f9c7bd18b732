"""Exact sparse encoding and training faster than the full product: screening with a proven bound, kernels and their twins."""
