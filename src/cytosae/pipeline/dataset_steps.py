"""The steps from images to the report, as values: what each reads, what it is made of, and its work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytosae.cells.focus.patch_grid import grid_of, side_of
from cytosae.common.artifact import digest
from cytosae.common.configuration import to_plain
from cytosae.pipeline.atlas_parts import atlas_plan, parts_of, remove_parts
from cytosae.pipeline.places import Place
from cytosae.pipeline.step import Job, Source, Step

if TYPE_CHECKING:
    from cytosae.backbones import AnyBackbone
    from cytosae.cells import CellTable
    from cytosae.pipeline.context import Context
    from cytosae.pipeline.study_config import StudyConfig

MASKED_CELLS = 20
"""Fewest cells with masks for which maps are compared with them."""


def all_steps(config: StudyConfig, context: Context) -> Iterator[Step]:
    """Every step of a study in order; each is to be done before the next is asked for."""
    names = [dataset.name for dataset in config.datasets]
    yield from (cells_step(config, name) for name in names)
    backbone = context.backbone(config.backbone)
    yield from (tokens_step(config, context.cells(name), backbone) for name in names)
    if config.focus != "all":
        yield from (in_focus_step(config, name, context) for name in names)
    yield sae_step(config)
    yield from (atlas_step(config, name, context) for name in names)
    yield from (random_latents_step(config, name) for name in names)
    yield from localisation_steps(config, context)
    yield report_step(config, context)


def cells_step(config: StudyConfig, dataset: str) -> Step:
    """Look at every image of a data set and write its cell table."""
    from cytosae.cells.reading import listing_fingerprint

    asked = next(d for d in config.datasets if d.name == dataset)
    slice_ = {"path": str(asked.path), "layout": asked.layout, "max_unusable": config.cells.max_unusable}
    if asked.images_root is not None:
        slice_["images_root"] = str(asked.images_root)
    files = listing_fingerprint(asked.path, layout=asked.layout, images_root=asked.images_root)
    return Step(Place("cells", dataset), _read_cells, slice_, sources={"files": Source(asked.path, files)})


def _read_cells(job: Job) -> None:
    from cytosae.cells import read_cells

    table = read_cells(
        job.source("files"),
        name=job.of,
        layout=job.asked["layout"],
        images_root=job.asked.get("images_root"),
        max_unusable=job.asked["max_unusable"],
        unpack=job.context.path / "images" / job.of,
    )
    table.save(job.path, **job.record)
    for sentence in table.remarks:
        job.context.note(f"{job.of}: {sentence}")


def tokens_step(config: StudyConfig, cells: CellTable, backbone: AnyBackbone) -> Step:
    """Turn the cells of a data set into tokens, which depend on the images alone and not on what is said of them."""
    sources = {"cells": Source(cells, cells.fingerprint), "backbone": backbone_source(backbone)}
    return Step(Place("tokens", cells.name), _extract, config.extract, sources=sources, together=True)


def backbone_source(backbone: AnyBackbone) -> Source:
    """A backbone as something that steps are made of."""
    return Source(backbone, digest(backbone.describe()))


def _extract(job: Job) -> None:
    from cytosae.tokens import estimate, extract

    cells, backbone = job.source("cells"), job.source("backbone")
    job.context.note(f"tokens of {job.of}: {estimate(len(cells), backbone, job.asked)}")
    extract(cells, backbone, job.path, config=job.asked, fabric=job.context.fabric, inputs=job.inputs)


def in_focus_step(config: StudyConfig, dataset: str, context: Context) -> Step:
    """Find the tokens that show the cell of each image, or its nucleus."""
    asked = {"focus": config.focus, "side": side_of(context.backbone(config.backbone).grid)}
    return Step(
        Place("in_focus", dataset), partial(_find_focus, config.extract.workers), asked, (Place("cells", dataset),)
    )


def _find_focus(workers: int, job: Job) -> None:
    from cytosae.tokens import find_tokens_in_focus, save_tokens_in_focus

    cells = job.cells(job.of)
    found = find_tokens_in_focus(cells, job.asked["focus"], grid_of(job.asked["side"]), workers=workers)
    save_tokens_in_focus(found, job.path, **job.record)
    if missing := found.not_found:
        images = cells.frame.set_index("cell_id")["image"].reindex(missing[:3])
        job.context.note(
            f"{job.of}: no {found.focus} is found in {len(missing):,} of {len(cells):,} images ({', '.join(images)}"
            f"{', ...' if len(missing) > 3 else ''}), of which all tokens count; {job.path} names them."
        )


def tokens_needed(config: StudyConfig, names: Sequence[str]) -> tuple[Place, ...]:
    """The tokens of data sets and, unless all count, which of them do."""
    roles = ("tokens",) if config.focus == "all" else ("tokens", "in_focus")
    return tuple(Place(role, name) for role in roles for name in names)


def sae_step(config: StudyConfig) -> Step:
    """Train the SAE on the tokens of the data sets to train on."""
    asked = {"recipe": config.sae, "reading": config.reading}
    return Step(Place("sae"), _train, asked, tokens_needed(config, config.trained_on), together=True)


def _train(job: Job) -> None:
    from cytosae.pipeline.training import train_sae

    stores = [job.tokens(str(place.of)) for place in job.needed("tokens")]
    train_sae(
        stores,
        job.asked["recipe"],
        job.path,
        reading=job.asked["reading"],
        fabric=job.context.fabric,
        **job.record,
    )


def sweep_step(config: StudyConfig, values: Mapping[str, Sequence[float]]) -> Step:
    """Train an SAE for each combination of ``values`` (see `training.sweep_recipes`), reading the tokens once."""
    from cytosae.pipeline.training import sweep_recipes

    recipes = {name: [recipe, seed] for name, (recipe, seed) in sweep_recipes(config.sae, values).items()}
    asked = {"recipes": recipes, "reading": config.reading}
    return Step(Place("sweep"), _sweep, asked, tokens_needed(config, config.trained_on), together=True)


def _sweep(job: Job) -> None:
    from cytosae.pipeline.training import train_sweep

    train_sweep(
        [job.tokens(str(place.of)) for place in job.needed("tokens")],
        {name: (recipe, seed) for name, (recipe, seed) in job.asked["recipes"].items()},
        job.path,
        reading=job.asked["reading"],
        fabric=job.context.fabric,
        **job.record,
    )


def atlas_step(config: StudyConfig, dataset: str, context: Context) -> Step:
    """Describe every latent on the cells of a data set."""
    needs = (Place("sae"), *tokens_needed(config, [dataset]), Place("cells", dataset))
    known = "tau" in context.artifact(Place("sae")).details
    asked = to_plain(config.atlas if known else replace(config.atlas, tau=tau_of(config, context)))
    suffix = f".{asked.pop('format')}"  # which says where the atlas lies, not what is in it
    return Step(Place("atlas", dataset), _build_atlas, asked, needs, together=True, suffix=suffix)


def tau_of(config: StudyConfig, context: Context) -> float:
    """Activation above which a token counts as having a concept, the same for all data sets."""
    from cytosae.pipeline.training import measure_tau

    asked, known = config.atlas.tau, context.artifact(Place("sae")).details.get("tau")
    if asked is not None:
        return asked
    if known is not None:
        return float(known)
    # an SAE trained before its tau was written down
    return measure_tau(context.sae(), [context.tokens(name) for name in config.trained_on], config.reading)


def _build_atlas(job: Job) -> None:
    from cytosae.atlas import latent_places
    from cytosae.atlas.making.joining import open_part, write_joined
    from cytosae.atlas.making.streaming import write_planned

    sae, tokens, cells = job.sae(), job.tokens(job.of), job.cells(job.of)
    trained = job.artifact(Place("sae")).details.get("focus", "all")
    if trained != tokens.focus:
        job.context.note(
            f"atlas of {job.of}: its focus is {tokens.focus}, but the SAE was trained with the focus {trained}; train "
            "it again if both are to be about the same tokens."
        )
    parts = parts_of(job, "atlas_part")
    if not job.context.first:
        return
    plan = replace(atlas_plan(job), places=latent_places(sae, tokens, cells))
    options = {"reference_cells": job.asked["reference_cells"], **job.record}
    if parts:
        write_joined(job.path, [open_part(part) for part in parts], plan, **options)
    else:
        write_planned(job.path, sae, tokens, plan, **options)
    remove_parts(job, "atlas_part")


def random_latents_step(config: StudyConfig, dataset: str) -> Step:
    """Describe latents of random weights on the same cells: what the figures of the atlas are without learning."""
    needs = (Place("sae"), *tokens_needed(config, [dataset]), Place("cells", dataset))
    slice_ = {"reference_cells": config.atlas.reference_cells, "seed": 0}
    return Step(Place("random_latents", dataset), _describe_random, slice_, needs, together=True)


def _describe_random(job: Job) -> None:
    from cytosae.atlas import LatentStatistics
    from cytosae.atlas.making.joining import open_statistics
    from cytosae.atlas.making.random_latents import describe_random, random_table, save_random_latents

    parts = parts_of(job, "random_part")
    if not job.context.first:
        return
    tokens, cells = job.tokens(job.of), job.cells(job.of)
    if parts:
        whole = reduce(LatentStatistics.merge, (open_statistics(part) for part in parts))
        table = random_table(whole, tokens, cells)
    else:
        table = describe_random(job.sae(), tokens, cells, **job.asked)
    save_random_latents(table, job.path, **job.record)
    remove_parts(job, "random_part")


def looks_step(config: StudyConfig, dataset: str) -> Step:
    """Measure colour and texture where latents light up, for the drafts of names."""
    needs = (Place("sae"), *tokens_needed(config, [dataset]), Place("cells", dataset), Place("atlas", dataset))
    return Step(Place("looks", dataset), partial(_measure_looks, config.extract.workers), {}, needs)


def _measure_looks(workers: int, job: Job) -> None:
    from cytosae.atlas.places.patch_looks import measure_looks, save_looks

    found = measure_looks(
        job.sae(), job.tokens(job.of), job.cells(job.of), job.atlas(job.of, backed="r"), workers=workers
    )
    save_looks(found, job.path, **job.record)


def localisation_steps(config: StudyConfig, context: Context) -> list[Step]:
    """Compare maps with nucleus and cytoplasm masks, where at least `MASKED_CELLS` cells have one."""
    counts = {d.name: int(context.cells(d.name).frame["mask"].notna().sum()) for d in config.datasets}
    if sum(counts.values()) < MASKED_CELLS:
        return []
    masked = [name for name, count in counts.items() if count]
    needs = tuple(Place(role, name) for role in ("tokens", "cells") for name in masked)
    return [Step(Place("localisation"), _localise, config.localisation, (*needs, Place("sae")))]


def _localise(job: Job) -> None:
    from cytosae.atlas import localisation, save_localisation

    names = [str(place.of) for place in job.needed("tokens")]
    found = localisation(job.sae(), [(job.tokens(name), job.cells(name)) for name in names], config=job.asked)
    save_localisation(found, job.path, inputs=job.inputs)


def report_step(config: StudyConfig, context: Context) -> Step:
    """Write the report of a study."""
    names = [dataset.name for dataset in config.datasets]
    needs = tuple(Place(role, name) for role in ("cells", "atlas") for name in names) + tokens_needed(config, names)
    controls = [Place("localisation"), Place("pairs")]
    controls += [Place(role, name) for role in ("random_latents", "looks") for name in names]
    compared = tuple(place for place in controls if place.below(context.path).exists())
    asked: dict[str, Any] = {"report": config.report, "trained_on": config.trained_on}
    accepted = {str(latent): name for latent, name in names_accepted(context.path).items()}
    if accepted:
        asked["accepted"] = accepted
    return Step(Place("report"), _write_report, asked, (*needs, Place("sae"), *compared))


def names_accepted(study: Path) -> dict[int, str]:
    """Latent -> name, where reviewers have accepted some: a report is made anew when they accept another."""
    if not (study / "reviews.sqlite").is_file():
        return {}
    from cytosae.reviews import accepted_names

    return {latent: accepted.name for latent, accepted in accepted_names(study).items()}


def _write_report(job: Job) -> None:
    from cytosae.report import Pictures, write_page
    from cytosae.views import OpenedDataset, view_of_study

    names, sae = [str(place.of) for place in job.needed("cells")], job.sae()
    masks = job.needed("localisation")
    accepted = {int(latent): name for latent, name in job.asked.get("accepted", {}).items()}
    followed = job.followed()
    datasets = [
        OpenedDataset(
            *(job.atlas(n, backed="r"), job.cells(n), job.tokens(n), sae),
            accepted=accepted,
            random=job.random_latents(n),
            looks=job.looks(n),
            followed=followed,
        )
        for n in names
    ]
    asked = job.asked["report"]
    view = view_of_study(
        datasets,
        summary=job.artifact(Place("sae")).details,
        localisation=job.read(masks[0]) if masks else None,
        times=job.context.times(),
        trained_on=job.asked["trained_on"],
        title=asked.title or f"Concepts of {', '.join(names)}",
        concepts=asked.concepts,
    )
    write_page(job.path, view, Pictures([dataset.cells for dataset in datasets]), **job.record)
