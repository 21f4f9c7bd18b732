"""A decision taken apart, and the cells that speak for a disease."""
