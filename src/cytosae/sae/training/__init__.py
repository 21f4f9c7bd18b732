"""How an SAE is trained: from where it starts to what is measured of it."""
