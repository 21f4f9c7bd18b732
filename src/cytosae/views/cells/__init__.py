"""Cells and images as they are shown: what lights up, what a change causes, what is looked at, what is found."""
