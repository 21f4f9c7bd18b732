"""BloodMNIST's arrays as a folder of images, which is what a cell table points at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cytosae.common.errors import InputError
from cytosae.common.progress import progress

CLASSES = ("basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil", "platelet")
"""Label index -> name."""


def unpack_medmnist(path: Path | str, out: Path | str) -> Path:
    """Write the images of a BloodMNIST `.npz` as PNG with a `manifest.csv` (columns image, label, split).

    The manifest comes last, so an interrupted call leaves no folder that reads as complete.

    Raises
    ------
    InputError
        where the file is no such archive or ``out`` already holds something.
    """
    path, out = Path(path), Path(out)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; give a new folder to unpack {path.name} into.")
    rows: list[dict[str, str]] = []
    try:
        with np.load(path, allow_pickle=False) as arrays:
            splits = [name for name in ("train", "val", "test") if f"{name}_images" in arrays]
            if not splits:
                raise InputError(f"{path} has no train_images, val_images or test_images; give a BloodMNIST .npz file.")
            for split in splits:
                rows += _write_split(arrays[f"{split}_images"], arrays[f"{split}_labels"], split, out)
    except (OSError, ValueError, KeyError) as problem:
        raise InputError(f"{path} cannot be read as a MedMNIST archive ({problem}); fetch it again.") from problem
    pd.DataFrame(rows).to_csv(out / "manifest.csv", index=False)
    return out


def _write_split(images: np.ndarray, labels: np.ndarray, split: str, out: Path) -> list[dict[str, str]]:
    folder = out / "images" / split
    folder.mkdir(parents=True)
    rows = []
    with progress(f"Unpacking {split}", len(images), "images") as bar:
        for index, (image, label) in enumerate(zip(images, labels.reshape(len(images)), strict=True)):
            name = f"images/{split}/{index:05d}.png"
            Image.fromarray(image).save(out / name)
            rows.append({"image": name, "label": CLASSES[int(label)], "split": split})
            bar.advance()
    return rows
