"""Cells by their concepts, cells alike, and concepts laid out by likeness."""
