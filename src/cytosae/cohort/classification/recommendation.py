"""Which configuration to recommend: the rule, written down, and applied to shuffled diagnoses as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    """What the rule looks at.

    Attributes
    ----------
    name : of a configuration that needs nothing but the images of new patients
    robust : AUROC in which colour tells the classes nothing (`robust_draws`)
    complexity : smaller is simpler
    """

    name: str
    robust: float
    complexity: int


def recommend(contenders: Sequence[Contender]) -> tuple[str, str]:
    """Choose the configuration that is expected to hold on later patients.

    Plain cross-validation does not choose: it rewards a model for a stain that goes with the diagnosis in this cohort.
    Later patients come with another stain, and it need not go with their diagnosis. So the configuration with the
    highest robust AUROC is taken: the mean of two, both with patients weighted so that colour tells the classes nothing
    (`overlap_weights`), in cross-validation, and trained on one half of the colour range and tested on the other. Of
    equal ones the simplest is taken: L2 before elastic net, all concepts before a selection before directions, presence
    before mean before count. Without colours it is the plain AUROC.

    Returns
    -------
    Its name, and a sentence that says why.
    """
    chosen = min(contenders, key=lambda c: (-c.robust, c.complexity, c.name))
    others = [c.robust for c in contenders if c is not chosen]
    second = f"; the next has {max(others):.2f}" if others else ""
    sentence = (
        f"{chosen.name}: of the configurations that need nothing but images, the highest AUROC where colour tells the "
        f"classes nothing ({chosen.robust:.2f}{second})."
    )
    return chosen.name, sentence
