"""The steps of a cohort: colours, barcodes, contrasts, classification, pathognomonic cells, classifier, pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytosae.cells.table import safe_name
from cytosae.common.artifact import read_artifact, write_artifact, write_file_artifact
from cytosae.common.configuration import to_plain
from cytosae.common.errors import InputError, UsageError
from cytosae.pipeline.configuration import CohortConfig

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.cohort.classification.classifier import ConceptClassifier
    from cytosae.cohort.classification.cohort_arrays import BarcodesOf
    from cytosae.cohort.classification.result import ClassificationResult
    from cytosae.cohort.config import ClassificationConfig
    from cytosae.pipeline.study import StepResult, Study
    from cytosae.sae import SparseAutoencoder


class CohortWork:
    """Patients of one data set of a study; each method is a step that is skipped when it is up to date.

    Parameters
    ----------
    study : with tokens, SAE and atlas of the data set
    config : None for what the study's configuration says

    Raises
    ------
    UsageError
        no or more than one data set has patients and diagnoses and none is named; ``compare`` is not two diagnoses that
        are there.
    InputError
        the named data set has no patients, or none with a diagnosis.
    """

    config: CohortConfig
    dataset: str

    def __init__(self, study: Study, config: CohortConfig | None = None) -> None:
        self.study = study
        self.config = config or study.config.cohort
        if self.config.dataset is not None:
            study.known("cells", self.config.dataset)
        self.dataset = self.config.dataset or self._only_dataset()

    def run(self) -> list[StepResult]:
        """All steps."""
        self.check_copies()
        steps = [self.read_colours(), self.make_barcodes()]
        self.check_diagnoses()
        steps += [self.make_control(), *self.retest_stain(), *(self.contrast(a, b) for a, b in self.comparisons)]
        steps += [self.classify(), self.fit(), *(self.rank_cells(a, b) for a, b in self.comparisons)]
        steps.append(self.write_pages())
        return steps

    @cached_property
    def atlas(self) -> AnnData:
        """The cells, left on disk."""
        return self.study.atlas(self.dataset, backed="r")

    @cached_property
    def colours(self) -> pd.DataFrame:
        """Colour statistics of the cells, index cell_id."""
        return read_colours(self.study.place("colours", self.dataset))

    @cached_property
    def barcodes(self) -> AnnData:
        """Patients x latents."""
        from cytosae.cohort import open_cohort

        return open_cohort(self.study.place("cohort", self.dataset))

    @cached_property
    def retest(self) -> AnnData | None:
        """Some of the cells in two stains; None where none were asked for."""
        return self._retest("concepts")

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The diagnoses to tell apart; None for all."""
        return self.config.compare or None

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """Pairs that are contrasted: the two diagnoses, the one to be found first; of more, each against the rest."""
        from cytosae.cohort import REST

        names = list(self.config.compare) or sorted(self._counts)
        positive = self.asked.positive
        if len(names) == 2:
            return [(name, next(other for other in names if other != name)) for name in names if name == positive]
        return [(name, REST) for name in names]

    @cached_property
    def asked(self) -> ClassificationConfig:
        """The classification, with the diagnosis to be found: as asked, the first to compare, or the rarer of two."""
        asked, compared = self.config.classification, self.config.compare
        if asked.positive is not None or len(compared or self._counts) != 2:
            return asked
        rarer = min(sorted(self._counts, reverse=True), key=lambda name: self._counts[name])
        return replace(asked, positive=compared[0] if compared else rarer)

    @cached_property
    def groups(self) -> pd.Series | None:
        """What keeps patients together, as the classification is asked to, by patient."""
        from cytosae.cohort import patient_groups

        return patient_groups(self.barcodes, self.atlas, self.asked, patient=self.config.patient)

    def read_colours(self) -> StepResult:
        """Mean and spread of the colours of every image."""
        return colour_step(self.study, self.dataset)

    def make_barcodes(self) -> StepResult:
        """Sum up the cells of each patient."""
        from cytosae.cohort import save_cohort

        config, inputs = self._columns(), {"atlas": self.study.fingerprint("atlas", self.dataset)}

        def work(path: Path) -> None:
            save_cohort(self._barcodes_of(self.atlas), path, config=config, inputs=inputs)

        return self.study.step("cohort", self.dataset, config, inputs, work, once=True)

    def make_control(self) -> StepResult:
        """Barcodes by an SAE with random weights, a negative control."""
        from cytosae.cohort import save_cohort
        from cytosae.sae.model.randomised import randomised

        seed = self.config.classification.seed
        config = {**self._columns(), "seed": seed}
        inputs = {name: self.study.fingerprint(name, self.dataset) for name in ("atlas", "tokens", "cells")}

        def work(path: Path) -> None:
            save_cohort(self._barcodes_by(randomised(self.study.sae(), seed)), path, config=config, inputs=inputs)

        return self.study.step("cohort", self.dataset, config, inputs, work, once=True, place="control")

    def retest_stain(self) -> list[StepResult]:
        """Encode some cells anew in a changed stain, by the SAE and by the control."""
        from cytosae.cohort import open_cohort, save_retest
        from cytosae.pipeline.stain_retest import retest_stain
        from cytosae.sae.model.randomised import randomised

        asked = self.config
        if not asked.retest_cells:
            return []
        config = {"patient": asked.patient, "cells": asked.retest_cells, "seed": asked.classification.seed}
        inputs = {name: self.study.fingerprint(name, self.dataset) for name in ("atlas", "tokens", "cells")}

        def work(path: Path) -> None:
            sae = self.study.sae().eval()
            random = randomised(sae, asked.classification.seed).eval()
            taus = [
                b.uns["barcode"]["tau"] for b in (self.barcodes, open_cohort(self.study.place("control", self.dataset)))
            ]
            saes = {"concepts": (sae, float(taus[0])), "control": (random, float(taus[1]))}
            found = retest_stain(self.study, self.dataset, saes, patient=asked.patient, most=asked.retest_cells)
            save_retest(path, found, config=config, inputs=inputs)

        return [self.study.step("retest", self.dataset, config, inputs, work, once=True)]

    def contrast(self, a: str, b: str) -> StepResult:
        """Compare two groups of patients, latent by latent."""
        from cytosae.cohort import Intervals, contrast, save_contrast

        asked = self.asked
        config = {"a": a, "b": b, "kind": asked.kind, "seed": asked.seed, "confidence": asked.confidence}
        config |= {"group": asked.group, "sessions": asked.sessions}
        inputs = {"cohort": self.study.fingerprint("cohort", self.dataset)}

        def work(path: Path) -> None:
            intervals = Intervals(asked.confidence, resamples=1000, seed=asked.seed, groups=self.groups)
            table = contrast(self.barcodes, a, b, kind=asked.kind, intervals=intervals)
            save_contrast(table, path, config=config, inputs=inputs)

        return self.study.step("contrasts", self.pair(a, b), config, inputs, work, once=True)

    def classify(self) -> StepResult:
        """Every model, baseline and control in the same nested folds."""
        from cytosae.cohort import Controls, classify, open_cohort

        config = self._asked()
        inputs = {name: self.study.fingerprint(name, self.dataset) for name in ("cohort", "colours", "atlas")}
        if self.config.retest_cells:
            inputs["retest"] = self.study.fingerprint("retest", self.dataset)
        if self.config.strict:
            inputs["tokens"] = self.study.fingerprint("tokens", self.dataset)

        def work(path: Path) -> None:
            result = classify(
                self.barcodes,
                self.atlas,
                colours=self.colours,
                retest=self.retest,
                controls=Controls(
                    random=open_cohort(self.study.place("control", self.dataset)),
                    retest=self._retest("control"),
                    barcodes_of=self._strict_barcodes() if self.config.strict else None,
                ),
                classes=self.classes,
                patient=self.config.patient,
                config=self.asked,
            )
            notes = (*result.notes, *stain_advice(result.table, self.study.config.extract.stain))
            replace(result, notes=notes).save(path, config=config, inputs=inputs)

        return self.study.step("classification", self.dataset, config, inputs, work, once=True)

    def result(self) -> ClassificationResult:
        """The classification that is there."""
        from cytosae.cohort import open_classification

        return open_classification(self.study.place("classification", self.dataset))

    def classifier(self) -> ConceptClassifier:
        """The fitted classifier that is there."""
        from cytosae.cohort import open_classifier

        return open_classifier(self.study.place("classifier", self.dataset))

    def fit(self) -> StepResult:
        """Fit the recommended configuration on all patients, to be applied to new ones."""
        from cytosae.cohort import fit_classifier, save_classifier

        config = self._asked()
        inputs = {name: self.study.fingerprint(name, self.dataset) for name in ("classification", "cohort", "colours")}

        def work(path: Path) -> None:
            classifier = fit_classifier(
                self.barcodes,
                self.atlas,
                configuration=self.result().recommended,
                colours=self.colours,
                classes=self.classes,
                patient=self.config.patient,
                retest=self.retest,
                config=self.asked,
            )
            save_classifier(path, classifier, config=config, inputs=inputs)

        return self.study.step("classifier", self.dataset, config, inputs, work, once=True)

    def rank_cells(self, a: str, b: str) -> StepResult:
        """Rank the cells of the patients of a disease, and measure what an expert would find among the first."""
        from cytosae.pipeline.cohort_cells import rank_and_evaluate

        asked = self.asked
        config = {"a": a, "b": b, "kind": asked.kind, "experts": list(self.config.experts), "seed": asked.seed}
        config |= {"group": asked.group, "sessions": asked.sessions}
        inputs = {name: self.study.fingerprint(name, self.dataset) for name in ("cohort", "atlas")}

        def work(path: Path) -> None:
            ranking, tables = rank_and_evaluate(self.atlas, a, b, self.config, self.groups)
            details = {"cells": len(ranking), "patients": int(ranking["patient"].nunique())}
            with write_artifact(path, "ranking", config=config, inputs=inputs, details=details) as folder:
                ranking.to_parquet(folder / "cells.parquet")
                for name, table in tables.items():
                    table.to_csv(folder / f"{name}.csv")

        return self.study.step("ranking", self.pair(a, b), config, inputs, work, once=True)

    def write_pages(self) -> StepResult:
        """Write the pages of the cohort, of its diseases and of some of its patients."""
        from cytosae.pipeline.cohort_pages import write_pages

        pairs = [self.pair(a, b) for a, b in self.comparisons]
        inputs = {name: self.study.fingerprint(name, self.dataset) for name in ("classification", "classifier")}
        inputs |= {name: self.study.fingerprint(name, self.dataset) for name in ("atlas", "tokens", "cells")}
        for kind in ("contrasts", "ranking"):
            inputs |= {f"{kind}/{pair}": self.study.fingerprint(kind, pair) for pair in pairs}
        config = {name: getattr(self.config, name) for name in ("stability", "concepts", "pages")}

        def work(path: Path) -> None:
            write_pages(self, path, config=config, inputs=inputs)

        return self.study.step("report", self.dataset, config, inputs, work, once=True, place="cohort_report")

    def check_copies(self) -> None:
        """Refuse an image that stands under two patients: it would be trained on and tested."""
        copies = self.study.cells(self.dataset).duplicates
        shared = copies[[self.config.patient in str(names).split() for names in copies["differs"]]]
        if len(shared):
            first = shared.iloc[0]
            raise InputError(
                f"{len(shared)} images stand under two patients, so that they would be trained on and tested: "
                f"{first['kept']} is {first['dropped']}; remove one of each, or correct the column "
                f"{self.config.patient!r}."
            )

    def check_diagnoses(self) -> None:
        """Refuse a comparison that cannot be made, before hours are spent on it."""
        from cytosae.cohort import near_duplicates

        there = self.barcodes.obs["diagnosis"].dropna()
        names = sorted(set(there))
        for name in self.config.compare:
            if name not in names:
                alike = [b if a == name else a for a, b in near_duplicates([*names, name]) if name in (a, b)]
                hint = f"; did you mean {alike[0]!r}" if alike else ""
                raise UsageError(f"no patient has the diagnosis {name!r}{hint}; there are: {', '.join(names)}.")
        if self.config.compare and (len(self.config.compare) != 2 or len(set(self.config.compare)) != 2):
            given = ", ".join(self.config.compare)
            raise UsageError(f"compare names {given}; name two different diagnoses, or none for all.")
        if len(names) < 2:
            only = f"all patients have the diagnosis {names[0]!r}" if names else "no patient has a diagnosis"
            raise InputError(f"{self.dataset}: {only}; nothing can be compared. Add patients of another group.")

    @cached_property
    def _counts(self) -> dict[str, int]:
        """Patients of each diagnosis."""
        return {str(name): int(n) for name, n in self.barcodes.obs["diagnosis"].value_counts().items() if n}

    def _retest(self, name: str) -> AnnData | None:
        from cytosae.cohort import open_retest

        if not self.config.retest_cells:
            return None
        return open_retest(self.study.place("retest", self.dataset), name, verify=False)

    def _columns(self) -> dict[str, object]:
        return {name: getattr(self.config, name) for name in ("patient", "diagnosis", "min_cells")}

    def _asked(self) -> dict[str, object]:
        compared = {"compare": list(self.config.compare), "strict": self.config.strict}
        return {**compared, "classification": to_plain(self.asked)}

    def pair(self, a: str, b: str) -> str:
        """Name of a comparison, as its artifacts have it."""
        return f"{self.dataset}/{safe_name(a)}-against-{safe_name(b)}"

    def _barcodes_of(self, atlas: AnnData) -> AnnData:
        from cytosae.cohort import barcodes

        asked = self.config
        return barcodes(atlas, patient=asked.patient, diagnosis=asked.diagnosis, min_cells=asked.min_cells)

    def _barcodes_by(self, sae: SparseAutoencoder) -> AnnData:
        """Barcodes of all patients by another SAE, with its own threshold by the same rule."""
        from cytosae.atlas import open_atlas, write_atlas
        from cytosae.pipeline.training import measure_tau

        tokens = self.study.tokens(self.dataset)
        tau = measure_tau(sae, [tokens], self.study.config.reading)
        with TemporaryDirectory(prefix=".atlas-", dir=self.study.path) as folder:
            path = write_atlas(Path(folder) / "atlas.h5ad", sae, tokens, self.study.cells(self.dataset), tau=tau)
            return self._barcodes_of(open_atlas(path, verify=False, backed="r"))

    def _strict_barcodes(self) -> BarcodesOf:
        """Barcodes by an SAE that has not seen the cells of a fold's test patients."""
        from cytosae.pipeline.training import open_reader
        from cytosae.sae import Trainer
        from cytosae.tokens.store.subset import SelectedCells

        recipe, tokens = self.study.config.sae, self.study.tokens(self.dataset)
        patient = self.study.cells(self.dataset).frame.set_index("cell_id")[self.config.patient]
        of_row = patient.reindex(tokens.cell_ids).astype(str).to_numpy()

        def barcodes_of(fold: int, train: Sequence[str]) -> AnnData:
            seen = SelectedCells(tokens, np.flatnonzero(np.isin(of_row, list(train))))
            trained = replace(recipe.train, seed=recipe.train.seed + fold)
            sae = recipe.build(tokens.width, seed=trained.seed)
            Trainer(sae, trained, fabric=self.study.fabric).fit(
                open_reader([seen], replace(recipe, train=trained), self.study.config.reading, self.study.fabric)
            )
            return self._barcodes_by(sae.eval())

        return barcodes_of

    def _only_dataset(self) -> str:
        columns = (self.config.patient, self.config.diagnosis)
        frames = {name: self.study.cells(name).frame for name in self.study.datasets}
        usable = [
            name for name, frame in frames.items() if all(c in frame and bool(frame[c].notna().any()) for c in columns)
        ]
        if len(usable) == 1:
            return usable[0]
        if not usable:
            raise InputError(
                f"No data set of {self.study.path} has cells with {columns[0]!r} and {columns[1]!r}; add these columns "
                "to its manifest, or name other columns with --cohort.patient and --cohort.diagnosis."
            )
        raise UsageError(f"{', '.join(usable)} all have patients; choose one with --cohort.dataset.")


