"""Stain and colour: what they are in an image, brought to a reference, or changed at random."""

from typing import Literal

Stain = Literal["none", "reinhard", "macenko"]
"""Names of the methods of stain normalisation, "none" for images as they are."""
