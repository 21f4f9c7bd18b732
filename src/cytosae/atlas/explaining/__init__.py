"""One image: its concepts, what they cause when they are changed, and what of the image they need."""
