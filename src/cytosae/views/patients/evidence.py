"""What stands behind a page of patients: who was compared, how well that went, and what speaks against it."""

from __future__ import annotations

from dataclasses import dataclass, field

from cytosae.views.parts.marks import Marks
from cytosae.views.parts.number_words import count, listed
from cytosae.views.parts.opened_dataset import OpenedDataset

RESEARCH = "Research, not a diagnosis."


@dataclass(frozen=True)
class Group:
    """Patients of one diagnosis, and how many they are."""

    name: str
    patients: int


@dataclass(frozen=True)
class Evidence:
    """What stands behind a model, said in the first lines of every page.

    ``performance`` is how well it does, with its interval and how that was measured; ``caveats`` belong to it, such as
    what the confounders do alone; ``doubts`` are reasons to mistrust what is shown.
    """

    groups: tuple[Group, ...]
    dataset: str
    performance: str
    caveats: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def compared(self) -> str:
        """What was compared, and how many patients, as a sentence."""
        named = [f"{group.name} ({count(group.patients, 'patient')})" for group in self.groups]
        return f"{'Compared: ' if len(named) > 1 else ''}{listed(named)} of {self.dataset}."

    @property
    def notice(self) -> tuple[str, ...]:
        """The lines that stand on every page."""
        return (RESEARCH, self.compared, self.performance, *self.caveats)


@dataclass(frozen=True)
class Shared:
    """What the pages of a cohort share: its cells and atlas, what stands behind the model, doubtful concepts."""

    dataset: OpenedDataset
    evidence: Evidence
    marks: Marks = field(default_factory=Marks)
