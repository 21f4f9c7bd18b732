"""Where latents live, against shares that are computed by hand from the masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from cohort.small_chain import _quiet_csr

from cytosae.atlas import latent_places
from cytosae.atlas.places.locations import PARTS
from cytosae.cells import load_mask, read_cells
from cytosae.cells.focus.patch_grid import patch_areas

SIDE = 8


class Shown:
    """Tokens that are the shares of the parts of their patch, and one more that is active everywhere."""

    def __init__(self, cells) -> None:
        self.grid, self.n_tokens = (SIDE, SIDE), 1 + SIDE * SIDE
        self.cell_ids = [str(cell) for cell in cells.frame["cell_id"]]
        self.shares = np.stack(
            [
                [patch_areas(load_mask(cells.mask_path(row)), value, (SIDE, SIDE)).ravel() for value in PARTS.values()]
                for row in range(len(cells))
            ]
        ).transpose(0, 2, 1)

    def __len__(self) -> int:
        return len(self.cell_ids)

    def read(self, start: int, stop: int) -> torch.Tensor:
        patches = np.pad(self.shares[start:stop], ((0, 0), (1, 0), (0, 0)), constant_values=5.0)
        ones = np.ones((*patches.shape[:2], 1))
        return torch.from_numpy(np.concatenate([patches, ones, 0 * ones], axis=2)).float()


def identity() -> Any:
    def encode_sparse(x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        csr = sp.csr_array(x.numpy())
        return _quiet_csr(csr.indptr, csr.indices, csr.data, csr.shape)

    return SimpleNamespace(d_sae=5, encode_sparse=encode_sparse)


@pytest.fixture(scope="module")
def cells(smear: Path):
    return read_cells(smear)


@pytest.fixture(scope="module")
def shown(cells):
    return Shown(cells)


@pytest.fixture(scope="module")
def places(cells, shown):
    return latent_places(identity(), shown, cells, most=1000)


def test_shares_are_those_of_the_masks_without_cls(shown, places):
    c = shown.shares.reshape(-1, len(PARTS)).astype(float)
    expected = c.T @ c / c.sum(0)[:, None]  # latent j is active as the share of part j
    found = places[[f"{name}_share" for name in PARTS]].to_numpy()
    np.testing.assert_allclose(found[:3], expected, rtol=1e-4)
    np.testing.assert_allclose(found[3], c.sum(0) / len(c), rtol=1e-4)
    assert np.isnan(found[4]).all()


def test_latents_live_where_they_are_dense(places):
    lives = places["lives_in"].astype(object).tolist()
    assert lives[:4] == ["nucleus", "cytoplasm", "background", "anywhere"]
    assert places["lives_in"].isna().tolist() == [False] * 4 + [True]


def test_nothing_is_said_without_the_images(cells, shown):
    assert latent_places(identity(), shown, replace(cells, root=cells.root / "gone")) is None


def test_a_study_says_where_its_latents_live(study_of_smear: Path):
    from cytosae.pipeline import Study

    var = Study(study_of_smear).atlas("smear").var
    active = var["cells_active"] > 0
    total = var[[f"{name}_share" for name in PARTS]].sum(axis=1)
    known = var["lives_in"].notna()
    np.testing.assert_allclose(total[known], 1, rtol=1e-6)
    assert known[active].mean() > 0.9
