"""Token stores in the order in which training wants them."""
