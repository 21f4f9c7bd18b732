"""What a study holds: every artifact on disk, whoever asked for it, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cytosae.common.artifact import RECORD, read_artifact
from cytosae.common.errors import CytosaeError
from cytosae.pipeline.places import COMPARED, PLACES, Place, reader_of


@dataclass(frozen=True)
class Holding:
    """One artifact of a study.

    Attributes
    ----------
    path : Path
        Where it lies, relative to the study.
    kind : str
        What it is; empty where its record cannot be read.
    created : str
        When it was made, ISO 8601 in UTC.
    fingerprint : str
        SHA-256 of its content.
    problem : str
        A sentence where it is damaged; empty where it is whole, or was not looked at.
    """

    path: Path
    kind: str = ""
    created: str = ""
    fingerprint: str = ""
    problem: str = ""


def index(study: Path, *, verify: bool = False) -> list[Holding]:
    """Every artifact below the folder of a study, by path.

    Parameters
    ----------
    study : Path
        Its folder.
    verify : bool
        Read every byte, compare it with its checksum, and open each artifact as whoever uses it would.
    """
    return [_holding(study, path, verify=verify) for path in sorted(set(_artifacts(study)))]


def _artifacts(study: Path) -> Iterator[Path]:
    """Paths that have a record, or lie where an artifact belongs; what is unfinished is hidden, and left out."""
    there = [record.parent if record.name == RECORD else _described(record) for record in study.rglob(f"*{RECORD}")]
    for role in PLACES:
        for every in Place(role, "*/*" if role in COMPARED else "*").paths_below(Path()):
            there += study.glob(str(every))
    for path in there:
        if not any(part.startswith(".") for part in path.relative_to(study).parts):
            yield path


def _described(record: Path) -> Path:
    return record.with_name(record.name.removesuffix("." + RECORD))


def _holding(study: Path, path: Path, *, verify: bool) -> Holding:
    place = path.relative_to(study)
    try:
        artifact = read_artifact(path, verify=verify)
        reader = reader_of(artifact.kind) if verify else None
        if reader is not None:
            reader(path)
    except CytosaeError as problem:
        return Holding(place, problem=str(problem))
    except Exception as problem:  # an artifact that whole bytes cannot be opened from is broken, whatever it raises
        return Holding(place, problem=f"{path} cannot be opened ({type(problem).__name__}: {problem}); make it again.")
    return Holding(place, artifact.kind, artifact.created, artifact.fingerprint)
