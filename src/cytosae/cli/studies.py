"""The study that a command is about: its options on the command line, and how it is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from cytosae.cli.options import changes_of
from cytosae.cli.output import Output
from cytosae.common.errors import ArtifactError, InputError, UsageError
from cytosae.pipeline import Study, read_toml, recipe_changes

StudyPath = Annotated[Path, Parameter(name="--study", help="Folder of the study; made if it is not there.")]
ExistingStudy = Annotated[Path, Parameter(name="--study", help="Folder of the study.")]
ConfigFile = Annotated[Path | None, Parameter(name="--config", help="TOML file with options, as in study.toml.")]
Recipe = Annotated[str | None, Parameter(name="--recipe", help="default, or paper (as published; much longer).")]


def open_study(
    path: Path,
    images: Sequence[Path],
    output: Output,
    *,
    recipe: str | None = None,
    config: Path | None = None,
    options: Any = None,
    train_on: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    create: bool = True,
    save: bool = True,
) -> Study:
    """Open a study and bring what was asked into its configuration: recipe, then file, then options.

    Without ``create`` the study must be there; what was asked is then kept at once, unless ``save`` is false.
    """
    if not create and not (path / "study.toml").is_file():
        raise ArtifactError(
            f"{path} is no study (study.toml is missing); begin one with: cytosae run IMAGES --study DIR."
        )
    for image in images:
        if not image.exists():
            raise InputError(f"{image} does not exist; give a folder of images or a manifest.")
    if not images and not (path / "study.toml").is_file():
        raise UsageError("no images are given; name a folder of images, or a study that has some.")
    asked = [recipe_changes(recipe) if recipe else {}, read_toml(config) if config else {}, dict(changes or {})]
    asked.append(changes_of(options) if options is not None else {})
    if train_on:
        asked.append({"train_on": list(train_on)})
    work = Study.open(path, images, asked, on_step=output.step, on_note=output.line)
    if save and not create:
        work.save_config()
    return work
