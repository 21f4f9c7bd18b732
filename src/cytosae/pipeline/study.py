"""A study's directory: where each artifact lies, and the steps that make them in order."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from cytosae.common.artifact import digest, is_current, read_artifact, recipe_of, write_json
from cytosae.common.configuration import replace_from_plain, to_plain
from cytosae.common.errors import ArtifactError, InputError, UsageError
from cytosae.common.runtime import make_fabric
from cytosae.common.unfinished import sweep_below
from cytosae.pipeline.configuration import StudyConfig, name_datasets, read_config, write_config

if TYPE_CHECKING:
    import anndata as ad
    from lightning_fabric import Fabric

    from cytosae.atlas.image_explanation import Explanation
    from cytosae.backbones import Backbone
    from cytosae.cells import CellTable
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

MASKED_CELLS = 20
"""Fewest cells with masks for which maps are compared with them."""


@dataclass(frozen=True)
class StepResult:
    """What became of one step.

    Attributes
    ----------
    step : e.g. "extract acevedo"
    path : the artifact
    skipped : whether it was up to date already
    seconds : time that it took now, 0 if skipped
    facts : a few plain figures
    """

    step: str
    path: Path
    skipped: bool
    seconds: float
    facts: Mapping[str, Any]


class Study:
    """A directory of artifacts and the steps that make them; a step that is up to date is skipped.

    Parameters
    ----------
    path : the study's directory
    config : what is asked for, None for what ``study.toml`` says
    on_step : called with each `StepResult`
    on_note : called with a line about what a step is going to do

    Raises
    ------
    ArtifactError
        there is no study at ``path`` and no ``config`` is given.
    UsageError
        ``study.toml`` names something unknown.
    """

    path: Path
    config: StudyConfig

    def __init__(
        self,
        path: str | Path,
        config: StudyConfig | None = None,
        *,
        on_step: Callable[[StepResult], None] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self.path = Path(path)
        self._on_note = on_note or (lambda line: None)
        self._on_step = on_step or (lambda result: None)
        if config is None and not self.config_path.is_file():
            raise ArtifactError(
                f"{self.path} is no study (study.toml is missing); begin one with: cytosae run IMAGES --study DIR."
            )
        self.config = config or read_config(self.config_path)

    @classmethod
    def open(
        cls,
        path: str | Path,
        images: Sequence[Path] = (),
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
        config = replace(config, datasets=tuple(name_datasets(images, config.datasets)))
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

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone, loaded at first use."""
        from cytosae.backbones import load_backbone

        asked = self.config.backbone
        return load_backbone(asked.name, asked.weights, block=asked.block)

    def cells(self, dataset: str) -> CellTable:
        """The cell table of a data set."""
        from cytosae.cells import CellTable

        return CellTable.load(self.known("cells", dataset))

    def tokens(self, dataset: str) -> TokenStore:
        """The token store of a data set."""
        from cytosae.tokens import open_tokens

        return open_tokens(self.known("tokens", dataset), verify=False)

    def sae(self) -> SparseAutoencoder:
        """The trained SAE."""
        from cytosae.sae import load_sae

        return load_sae(self.place("sae", None))

    def tau(self) -> float:
        """Activation above which a token counts as having a concept, the same for all data sets."""
        from cytosae.pipeline.training import measure_tau

        if self.config.atlas.tau is not None:
            return self.config.atlas.tau
        known = read_artifact(self.place("sae"), "sae", verify=False).details.get("tau")
        if known is not None:
            return float(known)
        stores = [self.tokens(name) for name in self.trained_on]  # an SAE trained before its tau was written down
        return measure_tau(self.sae(), stores, self.config.reading)

    def atlas(self, dataset: str, *, backed: Literal["r", False] = False) -> ad.AnnData:
        """The atlas of a data set; with ``backed="r"`` its cells stay on disk, see `cytosae.atlas.open_atlas`."""
        from cytosae.atlas import open_atlas

        return open_atlas(self.known("atlas", dataset), backed=backed)

    def run(self) -> list[StepResult]:
        """All steps from images to report; those that are up to date are skipped."""
        with self.alone():
            results = self.read_all_cells()
            results += [self.extract(dataset) for dataset in self.datasets]
            results.append(self.train())
            results += [self.build_atlas(dataset) for dataset in self.datasets]
            results += self.localise()
            results.append(self.write_report())
        return results

    def read_all_cells(self) -> list[StepResult]:
        """Look at every image of every data set and write the cell tables; from then on ``study.toml`` is there."""
        if not self.datasets:
            raise UsageError(f"{self.path} has no images yet; name a folder: cytosae run IMAGES --study {self.path}.")
        width = self.backbone.width  # missing weights and impossible sizes are found before hours are spent
        self.config.sae.sparsity.check(width, self.config.sae.expansion * width)
        results = [self.read_cells(dataset) for dataset in self.datasets]
        self.save_config()
        return results

    def save_config(self) -> None:
        """Write ``study.toml``."""
        if self.fabric.is_global_zero:
            write_config(self.config, self.config_path)

    def read_cells(self, dataset: str) -> StepResult:
        """Look at every image of a data set and write its cell table."""
        from cytosae.cells import read_cells

        asked = next(d for d in self.config.datasets if d.name == dataset)
        config = {"path": str(asked.path), "layout": asked.layout, "max_unusable": self.config.cells.max_unusable}
        inputs = {"files": listing_fingerprint(asked.path)}

        def work(path: Path) -> None:
            table = read_cells(
                asked.path,
                name=dataset,
                layout=asked.layout,
                max_unusable=config["max_unusable"],
                unpack=self.path / "images" / dataset,
            )
            table.save(path, config=config, inputs=inputs)

        return self.step("cells", dataset, config, inputs, work, once=True)

    def extract(self, dataset: str) -> StepResult:
        """Turn the cells of a data set into tokens."""
        from cytosae.tokens import estimate, extract

        config = self.config.extract
        cells = self.cells(dataset)
        inputs = {"cells": cells.fingerprint, "backbone": digest(self.backbone.describe())}

        def work(path: Path) -> None:
            self._on_note(f"tokens of {dataset}: {estimate(len(cells), self.backbone, config)}")
            extract(cells, self.backbone, path, config=config, fabric=self.fabric, inputs=inputs)

        return self.step("tokens", dataset, config, inputs, work)

    def train(self) -> StepResult:
        """Train the SAE on the tokens of `trained_on`."""
        from cytosae.pipeline.training import train_sae

        asked = self.config
        config = {"recipe": to_plain(asked.sae), "reading": to_plain(asked.reading)}
        inputs = {f"tokens/{name}": self.fingerprint("tokens", name) for name in self.trained_on}

        def work(path: Path) -> None:
            stores = [self.tokens(name) for name in self.trained_on]
            train_sae(stores, asked.sae, path, reading=asked.reading, fabric=self.fabric, config=config, inputs=inputs)

        result = self.step("sae", None, config, inputs, work)
        self._remove_unfinished("sae")
        return result

    def sweep(self, values: Mapping[str, Sequence[float]]) -> StepResult:
        """Train an SAE for each combination of ``values`` (see `training.sweep_recipes`), reading the tokens once."""
        from cytosae.pipeline.training import sweep_recipes, train_sweep

        asked = self.config
        recipes = sweep_recipes(asked.sae, values)
        plain = {name: [to_plain(recipe), seed] for name, (recipe, seed) in recipes.items()}
        config = {"recipes": plain, "reading": to_plain(asked.reading)}
        inputs = {f"tokens/{name}": self.fingerprint("tokens", name) for name in self.trained_on}

        def work(path: Path) -> None:
            stores = [self.tokens(name) for name in self.trained_on]
            train_sweep(stores, recipes, path, reading=asked.reading, fabric=self.fabric, config=config, inputs=inputs)

        result = self.step("sweep", None, config, inputs, work)
        self._remove_unfinished("sweep")
        return result

    def build_atlas(self, dataset: str) -> StepResult:
        """Describe every latent on the cells of a data set."""
        from cytosae.atlas import write_atlas

        config = self.config.atlas
        inputs = {name: self.fingerprint(name, dataset) for name in ("sae", "tokens", "cells")}

        def work(path: Path) -> None:
            write_atlas(
                path,
                self.sae(),
                self.tokens(dataset),
                self.cells(dataset),
                reference_cells=config.reference_cells,
                tau=self.tau(),
                config=config,
                inputs=inputs,
            )

        return self.step("atlas", dataset, config, inputs, work, once=True)

    def localise(self) -> list[StepResult]:
        """Compare maps with nucleus and cytoplasm masks, where at least `MASKED_CELLS` cells have one."""
        from cytosae.atlas import localisation, save_localisation

        counts = {name: int(self.cells(name).frame["mask"].notna().sum()) for name in self.datasets}
        masked = [name for name, count in counts.items() if count]
        if sum(counts.values()) < MASKED_CELLS:
            return []
        inputs = {f"{kind}/{name}": self.fingerprint(kind, name) for kind in ("tokens", "cells") for name in masked}
        inputs["sae"] = self.fingerprint("sae")

        def work(path: Path) -> None:
            sources = [(self.tokens(name), self.cells(name)) for name in masked]
            found = localisation(self.sae(), sources, config=self.config.localisation)
            save_localisation(found, path, inputs=inputs)

        return [self.step("localisation", None, self.config.localisation, inputs, work, once=True)]

    def write_report(self) -> StepResult:
        """Write ``report.html``."""
        from cytosae.atlas import open_localisation
        from cytosae.report import DatasetReport, write_report

        kinds = ("cells", "tokens", "atlas")
        inputs = {f"{kind}/{name}": self.fingerprint(kind, name) for kind in kinds for name in self.datasets}
        inputs["sae"] = self.fingerprint("sae")
        masks = self.place("localisation", None)
        if masks.is_file():
            inputs["localisation"] = self.fingerprint("localisation")

        def work(path: Path) -> None:
            write_report(
                path,
                datasets=[
                    DatasetReport(self.atlas(n, backed="r"), self.cells(n), self.tokens(n)) for n in self.datasets
                ],
                sae=self.sae(),
                sae_summary=read_artifact(self.path / "sae", "sae", verify=False).details,
                backbone=self.tokens(self.datasets[0]).manifest["backbone"],
                localisation=open_localisation(masks) if masks.is_file() else None,
                wall_times=self.wall_times(),
                trained_on=self.trained_on,
                title=self.config.report.title or f"Concepts of {', '.join(self.datasets)}",
                concepts=self.config.report.concepts,
                config=self.config.report,
                inputs=inputs,
            )

        return self.step("report", None, self.config.report, inputs, work, once=True)

    def explain(self, image: str | Path, dataset: str, *, concepts: int = 12) -> Explanation:
        """One image by the concepts of the atlas of ``dataset``; see `cytosae.atlas.explain_cell`."""
        from cytosae.atlas.image_explanation import explain_cell
        from cytosae.cells import load_image
        from cytosae.cells.stain.normalisation import prepare_stained

        prepare = prepare_stained(self.backbone.prepare, self.config.extract.stain)
        tokens = self.backbone(prepare([load_image(Path(image))]))[0]
        return explain_cell(tokens, self.sae(), self.atlas(dataset, backed="r"), concepts=concepts)

    @property
    def trained_on(self) -> list[str]:
        """Names of the data sets that the SAE is trained on."""
        return list(self.config.train_on) or self.datasets

    def wall_times(self) -> dict[str, float]:
        """Step -> seconds that it took when it last ran, as far as this machine's ``times.json`` knows."""
        file = self.path / "times.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    @cached_property
    def fabric(self) -> Fabric:
        """The launched Fabric of this process."""
        return make_fabric(self.config.runtime)

    def _remove_unfinished(self, place: str) -> None:
        """Remove what a training left behind that was killed between its last two acts, writing and cleaning up."""
        if self.fabric.is_global_zero:
            for folder in self.path.glob(f".{self.place(place).name}-*.partial"):
                shutil.rmtree(folder, ignore_errors=True)

    def places(self) -> list[tuple[str, str | None]]:
        """Kind and data set of every artifact that is there."""
        kinds = [(kind, name) for kind in ("cells", "tokens", "atlas") for name in self.datasets]
        kinds += [(kind, None) for kind in ("sae", "sweep", "localisation", "report")]
        return [(kind, name) for kind, name in kinds if self.place(kind, name).exists()]

    def known(self, kind: str, dataset: str) -> Path:
        """`place` of an artifact of a data set that the study has; a sentence names those where it has not."""
        if dataset not in self.datasets:
            raise UsageError(f"{self.path} has no data set {dataset!r}; it has: {', '.join(self.datasets) or 'none'}.")
        return self.place(kind, dataset)

    def place(self, kind: str, dataset: str | None = None) -> Path:
        """Where the artifact of a kind (and data set) lies, or will lie."""
        places = {
            "cells": f"cells/{dataset}",
            "tokens": f"tokens/{dataset}",
            "sae": "sae",
            "sweep": "sweep",
            "atlas": f"atlas/{dataset}.h5ad",
            "localisation": "localisation.json",
            "report": "report.html",
            "colours": f"cohort/{dataset}/colours.parquet",
            "cohort": f"cohort/{dataset}.h5ad",
            "control": f"cohort/{dataset}/control.h5ad",
            "retest": f"cohort/{dataset}/retest",
            "contrasts": f"cohort/{dataset}.parquet",
            "ranking": f"cohort/{dataset}-cells",
            "classification": f"cohort/{dataset}/classification.json",
            "classifier": f"cohort/{dataset}/classifier",
            "cohort_report": f"cohort/{dataset}/report.html",
        }
        return self.path / places[kind]

    def fingerprint(self, kind: str, dataset: str | None = None) -> str:
        """Fingerprint of an artifact that is there."""
        return read_artifact(self.place(kind, dataset), kind, verify=False).fingerprint

    def step(
        self,
        kind: str,
        dataset: str | None,
        config: Any,
        inputs: Mapping[str, str],
        work: Callable[[Path], None],
        *,
        once: bool = False,
        place: str | None = None,
    ) -> StepResult:
        """Run ``work`` unless an artifact of this recipe is there already; with ``once``, on the first rank only.

        ``place`` is the name of the step, and of its place, where these are not those of the artifact's kind.
        """
        place = place or kind
        path = self.place(place, dataset)
        name = f"{place} {dataset}".replace("_", " ") if dataset else place
        skipped = is_current(path, kind, recipe_of(kind, to_plain(config), inputs), verify=kind != "tokens")
        start = time.perf_counter()
        self.fabric.barrier()  # every rank has seen the same state before one of them changes it
        if not skipped and (self.fabric.is_global_zero or not once):
            work(path)
        self.fabric.barrier()
        seconds = 0.0 if skipped else time.perf_counter() - start
        if not skipped and self.fabric.is_global_zero:
            write_json(self.path / "times.json", {**self.wall_times(), name: round(seconds, 1)})
        result = StepResult(name, path, skipped, seconds, read_artifact(path, kind, verify=False).details)
        self._on_step(result)
        return result

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the study for this process (and its ranks); the lock goes with the process, however it ends."""
        if not self.fabric.is_global_zero:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as problem:
            raise ArtifactError(
                f"Another process works on {self.path} (it holds {lock.lock_file}); wait until it has finished."
            ) from problem
        sweep_below(self.path)  # what killed processes left
        try:
            yield
        finally:
            lock.release()
            if [entry.name for entry in self.path.iterdir()] == [".lock"]:  # nothing came of it
                shutil.rmtree(self.path, ignore_errors=True)


def listing_fingerprint(path: Path) -> str:
    """SHA-256 over name, size and time of change of every file at or below ``path``: equal if nothing changed."""
    if not path.exists():
        raise InputError(f"{path} does not exist; give a folder of images or a manifest.")
    if path.suffix.lower() == ".npz":  # whatever lies beside it, such as the study itself, is no part of it
        return digest([str(path), path.stat().st_size, path.stat().st_mtime_ns])
    root = path.parent if path.is_file() else path
    stats = ((file, file.stat()) for file in sorted(root.rglob("*")) if file.is_file())
    return digest([str(path), [[f.relative_to(root).as_posix(), s.st_size, s.st_mtime_ns] for f, s in stats]])
