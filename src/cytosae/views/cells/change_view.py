"""A concept is changed in an image: what becomes of the cell's type and of the patient's decision, beside controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytosae.views.cells.cause_view import DosesView, TogetherView
from cytosae.views.parts.number_words import fixed, percent
from cytosae.views.parts.page_parts import Definition, Number, Shown, define, say, spread

if TYPE_CHECKING:
    from cytosae.atlas.explaining.intervention import Effect

TYPES = 4
"""Cell types that are shown, those that are the most probable before or after."""
WORDS = {0.0: "removed", 0.5: "halved", 2.0: "doubled"}


@dataclass(frozen=True)
class Moved:
    """A quantity before and after the change, and after random latents of equal strength: median, least and most.

    ``beyond``: it moved further than by any of them.
    """

    words: str
    before: float
    after: float
    random: Number
    beyond: bool
    shown: Shown = "fixed"


@dataclass(frozen=True)
class ChangeView:
    """A concept multiplied by ``factor`` in all tokens of an image.

    ``types`` are probabilities of the cell's type by a probe, ``decision`` the patient's and what the cell says alone;
    where they are empty the notes say why. ``doses``: the same from none of it to twice as much; ``pair``: with another
    concept, where one is named.
    """

    latent: int
    name: str
    factor: float
    words: str
    activation: float
    randoms: int
    verdict: str
    types: tuple[Moved, ...]
    types_note: str
    patient: str
    decision: tuple[Moved, ...]
    decision_note: str
    doses: DosesView | None = None
    pair: TogetherView | None = None
    definitions: tuple[Definition, ...] = field(
        default_factory=lambda: define(
            "Change of a concept", "Random latents", "Probe of the cell type", "Dose by dose", "Two concepts together"
        )
    )


@dataclass(frozen=True)
class Watched:
    """What is watched of an image: ``names`` of the quantities in their order, and what is to be known of them."""

    names: tuple[str, ...] = ()
    note: str = ""


def view_of_change(
    effect: Effect | None,
    concept: tuple[int, str, float],
    *,
    activation: float,
    types: Watched,
    decision: Watched,
    patient: str = "",
) -> ChangeView:
    """What a change did.

    Parameters
    ----------
    effect : Effect or None
        Of the quantities of ``types`` and, after them, of ``decision``; None where the concept is not active.
    concept : tuple of int, str, float
        Latent, its name and the factor.
    activation : float
        Mean of the concept over the tokens of the image.
    types, decision : Watched
        What was watched.
    patient : str
        Whose cell it is, empty where nobody's is known.
    """
    latent, name, factor = concept
    moved = () if effect is None else _moved(effect, [*types.names, *decision.names])
    of_types = [] if effect is None else [_as_percent(one) for one in moved[: len(types.names)]]
    probable = sorted(of_types, key=lambda one: -max(one.before, one.after))[:TYPES]
    of_decision = moved[len(of_types) :]
    words = WORDS.get(factor, f"multiplied by {factor:g}")
    return ChangeView(
        latent=latent,
        name=name,
        factor=factor,
        words=words,
        activation=activation,
        randoms=0 if effect is None else len(effect.random),
        verdict=_verdict(latent, words, effect, probable, of_decision),
        types=tuple(probable),
        types_note=types.note,
        patient=patient,
        decision=tuple(of_decision),
        decision_note=decision.note,
    )


def changes_of(view: ChangeView) -> list[list[str]]:
    """Rows of a table for people: what, before, after, after a random latent of equal strength."""
    return [
        [one.words, say(one.before, one.shown), say(one.after, one.shown), say(one.random, one.shown)]
        for one in (*view.types, *view.decision)
    ]


def _moved(effect: Effect, names: Sequence[str]) -> list[Moved]:
    after: NDArray[np.float64] = effect.before + effect.random
    most = np.abs(effect.random).max(axis=0)
    return [
        Moved(
            name,
            float(effect.before[i]),
            float(effect.after[i]),
            spread(after[:, i]),
            bool(abs(effect.change[i]) > most[i]),
        )
        for i, name in enumerate(names)
    ]


def _as_percent(one: Moved) -> Moved:
    return replace(one, shown="percent")


def _verdict(latent: int, words: str, effect: Effect | None, types: Sequence[Moved], decision: Sequence[Moved]) -> str:
    if effect is None:
        return f"Concept {latent} is not active in this image, so nothing moves when it is {words}."
    said = []
    if types:
        before, after = max(types, key=lambda one: one.before), max(types, key=lambda one: one.after)
        if before is after:
            now, then = percent(before.after), percent(before.before)
            said.append(
                f"With concept {latent} {words} the probe still takes the cell for {before.words}, with "
                f"{f'{now} as before' if now == then else f'{now} instead of {then}'}; {_beside(before)}."
            )
        else:
            said.append(
                f"With concept {latent} {words} the probe takes the cell for {after.words} ({percent(after.after)}), "
                f"no longer for {before.words} ({percent(before.before)} before); {_beside(before)}."
            )
    if decision:
        whole = decision[0]
        said.append(
            f"The patient’s decision goes from {fixed(whole.before)} to {fixed(whole.after)} by this cell; "
            f"{_beside(whole)}."
            if fixed(whole.before) != fixed(whole.after)
            else f"The patient’s decision stays at {fixed(whole.before)}."
        )
    return " ".join(said) or f"Nothing can be watched here while concept {latent} is {words}."


def _beside(one: Moved) -> str:
    what = "that is more than any random latent of equal strength does"
    return what if one.beyond else "random latents of equal strength do as much"
