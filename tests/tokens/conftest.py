from __future__ import annotations

from pathlib import Path

import pytest
from tokens.token_stubs import StubBackbone, write_images

from cytosae.cells import CellTable, read_cells
from cytosae.tokens import ExtractConfig, TokenStore, extract

SMALL = ExtractConfig(batch_size=4, workers=0, shard_cells=6)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "cells"
    write_images(folder, 20)
    return folder


@pytest.fixture(scope="session")
def cells(images: Path) -> CellTable:
    return read_cells(images)


@pytest.fixture(scope="session")
def store(cells: CellTable, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return extract(cells, StubBackbone(), tmp_path_factory.mktemp("tokens") / "cells", config=SMALL)


@pytest.fixture
def small() -> ExtractConfig:
    return SMALL
