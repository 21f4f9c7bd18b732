from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import pytest

from cytosae.report import Pictures, write_page

MOMENT = datetime.datetime(2025, 7, 16, tzinfo=datetime.UTC)


@pytest.fixture(scope="session")
def pictures(datasets) -> Pictures:
    return Pictures([dataset.cells for dataset in datasets])


@pytest.fixture(scope="session")
def report(study_view, pictures, tmp_path_factory) -> Path:
    return write_page(tmp_path_factory.mktemp("report") / "report.html", study_view, pictures, created=MOMENT)


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium is installed here (Debian: apt-get install chromium)")
    return found
