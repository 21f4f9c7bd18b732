"""Which tokens count: all of them, those of the cell in the middle, or those of its nucleus."""
