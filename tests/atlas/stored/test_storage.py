from __future__ import annotations

import gc
import resource
import tracemalloc

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy
import scipy.sparse as sp
from anndata.io import sparse_dataset
from atlas.stub_chain import StubSae, make_chain

from cytosae.atlas import (
    build_atlas,
    open_atlas,
    read_rows,
    reference_table,
    row_blocks,
    save_atlas,
    select_concepts,
    stored_entries,
    usefulness,
    write_atlas,
)
from cytosae.atlas.explaining.image_explanation import explain_cell
from cytosae.atlas.stored import atlas_file
from cytosae.atlas.stored import matrix as matrix_module
from cytosae.atlas.stored.atlas_file import CsrWriter
from cytosae.atlas.stored.matrix import read_array_rows
from cytosae.common.artifact import read_artifact, record_path
from cytosae.common.errors import ArtifactError, InputError


def elements(path):
    """Every group and dataset of a file: attributes, type and values."""
    found = {}

    def look(name, item):
        attributes = {key: np.asarray(value).tolist() for key, value in item.attrs.items()}
        if isinstance(item, h5py.Dataset):
            value = item[()]
            found[name] = (attributes, str(item.dtype), getattr(value, "shape", ()), np.asarray(value).tolist())
        else:
            found[name] = (attributes,)

    with h5py.File(path) as file:
        found["/"] = {key: str(value) for key, value in file.attrs.items()}
        file.visititems(look)
    return found


