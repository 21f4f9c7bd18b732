"""The APL cohort of Sidhom et al. 2021: patients with and without the APL diagnosis, cells signed by experts."""

from __future__ import annotations

import re

import pandas as pd

from cytosae.cells.layouts.layout import Layout, join_by, read_table
from cytosae.cells.scan import Scan


def with_master(scan: Scan, frame: pd.DataFrame) -> pd.DataFrame:
    """Label the signed cells, and add diagnosis, cohort, age and sex from `master.csv`."""
    signed = frame["slides"].str.lower() == "signed"
    frame["label"] = frame["folder"].where(signed)
    frame["suggested_label"] = frame["folder"].mask(signed)
    frame["signed"] = signed.astype(bool)
    frame = frame.drop(columns=["slides", "folder"])
    path = scan.root / "master.csv"
    if not path.is_file():
        return frame
    table = read_table(path, needed=("Patient_ID", "Diagnosis"))
    table.columns = table.columns.str.strip().str.lower()
    table = table.rename(columns={"patient_id": "patient"})
    frame = frame.drop(columns="diagnosis")
    return join_by(frame, table, "patient")


APL_COHORT = Layout(
    name="apl_cohort",
    title="APL cohort",
    shape="Patient_NN/[<smear>/]Signed slides/<cell type>/*.jpg",
    pattern=re.compile(
        r"(?:.*/)?(?P<patient>Patient_\d+)/(?:(?P<smear>[^/]+)/)?(?P<slides>Signed|Unsigned) slides/"
        r"(?:(?P<folder>[^/]+)/)?[^/]+",
        re.IGNORECASE,
    ),
    columns=with_master,
)
