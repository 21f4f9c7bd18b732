"""What is asked of a study: frozen dataclasses, read from and written to ``study.toml``."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomli_w

from cytosae.atlas import LocalisationConfig
from cytosae.cohort.config import PROMYELOCYTES, ClassificationConfig
from cytosae.common.config import RuntimeConfig
from cytosae.common.configuration import replace_from_plain, to_plain
from cytosae.common.disk import disk_errors, write_durably
from cytosae.common.errors import UsageError
from cytosae.common.names import file_name, short_name
from cytosae.sae import RECIPES, Recipe
from cytosae.tokens.config import ExtractConfig, Focus, Which

FEWEST_RETESTED = 50
"""Cells from whose change with the stain something can be concluded."""


@dataclass(frozen=True)
class Dataset:
    """One set of cells of a study.

    Attributes
    ----------
    name : str
        Short name; folders and the report use it.
    path : Path
        Folder of images, or a manifest.
    layout : str or None
        Layout of the folder, None to recognise it.
    images_root : Path or None
        Folder of the images that a manifest names, None for its own.
    """

    name: str
    path: Path
    layout: str | None = None
    images_root: Path | None = None


@dataclass(frozen=True)
class CellsConfig:
    """How cells are read.

    Attributes
    ----------
    max_unusable : float
        Largest share of unusable files with which a run goes on, 0 to 1.
    """

    max_unusable: float = 0.10

    def __post_init__(self) -> None:
        if not 0 <= self.max_unusable <= 1:
            raise UsageError(f"cells.max_unusable is {self.max_unusable}; give a share between 0 and 1.")


@dataclass(frozen=True)
class BackboneConfig:
    """Which vision transformer makes the tokens.

    Attributes
    ----------
    name : str
        tiny, dinobloom-s, dinobloom-b, dinobloom-l, dinobloom-g, timm:MODEL, onnx:NAME (its file as weights), or
        RUNTIME:MODEL of another package.
    weights : Path or None
        File of weights, None for those that ship with the package or that timm fetches.
    block : int
        Block whose output is taken; negative counts from the end, -2 is the second to last.
    """

    name: str = "tiny"
    weights: Path | None = None
    block: int = -2


@dataclass(frozen=True)
class ReadingConfig:
    """How tokens are read for training; size and order of the batches belong to the recipe of the SAE.

    Attributes
    ----------
    which : {"all", "patches", "cls"}
        All tokens, patches only, or cls only.
    memory_bytes : int
        Stores up to this size are held in memory and shuffled as a whole.
    buffer_tokens : int
        Larger ones are shuffled in pools of this many tokens, two of them in memory.
    """

    which: Which = "all"
    memory_bytes: int = 2 << 30
    buffer_tokens: int = 1 << 19

    def __post_init__(self) -> None:
        _at_least(0, "reading.memory_bytes", self.memory_bytes)
        _at_least(1, "reading.buffer_tokens", self.buffer_tokens)


@dataclass(frozen=True)
class AtlasConfig:
    """How latents are described.

    Attributes
    ----------
    reference_cells : int
        Cells kept per latent.
    tau : float or None
        Activation above which a token counts as having a concept; None for what `cytosae.sae.choose_tau` found on the
        tokens of the training, the same for all data sets of the study.
    format : {"h5ad", "zarr"}
        A file in HDF5, or a folder in AnnData's zarr for millions of cells; the numbers in it are the same.
    """

    reference_cells: int = 10
    tau: float | None = None
    format: Literal["h5ad", "zarr"] = "h5ad"

    def __post_init__(self) -> None:
        _at_least(1, "atlas.reference_cells", self.reference_cells)
        _at_least(0, "atlas.tau", self.tau or 0)


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows.

    Attributes
    ----------
    concepts : int
        Concepts in the gallery of each data set.
    title : str or None
        Headline, None for the study's name.
    """

    concepts: int = 40
    title: str | None = None

    def __post_init__(self) -> None:
        _at_least(1, "report.concepts", self.concepts)


@dataclass(frozen=True)
class CohortConfig:
    """How patients are compared.

    Attributes
    ----------
    dataset : str or None
        Data set with the patients, None for the only one whose cells have patients and diagnoses.
    patient, diagnosis : str
        Columns of the cell table.
    compare : tuple of str
        Two diagnoses to tell apart, the one to be found first; empty for all that are there.
    min_cells : int
        Patients with fewer cells are left out, which is said.
    experts : tuple of str
        Cell types that an expert would point at; how many are among the first cells is measured.
    retest_cells : int
        Cells that are encoded anew in a changed stain, to see which concepts depend on it; 0 for none.
    painted_cells : int
        Cells that are encoded anew with the cell painted out, and with the cell alone, to see what is left of a
        decision without it; 0 for none.
    strict : bool
        Also train an SAE without the test patients of each fold, and classify with that one.
    stability : int
        Bootstrap samples of patients on which the recommended model is fitted again.
    concepts : int
        Concepts shown with pictures.
    background : bool
        Whether concepts that live in the background, beside the cells, are among those shown of contrasts and diseases.
    pages : int
        Patients with a page of their own, those decided most clearly or wrongly first.
    classification : ClassificationConfig
        Models, folds, intervals and controls.
    """

    dataset: str | None = None
    patient: str = "patient"
    diagnosis: str = "diagnosis"
    compare: tuple[str, ...] = ()
    min_cells: int = 1
    experts: tuple[str, ...] = PROMYELOCYTES
    retest_cells: int = 2000
    painted_cells: int = 10_000
    strict: bool = False
    stability: int = 50
    concepts: int = 12
    background: bool = False
    pages: int = 12
    classification: ClassificationConfig = field(default_factory=ClassificationConfig)

    def __post_init__(self) -> None:
        for name, least in {"min_cells": 1, "painted_cells": 0, "stability": 0, "concepts": 1, "pages": 0}.items():
            _at_least(least, f"cohort.{name}", getattr(self, name))
        if self.retest_cells and self.retest_cells < FEWEST_RETESTED:
            raise UsageError(
                f"cohort.retest_cells is {self.retest_cells}; give {FEWEST_RETESTED} or more, or 0 for none."
            )
        if self.compare and (len(self.compare) != 2 or len(set(self.compare)) != 2):
            given = ", ".join(self.compare)
            raise UsageError(f"compare names {given}; name two different diagnoses, or none for all.")


