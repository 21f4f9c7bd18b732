"""What is published of the field's data sets: the table behind `cytosae data list`, `fetch` and `check`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from cytosae.common.errors import UsageError
from cytosae.common.remote_files import RemoteFile


@dataclass(frozen=True)
class PublishedDataset:
    """One data set as its authors describe it.

    Attributes
    ----------
    name : str
        Short name, that of its layout where it has one of its own.
    title, what : str
        Its name in the literature, and what it is.
    images : int
        Number of images (or of what ``images_are`` names) in the complete download.
    download : str
        Size of the download, as far as it is known.
    licence, citation, how : str
        Terms, whom to cite, how to get it.
    counted : str
        Column by which ``counts`` are given, "label" or "diagnosis".
    images_are : str
        What ``images`` counts.
    patients : int or None
        Number of patients, None where it is not told.
    counts : mapping of str to int
        Class -> number of files; empty where no source tells.
    counts_source : str
        Who counted.
    prefixes : mapping of str to int
        Prefix of the file name -> number of files.
    patient_counts : mapping of str to int
        Class -> number of patients.
    splits : mapping of str to int
        Name of the split -> number of images.
    broken : mapping of str to str
        Name of a file that is known to be unusable in the original -> what is wrong with it.
    names : str
        File name by `label` and `number`, numbers running from 1 to the class's count; "" where they do not.
    tables : tuple of str
        Files that belong to the data set without being images.
    patient_table, patient_column : str
        Table with a row for each patient, and the column of their names; "" without one.
    record : str
        Address of the Zenodo record, in Zenodo's interface, that lists the files; "" without one.
    files : tuple of RemoteFile
        Those that can be fetched by program, where no record lists them.
    steps : tuple of str
        What a person does to get it, where no program can.
    """

    name: str
    title: str
    what: str
    images: int
    download: str
    licence: str
    citation: str
    how: str
    counted: str
    images_are: str = "images"
    patients: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    counts_source: str = "unknown"
    prefixes: Mapping[str, int] = field(default_factory=dict)
    patient_counts: Mapping[str, int] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    names: str = ""
    tables: tuple[str, ...] = ()
    patient_table: str = ""
    patient_column: str = ""
    record: str = ""
    files: tuple[RemoteFile, ...] = ()
    steps: tuple[str, ...] = ()

    @property
    def fetchable(self) -> bool:
        """Whether it can be fetched by program."""
        return bool(self.record or self.files)


@cache
def published_datasets() -> dict[str, PublishedDataset]:
    """All data sets of the table by name, in its order."""
    with files("cytosae.cells").joinpath("datasets.toml").open("rb") as file:
        table = tomllib.load(file)
    return {
        name: PublishedDataset(
            name=name,
            **{
                **entry,
                "tables": tuple(entry.get("tables", ())),
                "steps": tuple(entry.get("steps", ())),
                "files": tuple(RemoteFile(**file) for file in entry.get("files", ())),
            },
        )
        for name, entry in table.items()
    }


def published_dataset(name: str) -> PublishedDataset:
    """The data set of that name (upper or lower case); `UsageError` where there is none."""
    known = published_datasets()
    if name.lower() not in known:
        raise UsageError(f"there is no data set {name!r}; choose one of: {', '.join(known)}.")
    return known[name.lower()]
