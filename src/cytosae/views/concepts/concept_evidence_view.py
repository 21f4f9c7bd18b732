"""Is one concept real? Its quality beside random latents, what removing it does, and what the study has measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytosae.views.parts.number_words import count, whole
from cytosae.views.parts.page_parts import Fact, Number, Shown, known

if TYPE_CHECKING:
    from cytosae.atlas.explaining.intervention import Effect
    from cytosae.evaluation.concept_evidence import ConceptEvidence

BEYOND = 0.95
"""Share of the random latents that a concept has to be better than, or to lie outside of, to stand out."""


@dataclass(frozen=True)
class Beside:
    """One figure beside the same of random latents.

    ``random`` is their median with the ends between which 90% (of what removing does: 95%) of them lie; ``stands_out``
    is None where one of the two is not known.
    """

    words: str
    value: float | None
    random: Number
    stands_out: bool | None
    shown: Shown = "two"
    note: str = ""


@dataclass(frozen=True)
class Compared:
    """Figures beside those of random latents; ``verdict`` first."""

    verdict: str
    rows: tuple[Beside, ...]
    note: str = ""


@dataclass(frozen=True)
class KnownOfConcept:
    """What steps of the study have found of a concept; ``missing`` says by which command the rest is found.

    ``followed`` is what pairs of drawn cells tell, in a sentence.
    """

    facts: tuple[Fact, ...]
    missing: tuple[str, ...]
    followed: str = ""


@dataclass(frozen=True)
class EvidencePage:
    """Whether a concept is more than random weights would show, and what the model does without it."""

    dataset: str
    latent: int
    name: str
    quality: Compared
    effect: Compared


def view_of_quality_beside(found: ConceptEvidence) -> Compared:
    """What `cytosae.evaluation.concept_evidence.beside_random` found."""
    from cytosae.evaluation.concept_evidence import MEASURES

    rows = []
    for name, (words, _) in MEASURES.items():
        value, random, better = found.value[name], found.random[name], found.better_than(name)
        if not np.isfinite(value):
            rows.append(Beside(words, None, Number(None), None, note=WHY_NOT[name]))
            continue
        middle, low, high = np.quantile(random, [0.5, 0.05, 0.95]) if len(random) else (None, None, None)
        note = f"better than {better * len(random):.0f} of {len(random)}" if len(random) else ""
        stands = bool(better >= BEYOND) if np.isfinite(better) else None
        rows.append(Beside(words, known(value), Number(known(middle), known(low), known(high)), stands, note=note))
    told = [row for row in rows if row.stands_out is not None]
    good = sum(bool(row.stands_out) for row in told)
    if not told:
        verdict = "Nothing can be compared: the concept is on none of the cells looked at."
    elif not good:
        verdict = "Random weights show as much: on no measure does the concept stand out from random latents."
    else:
        verdict = f"On {good} of {count(len(told), 'measure')} the concept is better than 95% of random latents."
    note = (
        f"{whole(found.cells)} cells, evenly over the data set. A random latent has random weights and is active on as "
        "many tokens as the concept. By chance alone, one random latent in five stands out on one of five."
    )
    return Compared(verdict, tuple(rows), note)


WHY_NOT = {
    "label_entropy": "none of its strongest cells has a label, or it has none",
    "class_auc": "no class has ten cells among those looked at, or it is on none of them",
    "monosemanticity": "it is on fewer than two of the cells looked at",
    "spatial_structure": "its maps have fewer than three active patches",
    "localisation": "the images are not there, or it is on none of the cells looked at",
}


def view_of_effects(
    ends: Sequence[Effect], types: Sequence[Effect], names: Sequence[str], own: Sequence[str | None], note: str
) -> Compared:
    """What removing a concept does to its reference cells.

    Parameters
    ----------
    ends : sequence of Effect
        Of each cell, on what the remaining blocks make of CLS.
    types : sequence of Effect
        Of each cell, on the probabilities of the types ``names``; empty where there is no probe.
    names, own : sequence of str
        Types of the probe, and that of each cell.
    note : str
        How the probe was fitted, or why there is none.
    """
    if not ends:
        return Compared("It is on none of its reference cells, so that there is nothing to remove.", (), note)
    length = [float(np.linalg.norm(effect.before)) for effect in ends]
    moved = [np.linalg.norm(effect.change) / size for effect, size in zip(ends, length, strict=True)]
    others = [np.linalg.norm(effect.random, axis=1) / size for effect, size in zip(ends, length, strict=True)]
    rows = [_beside("movement of the image token", float(np.mean(moved)), np.mean(others, axis=0), sides=1)]
    of = [(effect, list(names).index(name)) for effect, name in zip(types, own, strict=False) if name and name in names]
    if of:
        change = float(np.mean([effect.change[at] for effect, at in of]))
        random = np.mean([effect.random[:, at] for effect, at in of], axis=0)
        rows.append(_beside("probability of the cells’ own type", change, random, f"of {count(len(of), 'cell')}"))
    out = [row.words for row in rows if row.stands_out]
    cells = count(len(ends), "reference cell")
    if out:
        verdict = (
            f"Taken out of {cells}, the concept changes what the model makes of them otherwise than random latents of "
            f"equal strength do ({' and '.join(out)})."
        )
    else:
        verdict = f"Taken out of {cells}, the concept does no more than random latents of equal strength."
    return Compared(verdict, tuple(rows), note)


def _beside(words: str, value: float, random: NDArray[np.floating], note: str = "", *, sides: int = 2) -> Beside:
    """``sides`` 1: only more than the random latents stands out, as a length that is less than theirs is no effect."""
    low, middle, high = (float(q) for q in np.quantile(random, [0.025, 0.5, 0.975]))
    outside = value > high or (sides == 2 and value < low)
    return Beside(words, value, Number(middle, low, high), outside, "percent", note)
