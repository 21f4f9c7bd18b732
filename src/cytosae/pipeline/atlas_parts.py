"""The atlas of a data set in parts, which ranks or independent jobs make side by side and one process joins.

A part is an artifact with the recipe of its atlas, in ``atlas/<dataset>.parts``; parts go when the atlas is there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytosae.atlas.config import Part
from cytosae.common.artifact import is_current, read_artifact, recipe_of
from cytosae.common.configuration import to_plain
from cytosae.common.disk import disk_errors
from cytosae.common.unfinished import remove
from cytosae.pipeline.step import Job, StepResult

if TYPE_CHECKING:
    from cytosae.atlas.making.build import AtlasPlan

SUFFIXES = {"atlas_part": ".h5ad", "random_part": "-random.safetensors"}
"""Kind of a part -> what follows its number in the name of its file."""
Make = Callable[[Job, Path, Part, dict[str, Any]], object]


def make_part(job: Job, kind: str, part: Part) -> StepResult:
    """Make one part of the artifact of a step, unless this part, or the whole, is there and up to date."""
    if is_current(job.path, job.step.at.kind, job.recipe, verify=False):
        return StepResult(job.step.at.title, job.path, True, 0.0, job.context.artifact(job.step.at).details)
    start, path = time.perf_counter(), place_of(job, kind, part)
    current = _is_current(job, kind, part)
    if not current:
        with disk_errors(path):
            MAKERS[kind](job, path, part, _record(job, part))
    seconds = 0.0 if current else time.perf_counter() - start
    facts = read_artifact(path, kind, verify=False).details
    return StepResult(f"{job.step.at.title}, part {part}", path, current, seconds, facts)


def parts_of(job: Job, kind: str) -> list[Path]:
    """Every part of a step's artifact, those that are missing made by all ranks together; none where that is one pass.

    Jobs that have made parts decide how many there are; where there are none, as many as there are ranks.
    """
    fabric = job.context.fabric
    of = fabric.broadcast(_begun(job, kind) or fabric.world_size, src=0)
    if of == 1:
        return []
    parts = [Part(number, of) for number in range(1, of + 1)]
    for part in parts[fabric.global_rank :: fabric.world_size]:
        make_part(job, kind, part)
    fabric.barrier()
    return [place_of(job, kind, part) for part in parts]


def remove_parts(job: Job, kind: str) -> None:
    """Remove all parts of a kind once what they are parts of is there."""
    folder = _folder(job)
    for path in folder.glob(f"*-of-*{SUFFIXES[kind]}*"):
        remove(path)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def place_of(job: Job, kind: str, part: Part) -> Path:
    """Where a part lies."""
    return _folder(job) / f"{part.number}-of-{part.of}{SUFFIXES[kind]}"


def atlas_plan(job: Job) -> AtlasPlan:
    """What the atlas of a step says beside the numbers of its cells, the places of latents aside."""
    from cytosae.atlas.making.build import plan_atlas

    asked = job.asked["tau"]
    tau = asked if asked is not None else job.artifact(job.needed("sae")[0]).details["tau"]
    return plan_atlas(job.sae(), job.tokens(job.of), job.cells(job.of), tau)


def _make_atlas_part(job: Job, path: Path, part: Part, record: dict[str, Any]) -> None:
    from cytosae.atlas.making.joining import write_part

    write_part(path, job.sae(), job.tokens(job.of), atlas_plan(job), part, **record)


def _make_random_part(job: Job, path: Path, part: Part, record: dict[str, Any]) -> None:
    from cytosae.atlas.making.joining import rows_of_part, save_statistics
    from cytosae.atlas.making.random_latents import count_random

    store = job.tokens(job.of)
    counted = count_random(job.sae(), store, job.cells(job.of), rows=rows_of_part(len(store), part), **job.asked)
    save_statistics(counted, path, **record)


MAKERS: dict[str, Make] = {"atlas_part": _make_atlas_part, "random_part": _make_random_part}


def _folder(job: Job) -> Path:
    return job.path.parent / f"{job.of}.parts"


def _record(job: Job, part: Part) -> dict[str, Any]:
    return {"config": {"asked": to_plain(job.asked), "part": str(part)}, "inputs": job.inputs}


def _is_current(job: Job, kind: str, part: Part, *, verify: bool = True) -> bool:
    record = _record(job, part)
    recipe = recipe_of(kind, record["config"], record["inputs"])
    return is_current(place_of(job, kind, part), kind, recipe, verify=verify)


def _begun(job: Job, kind: str) -> int:
    """`parts_begun` of a step."""
    paths = _folder(job).glob(f"*-of-*{SUFFIXES[kind]}")
    names = [path.name.removesuffix(SUFFIXES[kind]) for path in paths]
    return parts_begun(names, lambda part: _is_current(job, kind, part, verify=False))


def parts_begun(names: Iterable[str], current: Callable[[Part], bool]) -> int:
    """Into how many parts jobs have cut the work, by the parts that are ``current``; 0 where there is none.

    ``names`` are those of all that lie there, such as ``2-of-8``.
    """
    found: Counter[int] = Counter()
    for name in names:
        number, _, of = name.partition("-of-")
        if number.isdigit() and of.isdigit():
            found[int(of)] += current(Part(int(number), int(of)))
    return max((of for of in found if found[of]), key=lambda of: (found[of], of), default=0)
