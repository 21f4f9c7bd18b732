"""Atlases in zarr: written batch by batch, opened whole or left on disk, the same as those in HDF5."""

from __future__ import annotations

import shutil

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr
from atlas.stub_chain import make_chain

from cytosae.atlas import merge_atlases, open_atlas, read_rows, row_blocks, save_atlas, write_atlas
from cytosae.atlas.stored import atlas_file
from cytosae.atlas.stored.atlas_file import CsrWriter, growing
from cytosae.atlas.stored.matrix import read_array_rows
from cytosae.cli import main
from cytosae.common.artifact import read_artifact
from cytosae.common.errors import ArtifactError


@pytest.fixture
def small(monkeypatch):
    """Chunks and shards so small that a few cells are several."""
    monkeypatch.setattr(atlas_file, "CHUNK", 32)
    monkeypatch.setattr(atlas_file, "SHARD", 2)


@pytest.fixture
def both(tmp_path, small):
    """An atlas in HDF5, and the same in zarr."""
    return [write_atlas(tmp_path / f"a.{kind}", *make_chain(), tau=0.5) for kind in ("h5ad", "zarr")]


def assert_same(one, other):
    np.testing.assert_array_equal(one.X.toarray(), other.X.toarray())
    np.testing.assert_array_equal(one.layers["tokens_above"].toarray(), other.layers["tokens_above"].toarray())
    np.testing.assert_array_equal(one.obsm["X_backbone"], other.obsm["X_backbone"])
    pd.testing.assert_frame_equal(one.obs, other.obs)
    pd.testing.assert_frame_equal(one.var, other.var)
    assert one.uns["provenance"] == other.uns["provenance"]


def test_both_formats_hold_the_same(both, tmp_path):
    hdf5, in_zarr = (open_atlas(path) for path in both)
    assert_same(in_zarr, hdf5)
    assert (in_zarr.X.indptr.dtype, in_zarr.X.indices.dtype) == (np.int32, np.int32)
    assert_same(open_atlas(save_atlas(hdf5, tmp_path / "saved.zarr")), hdf5)
    group = zarr.open_group(both[1], mode="r")
    assert group.metadata.zarr_format == 3
    assert group["X/data"].shards == (64,)
    assert group["X/data"].chunks == (32,)


def test_cells_stay_on_disk_until_they_are_asked_for(both):
    whole, left = open_atlas(both[0]), open_atlas(both[1], backed="r")
    assert isinstance(left.X, ad.abc.CSRDataset)
    rows = np.array([7, 0, 22])
    np.testing.assert_array_equal(read_rows(left.X, rows).toarray(), whole.X[rows].toarray())
    blocks = [block.toarray() for _, block in row_blocks(left.X, entries=40)]
    assert len(blocks) > 2
    np.testing.assert_array_equal(np.concatenate(blocks), whole.X.toarray())
    assert isinstance(left.obsm["X_backbone"], zarr.Array)
    np.testing.assert_array_equal(read_array_rows(left.obsm["X_backbone"], rows), whole.obsm["X_backbone"][rows])
    assert_same(left.to_memory(), whole)


def test_anndatas_lazy_reader_opens_both(both):
    pytest.importorskip("xarray")
    pytest.importorskip("dask")
    whole = open_atlas(both[0])
    for path in both:
        lazy = ad.experimental.read_lazy(path)
        assert lazy.shape == whole.shape
        assert_same(lazy.to_memory(), whole)


def test_the_record_knows_a_folder_and_damage_in_it(both):
    assert read_artifact(both[1], "atlas").details["cells"] == 23
    chunk = next(file for file in (both[1] / "X" / "data").rglob("c/*") if file.is_file())
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(ArtifactError, match="differs from its recorded checksum"):
        open_atlas(both[1])
    shutil.rmtree(both[1] / "obs")
    with pytest.raises(ArtifactError, match="missing"):
        open_atlas(both[1], verify=False)


def test_a_failed_atlas_leaves_no_folder(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atlas_file.CsrWriter, "append", fail)
    with pytest.raises(ArtifactError, match="a.zarr could not be written"):
        write_atlas(tmp_path / "a.zarr", *make_chain(), tau=0.5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["h5", "zarr"])
def test_more_entries_than_int32_numbers_are_numbered_by_int64(tmp_path, small, kind):
    rng = np.random.default_rng(0)
    matrix = sp.csr_array(rng.random((40, 9), np.float32) * (rng.random((40, 9)) < 0.5))
    place = tmp_path / f"m.{kind}"
    with h5py.File(place, "w") if kind == "h5" else zarr.open_group(place, mode="w", zarr_format=3).store as opened:
        file = opened if kind == "h5" else zarr.open_group(place, mode="a")
        writer = CsrWriter(file.create_group("X"), 9, np.float32, index_limit=100)
        for start in range(0, 40, 7):
            writer.append(matrix[start : start + 7])
        writer.finish()
        stored = ad.io.read_elem(file["X"])
        assert file["X/indices"].dtype == file["X/indptr"].dtype == np.int64
        assert sorted(file["X"]) == ["data", "indices", "indptr"]
        np.testing.assert_array_equal(stored.toarray(), matrix.toarray())


def test_shards_are_written_whole(tmp_path, small, monkeypatch):
    array = growing(zarr.open_group(tmp_path / "g", mode="w", zarr_format=3), "a", np.int32)
    lengths = []
    resize = type(array.array).resize
    monkeypatch.setattr(
        type(array.array), "resize", lambda self, shape: (lengths.append(shape[0]), resize(self, shape))
    )
    for start in range(0, 300, 30):
        array.extend(np.arange(start, start + 30, dtype=np.int32))
    array.finish()
    assert len(array) == 300
    assert [length % 64 for length in lengths[:-1]] == [0] * (len(lengths) - 1)
    np.testing.assert_array_equal(array.array[:], np.arange(300))


def test_the_commands_take_folders(both, tmp_path, capsys):
    sae, store, cells = make_chain()
    frame = cells.frame
    halves = []
    for name, rows in (("a", range(10)), ("b", range(10, 23))):
        own = type(store)(store.tokens[list(rows)], [store.cell_ids[i] for i in rows])
        table = type(cells)(frame.iloc[list(rows)].reset_index(drop=True), name)
        halves.append(write_atlas(tmp_path / f"{name}.zarr", sae, own, table, tau=0.5))
    assert main(["atlas", "merge", *map(str, halves), "--out", str(tmp_path / "all.zarr")]) == 0
    merged = open_atlas(tmp_path / "all.zarr")
    np.testing.assert_array_equal(merged.X.toarray(), open_atlas(both[0]).X.toarray())
    assert main(["atlas", "share", str(halves[0]), "--site", "x", "--out", str(tmp_path / "sent.zarr")]) == 0
    assert open_atlas(merge_atlases([tmp_path / "sent.zarr", halves[1]], tmp_path / "b.h5ad")).n_obs == 23
    assert main(["compare", str(halves[0]), str(halves[1]), "--out", str(tmp_path / "pages")]) == 0
    assert "zarr" not in capsys.readouterr().err
