from .annotations import join_annotations, read_attributes, read_expert_annotations
from .cell_types import cell_type_table, harmonise
from .comparison import DatasetCheck, Finding, check_attributes, check_dataset, shared_images
from .datasets import PublishedDataset, published_dataset, published_datasets
from .decoding.decode import load_image, load_mask
from .fetched_dataset import FetchPlan, fetch_dataset, plan_fetch
from .layouts import LAYOUTS
from .layouts.medmnist import unpack_medmnist
from .reading import read_cells
from .table import CellTable

__all__ = [
    "LAYOUTS",
    "CellTable",
    "DatasetCheck",
    "FetchPlan",
    "Finding",
    "PublishedDataset",
    "cell_type_table",
    "check_attributes",
    "check_dataset",
    "fetch_dataset",
    "harmonise",
    "join_annotations",
    "load_image",
    "load_mask",
    "plan_fetch",
    "published_dataset",
    "published_datasets",
    "read_attributes",
    "read_cells",
    "read_expert_annotations",
    "shared_images",
    "unpack_medmnist",
]
