"""The report: one HTML file that a reader can open anywhere, offline; pages of patients, diseases and single images."""

from __future__ import annotations

from cytosae.report.cohort_content import Evidence
from cytosae.report.cohort_page import write_cohort_report
from cytosae.report.content import DatasetReport
from cytosae.report.contrast_view import Comparison, comparison
from cytosae.report.disease_page import write_disease_page
from cytosae.report.html import write_report
from cytosae.report.image_page import write_explanation
from cytosae.report.marks import Marks
from cytosae.report.models_view import models_view
from cytosae.report.patient_page import write_patient_page

__all__ = [
    "Comparison",
    "DatasetReport",
    "Evidence",
    "Marks",
    "comparison",
    "models_view",
    "write_cohort_report",
    "write_disease_page",
    "write_explanation",
    "write_patient_page",
    "write_report",
]
