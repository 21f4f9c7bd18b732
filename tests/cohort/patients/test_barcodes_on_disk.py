from __future__ import annotations

import importlib

import h5py
import numpy as np
from cohort.small_chain import TAU

from cytosae.atlas import open_atlas, write_atlas
from cytosae.atlas.stored.matrix import layer_names
from cytosae.cohort import barcodes, cell_matrix


def test_barcodes_of_an_atlas_on_disk_equal_those_of_one_in_memory(small_chain, tmp_path, monkeypatch):
    path = write_atlas(tmp_path / "a.h5ad", *small_chain, tau=TAU)
    monkeypatch.setattr(importlib.import_module("cytosae.cohort.patients.barcodes"), "BLOCK_ENTRIES", 200)
    memory, disk = open_atlas(path), open_atlas(path, backed="r")
    theirs, ours = barcodes(memory), barcodes(disk)
    assert ours.obs.equals(theirs.obs)
    for name in layer_names(theirs):
        np.testing.assert_array_equal(ours.layers[name], theirs.layers[name])
    np.testing.assert_array_equal(ours.obsm["X_backbone"], theirs.obsm["X_backbone"])
    assert isinstance(disk.obsm["X_backbone"], h5py.Dataset)


def test_cells_of_a_part_of_an_atlas_on_disk_are_those_in_memory(small_chain, tmp_path):
    path = write_atlas(tmp_path / "a.h5ad", *small_chain, tau=TAU)
    memory, disk = open_atlas(path), open_atlas(path, backed="r")
    own = np.asarray(memory.obs["patient"] == memory.obs["patient"].iloc[0])
    for kind in ("presence", "mean", "count"):
        whole = cell_matrix(memory, kind).toarray()
        np.testing.assert_array_equal(cell_matrix(disk, kind).toarray(), whole)
        np.testing.assert_array_equal(cell_matrix(disk[own], kind).toarray(), whole[own])
        np.testing.assert_array_equal(cell_matrix(disk, kind, np.flatnonzero(own)[::-1]).toarray(), whole[own][::-1])
