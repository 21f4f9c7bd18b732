"""Atlases on disk: the file, and opened whole or with the large slots left there. Nothing here needs torch."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import anndata as ad
import h5py
import numpy as np
import scipy.sparse as sp
from anndata.io import read_elem, sparse_dataset, write_elem

from cytosae.common.artifact import read_artifact, write_file_artifact
from cytosae.common.disk import disk_errors
from cytosae.common.errors import ArtifactError
from cytosae.common.records import reading

if TYPE_CHECKING:
    from cytosae.cells import CellTable

CHUNK = 1 << 16
"""Entries of a chunk of the file."""
PACKED: dict[str, Any] = {"compression": "lzf", "shuffle": True}
"""Bytes of one significance together, then LZF: three quarters of the size of LZF alone, in the same time."""


def save_atlas(atlas: ad.AnnData, path: Path, *, config: Any = None, inputs: Mapping[str, str] | None = None) -> Path:
    """Write an atlas as a ``.h5ad`` artifact of kind "atlas"; it appears at ``path`` complete or not at all."""
    provenance = atlas.uns["provenance"]
    details = {"cells": atlas.n_obs, "latents": atlas.n_vars, "dataset": provenance["dataset"]}
    inputs = inputs or inputs_of(provenance)
    with write_file_artifact(path, "atlas", config=config, inputs=inputs, details=details) as temporary:
        write_h5ad(atlas, temporary, path)
    return path


def open_atlas(path: Path, *, verify: bool = True, backed: Literal["r", False] = False) -> ad.AnnData:
    """Open an atlas artifact; refuses another kind, a newer schema and (with ``verify``) a damaged file.

    With ``backed="r"``, ``X``, the layers and the arrays of ``obsm`` stay in the file: ``X`` and the layers are
    ``anndata.abc.CSRDataset``, ``obsm`` holds ``h5py.Dataset``. Rows of them are read when they are asked for
    (``atlas.X[:100]``, ``atlas[rows].X``, `cytosae.atlas.read_rows`, `cytosae.atlas.row_blocks`); everything else is
    there as usual, and ``atlas.to_memory()`` is the whole. The file stays open as long as the atlas is in use.
    """
    read_artifact(path, "atlas", verify=verify)
    with reading(path, "run the step again"):
        if backed is False:
            return ad.read_h5ad(path)
        return open_left_there(path)


def open_left_there(path: Path) -> ad.AnnData:
    """An AnnData whose ``X``, layers and arrays of ``obsm`` stay in the file; see `open_atlas`."""
    file: Any = h5py.File(path, "r")
    slots: dict[str, Any] = {name: read_elem(file[name]) for name in ("obs", "var", "uns", "varm")}
    return ad.AnnData(
        X=_left_there(file["X"]),
        layers={name: _left_there(layer) for name, layer in file["layers"].items()},
        obsm={name: _left_there(array) for name, array in file["obsm"].items()},
        **slots,
    )


def cells_place(path: Path) -> Path:
    """Where the cell table of the atlas at ``path`` lies: beside it, or in the study that it is of."""
    beside = path.with_suffix(".cells")
    in_study = path.parent.parent / "cells" / path.stem
    return in_study if in_study.is_dir() and not beside.exists() else beside


def open_cells(path: Path, name: str, *, images: Path | None = None) -> CellTable:
    """Open the cell table of the atlas at ``path``, or an empty one called ``name`` where there is none.

    ``images`` is where the images lie now, where they have moved.
    """
    from cytosae.cells import CellTable

    place = cells_place(path)
    return CellTable.load(place, root=images) if place.exists() else CellTable.empty(name)


def _left_there(element: Any) -> Any:
    kind = element.attrs.get("encoding-type")
    if kind == "csr_matrix":
        return sparse_dataset(element)
    return element if kind == "array" else read_elem(element)


def inputs_of(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Fingerprints of what an atlas was made of."""
    return {name: provenance[name] for name in ("sae", "tokens", "cells")}


def write_h5ad(data: ad.AnnData, temporary: Path, path: Path) -> None:
    """As `AnnData.write_h5ad` to ``temporary``; a disk that takes no more is told in a sentence that names ``path``."""
    data.strings_to_categoricals()
    with _Hdf5File(temporary, path) as file, file.writing():
        write_elem(file.file, "/", data, dataset_kwargs={"compression": "lzf"})
        if data.raw is None:
            del file.file["raw"]


