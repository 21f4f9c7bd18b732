"""The published CytoSAE: its authors' statistics as an atlas, with pictures where the images are at hand."""
