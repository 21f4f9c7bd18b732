"""AML_Hehr (TCIA 6ppe-4020): patients with genetic AML subtypes and controls; single cells have no label."""

from __future__ import annotations

import re

import pandas as pd

from cytosae.cells.layouts.layout import Layout, join_by, read_table
from cytosae.cells.scan import Scan
from cytosae.common.errors import InputError


def with_metadata(scan: Scan, frame: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of `metadata.csv` by patient; the folder's subtype stays the diagnosis."""
    path = scan.root / "metadata.csv"
    if not path.is_file():
        return frame
    table = read_table(path, needed=("patient_id", "bag_label"))
    return join_by(frame, table.drop(columns="bag_label").rename(columns={"patient_id": "patient"}), "patient")


def named_in_metadata(scan: Scan, frame: pd.DataFrame) -> bool:
    """Whether `metadata.csv` (others have one, too) names at least half of the patients, each with its subtype."""
    try:
        table = read_table(scan.root / "metadata.csv", needed=("patient_id", "bag_label"))
    except InputError:
        return False
    told = set(zip(table["patient_id"], table["bag_label"], strict=True))
    patients = set(zip(frame["patient"], frame["diagnosis"], strict=True))
    return len(told & patients) * 2 >= len(patients)


HEHR = Layout(
    name="hehr",
    title="AML_Hehr",
    shape="data/<bag_label>/<patient_id>/*.tif with metadata.csv",
    pattern=re.compile(r"(?:.*/)?(?P<diagnosis>[^/]+)/(?P<patient>[^/]+)/[^/]+\.tiff?", re.IGNORECASE),
    proof=named_in_metadata,
    columns=with_metadata,
)
