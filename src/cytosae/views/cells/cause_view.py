"""What a concept causes in an image: dose by dose, and together with another one, beside random latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cytosae.views.parts.number_words import listed
from cytosae.views.parts.page_parts import Number, Shown, say, spread

if TYPE_CHECKING:
    from cytosae.atlas.explaining.intervention import DoseResponse, Interaction

DOING = {0.0: "removing", 0.5: "halving", 1.5: "adding half of", 2.0: "doubling"}
"""Doses that are shown beside 1, and what each is called in a sentence."""
ROUNDING = 1e-4
"""Share of a quantity below which its change may be rounding."""


@dataclass(frozen=True)
class Curve:
    """A quantity at every dose of a concept; ``before`` is that of the image as it is.

    ``random`` is its median, least and most with a random latent as strong; ``reach`` how far any of these moves it,
    either way; ``beyond``: the concept moves it further.
    """

    words: str
    before: float
    values: tuple[float, ...]
    random: tuple[Number, ...]
    reach: tuple[float, ...]
    beyond: tuple[bool, ...]
    shown: Shown


@dataclass(frozen=True)
class DosesView:
    """A concept at ``factors`` of its activation; ``types`` begin with what the probe takes the image for as it is."""

    latent: int
    factors: tuple[float, ...]
    randoms: int
    verdict: str
    types: tuple[Curve, ...]
    decision: tuple[Curve, ...]
    note: str


@dataclass(frozen=True)
class Together:
    """Change of a quantity by the first concept, by the second, by both, and by both beyond the sum of the two.

    ``random`` is the same of pairs of random latents, median, least and most; ``beyond``: what goes beyond the sum does
    so further than with any of these pairs. ``shown`` is for changes, those of shares in percentage points.
    """

    words: str
    before: float
    changes: tuple[float, ...]
    random: tuple[Number, ...]
    beyond: bool
    shown: Shown


@dataclass(frozen=True)
class TogetherView:
    """Two concepts multiplied by one factor; where one of them is not active, nothing has been watched.

    ``types`` begin with what the probe takes the image for as it is.
    """

    latents: tuple[int, int]
    names: tuple[str, str]
    activations: tuple[float, float]
    words: str
    pairs: int
    verdict: str
    types: tuple[Together, ...]
    decision: tuple[Together, ...]


def view_of_doses(found: DoseResponse, latent: int, types: Sequence[str], decision: Sequence[str]) -> DosesView:
    """A concept dose by dose.

    Parameters
    ----------
    found : DoseResponse
        Of the quantities ``types`` and, after them, ``decision``; shown at 1 and the factors of `DOING`.
    latent : int
        The concept.
    types, decision : sequence of str
        Names of the quantities.
    """
    factors = tuple(factor for factor in found.factors if factor == 1 or factor in DOING)
    effects, curves = [found.at(factor) for factor in factors], []
    for k, name in enumerate((*types, *decision)):
        before = float(found.before[k])
        curves.append(
            Curve(
                words=name,
                before=before,
                values=tuple(float(effect.after[k]) for effect in effects),
                random=tuple(spread(before + effect.random[:, k]) for effect in effects),
                reach=tuple(float(np.abs(effect.random[:, k]).max()) for effect in effects),
                beyond=tuple(_further(effect.change[k], effect.random[:, k], before) for effect in effects),
                shown="percent" if k < len(types) else "fixed",
            )
        )
    randoms, (of_types, of_decision) = len(found.random), _in_order(curves, len(types))
    said = [_told(curve, what, latent, factors, randoms) for curve, what in _in_words(of_types, of_decision)]
    note = (
        f"Grey: as far as any of {randoms} random latents of equal strength moves it at that dose. By chance alone one "
        f"latent in {randoms + 1} goes beyond."
    )
    return DosesView(latent, factors, randoms, " ".join(said), of_types, of_decision, note)


def view_of_pair(
    found: Interaction | None,
    concepts: Sequence[tuple[int, str, float]],
    words: str,
    types: Sequence[str],
    decision: Sequence[str],
) -> TogetherView:
    """Two concepts, each alone and both together.

    Parameters
    ----------
    found : Interaction or None
        Of the quantities ``types`` and, after them, ``decision``; None where one of the concepts is not active, or
        nothing can be watched.
    concepts : sequence of tuple of int, str, float
        The two: latent, name and mean activation in the image.
    words : str
        What is done to them, such as "removed".
    types, decision : sequence of str
        Names of the quantities.
    """
    together = (
        []
        if found is None
        else [_of_both(found, k, name, k < len(types)) for k, name in enumerate((*types, *decision))]
    )
    (one, _, first), (other, _, second) = concepts
    of_types, of_decision = _in_order(together, len(types))
    pairs = 0 if found is None else len(found.random)
    said = [_told_of_both(each, what, (one, other), words, pairs) for each, what in _in_words(of_types, of_decision)]
    idle = [latent for latent, _, activation in concepts if not activation > 0]
    if idle:
        verb = "is" if len(idle) == 1 else "are"
        said = [f"{' and '.join(f'Concept {k}' for k in idle)} {verb} not active in this image, so there is no pair."]
    return TogetherView(
        latents=(one, other),
        names=(concepts[0][1], concepts[1][1]),
        activations=(first, second),
        words=words,
        pairs=pairs,
        verdict=" ".join(said) or "Nothing can be watched here.",
        types=of_types,
        decision=of_decision,
    )


def _of_both(found: Interaction, k: int, name: str, is_share: bool) -> Together:
    changes = [*found.changes[:, k], found.beyond_sum[k]]
    random = np.column_stack([found.random[:, :, k], found.random_beyond_sum[:, k]])
    before = float(found.before[k])
    beyond = _further(changes[-1], random[:, -1], before)
    shown: Shown = "points" if is_share else "fixed"
    return Together(name, before, tuple(map(float, changes)), tuple(map(spread, random.T)), beyond, shown)


def doses_in_rows(view: DosesView) -> list[list[str]]:
    """Rows of a table for people: what, its value at each dose, with an asterisk where it goes beyond random latents.

    Of the types the one that the image is taken for.
    """
    return [
        [one.words, *(say(v, one.shown) + (" *" if far else "") for v, far in zip(one.values, one.beyond, strict=True))]
        for one in (*view.types[:1], *view.decision)
    ]


def pair_in_rows(view: TogetherView) -> list[list[str]]:
    """Rows of a table for people: what, its change by each concept, by both, and beyond their sum.

    Each with the least and the most of random pairs.
    """

    def told(change: float, random: Number, shown: Shown) -> str:
        return f"{say(change, shown)} ({say(random.low, shown)} to {say(random.high, shown)})"

    return [
        [one.words, *(told(*both, one.shown) for both in zip(one.changes, one.random, strict=True))]
        for one in (*view.types[:1], *view.decision)
    ]


Quantity = TypeVar("Quantity", Curve, Together)


def _in_order(found: list[Quantity], types: int) -> tuple[tuple[Quantity, ...], tuple[Quantity, ...]]:
    """Types, the most probable first, and the decision."""
    return tuple(sorted(found[:types], key=lambda one: -one.before)), tuple(found[types:])


def _in_words(types: Sequence[Quantity], decision: Sequence[Quantity]) -> list[tuple[Quantity, str]]:
    """What sentences are about, and what it is called there."""
    told = [(types[0], f"the probability of {types[0].words}")] if types else []
    return [*told, (decision[0], "the patient’s decision")] if decision else told


def _told(curve: Curve, what: str, latent: int, factors: Sequence[float], randoms: int) -> str:
    before = say(curve.before, curve.shown)
    if all(say(value, curve.shown) == before for value in curve.values):
        return f"At every dose of concept {latent} {what} stays at {before}."
    beyond = [i for i, further in enumerate(curve.beyond) if further]
    if not beyond:
        return f"At no dose does concept {latent} move {what} further than random latents of equal strength do."
    best = max(beyond, key=lambda i: abs(curve.values[i] - curve.before))
    others = listed([DOING[factors[i]] for i in beyond if i != best])
    verb = "raises" if curve.values[best] > curve.before else "lowers"
    return (
        f"{DOING[factors[best]].capitalize()} concept {latent} {verb} {what} from {before} to "
        f"{say(curve.values[best], curve.shown)}, further than any of {randoms} random latents of equal strength moves "
        f"it{f', and so does {others} it' if others else ''}."
    )


def _told_of_both(one: Together, what: str, latents: tuple[int, int], words: str, pairs: int) -> str:
    first, second, both, beyond = (say(change, one.shown) for change in one.changes)
    said = (
        f"With concepts {latents[0]} and {latents[1]} {words}, {what} changes by {both}, with either alone by "
        f"{first} and {second}: "
    )
    if one.beyond:
        return f"{said}{beyond} beyond the sum, further than any of {pairs} pairs of random latents of equal strength."
    return f"{said}what goes beyond the sum ({beyond}) is no more than pairs of random latents of equal strength show."


def _further(change: Any, random: NDArray[np.float64], before: float) -> bool:
    return bool(abs(change) > max(float(np.abs(random).max()), ROUNDING * abs(before)))
