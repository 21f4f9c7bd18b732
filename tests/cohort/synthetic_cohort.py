"""A cohort made of arrays: which latents know the diagnosis, the cell type and the colour is known."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from cytosae.cells.stain.colour import COLOUR_COLUMNS
from cytosae.cohort import AttentionConfig, ClassificationConfig

TYPES = ("blast", "lymphocyte", "promyelocyte")
DISEASE, TYPE, COLOUR = range(4), range(4, 8), range(8, 12)
QUICK = ClassificationConfig(
    folds=3,
    repeats=2,
    inner_folds=3,
    slow_repeats=1,
    bootstrap=50,
    few_concepts=3,
    most_concepts=3,
    shuffles=2,
    kinds=("presence", "mean"),
    strengths=(0.1, 10.0),
    attention=AttentionConfig(hidden=8, most_epochs=3, components=6),
)
"""A classification that takes a second."""


def make_atlas(
    *,
    patients: int = 24,
    cells: int = 10,
    latents: int = 30,
    effect: float = 1.5,
    classes: tuple[str, ...] = ("AML", "APL"),
    shift: float = 0.0,
    seed: int = 0,
) -> tuple[ad.AnnData, pd.DataFrame]:
    """Atlas and colours. ``effect``: of the diagnosis on latents 0 to 3; ``shift``: of all colours."""
    rng = np.random.default_rng(seed)
    n = patients * cells
    patient = np.repeat(np.arange(patients), cells)
    y = np.arange(patients) % len(classes)
    types = rng.integers(0, 3, n)
    smear = rng.normal(size=(patients, 6)) * 8 + shift
    colour = 150 + smear[patient] + rng.normal(size=(n, 6)) * 4
    values = rng.exponential(0.5, (n, latents)) * (rng.random((n, latents)) < 0.5)
    values[:, list(DISEASE)] += effect * (y[patient][:, None] > 0) * rng.random((n, 4)) * y[patient][:, None]
    values[:, list(TYPE)] += 3.0 * (types == 2)[:, None]
    values[:, list(COLOUR)] += np.maximum(colour[:, :1] - 140, 0) / 5
    values[:, -1] = 0
    above = np.where(values > 0, rng.integers(0, 6, (n, latents)), 0)
    ids = [f"{seed:02d}cell{i:06d}" for i in range(n)]
    names = [f"P{p:03d}" for p in patient]
    obs = pd.DataFrame(
        {
            "patient": pd.Categorical(names),
            "diagnosis": pd.Categorical(np.asarray(classes)[y[patient]]),
            "label": pd.Categorical(np.asarray(TYPES)[types]),
            "cell_type": pd.Categorical(np.asarray(TYPES)[types]),
            "age": 30 + (patient * 7) % 40,
            "sex": pd.Categorical(np.where(patient % 3 == 0, "female", "male")),
            "image": pd.Categorical([f"{name}/{cell}.png" for name, cell in zip(names, ids, strict=True)]),
            "width": 64,
            "height": 64,
        },
        index=pd.Index(ids, name="cell_id"),
    )
    tokens = np.hstack([values[:, :6], colour / 20, rng.normal(size=(n, 4))]).astype(np.float32)
    atlas = ad.AnnData(
        X=sp.csr_matrix(values.astype(np.float32)),
        obs=obs,
        var=pd.DataFrame(index=pd.Index([str(i) for i in range(latents)], name="latent")),
        uns={
            "classes": np.array(TYPES, dtype=object),
            "provenance": {
                "sae": "a" * 64,
                "backbone": json.dumps({"name": "stub", "weights_hash": "b" * 64, "block": 1}),
                "dataset": "synthetic",
                "tokens": "c" * 64,
                "cells": "d" * 64,
                "n_tokens": 5,
                "tau": 0.2,
                "sae_config": "{}",
            },
        },
    )
    atlas.layers["tokens_above"] = sp.csr_matrix(above.astype(np.int32))
    atlas.obsm["X_backbone"] = tokens
    return atlas, pd.DataFrame(colour, index=obs.index, columns=pd.Index(COLOUR_COLUMNS))
