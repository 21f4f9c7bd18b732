"""The cell table (which images, of whom, labelled what), safe decoding, data-set readers, the synthetic smear."""

from __future__ import annotations

from cytosae.cells.annotations import join_annotations, read_attributes, read_expert_annotations
from cytosae.cells.cell_types import cell_type_table, harmonise
from cytosae.cells.comparison import DatasetCheck, Finding, check_attributes, check_dataset, shared_images
from cytosae.cells.datasets import PublishedDataset, published_dataset, published_datasets
from cytosae.cells.decoding.decode import load_image, load_mask
from cytosae.cells.layouts import LAYOUTS
from cytosae.cells.layouts.medmnist import unpack_medmnist
from cytosae.cells.reading import read_cells
from cytosae.cells.table import CellTable

__all__ = [
    "LAYOUTS",
    "CellTable",
    "DatasetCheck",
    "Finding",
    "PublishedDataset",
    "cell_type_table",
    "check_attributes",
    "check_dataset",
    "harmonise",
    "join_annotations",
    "load_image",
    "load_mask",
    "published_dataset",
    "published_datasets",
    "read_attributes",
    "read_cells",
    "read_expert_annotations",
    "shared_images",
    "unpack_medmnist",
]
