from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import scipy.sparse as sp
from cohort.small_chain import AML_LATENT, APL_LATENT, TAU

from cytosae.cohort.classification.classifier import ConceptClassifier
from cytosae.cohort.classification.novelty import familiar
from cytosae.cohort.explanation.decision import TOLERANCE, Detail, explain_decision
from cytosae.cohort.explanation.token_shares import token_shares
from cytosae.cohort.patients.barcodes import cell_matrix
from cytosae.common.errors import InputError, UsageError

KINDS = ("presence", "mean", "count")


def linear(kind="mean", classes=("AML", "APL"), seed=0, **changes) -> ConceptClassifier:
    """A model with random coefficients on some latents in no particular order, the planted ones among them."""
    rng = np.random.default_rng(seed)
    latents = rng.permutation(np.array([APL_LATENT, AML_LATENT, 0, 1, 2, 10, 11, 30, 40, 41, 63]))
    K = 1 if len(classes) == 2 else len(classes)
    model = ConceptClassifier(
        classes=classes,
        kind=kind,
        latents=latents,
        coef=rng.normal(size=(K, len(latents))),
        intercept=rng.normal(size=K),
        n_latents=64,
        tau=TAU,
        prevalence=np.full(len(classes), 1 / len(classes)),
        means=rng.uniform(0, 0.5, len(latents)),
        cell_types=(),
        sae="sae-small",
        backbone="{}",
        familiar=familiar(rng.normal(size=(5, 3)), None, np.full(5, 20)),
        strength=1.0,
    )
    return replace(model, **changes)


class Bent(ConceptClassifier):
    """One whose decisions are no sums."""

    def decision(self, barcodes):
        return super().decision(barcodes) ** 2 + 1


