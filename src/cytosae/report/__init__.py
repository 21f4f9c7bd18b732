"""The report: one HTML file that a reader can open anywhere, offline; and the page of one explained image."""

from __future__ import annotations

from cytosae.report.content import DatasetReport
from cytosae.report.explanation import write_explanation
from cytosae.report.html import write_report

__all__ = ["DatasetReport", "write_explanation", "write_report"]
