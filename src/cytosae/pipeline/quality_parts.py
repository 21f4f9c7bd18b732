"""The quality of an SAE in parts: each measures some families of units, as a job of its own; joined they are the whole.

A part is an artifact in ``quality/parts``; parts go when the pages are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cytosae.atlas.comparing.matching import Matching
from cytosae.atlas.config import Part
from cytosae.common.artifact import is_current, read_artifact, recipe_of, write_artifact
from cytosae.common.configuration import to_plain
from cytosae.common.errors import UsageError
from cytosae.common.records import reading
from cytosae.common.unfinished import remove
from cytosae.evaluation.quality_families import FAMILIES, RANDOM_BACKBONE
from cytosae.evaluation.untrained_controls import TRAINED
from cytosae.pipeline.atlas_parts import parts_begun
from cytosae.pipeline.quality_work import Scores, recipe_of_controls, score_study

if TYPE_CHECKING:
    from cytosae.evaluation.config import QualityConfig
    from cytosae.pipeline.study import Study

KIND = "quality_part"
BY_WORK = (*TRAINED, RANDOM_BACKBONE, *(name for name in FAMILIES if name not in (*TRAINED, RANDOM_BACKBONE)))
"""Families, those that are trained first, so that they are dealt to different parts."""


def make_part(study: Study, datasets: Sequence[str], config: QualityConfig, part: Part) -> tuple[str, ...]:
    """Measure one part of the families, unless it is there and up to date; which they are.

    Raises
    ------
    UsageError
        There are more parts than families.
    """
    if part.of > len(BY_WORK):
        raise UsageError(
            f"--part is {part}; there are {len(BY_WORK)} families of units, so give at most as many parts."
        )
    names = BY_WORK[part.number - 1 :: part.of]
    record = _record(study, datasets, config, part)
    if not _is_current(study, record, part):
        scores = score_study(study, datasets, config, names)
        details: dict[str, Any] = {"facts": scores.facts}
        with write_artifact(_place(study, part), KIND, **record, details=details) as folder:
            scores.table.to_parquet(folder / "scores.parquet")
            if scores.matching is not None:
                scores.matching.table.to_parquet(folder / "matching.parquet")
                details["by_chance"] = scores.matching.by_chance
    return names


def joined_parts(study: Study, datasets: Sequence[str], config: QualityConfig) -> list[Scores]:
    """Scores of every part, those that are missing made now; none where no part has been made as is asked now."""
    names = [path.name for path in _folder(study).glob("*-of-*")]
    of = parts_begun(names, lambda part: _is_current(study, _record(study, datasets, config, part), part))
    parts = [Part(number, of) for number in range(1, of + 1)]
    for part in parts:
        make_part(study, datasets, config, part)
    return [_open(_place(study, part)) for part in parts]


def remove_parts(study: Study) -> None:
    """Remove all parts."""
    remove(_folder(study))


def _open(path: Path) -> Scores:
    details = read_artifact(path, KIND).details
    with reading(path, "delete it and make it again"):
        table, matched = pd.read_parquet(path / "scores.parquet"), path / "matching.parquet"
        matching = Matching(pd.read_parquet(matched), details["by_chance"]) if matched.is_file() else None
    return Scores(table, dict(details["facts"]), matching)


def _folder(study: Study) -> Path:
    return study.path / "quality" / "parts"


def _place(study: Study, part: Part) -> Path:
    return _folder(study) / f"{part.number}-of-{part.of}"


def _record(study: Study, datasets: Sequence[str], config: QualityConfig, part: Part) -> dict[str, Any]:
    """``config`` and ``inputs`` of the record of a part."""
    asked = {"asked": config, "recipe": recipe_of_controls(study, config), "datasets": list(datasets)}
    inputs = {"sae": study.fingerprint("sae")}
    for name in dict.fromkeys([*study.trained_on, *datasets]):
        inputs |= {f"{role}/{name}": study.fingerprint(role, name) for role in ("tokens", "cells")}
    return {"config": to_plain({**asked, "part": str(part)}), "inputs": inputs}


def _is_current(study: Study, record: dict[str, Any], part: Part) -> bool:
    return is_current(_place(study, part), KIND, recipe_of(KIND, record["config"], record["inputs"]))
