"""What is asked of a study: frozen dataclasses, read from and written to ``study.toml``."""

from __future__ import annotations

import dataclasses
import os
import tomllib
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from cytosae.atlas import LocalisationConfig
from cytosae.cells.table import safe_name
from cytosae.common.configuration import replace_from_plain, to_plain
from cytosae.common.errors import UsageError
from cytosae.common.runtime import RuntimeConfig
from cytosae.sae import RECIPES, Recipe
from cytosae.tokens import ExtractConfig
from cytosae.tokens.reader import Which


@dataclass(frozen=True)
class Dataset:
    """One set of cells of a study.

    Attributes
    ----------
    name : short name; folders and the report use it
    path : folder of images, or a manifest
    layout : layout of the folder, None to recognise it
    """

    name: str
    path: Path
    layout: str | None = None


@dataclass(frozen=True)
class CellsConfig:
    """How cells are read.

    Attributes
    ----------
    max_unusable : largest share of unusable files with which a run goes on, 0 to 1
    """

    max_unusable: float = 0.10


@dataclass(frozen=True)
class BackboneConfig:
    """Which vision transformer makes the tokens.

    Attributes
    ----------
    name : tiny, dinobloom-s, dinobloom-b, dinobloom-l, dinobloom-g or timm:MODEL
    weights : file of weights, None for those that ship with the package or that timm fetches
    block : block whose output is taken; negative counts from the end, -2 is the second to last
    """

    name: str = "tiny"
    weights: Path | None = None
    block: int = -2


@dataclass(frozen=True)
class ReadingConfig:
    """How tokens are read for training; size and order of the batches belong to the recipe of the SAE.

    Attributes
    ----------
    which : all tokens, patches only, or cls only
    memory_bytes : stores up to this size are held in memory and shuffled as a whole
    buffer_tokens : larger ones are shuffled in pools of this many tokens, two of them in memory
    """

    which: Which = "all"
    memory_bytes: int = 2 << 30
    buffer_tokens: int = 1 << 19


@dataclass(frozen=True)
class AtlasConfig:
    """How latents are described.

    Attributes
    ----------
    reference_cells : cells kept per latent
    """

    reference_cells: int = 10


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows.

    Attributes
    ----------
    concepts : concepts in the gallery of each data set
    title : headline, None for the study's name
    """

    concepts: int = 40
    title: str | None = None


@dataclass(frozen=True)
class StudyConfig:
    """Everything that is asked of a study; ``study.toml`` holds it.

    Attributes
    ----------
    datasets : the sets of cells
    train_on : names of the data sets to train on, empty for all
    cells, backbone, extract, reading, sae, atlas, localisation, report, runtime : configuration of the steps
    """

    datasets: tuple[Dataset, ...] = ()
    train_on: tuple[str, ...] = ()
    cells: CellsConfig = field(default_factory=CellsConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    sae: Recipe = field(default_factory=lambda: RECIPES["default"])
    atlas: AtlasConfig = field(default_factory=AtlasConfig)
    localisation: LocalisationConfig = field(default_factory=LocalisationConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def read_config(path: Path) -> StudyConfig:
    """Read a ``study.toml``; what it leaves out has its default."""
    return replace_from_plain(StudyConfig(), read_toml(path), where=path.name)


def recipe_changes(name: str) -> dict[str, Any]:
    """Plain changes that bring a configuration to the named recipe."""
    if name not in RECIPES:
        raise UsageError(f"there is no recipe {name!r}; choose one of: {', '.join(RECIPES)}.")
    return {"sae": to_plain(RECIPES[name])}


def name_datasets(images: Sequence[Path], known: Sequence[Dataset] = ()) -> list[Dataset]:
    """Data sets for paths of images, after those that are ``known``; each named after its folder or manifest.

    Raises
    ------
    UsageError
        two different paths give the same name.
    """
    datasets = {dataset.name: dataset for dataset in known}
    for path in images:
        place = path.resolve()
        name = safe_name(place.parent.name if place.is_file() and place.stem == "manifest" else place.stem)
        if name in datasets and datasets[name].path != place:
            raise UsageError(
                f"{path} and {datasets[name].path} would both be called {name!r}; rename one of the folders, or name "
                "them under [[datasets]] in study.toml."
            )
        datasets.setdefault(name, Dataset(name, place))
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    temporary.write_text(tomli_w.dumps(tidy(config)), encoding="utf-8")
    temporary.replace(path)


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
