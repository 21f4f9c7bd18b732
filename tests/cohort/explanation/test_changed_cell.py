from __future__ import annotations

import numpy as np
import pytest
import torch
from cohort.explanation.test_explanation import KINDS, dense_entries, linear
from cohort.small_chain import APL_LATENT, TAU

from cytosae.cohort.explanation.changed_cell import decision_with
from cytosae.cohort.explanation.decision import explain_decision


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["AML", "APL"])
def test_one_changed_cell_moves_the_decision_by_its_share(small_atlas, small_chain, kind, target):
    sae, store, _ = small_chain
    model = linear(kind)
    found = explain_decision(model, small_atlas, "P03", target=target)
    rows = {store.cell_ids.index(cell): cell for cell in found.cells.index}
    row, cell = next((row, cell) for row, cell in rows.items() if (store.activations[row][:, APL_LATENT] > TAU).any())
    changed = np.array(store.activations[row], dtype=np.float32)
    changed[:, APL_LATENT] = 0
    batch = torch.from_numpy(np.stack([store.activations[row].astype(np.float32), changed])) @ sae.basis
    moved = decision_with(model, found, sae, cell)(batch)
    sign = 1 if target == "APL" else -1
    entries = dense_entries(changed[None].astype(float), kind)[0].sum(axis=0)[model.latents]
    alone = sign * float(model.coef[0] @ entries + model.intercept[0])
    np.testing.assert_allclose(moved[0], [found.value, found.cells.at[cell, "alone"]], atol=1e-4)
    assert moved[1, 1] == pytest.approx(alone, abs=1e-4)
    assert moved[1, 0] - moved[0, 0] == pytest.approx((alone - moved[0, 1]) / len(found.cells), abs=1e-6)
    assert abs(moved[1, 1] - moved[0, 1]) > 1e-3


def test_only_tokens_that_count_count(small_atlas, small_chain):
    sae, store, _ = small_chain
    model = linear("mean")
    found = explain_decision(model, small_atlas, "P03")
    cell = found.cells.index[0]
    tokens = store.read(store.cell_ids.index(cell), store.cell_ids.index(cell) + 1)
    counted = np.arange(17) < 5
    alone = decision_with(model, found, sae, cell, counted)(tokens)[0, 1]
    entries = store.activations[store.cell_ids.index(cell)][:5].astype(float).mean(axis=0)[model.latents]
    assert alone == pytest.approx(float(model.coef[0] @ entries + model.intercept[0]), abs=1e-4)
