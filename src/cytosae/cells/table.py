"""The cell table: one row a cell, known by the SHA-256 of its file and never by its position."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytosae.common.artifact import read_artifact, write_artifact
from cytosae.common.errors import InputError
from cytosae.common.records import reading

TEXT_COLUMNS = ("cell_id", "image", "label", "patient", "diagnosis", "mask", "status", "cell_type")
COLUMNS = ("cell_id", "image", "label", "patient", "diagnosis", "mask", "width", "height", "status", "cell_type")
SKIPPED_COLUMNS = ("path", "reason")
DUPLICATE_COLUMNS = ("cell_id", "kept", "dropped", "kept_label", "dropped_label", "differs", "labels_differ")


@dataclass(frozen=True)
class CellTable:
    """The usable cells of a data set.

    Attributes
    ----------
    name : name of the data set, safe as a file name
    root : folder that image and mask paths are relative to
    frame : one row a cell (RangeIndex): `cell_id` (SHA-256, hex), `image`, `label`, `patient`, `diagnosis`, `mask`
        (strings, missing as NA), `width`, `height` (px), `status` ("ok" or notes), `cell_type` (harmonised name of the
        label), then whatever other columns the data set has
    skipped : `path`, `reason` of every image that is not usable
    duplicates : exact copies that were dropped: `cell_id`, `kept`, `dropped`, both labels, `differs` (names of
        the columns, such as patient, that are not the same for both, joined by blanks), `labels_differ`
    layout : which layout was recognised, in words
    """

    name: str
    root: Path
    frame: pd.DataFrame
    skipped: pd.DataFrame
    duplicates: pd.DataFrame
    layout: str

    def __len__(self) -> int:
        return len(self.frame)

    def image_path(self, row: int) -> Path:
        """Path of a cell's image; `InputError` where the data set's folder is gone."""
        return self._below_root(str(self.frame["image"].iat[row]))

    def mask_path(self, row: int) -> Path | None:
        """Path of a cell's mask, None where it has none."""
        mask = self.frame["mask"].iat[row]
        return None if pd.isna(mask) else self._below_root(str(mask))

    @property
    def labels(self) -> list[str]:
        """Labels that occur, sorted."""
        return sorted(str(label) for label in self.frame["label"].dropna().unique())

    def subset(self, rows: Sequence[int] | np.ndarray | pd.Series) -> CellTable:
        """Keep the cells at these row numbers (or where a boolean mask is true), in this order."""
        chosen = np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.intp)
        return replace(self, frame=self.frame.iloc[chosen].reset_index(drop=True))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the cells in their order with label, patient, diagnosis and mask; independent of the root."""
        hasher = hashlib.sha256()
        columns = [self.frame[name].astype(object) for name in ("cell_id", "label", "patient", "diagnosis", "mask")]
        for row in zip(*columns, strict=True):
            # a length before each value, so that no two rows read alike
            values = (b"-" if pd.isna(value) else b"%d:%s" % (len(value), value.encode()) for value in row)
            hasher.update(b",".join(values) + b"\n")
        return hasher.hexdigest()

    def save(self, path: Path | str, *, config: Any = None, inputs: Mapping[str, str] | None = None) -> Path:
        """Write the table as an artifact of kind "cells" (`cells.parquet`, `skipped.csv`, `duplicates.csv`).

        ``config`` and ``inputs`` are the step's own, kept in the artifact's record; name, root and layout go to its
        details.
        """
        details = {
            "name": self.name,
            "root": str(self.root.resolve()),
            "layout": self.layout,
            "cells": len(self),
            "skipped": len(self.skipped),
            "duplicates": len(self.duplicates),
            "fingerprint": self.fingerprint,
        }
        with write_artifact(Path(path), "cells", config=config, inputs=inputs, details=details) as folder:
            self.frame.to_parquet(folder / "cells.parquet", index=False)
            self.skipped.to_csv(folder / "skipped.csv", index=False)
            self.duplicates.to_csv(folder / "duplicates.csv", index=False)
        return Path(path)

    @classmethod
    def load(cls, path: Path | str, *, root: Path | str | None = None) -> CellTable:
        """Read a saved table; ``root`` overrides where the images lie now.

        Raises
        ------
        ArtifactError
            where the artifact is missing, foreign, too new or damaged.
        """
        path = Path(path)
        details = read_artifact(path, "cells").details
        with reading(path, "read the cells again"):
            skipped = pd.read_csv(path / "skipped.csv", dtype="string", keep_default_na=False)
            dtypes: Any = dict.fromkeys(DUPLICATE_COLUMNS[:-1], "string") | {"labels_differ": bool}
            duplicates = pd.read_csv(path / "duplicates.csv", dtype=dtypes, keep_default_na=False, na_values=[""])
            frame = pd.read_parquet(path / "cells.parquet")
            frame = frame.astype({name: "string" for name in TEXT_COLUMNS if name in frame})
            where = Path(root) if root is not None else Path(details["root"])
            return cls(details["name"], where, frame, skipped, duplicates, details["layout"])

    def _below_root(self, relative: str) -> Path:
        if not self.root.is_dir():
            raise InputError(
                f"{self.root}, the folder of the images of {self.name!r}, is not there any more; bring it back, or "
                "load the cells with root= the folder where the images are now."
            )
        return self.root / relative


def safe_name(text: str) -> str:
    """Turn ``text`` into a name for files: letters, digits, `.`, `_`, `-`."""
    name = re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).strip("._-")
    return name or "cells"
