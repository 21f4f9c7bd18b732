"""The cell table: one row a cell, known by the SHA-256 of its file and never by its position."""

from __future__ import annotations

import hashlib
import json
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
_SHOWN = 6
"""Labels and patients named in a summary."""
_MOST_NOTES = 10
"""Different notes on images that are said."""


@dataclass(frozen=True)
class CellTable:
    """The usable cells of a data set.

    Attributes
    ----------
    name : str
        Name of the data set, safe as a file name.
    root : Path
        Folder that image and mask paths are relative to.
    frame : DataFrame
        One row a cell (RangeIndex): `cell_id` (SHA-256, hex), `image`, `label`, `patient`, `diagnosis`, `mask`
        (strings, missing as NA), `width`, `height` (px), `status` ("ok" or notes), `cell_type` (harmonised name of the
        label), then whatever other columns the data set has.
    skipped : DataFrame
        `path`, `reason` of every image, and folder, that is not usable.
    duplicates : DataFrame
        Exact copies that were dropped: `cell_id`, `kept`, `dropped`, both labels, `differs` (tuple of the names of the
        columns, such as patient, that are not the same for both), `labels_differ`.
    layout : str
        Which layout was recognised, in words.
    notes : tuple of str
        Sentences about how it was read, where there was something to say.
    """

    name: str
    root: Path
    frame: pd.DataFrame
    skipped: pd.DataFrame
    duplicates: pd.DataFrame
    layout: str
    notes: tuple[str, ...] = ()

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

    @property
    def summary(self) -> str:
        """One sentence: what was taken for labels, patients and masks, and how many cells have none."""
        took = [self._took(column) for column in ("label", "patient")]
        masked = int(self.frame["mask"].notna().sum())
        took.append(f"{masked:,} of {len(self):,} cells have a mask" if masked else "no masks")
        return f"{len(self):,} cells, read as {self.layout}: {'; '.join(took)}."

    @property
    def remarks(self) -> list[str]:
        """What a user should hear of the reading: the summary, what cannot be used, the notes, those on images."""
        unusable = [f"{path or 'a row'} ({reason})" for path, reason in self.skipped.head(3).itertuples(index=False)]
        more = f" and {len(self.skipped) - 3:,} more" if len(self.skipped) > 3 else ""
        lost = [f"Left out as unusable: {', '.join(unusable)}{more}."] if unusable else []
        return [self.summary, *lost, *self.notes, *self.image_notes]

    @property
    def image_notes(self) -> list[str]:
        """What was noted of single images while decoding them, like notes together, the most frequent first."""
        of_note: dict[str, list[str]] = {}
        for image, status in zip(self.frame["image"], self.frame["status"], strict=True):
            for note in status.split("; ") if status != "ok" else ():
                of_note.setdefault(re.sub(r"^mask not used: .*?: ", "mask not used: ", note), []).append(image)
        ranked = sorted(of_note.items(), key=lambda item: -len(item[1]))
        said = [
            f"{_these(len(images), 'image')}: {note} ({images[0]}{', ...' if len(images) > 1 else ''})."
            for note, images in ranked[:_MOST_NOTES]
        ]
        more = [f"{len(ranked) - _MOST_NOTES:,} more notes on images are in the column status."]
        return said + more * (len(ranked) > _MOST_NOTES)

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
            "notes": list(self.notes),
        }
        duplicates = self.duplicates.assign(differs=[json.dumps(n) if n else "" for n in self.duplicates["differs"]])
        with write_artifact(Path(path), "cells", config=config, inputs=inputs, details=details) as folder:
            self.frame.to_parquet(folder / "cells.parquet", index=False)
            self.skipped.to_csv(folder / "skipped.csv", index=False)
            duplicates.to_csv(folder / "duplicates.csv", index=False)
        return Path(path)

    @classmethod
    def empty(cls, name: str) -> CellTable:
        """A table without cells, for a data set whose images are elsewhere."""
        tables = [pd.DataFrame(columns=pd.Index(names)) for names in (COLUMNS, SKIPPED_COLUMNS, DUPLICATE_COLUMNS)]
        return cls(name, Path(), tables[0], tables[1], tables[2].astype({"labels_differ": bool}), "no images")

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
            duplicates["differs"] = pd.Series([_names(text) for text in duplicates["differs"].fillna("")], dtype=object)
            frame = pd.read_parquet(path / "cells.parquet")
            frame = frame.astype({name: "string" for name in TEXT_COLUMNS if name in frame})
            where = Path(root) if root is not None else Path(details["root"])
            notes = tuple(details.get("notes", ()))
            return cls(details["name"], where, frame, skipped, duplicates, details["layout"], notes)

    def _took(self, column: str) -> str:
        names: Any = self.frame[column].dropna().value_counts()
        if names.empty:
            return f"no {column}s"
        shown = ", ".join(map(str, names.index[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
        without = int(self.frame[column].isna().sum())
        return f"{_these(len(names), column)} ({shown}), {without:,} cells without one"

    def _below_root(self, relative: str) -> Path:
        if not self.root.is_dir():
            raise InputError(
                f"{self.root}, the folder of the images of {self.name!r}, is not there any more; bring it back, or "
                "load the cells with root= the folder where the images are now."
            )
        return self.root / relative


def _names(text: str) -> tuple[str, ...]:
    """Names of columns as they are saved; earlier versions joined them by blanks."""
    return tuple(json.loads(text)) if text.startswith("[") else tuple(text.split())


def _these(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
