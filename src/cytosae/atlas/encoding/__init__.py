"""Tokens of cells to activations of latents, and what no latent explains."""
