"""Fixtures that the whole suite shares; each heavy thing is made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real cells beside the project."""
    path = SHARED / "data"
    if not path.is_dir():
        pytest.skip("the shared real cells (../shared/data) are not here")
    return path


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """Folder of what the published code does, beside the project."""
    path = SHARED / "reference"
    if not path.is_dir():
        pytest.skip("the reference material (../shared/reference) is not here")
    return path
