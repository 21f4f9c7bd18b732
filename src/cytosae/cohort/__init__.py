"""Patients: barcodes, contrasts of diagnoses, pathognomonic cells, classification and explanations that add up."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
