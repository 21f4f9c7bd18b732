"""The cell in the middle of an image: where it is, and the image without it or without all else."""
