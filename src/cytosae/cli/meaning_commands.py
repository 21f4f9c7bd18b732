"""``cytosae atlas verdicts``, ``suppress``, ``pairs`` and ``names``: what latents go with and follow, their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

import cytosae
from cytosae.cli.options import changes_of, some_of
from cytosae.cli.output import Json, Output
from cytosae.cli.studies import ExistingStudy, open_study
from cytosae.evaluation.config import PairsConfig, SuppressionConfig

if TYPE_CHECKING:  # types made while running mean nothing to a type checker
    PairsOptions = Any
    SuppressionOptions = Any
else:
    PairsOptions = some_of(PairsConfig, "pairs", "attributes", "domain", "difficulty", "size", "seed")
    SuppressionOptions = some_of(SuppressionConfig, "splits", "controls", "resamples", "seed")

Looks = Annotated[int, Parameter(negative="")]


def verdicts(path: Path, /, *, looks: Looks = 2000, out: Path, as_json: Json = False) -> None:
    """Say of each latent whether it goes with the cell (morphology) or with how its image came about (artefact).

    Of the cell tell its type and the attributes of WBCAtt, of the image columns such as laboratory, site or session,
    and its colours and sharpness, as far as these do not explain them.

    Parameters
    ----------
    path
        The atlas, FILE.h5ad, with the images of its cells at hand.
    looks
        At most so many cells, spread evenly.
    out
        CSV file for the table; the explorer shows that at STUDY/quality/DATASET_verdicts.csv.
    """
    from cytosae.atlas.meaning.verdicts import VERDICTS
    from cytosae.pipeline.artefact_work import verdicts_of_atlas

    output = Output(as_json=as_json)
    found, cells = verdicts_of_atlas(path, looks)
    found.to_csv(out)
    counts = {name: int((found["verdict"] == name).sum()) for name in VERDICTS}
    output.line(f"{len(found):,} latents on {cells:,} cells: {', '.join(f'{n:,} {v}' for v, n in counts.items())}.")
    output.result(verdicts=counts, cells=cells, table=out)
    output.finish()


def suppress(
    *,
    study: ExistingStudy,
    dataset: str | None = None,
    by: str | None = None,
    asked: SuppressionOptions | None = None,
    looks: Looks = 2000,
    out: Path | None = None,
    as_json: Json = False,
) -> None:
    """Suppress the artefacts in the tokens: does a probe for the cell type carry over to other stains any better?

    A third of the patients says which latents are artefacts (see **cytosae atlas verdicts**), on a third probes are
    fitted, on a third they are asked. As many other latents, as often active, are suppressed beside them.

    Parameters
    ----------
    dataset
        Data set with cells of several stains; the first one if left out.
    by
        Column that says which stain a cell has; site, laboratory, domain, ... if left out.
    looks
        At most so many cells, spread evenly.
    out
        Folder for the page and the tables, STUDY/quality if left out.
    """
    from cytosae.pipeline.artefact_work import suppress_artefacts
    from cytosae.report import Pictures, write_page
    from cytosae.views.datasets.suppression_view import view_of_suppression
    from cytosae.views.parts.page_parts import MadeFrom, say

    output = Output(as_json=as_json)
    work = cytosae.Study(study)
    name = dataset or work.datasets[0]
    config = SuppressionConfig(**changes_of(asked))
    found = suppress_artefacts(work.place("atlas", name), work.sae(), config, by=by, looks=looks)
    made_from = (MadeFrom(f"atlas/{name}", work.fingerprint("atlas", name)), MadeFrom("sae", work.fingerprint("sae")))
    view = view_of_suppression(found, dataset=name, made_from=made_from)
    folder = out or work.path / "quality"
    page = write_page(folder / f"{name}_suppression.html", view, Pictures([]))
    found.table.to_csv(folder / f"{name}_suppression.csv", index=False)
    found.transfers.to_csv(folder / f"{name}_transfers.csv", index=False)
    output.line(view.head.verdict)
    rows = [
        [say(value, column.shown) for value, column in zip(row.values, view.measures.columns, strict=True)]
        for row in view.measures.rows
    ]
    output.table([column.words for column in view.measures.columns], rows)
    output.line(f"With pictures: {page}")
    output.result(page=page, measures=found.table.to_dict("records"), facts=found.facts)
    output.finish()


def pairs(
    *, study: ExistingStudy, asked: PairsOptions | None = None, out: Path | None = None, as_json: Json = False
) -> None:
    """Ask of each concept whether it follows one attribute of a cell and nothing else, in pairs of drawn cells.

    One cell is drawn twice, with little and with much of one attribute (lobes, size, chromatin, granules, vacuoles,
    stain, focus, ...) and the same in all else; both are encoded, by the SAE and by random weights. What is found is
    on the page of each concept.

    Parameters
    ----------
    out
        Folder for the page and the table, STUDY/quality if left out; STUDY/pairs has all of it.
    """
    from cytosae.evaluation.concept_pairs import VERDICTS, follow_counts
    from cytosae.pipeline.pairs_step import PAIRS
    from cytosae.report import Pictures, write_page
    from cytosae.views.datasets.pairs_view import view_of_pairs
    from cytosae.views.parts.page_parts import MadeFrom, say

    output = Output(as_json=as_json)
    config = PairsConfig(**changes_of(asked))
    work = open_study(study, output)
    with work.alone():
        work.ask_pairs(config)
    found = work.read(PAIRS)
    made_from = tuple(MadeFrom(role, work.fingerprint(role)) for role in ("pairs", "sae"))
    view = view_of_pairs(found, config, made_from=made_from)
    folder = out or work.path / "quality"
    page = write_page(folder / "pairs.html", view, Pictures([]))
    counts = follow_counts(found)
    counts.to_csv(folder / "pairs.csv")
    output.line(view.head.verdict)
    table = view.attributes
    rows = [[say(v, c.shown) for v, c in zip(row.values, table.columns, strict=True)] for row in table.rows]
    output.table([column.words for column in table.columns], rows)
    output.line(f"The page: {page}; every concept: {work.place('pairs')}.")
    learned = found.latents[found.latents["weights"] == "learned"]
    verdicts = {name: int((learned["verdict"] == name).sum()) for name in VERDICTS}
    attributes = counts.reset_index().to_dict("records")
    output.result(page=page, concepts=len(learned), verdicts=verdicts, attributes=attributes)
    output.finish()


def names(
    path: Path,
    /,
    *,
    attributes: Path | None = None,
    second: Path | None = None,
    out: Path,
    as_json: Json = False,
) -> None:
    """Name every concept of an atlas in words of hematology: drafts, until people have accepted a name.

    A draft says where the concept lives, on which cells, and what these have in common. Beside it stand the human
    attribute that the concept goes with best, and the family of concepts that are used alike.

    Parameters
    ----------
    path
        The atlas, FILE.h5ad.
    attributes
        Table of human attributes, a row an image, such as WBCAtt's; columns of the cells if left out.
    second
        The same by a second annotator: how well people agree is the ceiling of every concept.
    out
        CSV file for the table; the page is FILE.html beside it.
    """
    from cytosae.common.artifact import read_artifact
    from cytosae.pipeline.name_work import followed_beside, names_of_atlas
    from cytosae.report import Pictures, write_page
    from cytosae.reviews import accepted_names
    from cytosae.views.datasets.names_view import GOES_WELL, view_of_names
    from cytosae.views.parts.page_parts import MadeFrom

    output = Output(as_json=as_json)
    study = path.absolute().parent.parent
    reviewed = accepted_names(study) if (study / "reviews.sqlite").is_file() else {}
    accepted = {latent: one.name for latent, one in reviewed.items()}
    found = names_of_atlas(path, attributes=attributes, second=second, accepted=accepted)
    found.to_csv(out)
    made_from = (MadeFrom(f"atlas/{path.stem}", read_artifact(path, "atlas", verify=False).fingerprint),)
    view = view_of_names(found, dataset=path.stem, followed=followed_beside(path), made_from=made_from)
    page = write_page(out.with_suffix(".html"), view, Pictures([]))
    seen = int(found["value"].notna().sum()) if "value" in found else 0
    families, several = int(found["family"].nunique()), int((found["family_size"] > 1).sum())
    drafts = int(found["draft"].sum())
    well = int((found["auc"] >= GOES_WELL).sum()) if seen else 0
    output.line(f"{len(found):,} concepts, {drafts:,} with a draft of a name.")
    output.line(f"{seen:,} go with a human attribute beyond chance, {well:,} with an AUC of {GOES_WELL} or more.")
    output.line(f"{several:,} of them are used like another: {families:,} families.")
    output.line(f"The page: {page}")
    output.result(concepts=len(found), drafts=drafts, with_attribute=seen, going_well=well, families=families)
    output.result(table=out, page=page)
    output.finish()
