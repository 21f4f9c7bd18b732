"""Cells like an image by the concepts that both have."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from cytosae.atlas.explaining.image_explanation import similar_cells


def test_likeness_is_the_cosine_of_activations_weighed_by_rarity():
    rng = np.random.default_rng(3)
    X = rng.random((6, 5)) * (rng.random((6, 5)) > 0.4)
    X[4] = 0
    frequency = (X > 0).mean(axis=0)
    names = [f"cell {i}" for i in range(6)]
    atlas = ad.AnnData(
        sp.csr_matrix(X.astype(np.float32)),
        obs=pd.DataFrame({"label": list("ababab")}, index=pd.Index(names)),
        var=pd.DataFrame({"activation_frequency": frequency}, index=pd.Index([str(i) for i in range(5)])),
    )
    asked = rng.random(5)
    found = similar_cells(asked, atlas, 6)
    weighed = -np.log(frequency) * np.vstack([X, asked])
    length = np.linalg.norm(weighed, axis=1)
    expected = (weighed[:-1] @ weighed[-1]) / np.where(length[:-1] > 0, length[:-1] * length[-1], np.inf)
    best = np.argsort(-expected, kind="stable")
    assert found.index.tolist() == [names[i] for i in best]
    np.testing.assert_allclose(found["similarity"], expected[best], rtol=1e-5)
    assert found.loc["cell 4", "similarity"] == 0
