"""How ``cytosae explain --change`` is asked and printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cytosae.common.errors import UsageError

if TYPE_CHECKING:
    from cytosae.cli.output import Output
    from cytosae.pipeline import Study
    from cytosae.views import OpenedDataset


def show_change(study: Study, opened: OpenedDataset, image: Path, change: str, output: Output) -> None:
    """Multiply a concept in an image, and print the sentence, before and after beside random latents, and notes.

    A cell of the data set is known by its content; then its patient's decision is watched, too.
    """
    from cytosae.cells import load_image
    from cytosae.common.artifact import hash_file
    from cytosae.pipeline.concept_changes import ConceptChanges
    from cytosae.views.change_view import changes_of

    latent, factor = factor_of(change)
    cell, (tokens, counted) = hash_file(image), study.see(load_image(image))
    known = cell if cell in opened.atlas.obs_names else ""
    view = ConceptChanges(study, opened).of(tokens, latent, factor, counted=counted, cell=known)
    output.line(view.verdict)
    if view.types or view.decision:
        columns = ["", "before", "after", f"after a random latent ({view.randoms}: median, range)"]
        output.table(columns, changes_of(view), title=f"Concept {view.latent} ({view.name}) {view.words}")
    for note in (view.types_note, view.decision_note):
        output.line(note)
    output.result(change=view)


def factor_of(change: str) -> tuple[int, float]:
    """Concept and factor of a change as it is written: "12=0".

    Raises
    ------
    UsageError
        It is written otherwise.
    """
    latent, _, factor = change.partition("=")
    try:
        return int(latent), float(factor)
    except ValueError as problem:
        raise UsageError(
            f"--change {change!r} is not understood; write concept=factor, such as 12=0 (0 removes, 0.5 halves, 2 "
            "doubles)."
        ) from problem
