"""One pass over the tokens: the statistics of every latent, in pieces that are joined, beside random weights."""
