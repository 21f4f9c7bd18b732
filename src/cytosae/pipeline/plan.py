"""What a run would do and cost, told before it begins: a short calibration on this machine, nothing written."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from cytosae.common.errors import InputError
from cytosae.pipeline import dataset_steps
from cytosae.pipeline.places import Place
from cytosae.pipeline.step import Step

if TYPE_CHECKING:
    import torch

    from cytosae.backbones import AnyBackbone
    from cytosae.cells.reading import Listing
    from cytosae.pipeline.context import Context
    from cytosae.pipeline.study_config import Dataset, StudyConfig

CALIBRATED_CELLS = 32
"""Cells that are decoded and encoded to know how long one takes."""
TIMED_STEPS = 3
"""Training steps that are timed, after two that warm up."""
COPIES = 4
"""Numbers that training holds for each weight: itself, its gradient and Adam's two moments."""


@dataclass(frozen=True)
class PlannedStep:
    """One step of a run that has not begun.

    Attributes
    ----------
    step : str
        E.g. "tokens acevedo".
    current : bool
        Whether it is up to date, and would be skipped.
    why : str
        Why what is there will not do; empty where there is nothing, or nothing to do.
    seconds : float or None
        Estimated time, None where none was measured.
    disk, memory : int or None
        Estimated bytes of what it leaves, and of what it holds at once.
    basis : str
        What the estimate was made from.
    """

    step: str
    current: bool
    why: str = ""
    seconds: float | None = None
    disk: int | None = None
    memory: int | None = None
    basis: str = ""


@dataclass(frozen=True)
class RunPlan:
    """What a run would do.

    Attributes
    ----------
    steps : tuple of PlannedStep
        In their order.
    free : int
        Free bytes where the study lies, or will lie.
    device : str
        Where models would compute.
    """

    steps: tuple[PlannedStep, ...]
    free: int
    device: str

    @property
    def seconds(self) -> float:
        """Sum of the times that could be estimated."""
        return sum(step.seconds or 0 for step in self.steps)

    @property
    def disk(self) -> int:
        """Sum of the bytes that could be estimated."""
        return sum(step.disk or 0 for step in self.steps)


class Rates(NamedTuple):
    """What one cell and one training step take here."""

    read: float
    """Seconds to decode a cell."""
    cell: float
    """Seconds to decode a cell and make its tokens."""
    train: float
    """Seconds of a training step."""
    encode: float
    """Seconds to encode the tokens of a cell by the SAE."""
    active: float
    """Latents that are active somewhere in a cell, as training begins."""


def plan_run(config: StudyConfig, context: Context) -> RunPlan:
    """Tell what `Study.run` would do, without doing it.

    Images of the first data set are decoded and encoded and an SAE is trained for a few steps, in memory, wherever
    steps are to be done; times follow in proportion to the number of cells and of steps.
    """
    place = next(folder for folder in (context.path, *context.path.absolute().parents) if folder.exists())
    with TemporaryDirectory(prefix="cytosae-plan-") as unpacked:
        steps = tuple(_Planner(config, context, Path(unpacked)).steps())
    return RunPlan(steps, shutil.disk_usage(place).free, str(context.device))