def write_in_batches(cells, *arguments, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytosae.atlas.making.streaming.BATCH_CELLS", cells)
        return write_atlas(*arguments, **options)


@pytest.fixture
def path(chain, tmp_path):
    return write_in_batches(5, tmp_path / "atlas" / "stub.h5ad", *chain)


@pytest.mark.parametrize("batch", [1, 5, 100])
def test_streamed_file_equals_that_of_the_atlas_in_memory_in_every_slot(tmp_path, batch):
    chain = make_chain()
    chain[2].frame["patient"] = [f"P{i % 4}" for i in range(23)]
    streamed = write_in_batches(batch, tmp_path / "a.h5ad", *chain, tau=0.2, reference_cells=4)
    whole = save_atlas(
        build_atlas(*chain, batch_cells=batch, tau=0.2, reference_cells=4), tmp_path / "b" / "a.h5ad", config={}
    )
    # repr, since NaN equals nothing
    ours, theirs = elements(streamed), elements(whole)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert repr(ours[name]) == repr(theirs[name]), name
    assert read_artifact(streamed).inputs == read_artifact(whole).inputs
    assert read_artifact(streamed).details == read_artifact(whole).details
    assert read_artifact(streamed).recipe == read_artifact(whole).recipe


def test_batch_size_does_not_matter_for_the_file(chain, path, tmp_path):
    other = open_atlas(write_in_batches(8, tmp_path / "other.h5ad", *chain))
    atlas = open_atlas(path)
    np.testing.assert_allclose(atlas.X.toarray(), other.X.toarray(), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(atlas.layers["tokens_above"].toarray(), other.layers["tokens_above"].toarray())
    np.testing.assert_array_equal(atlas.uns["reference_cells"]["rows"], other.uns["reference_cells"]["rows"])
    np.testing.assert_allclose(atlas.obsm["X_backbone"], other.obsm["X_backbone"], rtol=1e-6)


def test_equal_atlases_have_equal_bytes(chain, path, tmp_path):
    again = write_in_batches(5, tmp_path / "again" / "stub.h5ad", *chain)
    assert read_artifact(again).files == read_artifact(path).files


def test_integers_with_gaps_keep_their_digits(tmp_path):
    chain = make_chain()
    numbers = [None if i % 5 == 1 else 20190000123456700 + i for i in range(23)]
    chain[2].frame["accession"] = pd.array(numbers, dtype="Int64")
    path = write_atlas(tmp_path / "a.h5ad", *chain)
    for atlas in (ad.read_h5ad(path), scanpy.read_h5ad(path), open_atlas(path, backed="r")):
        assert [None if pd.isna(value) else int(value) for value in atlas.obs["accession"]] == numbers


def test_scanpy_works_on_the_streamed_file(chain, path):
    atlas = scanpy.read_h5ad(path)
    assert atlas.X.indices.dtype == atlas.X.indptr.dtype == np.int32
    assert atlas.obs_names.tolist() == list(chain[2].frame["cell_id"])
    scanpy.pp.neighbors(atlas, use_rep="X_backbone", n_neighbors=5)
    scanpy.pp.calculate_qc_metrics(atlas, percent_top=None, inplace=True)
    assert atlas[::2, 3:9].copy().shape == (12, 6)
    assert ad.read_h5ad(path, backed="r").X[2:4].shape == (2, 30)


def test_an_atlas_that_fails_leaves_nothing_behind_and_an_older_one_stays(chain, path):
    sae, store, cells = chain
    before = read_artifact(path).files
    broken = StubSae()
    broken.encode = lambda x, positions=None: 1 / 0
    with pytest.raises(ZeroDivisionError):
        write_atlas(path, broken, store, cells, tau=0.2)
    with pytest.raises(InputError, match="tau is -1"):
        write_atlas(path, sae, store, cells, tau=-1)
    assert read_artifact(path).files == before
    assert {file.name for file in path.parent.iterdir()} == {path.name, record_path(path).name}


def test_of_a_few_rows_only_the_offsets_about_them_are_read(tmp_path, monkeypatch):
    matrix = sp.csr_array((np.ones(4, np.float32), ([3, 4, 60, 99], [1, 2, 0, 4])), shape=(100, 5))
    with h5py.File(tmp_path / "m.h5", "w") as file:
        ad.io.write_elem(file, "X", matrix)
        left = ad.io.sparse_dataset(file["X"])
        monkeypatch.setattr(matrix_module, "GAP_ENTRIES", 10)
        rows = np.array([99, 3, 8, 60, 3])
        np.testing.assert_array_equal(read_rows(left, rows).toarray(), matrix.toarray()[rows])
        offsets = matrix_module._offsets(left, np.array([3, 8, 60]))
    assert offsets[3:10].tolist() == [0, 1, 2, 2, 2, 2, 2]
    assert offsets[60:62].tolist() == [2, 3]
    assert not offsets[62:].any()


def test_a_disk_that_takes_no_more_is_told_in_a_sentence(chain, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    place = tmp_path / "atlas" / "stub.h5ad"
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(ArtifactError, match=r"stub.h5ad could not be written .*make space"):
            write_atlas(place, *chain)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        gc.collect()
    assert list(place.parent.iterdir()) == []
    write_atlas(place, *chain)
    assert open_atlas(place).n_obs == 23


def test_columns_become_wide_when_offsets_have_to_be(tmp_path):
    whole = sp.random_array((40, 9), density=0.4, format="csr", dtype=np.float32, rng=np.random.default_rng(0))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        writer = CsrWriter(file.create_group("X"), 9, np.float32, index_limit=70)
        for start in range(0, 40, 7):
            writer.append(sp.csr_array(whole[start : start + 7]))
        writer.finish()
        assert sorted(file["X"]) == ["data", "indices", "indptr"]
        read = sparse_dataset(file["X"]).to_memory()
    assert read.indices.dtype == read.indptr.dtype == np.int64
    assert abs(read - whole).max() == 0
    assert abs(read[[3, 30]] - whole[[3, 30]]).max() == 0


def test_backed_atlas_leaves_cells_on_disk_and_reads_like_the_whole(chain, path):
    whole, backed = open_atlas(path), open_atlas(path, backed="r")
    assert not sp.issparse(backed.X)
    assert not sp.issparse(backed.layers["tokens_above"])
    assert isinstance(backed.obsm["X_backbone"], h5py.Dataset)
    rows = np.array([20, 3, 4, 4, 11])
    for mine, theirs in ((backed.X, whole.X), (backed.layers["tokens_above"], whole.layers["tokens_above"])):
        np.testing.assert_array_equal(read_rows(mine, rows).toarray(), theirs.toarray()[rows])
        np.testing.assert_array_equal(read_rows(mine).toarray(), theirs.toarray())
        np.testing.assert_array_equal(stored_entries(mine), np.diff(theirs.indptr))
    np.testing.assert_array_equal(read_array_rows(backed.obsm["X_backbone"], rows), whole.obsm["X_backbone"][rows])
    some = np.arange(23) % 3 == 0
    np.testing.assert_array_equal(backed[some].X.toarray(), whole[some].X.toarray())
    np.testing.assert_array_equal(backed.to_memory().X.toarray(), whole.X.toarray())
    assert usefulness(backed).equals(usefulness(whole))
    assert select_concepts(backed, 5) == select_concepts(whole, 5)
    assert reference_table(backed, 5).equals(reference_table(whole, 5))
    store = chain[1]
    one, other = (explain_cell(store.tokens[2], chain[0], atlas) for atlas in (backed, whole))
    assert one.concepts.equals(other.concepts)
    assert one.similar.equals(other.similar)
    assert one.similar.index[0] == store.cell_ids[2]


@pytest.mark.parametrize("gap", [0, 10, 10_000])
@pytest.mark.parametrize("block", [1, 50, 10_000])
def test_rows_on_disk_are_read_right_however_they_are_cut(path, monkeypatch, gap, block):
    monkeypatch.setattr(matrix_module, "GAP_ENTRIES", gap)
    monkeypatch.setattr(matrix_module, "BLOCK_ENTRIES", block)
    whole, backed = open_atlas(path), open_atlas(path, backed="r")
    for rows in ([], [22], [0, 22], [5, 4, 3], list(range(1, 23, 2)), [7, 7]):
        wanted = np.array(rows, dtype=int)
        np.testing.assert_array_equal(read_rows(backed.X, wanted).toarray(), whole.X.toarray()[wanted])
        np.testing.assert_array_equal(
            read_array_rows(backed.obsm["X_backbone"], wanted), whole.obsm["X_backbone"][wanted]
        )


@pytest.mark.parametrize("entries", [1, 40, 10_000])
@pytest.mark.parametrize("backed", ["r", False])
def test_blocks_of_rows_join_to_the_whole_and_keep_to_their_size(path, entries, backed):
    atlas = open_atlas(path, backed=backed)
    blocks = list(row_blocks(atlas.X, entries))
    assert [start for start, _ in blocks] == np.cumsum([0, *(b.shape[0] for _, b in blocks)])[:-1].tolist()
    assert all(block.nnz <= entries or block.shape[0] == 1 for _, block in blocks)
    joined = sp.vstack([block for _, block in blocks])
    np.testing.assert_array_equal(joined.toarray(), open_atlas(path).X.toarray())


def test_memory_of_the_writer_does_not_hold_the_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(atlas_file, "CHUNK", 1 << 10)  # no more than a chunk of each array waits to be written

    def peak(n):
        """Most memory while ``n`` cells are written, and the bytes of what is written of their activations."""
        _, store, cells = make_chain(n)
        sae = StubSae(d_sae=600)
        sae.b_enc[:] = 1.0
        gc.collect()
        tracemalloc.start()
        path = write_in_batches(8, tmp_path / f"{n}.h5ad", sae, store, cells, tau=0.0)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        atlas = open_atlas(path, backed="r")
        return most, 8 * int(stored_entries(atlas.X).sum() + stored_entries(atlas.layers["tokens_above"]).sum())

    (few, few_bytes), (many, many_bytes) = peak(50), peak(250)
    assert many_bytes - few_bytes > 1_500_000
    assert many - few < (many_bytes - few_bytes) / 4
