"""Which configuration to recommend: the rule, written down, and applied to shuffled diagnoses as well."""

from __future__ import annotations

from collections.abc import Sequence

from cytosae.cohort.classification.assessment import Measured


def recommend(measured: Sequence[Measured]) -> tuple[Measured, str]:
    """Choose the configuration that is expected to hold on later patients.

    Plain cross-validation does not choose: it rewards a model for a stain that goes with the diagnosis in this cohort.
    Later patients come with another stain, and it need not go with their diagnosis. So of the configurations that need
    nothing but the images of new patients, that with the highest robust AUROC is taken: the mean of two, both with
    patients weighted so that colour tells the classes nothing (`overlap_weights`), in cross-validation, and trained on
    one half of the colour range and tested on the other. Of equal ones the simplest is taken: L2 before elastic net,
    all concepts before a selection before directions, presence before mean before count. Without colours it is the
    plain AUROC.

    Returns
    -------
    tuple (Measured, str)
        Measured The chosen one; its model has a configuration. str A sentence that says why.
    """
    contenders = []
    for one in measured:
        setting = one.model.configuration
        if setting is not None and setting.images_alone:
            contenders.append(((-one.robust, setting.complexity, setting.name), one))
    contenders.sort(key=lambda contender: contender[0])
    (_, chosen), *others = contenders
    second = f"; the next has {others[0][1].robust:.2f}" if others else ""
    return chosen, (
        f"{chosen.model.name}: of the configurations that need nothing but images, the highest AUROC where colour "
        f"tells the classes nothing ({chosen.robust:.2f}{second})."
    )
