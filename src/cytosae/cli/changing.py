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
    """Multiply a concept in an image; print before and after, and dose by dose, beside random latents, and notes.

    Of two concepts also what each does alone and both together.

    A cell of the data set is known by its content; then its patient's decision is watched, too.
    """
    from cytosae.cells import load_image
    from cytosae.common.artifact import hash_file
    from cytosae.pipeline.concept_changes import ConceptChanges
    from cytosae.views.cells.cause_view import doses_in_rows, pair_in_rows
    from cytosae.views.cells.change_view import changes_of

    latent, second, factor = change_of(change)
    cell, (tokens, counted) = hash_file(image), study.see(load_image(image))
    known = cell if cell in opened.atlas.obs_names else ""
    view = ConceptChanges(study, opened).of(tokens, latent, factor, second=second, counted=counted, cell=known)
    output.line(view.verdict)
    if view.types or view.decision:
        columns = ["", "before", "after", f"after a random latent ({view.randoms}: median, range)"]
        output.table(columns, changes_of(view), title=f"Concept {view.latent} ({view.name}) {view.words}")
    if view.doses:
        output.line(view.doses.verdict)
        output.table(["", *(f"× {f:g}" for f in view.doses.factors)], doses_in_rows(view.doses), title="Dose by dose")
        output.line("* further than any random latent of equal strength moves it.")
    if view.pair:
        one, other = view.pair.latents
        output.line(view.pair.verdict)
        heads = [
            "change, and that by random pairs",
            f"by {one} alone",
            f"by {other} alone",
            "by both",
            "beyond the sum",
        ]
        title = f"Concepts {one} and {other} ({view.pair.names[1]}) {view.words}"
        output.table(heads, pair_in_rows(view.pair), title=title)
    for note in (view.types_note, view.decision_note):
        output.line(note)
    output.result(change=view)


def change_of(said: str) -> tuple[int, int | None, float]:
    """Concept, second concept or None, and factor of a change as it is written: "12=0", "12,40=0".

    Raises
    ------
    UsageError
        It is written otherwise.
    """
    concepts, _, factor = said.partition("=")
    try:
        latent, *others = map(int, concepts.split(","))
        (second,) = others or [None]
        return latent, second, float(factor)
    except ValueError as problem:
        raise UsageError(
            f"--change {said!r} is not understood; write concept=factor, such as 12=0 (0 removes, 0.5 halves, 2 "
            "doubles), or 12,40=0 for two concepts."
        ) from problem
