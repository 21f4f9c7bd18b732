"""Patients that come later: read without training on them, and given to a classifier that is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cytosae.common.errors import UsageError
from cytosae.common.names import short_name
from cytosae.pipeline.cohort_steps import colours_step
from cytosae.pipeline.places import Place
from cytosae.pipeline.study_config import Dataset, name_datasets

if TYPE_CHECKING:
    from cytosae.pipeline.study import Study


def find_classifier(study: Study) -> Path:
    """The one classifier of a study.

    Raises
    ------
    UsageError
        there is none, or more than one.
    """
    found = [place for name in study.datasets if (place := study.place("classifier", name)).exists()]
    if not found:
        raise UsageError(f"{study.path} has no fitted classifier; make one with: cytosae cohort --study {study.path}.")
    if len(found) > 1:
        raise UsageError(f"{study.path} has {len(found)} classifiers; choose one with --classifier: {found[0]}, ...")
    return found[0]


def read_new_patients(study: Study, images: Path | Dataset, name: str | None = None) -> str:
    """Add a data set to a study without training on it: cells, tokens and atlas. Returns its name.

    A `Dataset`, whose name does not count, says how its images lie.
    """
    new = read_new_cells(study, images, name)
    describe_cells(study, new)
    return new


def read_new_cells(study: Study, images: Path | Dataset, name: str | None = None) -> str:
    """Add a data set to what is asked of a study, not to be trained on, and read its cells. Returns its name."""
    asked = study.config
    known = {dataset.name: dataset.path for dataset in asked.datasets}
    place = (images.path if isinstance(images, Dataset) else images).resolve()
    named = name_datasets([images], [] if name else asked.datasets)[-1] if place not in known.values() else None
    if named is not None and name:
        named = replace(named, name=short_name(name))
        if named.name in known:
            raise UsageError(f"{study.path} has a data set {named.name!r} already; give another name with --dataset.")
    new = named.name if named else next(n for n, path in known.items() if path == place)
    if named is not None:
        study.config = replace(asked, datasets=(*asked.datasets, named), train_on=tuple(study.trained_on))
    study.read_cells(new)
    return new


def describe_cells(study: Study, dataset: str) -> None:
    """Tokens and atlas of a data set whose cells are read; from then on ``study.toml`` names it."""
    study.extract(dataset)
    study.build_atlas(dataset)
    study.save_config()


def trained_cells(study: Study) -> set[str]:
    """Every cell that the SAE or a classifier of the study was trained on."""
    fitted = [name for name in study.datasets if study.place("classifier", name).exists()]
    return {cell for name in {*study.trained_on, *fitted} for cell in study.cells(name).frame["cell_id"]}


def predict_patients(study: Study, dataset: str, classifier_path: Path, *, patient: str) -> pd.DataFrame:
    """Apply a classifier to the patients of a data set whose atlas is there; see `cytosae.cohort.predict`.

    The column ``training_images`` counts the images of each patient on which SAE or classifier of the study were
    trained: what is said of such a patient is no test.
    """
    from cytosae.cohort import barcodes, open_classifier, predict

    classifier = open_classifier(classifier_path)
    atlas = study.atlas(dataset, backed="r")
    cohort = barcodes(atlas, kinds=[classifier.kind], patient=patient, diagnosis=None)
    study.context.run(colours_step(dataset))
    colours = study.read(Place("colours", dataset))
    table = predict(classifier, cohort, atlas=atlas, colours=colours, patient=patient)
    seen = pd.Series(atlas.obs_names.isin(list(trained_cells(study))), index=atlas.obs[patient].astype(str).to_numpy())
    counts = seen.groupby(level=0).sum().to_dict()
    table["training_images"] = [int(counts.get(name, 0)) for name in table["patient"]]
    return table
