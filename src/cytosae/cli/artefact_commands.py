"""``cytosae atlas verdicts`` and ``suppress``: which latents go with the image, and what goes when they go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

import cytosae
from cytosae.cli.options import changes_of, some_of
from cytosae.cli.output import Json, Output
from cytosae.cli.studies import ExistingStudy
from cytosae.evaluation.config import SuppressionConfig

if TYPE_CHECKING:  # types made while running mean nothing to a type checker
    SuppressionOptions = Any
else:
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
        CSV file for the table.
    """
    from cytosae.atlas.verdicts import VERDICTS
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
    from cytosae.views.page_parts import MadeFrom, say
    from cytosae.views.suppression_view import view_of_suppression

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
