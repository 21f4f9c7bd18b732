"""Why a concept is to be doubted: it follows the colour of images, or changes when the stain is changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cytosae.views.parts.number_words import two
from cytosae.views.parts.page_parts import Fact, known


@dataclass(frozen=True)
class Mark:
    """Why a concept is to be doubted: a few words, and a sentence."""

    label: str
    why: str


@dataclass(frozen=True)
class Marks:
    """What is known of concepts and stain.

    Attributes
    ----------
    following : ndarray of bool, shape (m,)
        Latents that follow colour (`cytosae.cohort.colour_following`).
    reliability : ndarray of float, shape (m,), or None
        Intraclass correlation in a changed stain (`cytosae.cohort.retest_reliability`); None: not tested.
    background : ndarray of bool, shape (m,)
        Latents that live in the background (`cytosae.atlas.latent_places`).
    least : float
        Below it a concept is said to change with the stain.
    with_background : bool
        Whether concepts of the background are shown like others.
    """

    following: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    reliability: NDArray[np.float64] | None = None
    least: float = 0.5
    background: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    with_background: bool = False

    def of(self, latent: int) -> Mark | None:
        """The mark of a latent, None where there is nothing to say against it."""
        labels, sentences = [], []
        if self.in_background(latent):
            labels.append("of the background")
            sentences.append("It is active beside the cells rather than in them.")
        if latent < len(self.following) and self.following[latent]:
            labels.append("follows colour")
            sentences.append("The colour of the image explains more of its activation than the type of the cell does.")
        if self.reliability is not None and self.reliability[latent] < self.least:
            labels.append("changes with the stain")
            value = two(float(self.reliability[latent]))
            sentences.append(
                f"In another stain the same cells show it otherwise: its reliability is {value}, below {self.least:g}."
            )
        return Mark(", ".join(labels), " ".join(sentences)) if labels else None

    def in_background(self, latent: int) -> bool:
        """Whether a latent lives in the background."""
        return latent < len(self.background) and bool(self.background[latent])

    def set_aside(self, latent: int) -> bool:
        """Whether a page of patients leaves a latent out: it is of the background, and such were not asked for."""
        return self.in_background(latent) and not self.with_background

    def label(self, latent: int) -> str:
        """The words of its mark, empty where it has none."""
        mark = self.of(latent)
        return mark.label if mark else ""

    def facts(self, latent: int) -> tuple[Fact, ...]:
        """What a card says of the latent."""
        if self.reliability is None:
            return ()
        return (Fact("Reliability in another stain", known(self.reliability[latent]), "two"),)

    def count(self, latents: Iterable[int]) -> int:
        """How many of these have a mark."""
        return sum(self.of(int(latent)) is not None for latent in latents)
