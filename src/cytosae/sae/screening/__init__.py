"""Exact sparse encoding and training past the full product: a proven bound, kernels and their plain twins."""

from typing import Literal

Path = Literal["auto", "dense", "blocks", "screened"]
"""How active latents are found: auto; all scores, densely; screening with products in float32; in bfloat16."""
