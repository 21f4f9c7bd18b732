"""The explorer of one small study, opened once a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from cytosae.explorer import ExplorerSettings, create_app


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What can be made again goes to a folder of this run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CYTOSAE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def explorer(study_of_smear: Path, cache: None) -> TestClient:
    """A client of the explorer of the synthetic smear; it asks as a browser on this machine would."""
    return TestClient(create_app(ExplorerSettings(study=study_of_smear)), base_url="http://127.0.0.1:8765")
