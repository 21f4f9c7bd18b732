from __future__ import annotations

import numpy as np
import pandas as pd
from atlas.stub_chain import make_chain

from cytosae.atlas import build_atlas, select_concepts, usefulness


def atlas_with(rows: list[list[int]], **var: list[float]):
    sae, store, cells = make_chain(40)
    atlas = build_atlas(sae, store, cells)[:, : len(rows)].copy()
    for name, values in var.items():
        atlas.var[name] = values
    atlas.uns["reference_cells"]["rows"] = np.array(rows)
    atlas.uns["reference_cells"]["values"] = np.ones((len(rows), 10))
    return atlas


def test_score_is_a_product_of_shares_and_dead_latents_have_none():
    atlas = build_atlas(*make_chain(40))
    scores = usefulness(atlas)
    assert ((scores >= 0) & (scores <= 1)).all(axis=None)
    assert scores["usefulness"]["3"] == 0
    factors = scores[["specific", "enough", "selective", "strong", "content", "central"]]
    alive = atlas.var["cells_active"] > 0
    np.testing.assert_allclose(scores["usefulness"][alive], factors.prod(axis=1)[alive])


def test_specific_frequent_selective_latents_of_the_cell_come_first():
    disjoint = [[10 * i + j for j in range(10)] for i in range(6)]
    atlas = atlas_with(
        disjoint,
        cells_active=[20, 20, 2, 20, 20, 20],
        label_entropy=[0.1, 1.0, 0.1, 0.1, 0.1, 0.1],
        activation_frequency=[0.2, 0.2, 0.02, 0.99, 0.2, 0.2],
        position_dependence=[0.1, 0.1, 0.1, 0.1, 0.95, 0.1],
        central_share=[0.9, 0.9, 0.9, 0.9, 0.9, 0.1],
    )
    scores = usefulness(atlas)["usefulness"]
    assert scores.idxmax() == "0"
    assert (scores[["1", "2", "3", "4", "5"]] < 0.5 * scores["0"]).all()


def test_gallery_does_not_show_the_same_cells_twice():
    same = list(range(10))
    atlas = atlas_with(
        [same, same, list(range(10, 20))],
        cells_active=[20] * 3,
        label_entropy=[0.1, 0.2, 0.3],
        activation_frequency=[0.2] * 3,
        position_dependence=[0.0] * 3,
        central_share=[1.0] * 3,
        top_class=pd.Categorical(["monocyte"] * 3),
    )
    assert select_concepts(atlas, 3) == [0, 2]


def test_one_class_does_not_fill_the_gallery():
    disjoint = [[10 * i + j for j in range(10)] for i in range(6)]
    atlas = atlas_with(
        disjoint,
        cells_active=[20] * 6,
        label_entropy=[0.1, 0.11, 0.12, 0.13, 0.5, 0.6],
        activation_frequency=[0.2] * 6,
        position_dependence=[0.0] * 6,
        central_share=[1.0] * 6,
        top_class=pd.Categorical(["monocyte"] * 4 + ["basophil", "neutrophil"]),
    )
    assert select_concepts(atlas, 3) == [0, 1, 4]
    assert select_concepts(atlas, 6) == [0, 1, 2, 3, 4, 5]


def test_numbers_hold_for_a_subset_of_latents():
    atlas = build_atlas(*make_chain(40))
    chosen = select_concepts(atlas[:, 10:20].copy(), 4)
    assert chosen
    assert all(10 <= latent < 20 for latent in chosen)