@dataclass(frozen=True)
class RankingConfig:
    """What the ranking of the cells of a disease's patients reads of a `CohortConfig`.

    Attributes
    ----------
    disease, against : str
        Diagnoses, or "rest".
    patient, diagnosis : str
        Columns of the cell table.
    experts : tuple of str
        Cell types that an expert would point at.
    classification : ClassificationConfig
        What of it the ranking reads, the rest as by default.
    """

    disease: str
    against: str
    patient: str
    diagnosis: str
    experts: tuple[str, ...]
    classification: ClassificationConfig


@dataclass(frozen=True)
class StudyConfig:
    """Everything that is asked of a study; ``study.toml`` holds it.

    Attributes
    ----------
    datasets : tuple of Dataset
        The sets of cells.
    train_on : tuple of str
        Names of the data sets to train on, empty for all.
    focus : {"all", "cell", "nucleus"}
        Tokens that count in training, atlases, barcodes and maps: all, those of the cell in the middle of each image,
        or those of its nucleus.
    cells, backbone, extract, reading, sae, atlas, localisation, cohort, report, runtime : object
        Configuration of the steps.
    """

    datasets: tuple[Dataset, ...] = ()
    train_on: tuple[str, ...] = ()
    focus: Focus = "all"
    cells: CellsConfig = field(default_factory=CellsConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    sae: Recipe = field(default_factory=lambda: RECIPES["default"])
    atlas: AtlasConfig = field(default_factory=AtlasConfig)
    localisation: LocalisationConfig = field(default_factory=LocalisationConfig)
    cohort: CohortConfig = field(default_factory=CohortConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Names of the data sets that the SAE is trained on."""
        return self.train_on or tuple(dataset.name for dataset in self.datasets)


def _at_least(least: int, name: str, value: float) -> None:
    if not value >= least:
        raise UsageError(f"{name} is {value}; give {least} or more.")


def read_config(path: Path) -> StudyConfig:
    """Read a ``study.toml``; what it leaves out has its default."""
    return replace_from_plain(StudyConfig(), read_toml(path), where=path.name)


def recipe_changes(name: str) -> dict[str, Any]:
    """Plain changes that bring a configuration to the named recipe."""
    if name not in RECIPES:
        raise UsageError(f"there is no recipe {name!r}; choose one of: {', '.join(RECIPES)}.")
    return {"sae": to_plain(RECIPES[name])}


def name_datasets(images: Sequence[Path | Dataset], known: Sequence[Dataset] = ()) -> list[Dataset]:
    """Data sets for images, after those that are ``known``; each named after its folder or manifest.

    Images that are known keep their name; those given as a `Dataset` (whose name does not count) say how to read them.

    Raises
    ------
    UsageError
        two different paths give the same name.
    """
    datasets = {dataset.name: dataset for dataset in known}
    of_path = {dataset.path: dataset.name for dataset in known}
    for given in images:
        asked = given if isinstance(given, Dataset) else Dataset("", given)
        place = asked.path.resolve()
        full = place.parent.name if place.is_file() and place.stem.lower() == "manifest" else place.stem
        name = of_path.get(place, short_name(full))
        if name in datasets and datasets[name].path != place:
            name = file_name(full)  # another one, unless both are called the same
        if name in datasets and datasets[name].path != place:
            raise UsageError(
                f"{asked.path} and {datasets[name].path} would both be called {name!r}; rename one of the folders, or "
                "name them under [[datasets]] in study.toml."
            )
        old = datasets.get(name, Dataset(name, place))
        moved = asked.images_root.resolve() if asked.images_root else old.images_root
        datasets[name] = Dataset(name, place, asked.layout or old.layout, moved)
        of_path[place] = name
    return list(datasets.values())


def read_toml(path: Path) -> dict[str, Any]:
    """Plain values of a TOML file; one sentence where it is missing or invalid."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise UsageError(f"{path} does not exist; give the path of a TOML file.") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path} is no valid TOML ({problem}); correct it there.") from problem


def write_config(config: StudyConfig, path: Path) -> None:
    """Write ``config`` as TOML, atomically."""
    with disk_errors(path, None):
        write_durably(path, tomli_w.dumps(tidy(config)).encode())


def tidy(config: Any) -> dict[str, Any]:
    """Plain values of a dataclass as a person would write them: no None, and ``type`` only where there is a choice."""
    hints = typing.get_type_hints(type(config))
    table: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if value is None:
            continue
        if dataclasses.is_dataclass(value):
            choices = [option for option in typing.get_args(hints[f.name]) if dataclasses.is_dataclass(option)]
            kind = {"type": type(value).__name__} if len(choices) > 1 else {}
            table[f.name] = {**kind, **tidy(value)}
        elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            table[f.name] = [tidy(item) for item in value]
        else:
            table[f.name] = to_plain(value)
    return table
