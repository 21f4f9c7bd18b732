"""An atlas that is made in parts is the atlas of one pass, to the last bit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from atlas.stub_chain import make_chain

from cytosae.atlas import LatentStatistics, describe_random, open_atlas, write_atlas
from cytosae.atlas.config import Part
from cytosae.atlas.making import joining, streaming
from cytosae.atlas.making.build import plan_atlas
from cytosae.atlas.making.random_latents import count_random, random_table
from cytosae.common.errors import ArtifactError, UsageError
from cytosae.pipeline import Study


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Batches of four cells, so that a few cells are several."""
    for module in (joining, streaming):
        monkeypatch.setattr(module, "BATCH_CELLS", 4)


def assert_identical(one, other):
    """No bit differs."""
    for a, b in ((one.X, other.X), (one.layers["tokens_above"], other.layers["tokens_above"])):
        assert (a.dtype, a.indices.dtype) == (b.dtype, b.indices.dtype)
        for field in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    for slot in ("obsm", "varm"):
        assert getattr(one, slot).keys() == getattr(other, slot).keys()
        for name, array in getattr(one, slot).items():
            np.testing.assert_array_equal(array, getattr(other, slot)[name], err_msg=name)
    pd.testing.assert_frame_equal(one.obs, other.obs)
    pd.testing.assert_frame_equal(one.var, other.var, check_exact=True)
    assert one.uns.keys() == other.uns.keys()
    for name in ("rows", "values", "cell_ids"):
        np.testing.assert_array_equal(one.uns["reference_cells"][name], other.uns["reference_cells"][name])
    assert one.uns["provenance"] == other.uns["provenance"]
    np.testing.assert_array_equal(one.uns["class_cells"], other.uns["class_cells"])


@pytest.mark.parametrize("of", [1, 2, 3, 5, 9])
def test_any_number_of_parts_gives_the_atlas_of_one_pass(tmp_path, of):
    sae, store, cells = make_chain()
    whole = open_atlas(write_atlas(tmp_path / "whole.h5ad", sae, store, cells, tau=0.5, reference_cells=3))
    plan = plan_atlas(sae, store, cells, 0.5)
    made = [Part(number, of) for number in range(1, of + 1)]
    for part in reversed(made):  # in any order
        joining.write_part(tmp_path / f"{part.number}.h5ad", sae, store, plan, part)
    opened = [joining.open_part(tmp_path / f"{part.number}.h5ad") for part in made]
    assert sum(one.n_obs for one in opened) == len(store)
    joined = joining.write_joined(tmp_path / "joined.h5ad", opened, plan, reference_cells=3)
    assert_identical(open_atlas(joined), whole)


def test_random_latents_of_parts_are_those_of_one_pass(tmp_path, study_of_smear):
    study = Study(study_of_smear)
    sae, store, cells = study.sae(), study.tokens("smear"), study.cells("smear")
    found = LatentStatistics(sae.d_sae, store.grid, len(cells.labels), 4)
    for number in (3, 1, 2):
        rows = joining.rows_of_part(len(store), Part(number, 3))
        counted = count_random(sae, store, cells, rows=rows, reference_cells=4)
        path = joining.save_statistics(counted, tmp_path / f"{number}.safetensors")
        found = found.merge(joining.open_statistics(path))
    whole = describe_random(sae, store, cells, reference_cells=4)
    pd.testing.assert_frame_equal(random_table(found, store, cells), whole, rtol=1e-12)


def test_parts_cut_the_cells_without_gap_and_begin_with_a_batch():
    for of in (1, 2, 7, 30):
        edges = [joining.rows_of_part(23, Part(number, of)) for number in range(1, of + 1)]
        assert [row for start, stop in edges for row in range(start, stop)] == list(range(23))
        assert all(start % 4 == 0 or start == 23 for start, _ in edges)


@pytest.mark.parametrize("text", ["", "2", "0/8", "9/8", "2/0", "a/b", "-1/8", "1/8/2", "²/8"])
def test_a_part_that_there_is_not_is_refused(text):
    with pytest.raises(UsageError, match="--part"):
        Part.parse(text)


def test_a_part_is_no_atlas(tmp_path):
    sae, store, cells = make_chain()
    path = joining.write_part(tmp_path / "1.h5ad", sae, store, plan_atlas(sae, store, cells, 0.5), Part(1, 2))
    with pytest.raises(ArtifactError, match="atlas_part"):
        open_atlas(path)
