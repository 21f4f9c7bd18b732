"""The study: a folder of artifacts, what is asked of it, and the steps that fill it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cytosae.common.configuration import replace_from_plain
from cytosae.common.errors import ArtifactError, UsageError
from cytosae.pipeline import dataset_steps
from cytosae.pipeline.atlas_parts import make_part
from cytosae.pipeline.context import Context
from cytosae.pipeline.places import PLACES, Opener, Place
from cytosae.pipeline.step import Step, StepResult
from cytosae.pipeline.study_config import Dataset, StudyConfig, name_datasets, read_config, write_config

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from cytosae.atlas.config import Part
    from cytosae.atlas.explaining.gaze import Gaze
    from cytosae.atlas.explaining.image_explanation import Explanation
    from cytosae.backbones import AnyBackbone
    from cytosae.cohort.explanation.patient_explanation import PatientExplanation
    from cytosae.evaluation.config import PairsConfig
    from cytosae.pipeline.plan import RunPlan


class Study(Opener):
    """A folder of artifacts and the steps that make them; a step that is up to date is skipped.

    Parameters
    ----------
    path : str or Path
        The study's folder.
    config : StudyConfig or None
        What is asked for, None for what ``study.toml`` says.
    on_step : callable or None
        Called with each `StepResult`.
    on_note : callable or None
        Called with a line about what a step is going to do.

    Raises
    ------
    ArtifactError
        there is no study at ``path`` and no ``config`` is given.
    UsageError
        ``study.toml`` names something unknown.
    """

    path: Path
    config: StudyConfig
    context: Context

    def __init__(
        self,
        path: str | Path,
        config: StudyConfig | None = None,
        *,
        on_step: Callable[[StepResult], None] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self.path = Path(path)
        if self.path.is_file():
            raise UsageError(f"{self.path} is a file; a study is a folder: give another path to --study.")
        if config is None and not self.config_path.is_file():
            raise ArtifactError(
                f"{self.path} is no study (study.toml is missing); begin one with: cytosae run IMAGES --study DIR."
            )
        self.config = config or read_config(self.config_path)
        self.context = Context(self.path, self.config.runtime, on_step=on_step, on_note=on_note)

    @classmethod
    def open(
        cls,
        path: str | Path,
        images: Sequence[Path | Dataset] = (),
        changes: Sequence[Mapping[str, Any]] = (),
        *,
        on_step: Callable[[StepResult], None] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> Study:
        """Open a study, or begin one, with further data sets and plain ``changes`` of its configuration in this order.

        Nothing is written until a step has succeeded in reading the cells, so a wrong call leaves no trace.
        """
        file = Path(path) / "study.toml"
        config = read_config(file) if file.is_file() else StudyConfig()
        for change in changes:
            config = replace_from_plain(config, change)
        known = [replace(dataset, path=dataset.path.expanduser().resolve()) for dataset in config.datasets]
        config = replace(config, datasets=tuple(name_datasets(images, known)))
        names = [dataset.name for dataset in config.datasets]
        for name in config.train_on:
            if name not in names:
                raise UsageError(f"train_on names {name!r}; the data sets are: {', '.join(names)}.")
        return cls(path, config, on_step=on_step, on_note=on_note)

    @property
    def config_path(self) -> Path:
        """``study.toml``."""
        return self.path / "study.toml"

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets, in order."""
        return [dataset.name for dataset in self.config.datasets]

    @property
    def trained_on(self) -> list[str]:
        """Names of the data sets that the SAE is trained on."""
        return list(self.config.trained_on)

    @property
    def backbone(self) -> AnyBackbone:
        """The backbone, on the device of the study."""
        return self.context.backbone(self.config.backbone)

    def read(self, place: Place, **how: Any) -> Any:
        """Open the artifact at a place; a sentence names the data sets where it is about none of them."""
        self._known(place)
        return self.context.read(place, **how)

    def place(self, role: str, of: str | None = None) -> Path:
        """Where an artifact lies, or will lie (`PLACES` has the roles)."""
        return Place(role, of).below(self.path)

    def has(self, place: Place) -> bool:
        """Whether there is an artifact at a place."""
        return self.context.has(place)

    def has_focus(self, dataset: str) -> bool:
        """Whether only some of the tokens of a data set count."""
        del dataset
        return self.config.focus != "all"

    def fingerprint(self, role: str, of: str | None = None) -> str:
        """Fingerprint of an artifact that is there."""
        return self.context.artifact(Place(role, of)).fingerprint

    def places(self) -> list[tuple[str, str | None]]:
        """Role and data set of every artifact from cells to report that is there; `cytosae.pipeline.index` has all."""
        roles = [(role, name) for role in ("cells", "tokens", "in_focus", "atlas") for name in self.datasets]
        roles += [(role, None) for role, where in PLACES.items() if "{of}" not in where]
        return [(role, name) for role, name in roles if self.place(role, name).exists()]

    def tau(self) -> float:
        """Activation above which a token counts as having a concept, the same for all data sets."""
        return dataset_steps.tau_of(self.config, self.context)

    def check(self) -> None:
        """Refuse, before hours are spent and anything is written, options that cannot work together.

        Raises
        ------
        UsageError
            no images, or an SAE that does not fit the backbone.
        WeightsError
            the backbone cannot be loaded.
        """
        if not self.datasets:
            raise UsageError(f"{self.path} has no images yet; name a folder: cytosae run IMAGES --study {self.path}.")
        if self.config.focus != "all" and self.config.reading.which == "cls":
            raise UsageError(
                f"reading.which is cls, but CLS is no part of a focus on the {self.config.focus}; drop one."
            )
        tokens = Place("tokens", self.datasets[0])
        there = tokens.below(self.path).exists()
        width = self.read(tokens, verify=False).width if there else self.backbone.width
        self.config.sae.sparsity.check(width, self.config.sae.expansion * width)

    def run(self) -> list[StepResult]:
        """All steps from images to report; those that are up to date are skipped."""
        with self.alone():
            self.check()
            steps = dataset_steps.all_steps(self.config, self.context)
            results = self.do(islice(steps, len(self.datasets)))
            self.save_config()
            return results + self.do(steps)

    def plan(self) -> RunPlan:
        """What `run` would do and take here, from a calibration of some seconds; nothing is written."""
        from cytosae.pipeline.plan import plan_run

        self.check()
        return plan_run(self.config, self.context)

    def do(self, steps: Iterable[Step]) -> list[StepResult]:
        """Do steps one after the other, each asked for when the one before it is done."""
        return [self.context.run(step) for step in steps]

    def save_config(self) -> None:
        """Write ``study.toml``, unless it says the same already."""
        if self.context.first and not (self.config_path.is_file() and read_config(self.config_path) == self.config):
            write_config(self.config, self.config_path)

    def read_all_cells(self) -> list[StepResult]:
        """Look at every image of every data set and write the cell tables; from then on ``study.toml`` is there."""
        self.check()
        results = [self.read_cells(dataset) for dataset in self.datasets]
        self.save_config()
        return results

    def read_cells(self, dataset: str) -> StepResult:
        """Look at every image of a data set and write its cell table."""
        return self.context.run(dataset_steps.cells_step(self.config, dataset))

    def extract(self, dataset: str) -> StepResult:
        """Turn the cells of a data set into tokens."""
        return self.context.run(dataset_steps.tokens_step(self.config, self.cells(dataset), self.backbone))

    def find_focus(self, datasets: Sequence[str]) -> list[StepResult]:
        """Find the tokens that show the cells, or their nuclei, where not all count."""
        steps = (dataset_steps.in_focus_step(self.config, name, self.context) for name in datasets)
        return self.do(steps if self.config.focus != "all" else ())

    def train(self) -> StepResult:
        """Train the SAE on the tokens of `trained_on`."""
        self.find_focus(self.trained_on)
        return self.context.run(dataset_steps.sae_step(self.config))

    def sweep(self, values: Mapping[str, Sequence[float]]) -> StepResult:
        """Train an SAE for each combination of ``values`` (see `training.sweep_recipes`), reading the tokens once."""
        self.find_focus(self.trained_on)
        return self.context.run(dataset_steps.sweep_step(self.config, values))

    def build_atlas(self, dataset: str) -> StepResult:
        """Describe every latent on the cells of a data set."""
        self.find_focus([dataset])
        return self.context.run(dataset_steps.atlas_step(self.config, dataset, self.context))

    def describe_random(self, dataset: str) -> StepResult:
        """Describe latents of random weights on the same cells, to stand beside those of the atlas."""
        self.find_focus([dataset])
        return self.context.run(dataset_steps.random_latents_step(self.config, dataset))

    def measure_looks(self, dataset: str) -> StepResult:
        """Measure colour and texture where latents light up, for the drafts of names."""
        return self.context.run(dataset_steps.looks_step(self.config, dataset))

    def build_part(self, dataset: str, part: Part) -> list[StepResult]:
        """Make one part of the atlas of a data set and of its random latents, to be joined by `build_atlas`."""
        self.find_focus([dataset])
        steps = {
            "atlas_part": dataset_steps.atlas_step(self.config, dataset, self.context),
            "random_part": dataset_steps.random_latents_step(self.config, dataset),
        }
        if not self.context.first:
            return []
        return [self.context.report(make_part(self.context.job(step), kind, part)) for kind, step in steps.items()]

    def localise(self) -> list[StepResult]:
        """Compare maps with nucleus and cytoplasm masks, where there are enough."""
        return self.do(dataset_steps.localisation_steps(self.config, self.context))

    def ask_pairs(self, asked: PairsConfig | None = None) -> StepResult:
        """Ask of each concept whether it follows one attribute of drawn cells; see `evaluation.concept_pairs`."""
        from cytosae.evaluation.config import PairsConfig
        from cytosae.pipeline.pairs_step import pairs_step

        return self.context.run(pairs_step(self.config, self.backbone, asked or PairsConfig()))

    def write_report(self) -> StepResult:
        """Write ``report.html``."""
        return self.context.run(dataset_steps.report_step(self.config, self.context))

    def explain(self, image: str | Path, dataset: str, *, concepts: int = 12) -> Explanation:
        """One image by the concepts of the atlas of ``dataset``; see `cytosae.atlas.explain_cell`."""
        from cytosae.atlas.explaining.image_explanation import explain_cell
        from cytosae.cells import load_image

        tokens, counted = self.see(load_image(Path(image)))
        return explain_cell(tokens, self.sae(), self.atlas(dataset, backed="r"), counted=counted, concepts=concepts)

    def see(self, picture: Any) -> tuple[Tensor, NDArray[np.bool_] | None]:
        """Tokens (T, D) of an image by itself, float32, and which of them count (None: all).

        Raises
        ------
        InputError
            The SAE reads tokens of another backbone or stain than this study's.
        """
        from cytosae.cells.stain.normalisation import prepare_stained
        from cytosae.sae.model.level import refuse_other_level

        level = {**self.backbone.describe(), "stain": self.config.extract.stain}
        refuse_other_level(self.sae(), level, f"the backbone {self.backbone.name} of this study")
        prepare = prepare_stained(self.backbone.prepare, self.config.extract.stain)
        return self.backbone(prepare([picture]))[0].cpu(), self.counted_in(picture)

    def where_it_looks(self, latent: int, dataset: str, *, cells: int = 4) -> dict[str, Gaze]:
        """What a concept's activation on its first reference cells needs to see; see `cytosae.atlas.where_it_looks`.

        Returns
        -------
        dict of str to Gaze
            By ``cell_id``, strongest first; cells on none of whose patches the concept is active are left out.
        """
        from cytosae.pipeline.gazes import gazes_of_concept

        return gazes_of_concept(self, self._encode, latent, dataset, cells)

    def where_a_decision_looks(
        self, patient: str, dataset: str, *, cells: int = 4
    ) -> tuple[PatientExplanation, dict[str, Gaze]]:
        """What the cells that speak most for a patient's decision need to show; see `where_it_looks`.

        Returns
        -------
        tuple (PatientExplanation, dict of str to Gaze)
            The decision, in favour of the diagnosis that is called; by ``cell_id``, the cell that speaks most first.

        Raises
        ------
        InputError
            No such patient.
        UsageError
            No classifier was fitted on this data set.
        """
        from cytosae.pipeline.gazes import gazes_of_decision

        if not self.place("classifier", dataset).exists():
            raise UsageError(f"{dataset} has no classifier; make one with: cytosae cohort --study {self.path}.")
        column = self.config.cohort.patient
        return gazes_of_decision(self, self._encode, patient, dataset, column=column, cells=cells)

    def _encode(self, images: Any) -> Tensor:
        """Tokens [b, T, D] of images, float32, as those of the study were made."""
        from cytosae.cells.stain.normalisation import prepare_stained

        return self.backbone(prepare_stained(self.backbone.prepare, self.config.extract.stain)(images)).float()

    def counted_in(self, image: Any) -> NDArray[np.bool_] | None:
        """Which tokens [T] of an image by itself, uint8 [H, W, 3], count; None where all do."""
        from cytosae.tokens.focus.tokens_in_focus import image_in_focus

        focus = self.config.focus
        return None if focus == "all" else image_in_focus(np.asarray(image), focus, self.backbone.grid)

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        """Hold the study with others that make parts of it; see `Context.beside_others`."""
        with self.context.beside_others():
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the study for this process (and its ranks); see `Context.alone`."""
        with self.context.alone():
            yield

    def _known(self, place: Place) -> None:
        if place.dataset is not None and place.dataset not in self.datasets:
            raise UsageError(
                f"{self.path} has no data set {place.dataset!r}; it has: {', '.join(self.datasets) or 'none'}."
            )