class _Hdf5File:
    """An unfinished HDF5 file.

    Parameters
    ----------
    temporary : Path
        Where it is written.
    path : Path
        What it will be called, for messages.
    """

    path: Path
    raw: _FileThatTakesAll
    file: Any

    def __init__(self, temporary: Path, path: Path) -> None:
        self.path = path
        with disk_errors(path, None):
            self.raw = _FileThatTakesAll(temporary, "w+")
            self.file = h5py.File(self.raw, "w")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            with self.writing():
                self.file.close()
                self.raw.close()
        except ArtifactError:
            if kind is None:  # otherwise the first problem is the one to tell
                raise

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Tell what the disk has said by the end of the block."""
        with disk_errors(self.path, None):
            try:
                yield
            finally:  # whatever the library made of it
                if self.raw.problem is not None:
                    raise self.raw.problem


class AtlasFile(_Hdf5File):
    """An unfinished ``.h5ad`` that takes cells in batch by batch (the format: anndata's "On-disk format").

    Parameters
    ----------
    temporary, path : Path
        As of `_Hdf5File`.
    n_latents, width : int
        m, and D of the tokens.
    """

    n_latents: int
    mean_tokens: Any
    means: CsrWriter
    above: CsrWriter

    def __init__(self, temporary: Path, path: Path, n_latents: int, width: int) -> None:
        super().__init__(temporary, path)
        self.n_latents = n_latents
        with self.writing():
            self.file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
            for name in ("obsm", "layers", "obsp", "varp"):
                write_elem(self.file, name, {})
            obsm: Any = self.file["obsm"]
            rows = max(1, CHUNK // width)
            self.mean_tokens = obsm.create_dataset(
                "X_backbone", (0, width), np.float32, maxshape=(None, width), chunks=(rows, width), **PACKED
            )
            self.mean_tokens.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
            self.means = CsrWriter(self.file.create_group("X"), n_latents, np.float32)
            self.above = CsrWriter(self.file.create_group("layers/tokens_above"), n_latents, np.int32)

    def append(self, means: sp.csr_array, above: sp.csr_array, mean_tokens: np.ndarray) -> None:
        """Take in the next cells."""
        with self.writing():
            self.means.append(means)
            self.above.append(above)
            _extend(self.mean_tokens, mean_tokens)

    def finish(self, slots: Mapping[str, Any]) -> None:
        """Write what is known at the end only."""
        with self.writing():
            self.means.finish()
            self.above.finish()
            for name, slot in slots.items():
                write_elem(self.file, name, slot, dataset_kwargs={"compression": "lzf"})


class _FileThatTakesAll(io.FileIO):
    """A file that keeps a refusal of the file system to itself, for the writer to ask about.

    HDF5 crashes the process when it closes a file after a write has failed, as on a full disk.
    """

    problem: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write all of ``data``; nothing once a write has failed."""
        left = memoryview(data)
        try:
            while self.problem is None and len(left):
                left = left[super().write(left) :]
        except OSError as problem:
            self.problem = problem
        return len(data)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the length of the file, unless a write has failed."""
        try:
            return super().truncate(size) if self.problem is None else size or 0
        except OSError as problem:
            self.problem = problem
            return size or 0


class CsrWriter:
    """A CSR matrix of unknown length in an HDF5 group, as anndata stores it, written from the first row to the last.

    Parameters
    ----------
    group : Group
        An empty group.
    width : int
        Number of columns.
    dtype : object
        Of the values.
    index_limit : int
        Most entries that are numbered by int32. As in scipy, offsets and columns have one type: with more, both become
        int64.
    """

    group: h5py.Group
    width: int
    index_limit: int
    data: h5py.Dataset
    indices: h5py.Dataset

    def __init__(self, group: h5py.Group, width: int, dtype: Any, *, index_limit: int = np.iinfo(np.int32).max) -> None:
        self.group, self.width, self.index_limit = group, width, index_limit
        self.data = self._dataset("data", dtype)
        self.indices = self._dataset("indices", np.int32)
        self.counts: list[np.ndarray] = []

    def append(self, rows: sp.csr_array) -> None:
        """Write further rows."""
        if len(self.data) + rows.nnz > self.index_limit and self.indices.dtype == np.int32:
            self._widen()
        self.counts.append(np.diff(rows.indptr).astype(np.int32))
        _extend(self.data, rows.data)
        _extend(self.indices, rows.indices)

    def finish(self) -> None:
        """Write the offsets and the shape."""
        counts = np.concatenate([np.zeros(1, np.int32), *self.counts])
        offsets = self._dataset("indptr", self.indices.dtype)
        _extend(offsets, np.cumsum(counts, dtype=np.int64))
        self.group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        self.group.attrs["shape"] = (len(counts) - 1, self.width)

    def _widen(self) -> None:
        narrow = self.indices
        self.indices = self._dataset("wide", np.int64)
        for start in range(0, len(narrow), 16 * CHUNK):
            _extend(self.indices, narrow[start : start + 16 * CHUNK])
        del self.group["indices"]
        self.group.move("wide", "indices")

    def _dataset(self, name: str, dtype: Any) -> h5py.Dataset:
        return self.group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(CHUNK,), **PACKED)


def _extend(dataset: h5py.Dataset, values: np.ndarray) -> None:
    start = len(dataset)
    dataset.resize(start + len(values), axis=0)
    dataset[start:] = values
