"""Safe decoding: one image file to RGB bytes, or one sentence that says why not."""