class _Planner:
    """Walks through the steps as long as they are there, and estimates the others."""

    def __init__(self, config: StudyConfig, context: Context, unpacked: Path) -> None:
        self.config, self.context, self.unpacked = config, context, unpacked
        self.counts: dict[str, int] = {}
        self.done: dict[Place, bool] = {}

    @cached_property
    def backbone(self) -> AnyBackbone:
        return self.context.backbone(self.config.backbone)

    @cached_property
    def rates(self) -> Rates:
        return calibrate(self.config, self.context, self._some_images())

    def steps(self) -> Iterator[PlannedStep]:
        names = [dataset.name for dataset in self.config.datasets]
        for dataset in self.config.datasets:
            yield self._cells(dataset)
        for name in names:
            yield self._tokens(name)
        if self.config.focus != "all":
            yield from (self._in_focus(name) for name in names)
        yield self._sae()
        for name in names:
            yield self._atlas(name)
        for name in names:
            yield self._random_latents(name)
        tables = [Place("cells", name) for name in names]
        if all(self.done[place] for place in tables):
            for step in dataset_steps.localisation_steps(self.config, self.context):
                yield self._plan(step.at, step.needs, lambda step=step: step, dict)
        needs = [
            place
            for place in self.done
            if place.role in ("cells", "tokens", "in_focus", "atlas", "random_latents", "sae", "localisation")
        ]
        report = lambda: dataset_steps.report_step(self.config, self.context)  # noqa: E731
        yield self._plan(Place("report"), needs, report, dict)

    def _plan(
        self,
        at: Place,
        needs: list[Place] | tuple[Place, ...],
        step: Callable[[], Step],
        cost: Callable[[], dict[str, Any]],
    ) -> PlannedStep:
        current, why = (False, "") if not all(self.done[need] for need in needs) else self.context.state(step())
        self.done[at] = current
        return PlannedStep(at.title, current, why, **({} if current else cost()))

    def _cells(self, dataset: Dataset) -> PlannedStep:
        at = Place("cells", dataset.name)
        current, why = self.context.state(dataset_steps.cells_step(self.config, dataset.name))
        self.done[at] = current
        if current:
            self.counts[dataset.name] = len(self.context.cells(dataset.name))
            return PlannedStep(at.title, current)
        self.counts[dataset.name] = count = len(self._listing(dataset).rows.frame)
        return PlannedStep(at.title, current, why, count * self.rates.read, basis=f"{count:,} images")

    def _tokens(self, name: str) -> PlannedStep:
        from cytosae.tokens import estimate, estimated_bytes

        def step() -> Step:
            return dataset_steps.tokens_step(self.config, self.context.cells(name), self.backbone)

        def cost() -> dict[str, Any]:
            count = self.counts[name]
            return {
                "seconds": count * self.rates.cell,
                "disk": estimated_bytes(count, self.backbone, self.config.extract),
                "basis": estimate(count, self.backbone, self.config.extract),
            }

        return self._plan(Place("tokens", name), [Place("cells", name)], step, cost)

    def _in_focus(self, name: str) -> PlannedStep:
        def step() -> Step:
            return dataset_steps.in_focus_step(self.config, name, self.context)

        return self._plan(Place("in_focus", name), [Place("cells", name)], step, dict)

    def _sae(self) -> PlannedStep:
        recipe, width = self.config.sae, self.backbone.width
        latents = recipe.expansion * width
        weights = 4 * (2 * latents * width + latents + width)
        held = sum(self.counts[name] for name in self.config.trained_on) * self.backbone.n_tokens * width * 2

        def cost() -> dict[str, Any]:
            return {
                "seconds": recipe.train.steps * self.rates.train,
                "disk": weights,
                "memory": COPIES * weights + min(held, self.config.reading.memory_bytes),
                "basis": f"{recipe.train.steps:,} steps of {recipe.train.batch_tokens:,} tokens, {latents:,} latents",
            }

        needs = dataset_steps.tokens_needed(self.config, self.config.trained_on)
        return self._plan(Place("sae"), needs, lambda: dataset_steps.sae_step(self.config), cost)

    def _atlas(self, name: str) -> PlannedStep:
        def step() -> Step:
            return dataset_steps.atlas_step(self.config, name, self.context)

        def cost() -> dict[str, Any]:
            entries = self.counts[name] * self.rates.active
            return {
                "seconds": self.counts[name] * self.rates.encode,
                "disk": int(8 * entries),
                "basis": f"{self.rates.active:,.0f} active latents a cell, as training begins",
            }

        return self._plan(Place("atlas", name), self._needed(name), step, cost)

    def _random_latents(self, name: str) -> PlannedStep:
        def cost() -> dict[str, Any]:
            return {"seconds": self.counts[name] * self.rates.encode, "basis": "as the atlas, but for what is written"}

        step = lambda: dataset_steps.random_latents_step(self.config, name)  # noqa: E731
        return self._plan(Place("random_latents", name), self._needed(name), step, cost)

    def _needed(self, name: str) -> tuple[Place, ...]:
        return (Place("sae"), *dataset_steps.tokens_needed(self.config, [name]), Place("cells", name))

    def _listing(self, dataset: Dataset) -> Listing:
        from cytosae.cells.reading import list_cells

        where = {"layout": dataset.layout, "images_root": dataset.images_root}
        return list_cells(dataset.path, **where, unpack=self.unpacked / dataset.name)

    def _some_images(self) -> list[Path]:
        """Images, evenly spread over the first data set that has some that can be decoded."""
        for dataset in self.config.datasets:
            listing = self._listing(dataset)
            names = [str(name) for name in listing.rows.frame["image"]]
            spread = names[:: max(1, len(names) // CALIBRATED_CELLS)][:CALIBRATED_CELLS]
            found = [listing.root / name for name in spread if _decodes(listing.root / name)]
            if found:
                return found
        raise InputError("None of the images can be decoded, so nothing can be estimated; see: cytosae data check.")


def _decodes(image: Path) -> bool:
    from cytosae.cells import load_image

    try:
        load_image(image)
    except InputError:
        return False
    return True


def calibrate(config: StudyConfig, context: Context, paths: Sequence[Path]) -> Rates:
    """Measure the rates of this machine on the images at ``paths``."""
    import torch

    from cytosae.cells import load_image
    from cytosae.cells.stain.normalisation import prepare_stained

    backbone = context.backbone(config.backbone)
    prepare = prepare_stained(backbone.prepare, config.extract.stain)
    backbone(prepare([load_image(paths[0])]))  # what is loaded and compiled once is not counted
    start = time.perf_counter()
    images = [load_image(path) for path in paths]
    read = time.perf_counter() - start
    with torch.no_grad():
        tokens = torch.cat([backbone(prepare(images[i : i + 8])).float() for i in range(0, len(images), 8)])
    cell = time.perf_counter() - start
    train, encode, active = _sae_rates(config, context, tokens)
    return Rates(read / len(images), cell / len(images), train, encode / len(images), active)


class _Again:
    """A reader that gives the same tokens again and again."""

    def __init__(self, tokens: torch.Tensor, size: int) -> None:
        import torch

        self._tokens = tokens.reshape(-1, tokens.shape[-1]).cpu()
        self._positions = torch.arange(tokens.shape[1]).repeat(len(tokens))
        self._size = size

    def __next__(self) -> Any:
        return self.sample(self._size, 0)

    def sample(self, n: int, seed: int) -> Any:
        import torch

        from cytosae.tokens import TokenBatch

        rows = torch.randint(len(self._tokens), (n,), generator=torch.Generator().manual_seed(seed))
        return TokenBatch(self._tokens[rows], self._positions[rows])

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing is remembered."""


def _sae_rates(config: StudyConfig, context: Context, tokens: torch.Tensor) -> tuple[float, float, float]:
    """Seconds of a training step and of encoding all ``tokens`` (B, T, d), and active latents of a cell."""
    from cytosae.sae import Trainer

    recipe = config.sae
    sae = recipe.build(tokens.shape[-1])
    reader = _Again(tokens, recipe.train.batch_tokens)
    trainer = Trainer(sae, replace(recipe.train, steps=2), fabric=context.fabric)
    trainer.fit(reader)
    start = time.perf_counter()
    for step in range(TIMED_STEPS):
        batch = reader.sample(recipe.train.batch_tokens, step)
        trainer.step(batch.tokens, batch.positions)
    train = (time.perf_counter() - start) / TIMED_STEPS
    sae.eval()
    start = time.perf_counter()
    active = [len(sae.encode_sparse(cell).col_indices().unique()) for cell in tokens]
    return train, time.perf_counter() - start, sum(active) / len(active)
