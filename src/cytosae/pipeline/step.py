"""A step as a value: what it makes and where, of what, and which options its work gets to see."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cytosae.common.artifact import Artifact, recipe_of
from cytosae.common.configuration import to_plain
from cytosae.pipeline.places import Opener, Place

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric


class Source(NamedTuple):
    """What a step is made of that is no artifact: files of a user, a backbone."""

    value: Any
    fingerprint: str


@dataclass(frozen=True)
class Step:
    """One step of a study; whether it is up to date follows from what is declared here.

    Attributes
    ----------
    at : Place
        Where its artifact lies.
    make : callable
        Writes the artifact; sees a `Job` and through it what is declared here, nothing else.
    asked : mapping or dataclass
        The slice of the configuration that it reads.
    needs : tuple of Place
        Artifacts that it is made of.
    sources : mapping of str to Source
        What else it is made of.
    together : bool
        Whether every rank works; otherwise the first one alone does.
    suffix : str
        Of the artifact, where the place knows several (`cytosae.pipeline.places.SUFFIXES`).
    """

    at: Place
    make: Callable[[Job], None]
    asked: Any = field(default_factory=dict)
    needs: tuple[Place, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    together: bool = False
    suffix: str = ""


class Surroundings(Opener):
    """What every step finds around it; `cytosae.pipeline.context.Context` is the one that owns it all."""

    path: Path

    @property
    @abstractmethod
    def fabric(self) -> Fabric:
        """The launched Fabric of this process."""

    @property
    @abstractmethod
    def first(self) -> bool:
        """Whether this process is the first of its ranks, which alone writes what is written once."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where models compute."""

    @abstractmethod
    def note(self, line: str) -> None:
        """Tell people what is going to be done."""

    @abstractmethod
    def times(self) -> dict[str, float]:
        """Step -> seconds that it took when it last ran."""

    @abstractmethod
    def artifact(self, place: Place) -> Artifact:
        """Record of the artifact at a place."""


@dataclass(frozen=True)
class Job(Opener):
    """A step at work: all that its ``make`` gets to see.

    Attributes
    ----------
    step : Step
        What is to be made.
    context : Surroundings
        Device, ranks and models.
    inputs : mapping of str to str
        Name of a need or source -> its fingerprint.
    """

    step: Step
    context: Surroundings
    inputs: Mapping[str, str]

    @property
    def asked(self) -> Any:
        """The slice of the configuration that the step declares."""
        return self.step.asked

    @property
    def of(self) -> str:
        """Data set or comparison that the step is about."""
        return str(self.step.at.of)

    @property
    def path(self) -> Path:
        """Where to write."""
        at, suffix = self.step.at, self.step.suffix
        return at.paths_below(self.context.path)[0].with_suffix(suffix) if suffix else at.below(self.context.path)

    @property
    def record(self) -> dict[str, Any]:
        """``config`` and ``inputs`` for the record of the artifact."""
        return {"config": to_plain(self.asked), "inputs": self.inputs}

    @property
    def recipe(self) -> str:
        """Fingerprint of what is asked for."""
        return recipe_of(self.step.at.kind, to_plain(self.asked), self.inputs)

    def source(self, name: str) -> Any:
        """What stands behind a declared source."""
        return self.step.sources[name].value

    def needed(self, role: str) -> list[Place]:
        """The declared needs of one role, in order."""
        return [place for place in self.step.needs if place.role == role]

    def read(self, place: Place, **how: Any) -> Any:
        """Open a declared need (see `Opener`)."""
        return self.context.read(self._declared(place), **how)

    def has(self, place: Place) -> bool:
        """Whether the step declares an artifact."""
        return place in self.step.needs

    def has_focus(self, dataset: str) -> bool:
        """Whether the step declares which tokens of a data set count."""
        return Place("in_focus", dataset) in self.step.needs

    def artifact(self, place: Place) -> Artifact:
        """Record of a declared need."""
        return self.context.artifact(self._declared(place))

    def _declared(self, place: Place) -> Place:
        if place not in self.step.needs:
            raise LookupError(f"the step {self.step.at.title!r} opens {place.title!r} without declaring it")
        return place


@dataclass(frozen=True)
class StepResult:
    """What became of one step.

    Attributes
    ----------
    step : str
        E.g. "extract acevedo".
    path : Path
        The artifact.
    skipped : bool
        Whether it was up to date already.
    seconds : float
        Time that it took now, 0 if skipped.
    facts : mapping
        A few plain figures.
    why : str
        What differs from the artifact that was there; empty where there was none, or nothing.
    """

    step: str
    path: Path
    skipped: bool
    seconds: float
    facts: Mapping[str, Any]
    why: str = ""


def differences(artifact: Artifact, config: Any, inputs: Mapping[str, str]) -> str:
    """What of a request differs from the one that an artifact answers, in a few words.

    Parameters
    ----------
    artifact : Artifact
        Record of what is there.
    config, inputs : plain values
        What is asked for now.
    """
    old, new = _leaves(artifact.config), _leaves(to_plain(config))
    missing = object()
    options = [name for name in sorted({*old, *new}) if old.get(name, missing) != new.get(name, missing)]
    made_of = [name for name in sorted({*artifact.inputs, *inputs}) if artifact.inputs.get(name) != inputs.get(name)]
    if len(options) > 3:
        options = [*options[:2], f"{len(options) - 2} more options"]
    return f"{', '.join([*made_of, *options])} changed" if options or made_of else ""


def _leaves(plain: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(plain, Mapping):
        return {path: plain}
    found: dict[str, Any] = {}
    for name, value in plain.items():
        if name == "type":  # said of a choice by the fields that it has
            continue
        found |= _leaves(value, f"{path}.{name}" if path else str(name))
    return found
