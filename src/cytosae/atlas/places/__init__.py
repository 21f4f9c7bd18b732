"""Where in the cell a latent is active: maps, structures, and what the patches look like."""
