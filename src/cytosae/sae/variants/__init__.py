"""Kinds of sparsity, one file each."""
