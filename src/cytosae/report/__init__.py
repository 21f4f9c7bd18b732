"""The report: one HTML file that a reader can open anywhere, offline."""

from __future__ import annotations

from cytosae.report.content import DatasetReport
from cytosae.report.html import write_report

__all__ = ["DatasetReport", "write_report"]
