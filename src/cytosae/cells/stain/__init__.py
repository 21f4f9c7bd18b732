"""Stain and colour: what they are in an image, brought to a reference, or changed at random."""
