"""The autoencoder itself: parameters, how active latents are found, products that touch nothing else."""
