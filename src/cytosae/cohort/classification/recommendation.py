"""Which configuration to recommend: the rule, written down, and applied to shuffled diagnoses as well."""

from __future__ import annotations

from collections.abc import Sequence

from cytosae.cohort.classification.assessment import Measured
from cytosae.cohort.classification.few_concepts import Few


def recommend(measured: Sequence[Measured]) -> tuple[Measured, str]:
    """Choose the configuration that is expected to hold on later patients.

    Plain cross-validation does not choose: it rewards a model for a stain that goes with the diagnosis in this cohort.
    Later patients come with another stain, and it need not go with their diagnosis. So of the configurations that need
    nothing but the images of new patients, that with the highest robust AUROC is taken: the mean of two, both with
    patients weighted so that colour tells the classes nothing (`overlap_weights`), in cross-validation, and trained on
    one half of the colour range and tested on the other. Of equal ones the simplest is taken: L2 before elastic net,
    all concepts before a selection before directions, presence before mean before count. Without colours it is the
    plain AUROC.

    Where decisions of few concepts are among them, one of these is taken, by the same rule: what it rests on can be
    named and looked at. What that costs is said (`without_limit`).

    Returns
    -------
    tuple (Measured, str)
        Measured The chosen one; its model has a configuration. str A sentence that says why.
    """
    contenders = _ranked(measured)
    few = [one for one in contenders if isinstance(one.model.learner, Few)]
    chosen, *others = few or contenders
    learner = chosen.model.learner
    among = f"decisions by at most {learner.most} concepts" if isinstance(learner, Few) else "configurations"
    second = f"; the next has {others[0].robust:.2f}" if others else ""
    return chosen, (
        f"{chosen.model.name}: of the {among} that need nothing but images, the highest AUROC where colour "
        f"tells the classes nothing ({chosen.robust:.2f}{second})."
    )


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
