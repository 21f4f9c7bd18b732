"""What a study can tell of how it was made: `runs.json`, for people who repeat the work and for journals."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytosae.common.artifact import package_version
from cytosae.common.configuration import finite, to_plain
from cytosae.common.errors import CytosaeError
from cytosae.common.records import read_record, write_json

if TYPE_CHECKING:
    from cytosae.pipeline.step import StepResult

RUNS = "runs.json"
KEPT_RUNS = 200
"""Runs that are remembered, the newest."""
TELLING = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "scipy", "scikit-learn", "pandas", "anndata")
"""Packages whose versions may change numbers."""


def now() -> str:
    """The time, ISO 8601 in UTC, in whole seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def record_run(study: Path, results: Sequence[StepResult], *, began: str, problem: str = "") -> None:
    """Add a run to what a study remembers, and write down what the study holds now.

    Parameters
    ----------
    study : Path
        Its folder.
    results : sequence of StepResult
        What was done; a run that made nothing is not remembered.
    began : str
        When the run began, ISO 8601 in UTC.
    problem : str
        What ended it before its time, empty where nothing did.
    """
    if all(result.skipped for result in results):  # nothing is written where nothing was made
        return
    from cytosae.evaluation.machine import describe_machine

    run = {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "began": began,
        "ended": now(),
        "problem": problem,
        "steps": [{"step": r.step, "skipped": r.skipped, "seconds": round(r.seconds, 1)} for r in results],
        "versions": {"python": sys.version.split()[0], "cytosae": package_version(), **_versions()},
        "machine": to_plain(describe_machine()),
    }
    runs = [*read_runs(study), run][-KEPT_RUNS:]
    write_json(study / RUNS, finite({"runs": runs, "seeds": dict(_seeds(study)), "artifacts": _artifacts(study)}))


def read_runs(study: Path) -> list[dict[str, Any]]:
    """The runs that a study remembers, oldest first; none where ``runs.json`` is missing or damaged."""
    try:
        return read_record(dict[str, Any], study / RUNS, "").get("runs", [])
    except (CytosaeError, OSError):
        return []


def _versions() -> Mapping[str, str]:
    found = {}
    for name in TELLING:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _seeds(study: Path) -> Iterator[tuple[str, int]]:
    from cytosae.pipeline.study_config import read_config

    file = study / "study.toml"
    plain = to_plain(read_config(file)) if file.is_file() else {}
    tables: list[tuple[str, Any]] = [("", plain)]
    while tables:
        path, table = tables.pop()
        for name, value in table.items():
            if isinstance(value, Mapping):
                tables.append((f"{path}{name}.", value))
            elif name == "seed":
                yield f"{path}{name}", value


def _artifacts(study: Path) -> list[dict[str, Any]]:
    """What is there: of what, with which options, and its fingerprint."""
    from cytosae.common.artifact import read_artifact
    from cytosae.pipeline.holdings import index

    found = []
    for holding in index(study):
        if not holding.problem:
            record = read_artifact(study / holding.path, verify=False)
            facts = {"path": holding.path.as_posix(), "kind": record.kind, "created": record.created}
            facts |= {"fingerprint": record.fingerprint, "package": record.package}
            found.append({**facts, "inputs": dict(record.inputs), "config": record.config})
    return found
