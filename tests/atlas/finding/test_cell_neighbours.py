"""Cells nearest by their mean tokens: all compared, or those that a kept index names."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from cytosae.atlas.finding import cell_neighbours as module
from cytosae.atlas.finding.cell_neighbours import keep_index, nearest_cells
from cytosae.common.errors import ArtifactError

CELLS, WIDTH = 3000, 64


@pytest.fixture
def means():
    """Mean tokens of 30 kinds of cells, far from 0."""
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((30, WIDTH))
    tokens = kinds[rng.integers(30, size=CELLS)] + 0.7 * rng.standard_normal((CELLS, WIDTH)) + 3
    return tokens.astype(np.float32)


@pytest.fixture
def kept(means, tmp_path, monkeypatch):
    """The cache, with an index of the cells in it."""
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "INDEXED", CELLS * WIDTH - 1)
    keep_index(means, means.mean(axis=0), "print")
    return tmp_path / "neighbours"


def by_hand(means, query):
    """Rows in the order of the cosine, by numpy in double precision."""
    apart = means - means.mean(axis=0, dtype=np.float64)
    ours = apart[query]
    return np.argsort(-(apart @ ours) / np.linalg.norm(apart, axis=1) / np.linalg.norm(ours), kind="stable")


def test_few_cells_are_all_compared(means, tmp_path, monkeypatch):
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "BLOCK", 700)
    keep_index(means, means.mean(axis=0), "print")
    assert not list(tmp_path.iterdir())
    found = nearest_cells(means, means.mean(axis=0), means[5], 10, fingerprint="print")
    assert not found.approximate
    assert found.rows.tolist() == by_hand(means, 5)[:10].tolist()
    assert found.cosines[0] == pytest.approx(1, abs=1e-5)
    assert len(nearest_cells(means, means.mean(axis=0), means[5], 2 * CELLS).rows) == CELLS


def test_an_index_finds_at_least_95_of_100_of_the_nearest(means, kept):
    centre, found = means.mean(axis=0), 0
    assert [path.name for path in kept.iterdir()] == ["print.usearch"]
    for query in range(200):
        near = nearest_cells(means, centre, means[query], 10, fingerprint="print")
        assert near.approximate
        exact = nearest_cells(means, centre, means[query], CELLS)
        cosines = dict(zip(exact.rows.tolist(), exact.cosines.tolist(), strict=True))
        np.testing.assert_allclose(near.cosines, [cosines[row] for row in near.rows.tolist()], atol=1e-6)
        assert np.all(np.diff(near.cosines) <= 0)
        found += len(set(near.rows.tolist()) & set(exact.rows[:10].tolist()))
    assert found >= 0.95 * 2000


def test_equal_cells_have_an_equal_index(means, kept):
    module.write_index(means, means.mean(axis=0), kept / "again.usearch")
    assert (kept / "again.usearch").read_bytes() == (kept / "print.usearch").read_bytes()


def test_an_index_of_another_atlas_is_not_asked_and_without_usearch_none_is(means, kept, monkeypatch):
    centre = means.mean(axis=0)
    assert not nearest_cells(means, centre, means[0], 5, fingerprint="other").approximate
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    module._opened.cache_clear()
    assert not nearest_cells(means, centre, means[0], 5, fingerprint="print").approximate
    keep_index(means, centre, "third")
    assert [path.name for path in kept.iterdir()] == ["print.usearch"]


def test_a_damaged_index_is_not_asked_and_made_again(means, kept):
    centre, file = means.mean(axis=0), kept / "print.usearch"
    whole = file.read_bytes()
    for damaged in (b"", b"no index" * 99, whole[: len(whole) // 2]):
        file.unlink()  # a new file: the former one is still open
        file.write_bytes(damaged)
        module._opened.cache_clear()
        assert not nearest_cells(means, centre, means[0], 5, fingerprint="print").approximate
    keep_index(means, centre, "print")
    assert file.read_bytes() == whole
    assert nearest_cells(means, centre, means[0], 5, fingerprint="print").approximate
    file.unlink()
    kept.rmdir()
    kept.touch()
    with pytest.raises(ArtifactError, match="could not be written"):
        keep_index(means, centre, "print")


def test_the_benchmark_measures_recall(capsys):
    script = Path(__file__).parents[3] / "benchmarks" / "neighbours.py"
    if not script.is_file():
        pytest.skip("the benchmarks are not installed with the package")
    benchmark = runpy.run_path(str(script))
    made = benchmark["made_up"](500, 16)
    assert made.shape == (500, 16)
    benchmark["measure"]("drawn", made, 20)
    row = capsys.readouterr().out.strip().split("|")
    assert row[1].strip() == "drawn"
    assert 0.9 < float(row[-2]) <= 1
