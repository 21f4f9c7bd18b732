"""The study that a command is about: its options on the command line, and how it is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

import cytosae
from cytosae.cli.options import changes_of
from cytosae.cli.output import Output
from cytosae.common.errors import InputError, UsageError
from cytosae.pipeline import Dataset, read_toml, recipe_changes
from cytosae.tokens.config import Focus

StudyPath = Annotated[Path, Parameter(name="--study", help="Folder of the study; made if it is not there.")]
ExistingStudy = Annotated[Path, Parameter(name="--study", help="Folder of the study.")]
FocusOption = Annotated[
    Focus | None,
    Parameter(
        name="--focus",
        help="Tokens that count in training, atlases, barcodes and maps: all, those of the cell in the middle of each "
        "image, or those of its nucleus. [all]",
    ),
]
ConfigFile = Annotated[Path | None, Parameter(name="--config", help="TOML file with options, as in study.toml.")]


@Parameter(name="*")
@dataclass(frozen=True)
class StartingPoint:
    """What the options of a command change.

    Attributes
    ----------
    recipe : str or None
        default, or paper (as published; much longer).
    config : Path or None
        TOML file with options, as in study.toml.
    """

    recipe: str | None = None
    config: Path | None = None


@Parameter(name="*")
@dataclass(frozen=True)
class HowToRead:
    """How the IMAGES of a command lie, where that is not seen from them.

    Attributes
    ----------
    layout : str or None
        Layout of the folder, where recognition by itself is wrong: `folders` for plain class folders, or a name of
        `cytosae data list`.
    images_root : Path or None
        Folder where the images of a manifest are now, by default its own; paths of another machine are found below it.
    """

    layout: str | None = None
    images_root: Path | None = None

    def of(self, images: Sequence[Path]) -> list[Dataset]:
        """Data sets, not yet named, of images that are all read in this way."""
        if not images and self != HowToRead():
            raise UsageError("--layout and --images-root say how IMAGES are to be read; name them, too.")
        return [Dataset("", path, self.layout, self.images_root) for path in images]


def asked_for(
    *,
    recipe: str | None = None,
    config: Path | None = None,
    options: Any = None,
    train_on: Sequence[str] = (),
    focus: Focus | None = None,
    changes: Mapping[str, Any] | None = None,
) -> list[Mapping[str, Any]]:
    """What a command line asks of a study's configuration, in the order in which it counts: recipe, file, options."""
    return [
        recipe_changes(recipe) if recipe else {},
        read_toml(config) if config else {},
        changes or {},
        changes_of(options) if options is not None else {},
        {"train_on": list(train_on)} if train_on else {},
        {"focus": focus} if focus else {},
    ]


def open_study(
    path: Path,
    output: Output,
    asked: Sequence[Mapping[str, Any]] = (),
    *,
    images: Sequence[Dataset | Path] | None = None,
) -> cytosae.Study:
    """Open a study with what is asked of it; nothing is written yet.

    Without ``images`` (None) the study must be there; with an empty list it must have some.
    """
    if images is None:
        cytosae.Study(path)  # says in a sentence that there is none
    for image in (given.path if isinstance(given, Dataset) else given for given in images or ()):
        if not image.exists():
            raise InputError(f"{image} does not exist; give a folder of images or a manifest.")
    named = any(change.get("datasets") for change in asked)
    if not images and not named and not (path / "study.toml").is_file() and not path.is_file():
        raise UsageError("no images are given; name a folder of images, or a study that has some.")
    return cytosae.Study.open(path, images or (), asked, on_step=output.step, on_note=output.line)
