"""Which configuration to recommend: the rule, written down, and applied to shuffled diagnoses as well."""

from __future__ import annotations

from collections.abc import Sequence

from cytosae.cohort.classification.assessment import Measured
from cytosae.cohort.classification.few_concepts import Few
from cytosae.cohort.classification.row_names import PAINTED, twin_of
from cytosae.cohort.classification.scores import ends_of


def recommend(measured: Sequence[Measured], confidence: float = 0.95) -> tuple[Measured, str]:
    """Choose the configuration that is expected to hold on later patients.

    Plain cross-validation does not choose: it rewards a model for a stain, or a day at the microscope, that goes with
    the diagnosis in this cohort. Later patients come with another stain, on another day, and these need not go with
    their diagnosis. So of the configurations that need nothing but the images of new patients, that is taken of which
    most is kept where the conditions change: `Measured.robust`. Of equal ones the simplest is taken: L2 before elastic
    net, all concepts before a selection before directions, presence before mean before count.

    Two things come before that order. Where decisions of few concepts are among them, one of these is taken: what it
    rests on can be named and looked at. What that costs is said (`without_limit`). And where the images were encoded
    with the cell painted out as well, one is taken that does clearly better than without the cell, if any does: the
    AUROC without the cell lies below its interval. Rows without the cell are not made of shuffled diagnoses; the choice
    there is among all, so that it flatters rather more.

    Parameters
    ----------
    measured : sequence of Measured
        All rows of the table.
    confidence : float
        Of the interval that the AUROC without the cell has to lie below.

    Returns
    -------
    tuple (Measured, str)
        Measured The chosen one; its model has a configuration. str A sentence that says why.
    """
    contenders = _ranked(measured)
    few = [one for one in contenders if isinstance(one.model.learner, Few)]
    needs_cell = {id(one): _needs_the_cell(one, measured, confidence) for one in few or contenders}
    held = [one for one in few or contenders if needs_cell[id(one)] is not False]
    chosen, *others = held or few or contenders
    learner = chosen.model.learner
    among = f"decisions by at most {learner.most} concepts" if isinstance(learner, Few) else "configurations"
    second = f"; the next has {others[0].robust:.2f}" if others else ""
    also = " and imaging sessions are kept together" if "auroc_sessions" in chosen.aurocs else ""
    if not held:
        background = " None of them does clearly better than with the cell painted out of every image."
    else:
        background = (
            " With the cell painted out of every image it does clearly worse." if needs_cell[id(chosen)] else ""
        )
    return chosen, (
        f"{chosen.model.name}: of the {among} that need nothing but images, the highest AUROC where colour "
        f"tells the classes nothing{also} ({chosen.robust:.2f}{second}).{background}"
    )


def _needs_the_cell(one: Measured, measured: Sequence[Measured], confidence: float) -> bool | None:
    """Whether the AUROC with the cell painted out lies below the interval; None where that was not asked."""
    by_name = {other.model.name: other for other in measured}
    setting, draws = one.model.configuration, one.aurocs["auroc"]
    painted = None if setting is None else twin_of(setting.name, setting.kind, PAINTED, by_name)
    if painted is None or len(draws) < 2:
        return None
    return bool(by_name[painted].aurocs["auroc"][0] < ends_of(draws, confidence)[0])


def without_limit(measured: Sequence[Measured]) -> Measured | None:
    """What `recommend` would choose of decisions by all concepts; None where few are not asked for."""
    contenders = _ranked(measured)
    many = [one for one in contenders if not isinstance(one.model.learner, Few)]
    return many[0] if many and len(many) < len(contenders) else None


def _ranked(measured: Sequence[Measured]) -> list[Measured]:
    """Those that can be recommended, the best first."""
    contenders = []
    for one in measured:
        setting = one.model.configuration
        if setting is not None and setting.images_alone:
            contenders.append(((-one.robust, setting.complexity, setting.name), one))
    return [one for _, one in sorted(contenders, key=lambda contender: contender[0])]
