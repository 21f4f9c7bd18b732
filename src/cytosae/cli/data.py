"""``cytosae data``: look at data sets before a study is made of them, and draw the synthetic smear."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from cytosae.cli.fetching import Yes, confirm, file_rows, pinned_line
from cytosae.cli.output import Json, Output
from cytosae.cli.studies import HowToRead
from cytosae.common.errors import InputError, UsageError

if TYPE_CHECKING:
    from cytosae.cells import CellTable, DatasetCheck, Finding, PublishedDataset

data_app: App = App(
    name="data", help="Data sets: what there is, fetch one, whether a download is complete, a synthetic smear."
)


@data_app.command(name="list")
def list_data(*, as_json: Json = False) -> None:
    """List the field's data sets: what each is, its size and licence, whom to cite, and how to get it.

    Their names are those that `cytosae data check NAME DIR` takes.
    """
    from cytosae.cells import published_datasets

    output = Output(as_json=as_json)
    known = list(published_datasets().values())
    output.table(
        ["name", "data set", "images", "classes", "patients", "download", "licence"],
        [
            [d.name, d.title, d.images, len(d.counts) or "unknown", d.patients or "", d.download, d.licence]
            for d in known
        ],
    )
    for dataset in known:
        output.line("")
        output.line(f"{dataset.title}: {dataset.what}.")
        output.line(f"  get it: {f'cytosae data fetch {dataset.name}' if dataset.fetchable else dataset.how}")
        output.line(f"  cite: {dataset.citation}")
    output.result(datasets=[{**asdict(dataset), "tables": list(dataset.tables)} for dataset in known])
    output.finish()


@data_app.command(name="fetch")
def fetch_data(
    name: str,
    directory: Path | None = None,
    /,
    *,
    only: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (),
    yes: Yes = False,
    as_json: Json = False,
) -> int:
    """Fetch a data set of `cytosae data list`; size, licence and free disk are shown before anything starts.

    A download that broke off goes on where it ended; every file is checked by its published checksum, or pinned at its
    first download where none is published; archives are unpacked. Data sets that no program may fetch (TCIA's): the
    steps for a person are printed, and when DIRECTORY holds the images they are checked. With CYTOSAE_OFFLINE=1 nothing
    is asked of the network.

    Parameters
    ----------
    name
        Name of a published data set.
    directory
        Folder for it; by default one in the cache (CYTOSAE_CACHE, or the usual place of the system).
    only
        Names of files, without which all are fetched, e.g. bloodmnist_224.npz.
    """
    from cytosae.cells import fetch_dataset, plan_fetch, published_dataset

    dataset = published_dataset(name)
    output = Output(as_json=as_json)
    if not dataset.fetchable:
        return _fetched_by_hand(output, dataset, directory)
    plan = plan_fetch(dataset, directory, only=only)
    output.line(f"{dataset.title}: {dataset.what}.")
    output.line(f"  licence: {dataset.licence}; cite: {dataset.citation}")
    if plan.files:
        output.table(["file", "size", "checksum"], file_rows(plan.files))
        confirm(output, plan.size, plan.free, plan.place, yes=yes)
    fetched = fetch_dataset(plan)
    output.line(pinned_line([name for name, entry in fetched["files"].items() if entry["pinned"]]))
    output.line(f"{dataset.title} is at {plan.place}; check it with: cytosae data check {dataset.name} {plan.place}")
    output.result(path=plan.place, licence=dataset.licence, citation=dataset.citation, files=fetched["files"])
    output.finish()
    return 0


def _fetched_by_hand(output: Output, dataset: PublishedDataset, directory: Path | None) -> int:
    there = directory is not None and directory.is_dir() and any(directory.iterdir())
    if not there:
        place = directory or Path(dataset.name)
        output.line(f"{dataset.title} ({dataset.licence}) cannot be fetched by program:")
        for number, step in enumerate(dataset.steps, 1):
            output.line(f"  {number}. {step}")
        output.line(f"Then check what is there: cytosae data fetch {dataset.name} {place}")
        output.result(path=None, steps=dataset.steps, licence=dataset.licence)
        output.finish()
        return 1
    return _report(output, _check_folder(output, Path(dataset.name), directory, HowToRead(), ()))


@data_app.command(name="check")
def check_data(
    name_or_path: Path | None = None,
    path: Path | None = None,
    /,
    *,
    how: HowToRead | None = None,
    against: Annotated[tuple[Path, ...], Parameter(negative="", consume_multiple=True)] = (),
    study: Annotated[Path | None, Parameter(name="--study")] = None,
    as_json: Json = False,
) -> int:
    """Check a data set, NAME DIR or DIR alone, or with --study the token stores of a study.

    DIR is read as `run` would read it: layout, cells per label, unusable files, exact copies, litter. With a NAME of
    `cytosae data list` its classes, patients and files are compared with the published ones. The exit code is 1 when
    something is wrong; what reading copes with by itself (litter, exact copies, an image known to be broken) is only
    said.

    Parameters
    ----------
    name_or_path
        Name of a published data set, or a folder of images, a manifest, or a BloodMNIST .npz.
    path
        Folder, manifest or .npz, after a NAME.
    against
        Other folders, manifests or studies, searched for the same images.
    study
        Study whose token stores are verified (checksums, completeness, agreement with the cell table), and whose data
        sets are searched for the same images.
    """
    output = Output(as_json=as_json)
    if name_or_path is None and study is None:
        raise UsageError("nothing to check is given; name a folder (cytosae data check DIR) or a study (--study DIR).")
    findings: list[Finding] = []
    if name_or_path is not None:
        findings += _check_folder(output, name_or_path, path, how or HowToRead(), against)
    if study is not None:
        findings += _check_study(output, study)
    return _report(output, findings)


def _report(output: Output, findings: Sequence[Finding]) -> int:
    for finding in findings:
        output.line(f"{'WRONG' if finding.wrong else 'note '}  {finding.sentence}")
    wrong = sum(finding.wrong for finding in findings)
    output.line(f"{wrong} findings to mend, {len(findings) - wrong} notes." if findings else "Nothing is wrong.")
    output.result(wrong=wrong > 0, findings=[asdict(finding) for finding in findings])
    output.finish()
    return int(wrong > 0)


def _check_folder(
    output: Output, first: Path, second: Path | None, how: HowToRead, against: Sequence[Path]
) -> list[Finding]:
    from cytosae.cells import check_attributes, check_dataset, published_dataset

    published = None if second is None else published_dataset(str(first))
    images = first if second is None else second
    if not images.exists():
        raise InputError(f"{images} does not exist; give a folder of images, a manifest or a BloodMNIST .npz.")
    if published is not None and published.name == "wbcatt":
        return check_attributes(images, published)
    others = [table for place in against for table in _tables(place)]
    check = check_dataset(images, published, layout=how.layout, images_root=how.images_root, against=others)
    _show(output, images, check, published)
    return list(check.findings)


def _show(output: Output, images: Path, check: DatasetCheck, published: PublishedDataset | None) -> None:
    cells = check.cells
    output.line(f"{images}: {cells.summary}")
    columns = ["files", "published"] if published is not None and published.counts else ["files"]
    counts = check.counts[columns].astype(object).where(check.counts[columns].notna(), "unknown")
    labels = cells.frame["label"].fillna("(no label)").value_counts()
    kind = published.counted if published is not None else "label"
    output.table([kind, *columns], [[name, *row] for name, row in zip(counts.index, counts.to_numpy(), strict=True)])
    if published is not None and published.counts:
        output.line(f"Published counts: {published.counts_source}.")
    if len(cells.skipped):
        output.table(["unusable", "reason"], cells.skipped[["path", "reason"]].to_numpy().tolist())
    if len(cells.duplicates):
        shown = cells.duplicates[["kept", "dropped", "labels_differ"]]
        output.table(["kept", "exact copy, dropped", "labels differ"], shown.to_numpy(dtype=object).tolist())
    output.result(
        cells=len(cells),
        layout=cells.layout,
        labels=labels.to_dict(),
        counts=counts.reset_index().to_dict("records"),
        patients=int(cells.frame["patient"].nunique()),
        remarks=cells.remarks,
        skipped=cells.skipped.to_dict("records"),
        duplicates=cells.duplicates.to_dict("records"),
    )


def _check_study(output: Output, path: Path) -> list[Finding]:
    from cytosae.cells import Finding, shared_images
    from cytosae.pipeline import Study
    from cytosae.tokens import check_store

    study = Study(path)
    rows, findings, tables = [], [], []
    for kind, name in study.places():
        if kind != "cells" or name is None:
            continue
        cells = study.cells(name)
        tables.append(cells)
        place = study.place("tokens", name)
        problems = check_store(place, cells) if place.exists() else [f"{name} has no tokens; run: cytosae extract."]
        findings += [Finding("tokens", True, sentence) for sentence in problems]
        rows.append([name, len(cells), "whole" if not problems else "wrong"])
    if not rows:
        raise InputError(f"{path} has no cells yet; begin with: cytosae run IMAGES --study {path}.")
    output.table(["data set", "cells", "tokens"], rows, title=f"Study {path}")
    output.result(stores=[dict(zip(("dataset", "cells", "tokens"), row, strict=True)) for row in rows])
    return findings + shared_images(tables)


def _tables(place: Path) -> list[CellTable]:
    """Cell tables of a study, or of a folder read now."""
    from cytosae.cells import read_cells
    from cytosae.pipeline import Study

    if (place / "study.toml").is_file():
        study = Study(place)
        return [study.cells(name) for kind, name in study.places() if kind == "cells" and name is not None]
    with tempfile.TemporaryDirectory() as unpacked:  # of arrays; only the names of the cells are needed later
        return [read_cells(place, max_unusable=1.0, unpack=Path(unpacked) / "images")]


@Parameter(name="*")
@dataclass(frozen=True)
class Drawing:
    """How a synthetic smear is drawn.

    Attributes
    ----------
    seed : int
        Equal arguments give equal files.
    domain : str
        A laboratory by name, or mixed.
    difficulty : float
        0 to 1: diagnoses that differ less, fainter structures, more variation of stain, focus and noise.
    size : int
        Pixels of the square images.
    spread : float
        How far the numbers of cells vary between patients: standard deviation of their logarithm.
    planted : float
        0 to 1, share of the patients whose laboratory goes with the diagnosis (needs the domain mixed).
    diagnoses : tuple of str
        Among which the patients take turns; without it control and four leukemias.
    """

    seed: int = 0
    domain: str = "reference"
    difficulty: float = 0.5
    size: int = 128
    spread: float = 0.0
    planted: float = 0.0
    diagnoses: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = ()


@data_app.command(name="synthesize")
def synthesize_data(
    out: Path,
    /,
    *,
    patients: int = 12,
    cells: int = 50,
    drawing: Drawing | None = None,
    processes: int | None = None,
    as_json: Json = False,
) -> None:
    """Draw a synthetic smear with its truth: images/, masks/, structures/, truth/ and a manifest like any other.

    Parameters
    ----------
    out
        New folder.
    patients
        How many patients.
    cells
        How many cells of each.
    processes
        That draw; without it one for each processor where there are many cells. The files do not depend on it.
    """
    from cytosae.cells.synthetic import synthesize

    output = Output(as_json=as_json)
    if processes is None:
        processes = (os.cpu_count() or 1) if patients * cells >= 500 else 1
    drawn = {name: value for name, value in asdict(drawing or Drawing()).items() if value != ()}
    synthesize(out, patients=patients, cells=cells, processes=processes, **drawn)
    with (out / "manifest.csv").open(encoding="utf-8") as manifest:
        count = sum(1 for _ in manifest) - 1
    output.line(
        f"{count:,} cells of {patients} patients are in {out}; {out / 'truth' / 'README.md'} says what is true."
    )
    output.result(path=out, cells=count)
    output.finish()
