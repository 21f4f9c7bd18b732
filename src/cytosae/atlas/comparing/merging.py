"""Atlases of several sites as one: each site sends its atlas without images and paths, and together they are exact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytosae.atlas.comparing.carried_latents import PART, check_one_sae
from cytosae.atlas.making.build import AtlasPlan, observations
from cytosae.atlas.making.joining import write_joined
from cytosae.atlas.making.statistics import class_indices
from cytosae.atlas.stored.storage import open_atlas, save_atlas
from cytosae.common.artifact import digest, package_version
from cytosae.common.errors import InputError, UsageError
from cytosae.common.names import short_name

if TYPE_CHECKING:
    from anndata import AnnData

SHARED_COLUMNS = ("label", "cell_type", "diagnosis", "patient", "width", "height")
"""Columns of the cells that leave a site; all others stay, for they may name files or people."""


def share_atlas(path: Path, out: Path, *, site: str) -> Path:
    """Write what may leave a site of the atlas at ``path``: no image, no path, patients by number.

    Parameters
    ----------
    path : Path
        An atlas.
    out : Path
        The file to send, `.h5ad`.
    site : str
        Name of the site, which becomes that of the data set.
    """
    atlas = open_atlas(path)
    obs = pd.DataFrame(atlas.obs)
    kept: Any = obs[[name for name in SHARED_COLUMNS if name in obs]].copy()
    if "patient" in kept:
        codes, _ = pd.factorize(kept["patient"], sort=True)
        # the order of names would tell who comes first, so numbers are dealt out
        dealt = np.random.default_rng(int(digest(list(atlas.obs_names))[:12], 16)).permutation(
            codes.max(initial=-1) + 1
        )
        numbers = [f"patient-{dealt[code] + 1}" if code >= 0 else None for code in codes]
        kept["patient"] = pd.Categorical(numbers)
    atlas.obs = observations(kept)
    atlas.uns["provenance"]["dataset"] = short_name(site)
    return save_atlas(atlas, out)


def merge_atlases(paths: Sequence[Path], out: Path, *, name: str | None = None) -> Path:
    """Write the atlas of the cells of all atlases together.

    It equals the atlas that `write_atlas` would make of all cells in this order: counts, maxima and reference cells
    exactly, means up to rounding. Cells are read block by block. Reference cells are known by ``cell_id``; their images
    stay where they are. Patients of data sets with different names are different people, and get these as a prefix.

    Parameters
    ----------
    paths : sequence of Path
        Two atlases or more, of one SAE, one backbone and one tau, without a common cell.
    out : Path
        The atlas to write.
    name : str or None
        Of the merged data set, by default all names joined by "+".

    Raises
    ------
    UsageError
        Fewer than two atlases, or they do not fit together.
    InputError
        An atlas lacks what merging needs.
    """
    if len(paths) < 2:
        raise UsageError("merging needs two atlases or more; name another one.")
    atlases = [open_atlas(path, backed="r") for path in paths]
    _check(atlases, paths)
    plan = _plan(atlases, name)
    return write_joined(
        out,
        atlases,
        plan,
        reference_cells=atlases[0].uns["reference_cells"]["rows"].shape[1],
        inputs={key: str(plan.provenance[key]) for key in ("sae", "tokens", "cells")},
    )


def _check(atlases: Sequence[AnnData], paths: Sequence[Path]) -> None:
    first = atlases[0].uns["provenance"]
    seen: set[str] = set()
    for one, path in zip(atlases, paths, strict=True):
        check_one_sae(atlases[0], one)
        if PART in one.uns["provenance"] or "tokens_active" not in one.varm:
            raise InputError(
                f"{path} lacks the counts of active tokens by position, which merging needs; make the atlas again from "
                "tokens with this version."
            )
        for fact in ("tau", "n_tokens", "backbone", "focus"):
            # of an atlas that names no focus all tokens were counted
            if one.uns["provenance"].get(fact, "all") != first.get(fact, "all"):
                raise UsageError(f"{path} was made with another {fact} than {paths[0]}; make both with the same one.")
        both = seen.intersection(one.obs_names)
        if both:
            raise UsageError(
                f"{len(both):,} cells of {path} are in another atlas, too (first: {min(both)[:12]}), and would count "
                "twice; make an atlas without them."
            )
        seen.update(one.obs_names)


def _plan(atlases: Sequence[AnnData], name: str | None) -> AtlasPlan:
    names = [str(one.uns["provenance"]["dataset"]) for one in atlases]
    several = len(set(names)) > 1
    frames = []
    for one, dataset in zip(atlases, names, strict=True):
        frame: Any = pd.DataFrame(one.obs)
        frame = frame[[column for column in frame if column not in ("image", "mask")]].copy()
        for column in frame.columns:
            if isinstance(frame[column].dtype, pd.CategoricalDtype):
                frame[column] = frame[column].astype(object)
        if several and "patient" in frame:
            frame["patient"] = frame["patient"].map(lambda who, of=dataset: f"{of}:{who}", na_action="ignore")
        frames.append(frame.assign(site=dataset) if several else frame)
    frame = pd.concat(frames)
    classes = tuple(sorted({str(label) for label in frame["label"].dropna()}))
    first = atlases[0].uns["provenance"]
    provenance = {
        "focus": "all",
        **first,
        "dataset": name or "+".join(dict.fromkeys(names)),
        "cells": digest(sorted(str(one.uns["provenance"]["cells"]) for one in atlases)),
        "tokens": digest(sorted(str(one.uns["provenance"]["tokens"]) for one in atlases)),
        "cytosae": package_version(),
    }
    labels = class_indices(list(frame["label"]), classes)
    return AtlasPlan(frame, classes, labels, float(first["tau"]), provenance)