def dense_entries(activations, kind):
    """Entries [n, T, m] whose sum over tokens is a cell's barcode, by the definitions."""
    above = activations > TAU
    if kind == "mean":
        return activations / activations.shape[1]
    if kind == "count":
        return above.astype(float)
    return above / np.maximum(above.sum(axis=1, keepdims=True), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_level_is_the_dense_sum(small_atlas, small_chain, kind):
    sae, store, _ = small_chain
    model = linear(kind)
    found = explain_decision(model, small_atlas, "P03", detail=Detail(sae, store, 50))
    rows = np.flatnonzero((small_atlas.obs["patient"] == "P03").to_numpy())
    entries = (
        dense_entries(store.activations[rows].astype(float), kind)[:, :, model.latents] * model.coef[0] / len(rows)
    )
    value = float(entries.sum() + model.intercept[0])
    assert found.value == pytest.approx(value, abs=1e-5)
    places = [list(model.latents).index(latent) for latent in found.concepts.index]
    np.testing.assert_allclose(found.concepts["contribution"], entries.sum(axis=(0, 1))[places], atol=1e-6)
    order = [list(rows).index(row) for row in found.cells["row"]]
    np.testing.assert_allclose(found.cells["contribution"], entries.sum(axis=(1, 2))[order], atol=1e-6)
    np.testing.assert_allclose(found.by_cell.toarray(), entries.sum(axis=1)[order][:, places], atol=1e-6)
    assert len(found.detailed) == len(rows)  # every cell is among the first or the last 50
    tokens = found.by_token.toarray().reshape(len(rows), 17, -1)
    np.testing.assert_allclose(tokens, entries[order][:, :, places], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("patient", ["P00", "P17"])
def test_sums_equal_the_decision_to_a_millionth(small_atlas, small_chain, kind, patient):
    sae, store, _ = small_chain
    model = linear(kind, seed=3)
    found = explain_decision(model, small_atlas, patient, detail=Detail(sae, store, 4))
    barcode = cell_matrix(small_atlas[small_atlas.obs["patient"] == patient], kind).mean(axis=0)
    decision = float(np.ravel(model.decision(np.atleast_2d(barcode)))[0])
    assert found.intercept + found.concepts["contribution"].sum() == pytest.approx(decision, abs=TOLERANCE)
    assert found.intercept + found.cells["contribution"].sum() == pytest.approx(decision, abs=TOLERANCE)
    assert found.cells["alone"].mean() == pytest.approx(decision, abs=TOLERANCE)
    assert found.reference_value + found.cells["difference"].sum() == pytest.approx(decision, abs=TOLERANCE)
    for place, row in enumerate(found.detailed):
        cell = found.cells["contribution"].iloc[row]
        assert found.cell_tokens(place).sum() == pytest.approx(cell, abs=TOLERANCE)
        beyond = found.cell_tokens(place) - found.typical_token.sum()
        assert beyond.sum() == pytest.approx(found.cells["difference"].iloc[row], abs=TOLERANCE)
        by_latent = sum(found.cell_tokens(place, int(latent)) for latent in found.concepts.index)
        np.testing.assert_allclose(by_latent, found.cell_tokens(place), atol=1e-12)
    assert max(found.residuals.concepts, found.residuals.cells, found.residuals.tokens) < TOLERANCE
    assert list(found.detailed) == [0, 1, 2, 3, *range(found.n_cells - 4, found.n_cells)]


def test_a_reference_patient_splits_the_same_decision(small_atlas):
    model = linear("presence")
    reference = np.asarray(cell_matrix(small_atlas, "presence").mean(axis=0)).ravel()
    found = explain_decision(model, small_atlas, "P03", reference=reference)
    assert found.reference_value + found.concepts["difference"].sum() == pytest.approx(found.value, abs=TOLERANCE)
    assert found.reference_value == pytest.approx(float(np.ravel(model.decision(reference[None]))[0]), abs=TOLERANCE)
    sizes = found.concepts["difference"].abs().to_numpy()
    assert (np.diff(sizes) <= 0).all()


def test_without_another_the_training_mean_is_the_typical_patient(small_atlas):
    model = linear("presence")
    found = explain_decision(model, small_atlas, "P03")
    assert found.reference_value == pytest.approx(float(model.intercept[0] + model.coef[0] @ model.means))
    assert found.reference_value + found.concepts["difference"].sum() == pytest.approx(found.value, abs=TOLERANCE)


def test_a_classifier_of_some_cell_types_is_explained_by_their_cells(small_atlas):
    types = ("promyelocyte", "myeloblast")
    found = explain_decision(linear("presence", cell_types=types), small_atlas, "P03")
    assert set(found.cells["label"]) == set(types)
    assert found.n_cells + found.left_out == (small_atlas.obs["patient"] == "P03").sum()
    assert found.left_out > 0
    with pytest.raises(InputError, match="rests on no cell"):
        explain_decision(linear(cell_types=("basophil",)), small_atlas, "P03")


def test_a_decision_that_is_no_sum_is_refused(small_atlas):
    model = linear()
    bent = Bent(**{field.name: getattr(model, field.name) for field in fields(model)})
    with pytest.raises(InputError, match="not linear"):
        explain_decision(bent, small_atlas, "P01")


def test_the_other_class_is_the_same_decision_with_the_sign_turned(small_atlas):
    model = linear()
    one, other = (explain_decision(model, small_atlas, "P01", target=name) for name in ("APL", "AML"))
    assert one.value == -other.value
    assert (one.target, one.against) == (other.against, other.target) == ("APL", "AML")
    np.testing.assert_allclose(one.concepts["contribution"], -other.concepts["contribution"])
    assert one.probabilities.sum() == pytest.approx(1)
    assert one.probabilities["APL"] == other.probabilities["APL"] == pytest.approx(1 / (1 + np.exp(-one.value)))
    assert one.decided == other.decided == ("APL" if one.value > 0 else "AML")


def test_with_more_classes_logits_and_their_differences_are_explained(small_atlas):
    model = linear("count", classes=("a", "b", "c"))
    barcode = cell_matrix(small_atlas[small_atlas.obs["patient"] == "P09"], "count").mean(axis=0)
    logits = model.decision(np.atleast_2d(barcode))[0]
    best, second = (model.classes[i] for i in np.argsort(-logits)[:2])
    found = explain_decision(model, small_atlas, "P09")
    assert (found.target, found.against) == (best, second)
    assert found.value == pytest.approx(np.sort(logits)[-1] - np.sort(logits)[-2])
    own = explain_decision(model, small_atlas, "P09", target="b")
    assert own.against is None
    assert own.value == pytest.approx(logits[1])
    pair = explain_decision(model, small_atlas, "P09", target="c", against="a")
    assert pair.intercept + pair.cells["contribution"].sum() == pytest.approx(logits[2] - logits[0])
    np.testing.assert_allclose(pair.logits.mean(axis=0), logits)


def test_a_planted_concept_is_explained_by_its_cells_and_patches(small_atlas, small_chain):
    sae, store, cells = small_chain
    one = {"latents": np.array([APL_LATENT]), "coef": np.array([[3.0]]), "means": np.array([0.1])}
    model = linear("presence", **one)
    found = explain_decision(model, small_atlas, "P05", detail=Detail(sae, store, 2))
    true = cells.frame.set_index("cell_id")["true_label"]
    assert set(true[found.cells.index[found.cells["contribution"] > 0]]) == {"promyelocyte"}
    active = store.activations[found.cells["row"].iloc[0], 1:, APL_LATENT].reshape(4, 4) > TAU
    np.testing.assert_array_equal(found.cell_map(0) > 0, active)


def test_shares_of_tokens_sum_to_the_cell(small_chain):
    activations = sp.csr_array(small_chain[1].activations[7])
    for kind in KINDS:
        shares = token_shares(activations, kind, tau=TAU)
        np.testing.assert_allclose(
            shares.toarray(), dense_entries(activations.toarray()[None].astype(float), kind)[0], atol=1e-7
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sae": "another"}, "classifier .another. does not belong"),
        ({"tau": 0.9, "kind": "count"}, "counts tokens above 0.9"),
    ],
)
def test_a_classifier_that_does_not_fit_is_refused(small_atlas, change, words):
    with pytest.raises(InputError, match=words):
        explain_decision(linear(**change), small_atlas, "P01")


def test_wrong_calls_are_refused_in_a_sentence(small_atlas):
    model = linear()
    with pytest.raises(InputError, match="no cell of patient 'P99'"):
        explain_decision(model, small_atlas, "P99")
    with pytest.raises(InputError, match="no column 'who'"):
        explain_decision(model, small_atlas, "P01", column="who")
    with pytest.raises(UsageError, match="no class 'CML'"):
        explain_decision(model, small_atlas, "P01", target="CML")
    with pytest.raises(UsageError, match="compared with itself"):
        explain_decision(model, small_atlas, "P01", target="APL", against="APL")
    with pytest.raises(InputError, match="reference has 3 latents"):
        explain_decision(model, small_atlas, "P01", reference=np.zeros(3))
    with pytest.raises(UsageError, match="has no tokens"):
        explain_decision(model, small_atlas, "P01").cell_tokens(0)
    with pytest.raises(UsageError, match="no barcode of kind"):
        token_shares(sp.csr_array((2, 2)), "sum", tau=0.2)
