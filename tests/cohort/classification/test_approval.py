"""What approved concepts alone tell, in the folds of the classification."""

from __future__ import annotations

import numpy as np
import pytest
from cohort.small_chain import APL_LATENT, DEAD_LATENT

from cytosae.cohort import ClassificationConfig, barcodes, classify, open_approval, price_of_approval
from cytosae.cohort.config import AttentionConfig
from cytosae.common.errors import InputError, UsageError
from cytosae.views.patients.approval_view import view_of_approval

CONFIG = ClassificationConfig(
    folds=3,
    inner_folds=2,
    repeats=2,
    slow_repeats=1,
    kinds=("presence",),
    positive="APL",
    strengths=(1.0,),
    shuffles=0,
    bootstrap=50,
    few_concepts=0,
    most_concepts=0,
    attention=AttentionConfig(most_epochs=1, inner_folds=2),
)


def price(atlas, told, approved):
    return price_of_approval(barcodes(atlas), atlas, approved, told, config=CONFIG)


@pytest.fixture(scope="module")
def told(_small_atlas):
    """The classification whose price is asked for."""
    return classify(barcodes(_small_atlas), _small_atlas, config=CONFIG)


def test_the_planted_concept_alone_tells_the_diagnoses_and_others_as_many_do_not(small_atlas, told, tmp_path):
    found = price(small_atlas, told, [APL_LATENT, DEAD_LATENT])
    rows = found.table.set_index("model")["auroc"]
    assert rows["approved concepts"] > 0.95
    assert found.active == 1
    assert np.median(found.random) < 0.8
    assert found.comparison["difference"] == pytest.approx(rows["all concepts"] - rows["approved concepts"])
    again = open_approval(found.save(tmp_path / "approval.json"))
    assert again.approved == found.approved
    assert again.random == found.random
    view = view_of_approval(again, [APL_LATENT])
    assert "2 concepts that reviewers approved" in view.verdict
    assert view.outdated


def test_all_concepts_are_run_in_the_folds_of_the_classification(small_atlas, told):
    expected = told.table.set_index("model").loc[told.recommended.name]
    row = price(small_atlas, told, [APL_LATENT]).table.set_index("model").loc["all concepts"]
    for name in ("auroc", "auroc_low", "auroc_high", "brier"):
        assert row[name] == pytest.approx(expected[name])


def test_what_cannot_be_priced_is_said(small_atlas, told):
    with pytest.raises(InputError, match="none of the 1 approved concepts is active"):
        price(small_atlas, told, [DEAD_LATENT])
    with pytest.raises(UsageError, match="concept 64 was approved, and this SAE has 0 to 63"):
        price(small_atlas, told, [64])
