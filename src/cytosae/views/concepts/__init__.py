"""Concepts as they are shown: names, cards, the gallery, the map, one in depth, and whether it is real."""
