"""BloodMNIST's arrays as a folder of images, which is what a cell table points at."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.lib import format as npy
from PIL import Image

from cytosae.common.artifact import hash_file
from cytosae.common.disk import disk_errors
from cytosae.common.errors import CytosaeError, InputError
from cytosae.common.progress import progress
from cytosae.common.unfinished import sweep, written_whole

CLASSES = ("basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil", "platelet")
"""Label index -> name."""
SPLITS = ("train", "val", "test")
_SOURCE = "source.txt"
_CHUNK_BYTES = 32 << 20  # of an array at a time: the largest archive holds 2.6 GB


def unpack_medmnist(path: Path | str, out: Path | str) -> Path:
    """Write the images of a BloodMNIST `.npz` as PNG with a `manifest.csv` (columns image, label, split, number).

    The folder appears at ``out`` complete or not at all. One that was made of the same file is left as it is. Memory
    does not grow with the size of the arrays.

    Raises
    ------
    InputError
        where the file is no such archive or ``out`` already holds something else.
    """
    path, out = Path(path), Path(out)
    source = f"{hash_file(path)}  {path.name}\n"
    if out.exists() and any(out.iterdir()):
        if (out / _SOURCE).is_file() and (out / _SOURCE).read_text(encoding="utf-8").split()[:1] == source.split()[:1]:
            return out
        raise InputError(f"{out} is not empty; give a new folder to unpack {path.name} into.")
    sweep(out)
    with written_whole(out, folder=True) as temporary:
        _unpack(path, temporary)
        (temporary / _SOURCE).write_text(source, encoding="utf-8")
    return out


def _unpack(path: Path, folder: Path) -> None:
    rows: list[dict[str, Any]] = []
    try:
        with disk_errors(folder), zipfile.ZipFile(path) as archive:
            splits = [name for name in SPLITS if f"{name}_images.npy" in archive.namelist()]
            if not splits:
                raise InputError(f"{path} has no train_images, val_images or test_images; give a BloodMNIST .npz file.")
            for split in splits:
                rows += _write_split(archive, path, split, folder)
    except CytosaeError:
        raise
    except Exception as problem:  # of a damaged zip file or header, numpy and zipfile raise what they like
        raise InputError(f"{path} cannot be read as a MedMNIST archive ({problem}); fetch it again.") from problem
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)


def _write_split(archive: zipfile.ZipFile, path: Path, split: str, out: Path) -> list[dict[str, Any]]:
    with archive.open(f"{split}_labels.npy") as file:
        labels = _labels(np.concatenate(list(_Array.of(file).chunks())), path, split)
    (out / "images" / split).mkdir(parents=True)
    with archive.open(f"{split}_images.npy") as file, progress(f"Unpacking {split}", len(labels), "images") as bar:
        images = _Array.of(file)
        if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[3] != 3 or len(labels) != images.shape[0]:
            raise InputError(
                f"{path} holds {split} images of type {images.dtype} and shape {list(images.shape)} for {len(labels)} "
                "labels; colour images [n, side, side, 3] of 8 bits are needed: give a BloodMNIST .npz file."
            )
        index = 0
        for chunk in images.chunks():
            for image in chunk:
                Image.fromarray(image).save(out / _name(split, index), compress_level=1)
                index += 1
            bar.advance(len(chunk))
    return [
        {"image": _name(split, index), "label": CLASSES[label], "split": split, "number": index}
        for index, label in enumerate(labels)
    ]


def _name(split: str, index: int) -> str:
    return f"images/{split}/{index:05d}.png"


def _labels(values: np.ndarray, path: Path, split: str) -> np.ndarray:
    labels = values.reshape(-1)
    if labels.dtype.kind not in "iu" or (len(labels) and not 0 <= labels.min() <= labels.max() < len(CLASSES)):
        raise InputError(
            f"{path} has {split} labels outside 0 to {len(CLASSES) - 1}, so it is another data set of MedMNIST; "
            "give a BloodMNIST .npz file."
        )
    return labels


@dataclass(frozen=True)
class _Array:
    """An array in a `.npy` file that is read from its beginning to its end."""

    file: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, file: IO[bytes]) -> _Array:
        version = npy.read_magic(file)
        read: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, column_major, dtype = read(file)
        if column_major or dtype.hasobject or not shape:
            raise ValueError("an array in another order or of another type than MedMNIST's")
        return cls(file, shape, dtype)

    def chunks(self) -> Iterator[np.ndarray]:
        """Consecutive rows, about 32 MiB at a time."""
        row = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        step = max(1, _CHUNK_BYTES // max(row, 1))
        for start in range(0, self.shape[0], step):
            n = min(step, self.shape[0] - start)
            data = self.file.read(n * row)
            if len(data) < n * row:
                raise EOFError("it ends too early")
            yield np.frombuffer(data, self.dtype).reshape(n, *self.shape[1:])
