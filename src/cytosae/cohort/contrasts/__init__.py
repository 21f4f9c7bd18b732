"""Two groups of patients compared, latent by latent."""
