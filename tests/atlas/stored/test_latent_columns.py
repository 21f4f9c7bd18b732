"""Columns of an atlas are those of the matrix, whatever the blocks that it is read in."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from cytosae.atlas.stored import latent_columns as module
from cytosae.atlas.stored.latent_columns import column_of_rows, write_columns
from cytosae.atlas.stored.matrix import row_blocks


def test_every_column_has_its_rows_and_values(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    full = rng.random((57, 23), np.float32) * (rng.random((57, 23)) < 0.2)
    full[:, 4] = 0
    matrix = sp.csr_array(full)
    monkeypatch.setattr(module, "row_blocks", lambda found, *_: row_blocks(found, entries=31))
    made = write_columns(matrix, tmp_path / "columns")
    dense = matrix.toarray()
    for latent in range(23):
        rows, values = made.of(latent)
        np.testing.assert_array_equal(rows, np.flatnonzero(dense[:, latent]))
        np.testing.assert_array_equal(values, dense[rows, latent])
        for mine, theirs in zip(column_of_rows(matrix, latent), (rows, values), strict=True):
            np.testing.assert_array_equal(mine, theirs, strict=True)
    np.testing.assert_array_equal(made.count_on(np.array([56, 3, 20])), (dense[[56, 3, 20]] > 0).sum(0))
    assert made.count_on(np.zeros(0, np.int64)).tolist() == [0] * 23
    assert [path.name for path in tmp_path.iterdir()] == ["columns"]


def test_a_look_up_reads_two_offsets_and_its_own_entries(tmp_path, monkeypatch):
    full = np.zeros((40, 70_000), np.float32)  # more latents than 16 bits number
    full[:, 69_999] = np.arange(40)
    full[7, 3:5] = 2
    made = write_columns(sp.csr_array(full), tmp_path / "columns")
    read, asked = module._Mapped.read, []

    def watched(file, stretches):
        found = read(file, stretches)
        asked.append([len(items) for items in found])
        return found

    monkeypatch.setattr(module._Mapped, "read", watched)
    assert made.of(69_999)[0].tolist() == list(range(1, 40))
    assert asked == [[39]]
    asked.clear()
    assert np.flatnonzero(made.count_on(np.array([0, 7]))).tolist() == [3, 4, 69_999]
    assert asked == [[2, 2], [0, 3]]


def test_where_the_system_takes_no_advice_the_same_is_read(tmp_path, monkeypatch):
    full = np.eye(3, dtype=np.float32)
    for advice in ("MADV_WILLNEED", "MADV_DONTNEED"):
        monkeypatch.delattr(module.mmap, advice, raising=False)  # as on Windows
    made = write_columns(sp.csr_array(full), tmp_path / "columns")
    assert made.of(1)[0].tolist() == [1]
    assert made.count_on(np.array([0, 2])).tolist() == [1, 0, 1]


def test_a_matrix_without_entries_has_columns_without_cells(tmp_path):
    made = write_columns(sp.csr_array((4, 3), dtype=np.float32), tmp_path / "columns")
    assert [len(part) for part in made.of(2)] == [0, 0]
    assert made.count_on(np.arange(4)).tolist() == [0, 0, 0]


def test_columns_that_are_there_are_opened(tmp_path):
    write_columns(sp.csr_array(np.eye(3, dtype=np.float32)), tmp_path / "columns")
    again = write_columns(None, tmp_path / "columns")
    assert again.of(1)[0].tolist() == [1]


def test_a_search_of_many_entries_keeps_columns_and_one_of_few_reads_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path))
    matrix = sp.csr_array(np.eye(3, dtype=np.float32))
    few = module.column_lookup(matrix, "few")
    assert few(2)[0].tolist() == [2]
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(module, "INDEXED", 2)
    assert module.column_lookup(matrix, "many")(1)[0].tolist() == [1]
    assert [path.name for path in (tmp_path / "columns").iterdir()] == ["many"]
    monkeypatch.setattr(module, "INDEXED", 9)
    monkeypatch.setattr(module, "write_columns", lambda _, folder: module.Columns(folder))  # writes nothing
    assert module.column_lookup(matrix, "many")(0)[0].tolist() == [0]


def test_the_benchmark_on_disk_counts_what_it_made_up(tmp_path, capsys):
    script = Path(__file__).parents[3] / "benchmarks" / "disk_index.py"
    if not script.is_file():
        pytest.skip("the benchmarks are not installed with the package")
    benchmark = runpy.run_path(str(script))
    blocks = list(benchmark["made_up"](50, 300, 20))
    made = sp.csr_array(sp.vstack(blocks))
    assert made.shape == (50, 300)
    assert made.has_canonical_format
    assert 15 <= np.diff(made.indptr).mean() <= 20
    benchmark["measure"](tmp_path, 50, 300, 20, 2)
    assert f"{made.nnz:,} entries" in capsys.readouterr().out
    columns = module.Columns(tmp_path / "columns")
    rows, values = columns.of(int(made.indices[0]))
    assert rows[0] == 0
    assert values[0] == made.data[0]