def stain_advice(table: pd.DataFrame, stain: str) -> list[str]:
    """What to try where colour alone tells the classes of a classification apart and images are as they were taken."""
    colour = next((row for row in table.to_dict("records") if row["model"] == "colour alone"), None)
    if stain != "none" or colour is None or not colour["auroc_low"] > 0.5:
        return []
    return [
        f"Colour alone tells the classes apart (AUROC {colour['auroc']:.2f}, {colour['auroc_low']:.2f} to "
        f"{colour['auroc_high']:.2f}) and the images are not stain-normalised: run a study of its own with "
        "--extract.stain macenko, and look at the concepts of both."
    ]


def colour_step(study: Study, dataset: str) -> StepResult:
    """Mean and spread of the colours of every image of a data set."""
    from cytosae.cells.stain.colour import colour_statistics

    inputs = {"cells": study.fingerprint("cells", dataset)}

    def work(path: Path) -> None:
        table = colour_statistics(study.cells(dataset))
        with write_file_artifact(path, "colours", inputs=inputs, details={"cells": len(table)}) as temporary:
            table.to_parquet(temporary)

    return study.step("colours", dataset, {}, inputs, work, once=True)


def read_colours(path: Path) -> pd.DataFrame:
    """Colour statistics that a study has kept; index cell_id."""
    read_artifact(path, "colours", verify=False)
    return pd.read_parquet(path)
