from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from atlas.stub_chain import StubCells, StubStore, cell_id
from hypothesis import given, settings
from hypothesis import strategies as st

from cytosae.atlas.places.mask_agreement import localisation, open_localisation, save_localisation, shows
from cytosae.atlas.places.unit_search import LocalisationConfig, iou, search_units
from cytosae.cells.focus.patch_grid import patch_areas

N, P = 60, 64
CONFIG = LocalisationConfig(bootstrap=300)


def discs(rng: np.random.Generator, n: int = N, side: int = 8) -> np.ndarray:
    """Shares of patches covered by discs at random places."""
    y, x = np.mgrid[:side, :side]
    centre = rng.uniform(2, side - 3, (n, 2, 1, 1))
    return ((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2 < 4).reshape(n, -1).astype(np.float32)


def half(n: int = N) -> np.ndarray:
    return np.arange(n) % 2 == 0


def noise(rng: np.random.Generator, units: int = 20) -> np.ndarray:
    return (rng.random((N * P, units)) * (rng.random((N * P, units)) < 0.2)).astype(np.float32)


def search(families: dict, area: np.ndarray, config: LocalisationConfig = CONFIG):
    names = np.array(["a"] * (N // 2) + ["b"] * (N // 2))
    return search_units(families, {"nucleus": area}, names, half(), config)


def row(result, family: str):
    return result.table.set_index("family").loc[family]


def test_a_planted_latent_and_its_threshold_are_found():
    rng = np.random.default_rng(0)
    area = discs(rng)
    units = noise(rng, 200)
    # Weakly active everywhere, strongly inside: only a threshold in between separates.
    units[:, 150] = 0.5 + area.ravel() + 0.2 * rng.random(N * P)
    found = row(search({"SAE latent": sp.csc_array(units)}, area), "SAE latent")
    assert found["unit"] == 150
    assert 0.7 < found["threshold"] < 1.6
    assert found["iou"] > 0.9
    assert found["gain_low"] > 0.3
    assert found["low"] <= found["iou"] <= found["high"]


def test_both_signs_of_a_neuron_are_searched():
    rng = np.random.default_rng(1)
    area = discs(rng)
    neurons = rng.standard_normal((N * P, 10)).astype(np.float32)
    neurons[:, 7] = 3 - 4 * area.ravel()
    found = row(search({"backbone neuron": np.concatenate([neurons, -neurons], 1)}, area), "backbone neuron")
    assert (found["unit"], found["sign"]) == (7, "-")
    assert found["iou"] == pytest.approx(1)


def test_noise_is_at_chance():
    rng = np.random.default_rng(2)
    found = row(search({"SAE latent": sp.csc_array(noise(rng))}, discs(rng)), "SAE latent")
    assert found["gain_low"] < 0 < found["gain_high"]
    assert found["iou"] == pytest.approx(found["chance_area"], abs=0.03)


def test_knowing_only_the_place_is_no_better_than_another_cells_mask():
    area = np.tile(discs(np.random.default_rng(3), 1), (N, 1))
    found = row(search({"SAE latent": sp.csc_array(noise(np.random.default_rng(3)))}, area), "fixed map")
    assert found["iou"] == found["chance"] == 1
    assert found["gain"] == 0


def test_the_same_seed_gives_the_same_result():
    area, units = discs(np.random.default_rng(4)), sp.csc_array(noise(np.random.default_rng(4)))
    assert search({"SAE latent": units}, area).table.equals(search({"SAE latent": units}, area).table)


def test_search_equals_trying_every_unit_and_threshold():
    rng = np.random.default_rng(5)
    area, units = discs(rng), noise(rng, 12)
    found = row(search({"SAE latent": sp.csc_array(units)}, area), "SAE latent")
    values = units.reshape(N, P, 12)[half()]
    tried = [
        iou(values[:, :, u] > t, area[half()]).mean()
        for u in range(12)
        for t in [0, *np.quantile(values[:, :, u][values[:, :, u] > 0], np.arange(1, 32) / 32)]
    ]
    chosen = iou(values[:, :, int(found["unit"])] > found["threshold"], area[half()]).mean()
    assert found["search_iou"] == pytest.approx(chosen)
    assert found["search_iou"] == pytest.approx(max(tried), abs=2e-3)


def test_search_of_numbers_of_both_signs_equals_trying_every_threshold():
    rng = np.random.default_rng(9)
    area, units = discs(rng), np.round(rng.standard_normal((N * P, 6)), 1).astype(np.float32)
    signed = np.concatenate([units, -units], 1)
    found = row(search({"backbone neuron": signed}, area), "backbone neuron")
    values = signed.reshape(N, P, 12)[half()]
    places = (np.arange(32) / 32 * values[:, :, 0].size).astype(int)
    tried = [
        iou(values[:, :, u] > t, area[half()]).mean()
        for u in range(12)
        for t in np.sort(values[:, :, u].ravel())[places]
    ]
    assert found["search_iou"] == pytest.approx(max(tried), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(3, 40),
    width=st.integers(3, 40),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_patch_areas_keep_the_area_of_the_mask(height, width, rows, columns, seed):
    mask = np.random.default_rng(seed).integers(0, 3, (height, width))
    areas = patch_areas(mask, 2, (rows, columns))
    assert areas.shape == (rows, columns)
    assert areas.min() >= -1e-6
    assert areas.max() <= 1 + 1e-6
    assert areas.mean() == pytest.approx((mask == 2).mean(), abs=1e-5)


def test_iou_of_patches_is_that_of_the_pixels():
    mask = np.random.default_rng(6).integers(0, 2, (32, 32))
    selected = np.random.default_rng(7).random((4, 4)) < 0.5
    pixels = np.kron(selected, np.ones((8, 8))) > 0
    expected = (pixels & (mask == 1)).sum() / (pixels | (mask == 1)).sum()
    found = iou(selected.reshape(1, -1), patch_areas(mask, 1, (4, 4)).reshape(1, -1))
    assert found[0] == pytest.approx(expected)


def test_ceiling_is_the_best_selection_of_patches():
    area = np.random.default_rng(8).random((N, 6)).astype(np.float32)
    names = np.array(["a"] * N)
    unit = sp.csc_array(np.ones((N * 6, 1), np.float32))
    result = search_units({"SAE latent": unit}, {"nucleus": area}, names, half(), CONFIG)
    every = np.array([[(code >> bit) & 1 for bit in range(6)] for code in range(64)], bool)
    best = [max(iou(s[None], a[None])[0] for s in every) for a in area[~half()]]
    assert result.ceiling["nucleus"] == pytest.approx(np.mean(best))


class IdentitySae:
    """Latents are the positive parts of the token's numbers, except that latent 1 is the nucleus by construction."""

    d_in = d_sae = 4
    W_enc = torch.eye(4)

    def encode_sparse(self, x, positions=None):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.relu(x).to_sparse_csr()


def test_masks_on_disk_lead_to_the_planted_latent_and_the_result_survives_the_disk(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(9)
    n, side = 24, 8
    nucleus = discs(rng, n, side).reshape(n, side, side) > 0
    tokens = torch.from_numpy(rng.standard_normal((n, side * side + 1, 4)).astype(np.float32))
    for i in range(n):
        tokens[i, 1:, 1] = torch.from_numpy(2.0 * nucleus[i].ravel() - 1)
        mask = np.where(np.kron(nucleus[i], np.ones((5, 5))) > 0, 2, 1).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / f"{i}.png")
    ids = [cell_id(i) for i in range(n)]
    masks = [f"{i}.png" if i < 20 else None for i in range(n)]
    cells = StubCells(pd.DataFrame({"cell_id": ids, "mask": masks}), root=tmp_path)
    result = localisation(IdentitySae(), [(StubStore(tokens, ids), cells)], config=CONFIG)
    assert (result.n_search, result.n_test) == (10, 10)
    best = result.table[(result.table["structure"] == "nucleus") & (result.table["family"] == "SAE latent")].iloc[0]
    assert best["unit"] == 1
    assert best["iou"] == pytest.approx(1)
    again = open_localisation(save_localisation(result, tmp_path / "localisation.json"))
    assert again.config == CONFIG
    pd.testing.assert_frame_equal(again.table, result.table)


def test_too_few_masks_are_told_in_a_sentence(tmp_path):
    from cytosae.common.errors import InputError

    cells = StubCells(pd.DataFrame({"cell_id": [cell_id(0)], "mask": [None]}), root=tmp_path)
    store = StubStore(torch.zeros(1, 5, 4), [cell_id(0)])
    with pytest.raises(InputError, match="0 cells have a mask"):
        localisation(IdentitySae(), [(store, cells)])


def cells_of(tmp_path, masks: list[np.ndarray], name: str = "stub"):
    """Tokens whose second number is positive where the mask is not 0, and the cells with these masks."""
    import pandas as pd
    from PIL import Image

    n, side = len(masks), 8
    tokens = torch.from_numpy(np.random.default_rng(9).standard_normal((n, side * side + 1, 4)).astype(np.float32))
    for i, mask in enumerate(masks):
        tokens[i, 1:, 1] = torch.from_numpy(2.0 * (mask > 0).ravel() - 1)
        Image.fromarray(np.kron(mask, np.ones((5, 5), np.uint8))).save(tmp_path / f"{name}{i}.png")
    ids = [cell_id(i + 1000 * len(name)) for i in range(n)]
    frame = pd.DataFrame({"cell_id": ids, "mask": [f"{name}{i}.png" for i in range(n)]})
    return StubStore(tokens, ids), StubCells(frame, name=name, root=tmp_path)


@pytest.mark.parametrize("value", [255, 1, 7])
def test_a_mask_of_two_values_is_compared_as_the_whole_cell(tmp_path, value):
    outlines = (discs(np.random.default_rng(3), 20) > 0).reshape(20, 8, 8)
    result = localisation(IdentitySae(), [cells_of(tmp_path, list(outlines * np.uint8(value)))], config=CONFIG)
    assert set(result.table["structure"]) == {"cell"}
    best = row(result, "SAE latent")
    assert (best["unit"], best["iou"]) == (1, 1)
    assert result.ceiling == {"cell": 1}


def test_masks_of_either_kind_are_compared_on_their_own_cells(tmp_path):
    outlines = (discs(np.random.default_rng(4), 40) > 0).reshape(40, 8, 8)
    parts = outlines[:20].astype(np.uint8)
    parts[:, 3:5] *= 2
    parts[:4][parts[:4] > 0] = 1  # without a nucleus, in a data set of masks that have one
    sources = [cells_of(tmp_path, list(parts), "parts"), cells_of(tmp_path, list(outlines[20:] * np.uint8(255)), "one")]
    result = localisation(IdentitySae(), sources, config=CONFIG)
    assert set(result.table["structure"]) == {"nucleus", "cytoplasm", "cell"}
    assert set(result.by_dataset.query("structure == 'cell'")["dataset"]) == {"one"}
    assert set(result.by_dataset.query("structure != 'cell'")["dataset"]) == {"parts"}
    assert result.n_search + result.n_test == 40
    assert {name: len(ids) for name, ids in result.held_out.items()} == {"one": 10, "parts": 10}
    assert result.table.query("structure == 'cell' and family == 'SAE latent'")["iou"].item() == 1
    again = open_localisation(save_localisation(result, tmp_path / "localisation.json"))
    assert again.table.equals(result.table)


def test_where_a_mask_shows_a_structure():
    mask = np.array([[0, 1], [2, 3]], np.uint8)
    assert shows(mask, "nucleus").tolist() == [[False, False], [True, False]]
    assert shows(mask, "cytoplasm").tolist() == [[False, True], [False, False]]
    assert shows(mask, "cell").tolist() == [[False, True], [True, True]]
