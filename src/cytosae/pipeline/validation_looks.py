"""Who was validated on, and when: a list that only grows, since a second look is no validation."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from cytosae.common.disk import disk_errors
from cytosae.common.errors import ArtifactError
from cytosae.common.records import parse_record
from cytosae.pipeline.run_record import now

if TYPE_CHECKING:
    import pandas as pd

LOOKS = "validations.jsonl"
"""Below the study; one look a line."""
SKETCHED, DIGITS = 16, 16
"""Cells by which a patient is known again, and hexadecimal digits of each."""


class Look(TypedDict):
    """One look.

    ``at`` is the time (ISO 8601, UTC), ``classifier`` the fingerprint of what was looked at, ``patients`` the sketch of
    each patient (`sketch`).
    """

    at: str
    dataset: str
    classifier: str
    patients: dict[str, list[str]]


@dataclass(frozen=True)
class Earlier:
    """An earlier look at some of the same patients.

    Attributes
    ----------
    at : str
        When, ISO 8601 in UTC.
    patients : int
        How many of the patients asked about now.
    same : bool
        Whether it was the same classifier.
    """

    at: str
    patients: int
    same: bool


def sketch(cells: pd.DataFrame, patient: str, names: Iterable[str]) -> dict[str, list[str]]:
    """The smallest of the hashes of each named patient's images: a random few, the same ones wherever they lie.

    A patient is known again where one of them is among the smallest again, so also with some images more or fewer, in
    another folder, under another name.
    """
    wanted = set(names)
    of_cells = cells.loc[cells[patient].astype(str).isin(list(wanted))]
    grouped = of_cells.groupby(of_cells[patient].astype(str))["cell_id"]
    return {str(name): sorted(str(cell)[:DIGITS] for cell in ids)[:SKETCHED] for name, ids in grouped}


def earlier_looks(study: Path, patients: Mapping[str, list[str]], classifier: str) -> list[Earlier]:
    """Looks at some of these patients, the oldest first."""
    found = []
    for look in read_looks(study):
        seen = {cell for cells in look["patients"].values() for cell in cells}
        known = sum(not seen.isdisjoint(cells) for cells in patients.values())
        if known:
            found.append(Earlier(look["at"], known, look["classifier"] == classifier))
    return found


def read_looks(study: Path) -> list[Look]:
    """Every look at patients of a study, the oldest first."""
    path = study / LOOKS
    if not path.is_file():
        return []
    try:
        return [parse_record(Look, line, where=LOOKS) for line in path.read_bytes().splitlines() if line.strip()]
    except (OSError, ValueError) as problem:
        raise ArtifactError(
            f"{path} cannot be read ({problem}), so that nobody can say who was looked at before; restore it from a "
            "backup, or keep it under another name and say so where you report the result."
        ) from problem


def remember_look(study: Path, dataset: str, classifier: str, patients: Mapping[str, list[str]]) -> None:
    """Add a look to the list; what stands there is never changed."""
    look = {"at": now(), "dataset": dataset, "classifier": classifier, "patients": dict(patients)}
    path = study / LOOKS
    with disk_errors(path, None), path.open("ab") as file:
        file.write(json.dumps(look).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
