"""``cytosae data``: look at data sets before a study is made of them, and draw the synthetic smear."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from cytosae.cli.output import Json, Output

data_app = App(name="data", help="Data sets: check a folder of images, draw a synthetic smear.")


@data_app.command(name="check")
def check_data(images: Path, /, *, layout: str | None = None, as_json: Json = False) -> None:
    """Read a data set as `run` would, and say what is in it: layout, cells per label, unusable files, exact copies.

    Parameters
    ----------
    images
        Folder of images or manifest.
    layout
        Layout of the folder, where recognition by itself is wrong.
    """
    from cytosae.cells import read_cells

    output = Output(as_json=as_json)
    table = read_cells(images, layout=layout, max_unusable=1.0)
    counts = table.frame["label"].fillna("(no label)").value_counts()
    output.line(f"{images}: {len(table):,} cells, read as {table.layout}")
    output.table(["label", "cells"], [[label, int(count)] for label, count in counts.items()])
    patients = int(table.frame["patient"].nunique())
    if patients:
        output.line(f"{patients} patients")
    if len(table.skipped):
        output.table(["unusable", "reason"], table.skipped[["path", "reason"]].to_numpy().tolist())
    if len(table.duplicates):
        shown = table.duplicates[["kept", "dropped", "labels_differ"]]
        output.table(["kept", "exact copy, dropped", "labels differ"], shown.to_numpy(dtype=object).tolist())
    output.result(
        cells=len(table),
        layout=table.layout,
        labels=counts.to_dict(),
        patients=patients,
        skipped=table.skipped.to_dict("records"),
        duplicates=table.duplicates.to_dict("records"),
    )
    output.finish()


@data_app.command(name="synthesize")
def synthesize_data(
    out: Path,
    /,
    *,
    patients: int = 12,
    cells: int = 50,
    seed: int = 0,
    domain: str = "reference",
    difficulty: float = 0.5,
    size: int = 128,
    as_json: Json = False,
) -> None:
    """Draw a synthetic smear: images/, masks/ and manifest.csv, to be read like any other data set.

    Parameters
    ----------
    out
        New folder.
    patients, cells
        Number of patients, and of cells of each.
    seed
        Equal arguments give equal files.
    domain
        A laboratory by name, or mixed.
    difficulty
        0 to 1: more variation of stain, focus and noise.
    size
        Pixels of the square images.
    """
    from cytosae.cells.synthetic import synthesize

    output = Output(as_json=as_json)
    synthesize(out, patients=patients, cells=cells, seed=seed, domain=domain, difficulty=difficulty, size=size)
    output.line(f"{patients * cells:,} cells of {patients} patients are in {out}.")
    output.result(path=out, cells=patients * cells)
    output.finish()
