"""What a latent goes with: attributes that people see, morphology or artefact; and which to show first."""
