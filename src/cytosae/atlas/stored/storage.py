"""Atlases on disk: the file, and opened whole or with the large slots left there. Nothing here needs torch."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import anndata as ad
import h5py
import zarr
from anndata.io import read_elem, sparse_dataset, write_elem

from cytosae.common.artifact import read_artifact, write_artifact, write_file_artifact
from cytosae.common.disk import disk_errors
from cytosae.common.errors import ArtifactError
from cytosae.common.records import reading

if TYPE_CHECKING:
    from cytosae.cells import CellTable

ZARR = ".zarr"
"""Suffix of atlases that are folders in the format zarr v3; all others are files in HDF5."""


def save_atlas(atlas: ad.AnnData, path: Path, *, config: Any = None, inputs: Mapping[str, str] | None = None) -> Path:
    """Write an atlas as an artifact of kind "atlas", in zarr where ``path`` ends with ``.zarr``, else in HDF5.

    It appears at ``path`` complete or not at all.
    """
    provenance = atlas.uns["provenance"]
    details = {"cells": atlas.n_obs, "latents": atlas.n_vars, "dataset": provenance["dataset"]}
    inputs = inputs or inputs_of(provenance)
    with atlas_artifact(path, "atlas", config=config, inputs=inputs, details=details) as temporary:
        if path.suffix == ZARR:
            with ZarrFolder(temporary, path) as folder, folder.writing():
                atlas.strings_to_categoricals()
                write_elem(folder.file, "/", atlas)
        else:
            write_h5ad(atlas, temporary, path)
    return path


def atlas_artifact(path: Path, kind: str, **record: Any) -> AbstractContextManager[Path]:
    """`write_artifact` for an atlas that is a folder, `write_file_artifact` for one that is a file."""
    return (write_artifact if path.suffix == ZARR else write_file_artifact)(path, kind, **record)


def open_atlas(path: Path | str, *, verify: bool = True, backed: Literal["r", False] = False) -> ad.AnnData:
    """Open an atlas artifact; refuses another kind, a newer schema and (with ``verify``) a damaged file.

    With ``backed="r"``, ``X``, the layers and the arrays of ``obsm`` stay in the file: ``X`` and the layers are
    ``anndata.abc.CSRDataset``, ``obsm`` holds ``h5py.Dataset`` or ``zarr.Array``. Rows of them are read when they are
    asked for (``atlas.X[:100]``, ``atlas[rows].X``, `cytosae.atlas.read_rows`, `cytosae.atlas.row_blocks`);
    everything else is there as usual, and ``atlas.to_memory()`` is the whole. The file stays open as long as the atlas
    is in use.
    """
    path = read_artifact(path, "atlas", verify=verify).path
    with reading(path, "run the step again"):
        if backed is False:
            return ad.read_zarr(path) if path.suffix == ZARR else ad.read_h5ad(path)
        return open_left_there(path)


def open_left_there(path: Path) -> ad.AnnData:
    """An AnnData whose ``X``, layers and arrays of ``obsm`` stay in the file; see `open_atlas`."""
    file: Any = zarr.open_group(path, mode="r") if path.suffix == ZARR else h5py.File(path, "r")
    slots: dict[str, Any] = {name: read_elem(file[name]) for name in ("obs", "var", "uns", "varm")}
    return ad.AnnData(
        X=_left_there(file["X"]),
        layers={name: _left_there(file["layers"][name]) for name in file["layers"]},
        obsm={name: _left_there(file["obsm"][name]) for name in file["obsm"]},
        **slots,
    )


def cells_place(path: Path) -> Path:
    """Where the cell table of the atlas at ``path`` lies: beside it, or in the study that it is of."""
    beside = path.with_suffix(".cells")
    in_study = path.parent.parent / "cells" / path.stem
    return in_study if in_study.is_dir() and not beside.exists() else beside


def open_cells(path: Path | str, name: str, *, images: Path | None = None) -> CellTable:
    """Open the cell table of the atlas at ``path``, or an empty one called ``name`` where there is none.

    ``images`` is where the images lie now, where they have moved.
    """
    from cytosae.cells import CellTable

    place = cells_place(Path(path))
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
    with Hdf5File(temporary, path) as file, file.writing():
        write_elem(file.file, "/", data, dataset_kwargs={"compression": "lzf"})
        if data.raw is None:
            del file.file["raw"]


class Hdf5File:
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
            # whole chunks are written, each once: to hold them back would only leave their packing to the end
            self.file = h5py.File(self.raw, "w", rdcc_nbytes=0)

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


class ZarrFolder:
    """An unfinished folder in zarr v3; the counterpart of `Hdf5File`."""

    def __init__(self, temporary: Path, path: Path) -> None:
        self.path = path
        with disk_errors(path, None):
            self.file: Any = zarr.open_group(temporary, mode="a", zarr_format=3)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # readers then list no folder, and do not stumble over the record of the artifact
        if kind is None:
            with self.writing(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Consolidated metadata")  # no part of zarr v3 yet
                zarr.consolidate_metadata(self.file.store)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Tell what the disk has said by the end of the block; arrays go into as few files as may be."""
        with disk_errors(self.path, None), ad.settings.override(auto_shard_zarr_v3=True):
            yield


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
