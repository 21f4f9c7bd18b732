"""Which concepts and directions stay when the stain changes."""
