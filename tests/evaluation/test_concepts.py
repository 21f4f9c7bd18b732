"""The concept benchmark: known answers for its scores, and the whole of it on a few cells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import average_precision_score, cohen_kappa_score, roc_auc_score

from cytosae.cells.synthetic import DOMAINS, STRUCTURES, draw_cell
from cytosae.cli import main
from cytosae.cohort.classification.cohort_arrays import CellArrays, CohortArrays
from cytosae.cohort.classification.linear import L2
from cytosae.cohort.design import Design
from cytosae.common.errors import InputError, UsageError
from cytosae.evaluation.concept_benchmark import measure_concepts
from cytosae.evaluation.config import CohortsConfig, ConceptsConfig
from cytosae.evaluation.drawn_cells import DrawnCells, draw_benchmark, patches_showing
from cytosae.evaluation.drawn_cohorts import chance_of_hit, find_structures
from cytosae.evaluation.drawn_structures import score_attributes, score_structures
from cytosae.evaluation.laboratory import colours_within_types, score_laboratory
from cytosae.evaluation.real_cells import HumanTruth, annotators, read_truth, score_human_attributes
from cytosae.evaluation.tables import markdown_table
from cytosae.evaluation.unit_scores import (
    auc_draws,
    aucs,
    average_precision_draws,
    average_precisions,
    best_threshold,
    cell_weights,
    cohen_kappa,
    overlap_draws,
    pursue,
    rank_correlation_draws,
    rank_correlations,
)
from cytosae.evaluation.units import (
    Units,
    cell_values,
    centroid_units,
    component_units,
    neuron_units,
    patch_values,
    place_units,
    sae_units,
    sample_tokens,
)
from cytosae.sae import SparseAutoencoder, TopK

P, WIDTH = 16, 12


class Tokens:
    """Tokens in memory: dimension s is 1 on the patches that show structure s, the last ones are noise."""

    def __init__(self, tokens: np.ndarray) -> None:
        self.tokens = torch.from_numpy(tokens.astype(np.float32))

    def __len__(self) -> int:
        return len(self.tokens)

    def read(self, start: int, stop: int) -> torch.Tensor:
        return self.tokens[start:stop]


@pytest.fixture(scope="module")
def planted() -> DrawnCells:
    """80 cells with two structures; two dimensions of the tokens are their very masks."""
    rng = np.random.default_rng(0)
    shows = rng.random((80, P, 2)) < np.array([0.3, 0.1])
    tokens = np.zeros((80, 1 + P, WIDTH))
    tokens[:, 1:, :2] = shows
    tokens[:, 1:, 2:] = rng.normal(0, 0.1, (80, P, WIDTH - 2))
    attributes = pd.DataFrame({"many": shows[..., 0].sum(1), "constant": np.ones(80)})
    labels = tuple("ab"[i % 2] for i in range(80))
    return DrawnCells(Tokens(tokens), shows, ("first", "second"), attributes, labels, labels)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def few_cells(tmp_path_factory: pytest.TempPathFactory) -> DrawnCells:
    from cytosae import load_backbone

    folder = tmp_path_factory.mktemp("drawn")
    return draw_benchmark(load_backbone("tiny"), folder, cells=48, seed=0, difficulty=0.0)


def test_average_precision_is_that_of_scikit_learn_with_and_without_ties() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((300, 3)) < 0.2
    sparse = np.maximum(np.round(rng.normal(size=(300, 5)), 1), 0)
    for values in (rng.normal(size=(300, 5)), sparse, sp.csr_array(sparse)):
        dense = values.toarray() if sp.issparse(values) else values
        expected = [[average_precision_score(truth[:, s], dense[:, u]) for s in range(3)] for u in range(5)]
        np.testing.assert_allclose(average_precisions(values, truth), expected, atol=1e-12)


def test_a_unit_equal_to_the_mask_has_ap_and_iou_1_and_a_constant_one_the_base_rate() -> None:
    truth = np.random.default_rng(2).random((500, 1)) < 0.25
    values = np.column_stack([truth[:, 0], np.ones(500), np.zeros(500)]).astype(np.float32)
    base = truth.mean()
    for given in (values, sp.csr_array(values)):
        np.testing.assert_allclose(average_precisions(given, truth)[:, 0], [1, base, base])
    threshold = best_threshold(values[:, 0], truth[:, 0])
    selected = (values[:, 0] >= threshold).reshape(50, 10)
    iou, purity = overlap_draws(selected, truth.reshape(50, 10), cell_weights(50, 5, 0))
    np.testing.assert_allclose([iou, purity], 1)


def test_a_structure_without_a_patch_has_no_average_precision() -> None:
    assert np.isnan(average_precisions(np.ones((4, 2)), np.zeros((4, 1), bool))).all()


def test_a_random_unit_has_about_the_base_rate() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random((20_000, 1)) < 0.1
    assert average_precisions(rng.normal(size=(20_000, 3)), truth) == pytest.approx(0.1, abs=0.01)


def test_weighted_average_precision_is_that_of_repeated_cells() -> None:
    rng = np.random.default_rng(4)
    values, truth = np.round(rng.normal(size=(12, 8)), 1), rng.random((12, 8)) < 0.3
    weights = cell_weights(12, 6, 0)
    drawn = average_precision_draws(values, truth, weights)
    for weight, got in zip(weights, drawn, strict=True):
        rows = np.repeat(np.arange(12), weight.astype(int))
        assert got == pytest.approx(average_precision_score(truth[rows].ravel(), values[rows].ravel()))


def test_auc_and_its_draws_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    x, y = np.round(rng.normal(size=(60, 3)), 1), rng.random(60) < 0.4
    np.testing.assert_allclose(aucs(x, y), [roc_auc_score(y, x[:, j]) for j in range(3)])
    weights = cell_weights(60, 5, 0)
    expected = [roc_auc_score(y, x[:, 0], sample_weight=w) for w in weights]
    np.testing.assert_allclose(auc_draws(x[:, 0], y, weights), expected)


def test_the_best_threshold_has_the_largest_iou_of_all() -> None:
    rng = np.random.default_rng(6)
    truth = rng.random(200) < 0.3
    values = truth + rng.normal(size=200)

    def iou(t: float) -> float:
        return float(((values >= t) & truth).sum() / ((values >= t) | truth).sum())

    assert iou(best_threshold(values, truth)) == max(iou(t) for t in values)


def test_rank_correlations_are_those_of_pandas() -> None:
    rng = np.random.default_rng(7)
    x, y = np.round(rng.normal(size=(40, 2)), 1), rng.integers(0, 5, 40)
    expected = [pd.Series(x[:, j]).corr(pd.Series(y), method="spearman") for j in range(2)]
    np.testing.assert_allclose(rank_correlations(x, y), expected)
    rows = rng.integers(0, 40, (3, 40))
    expected = [pd.Series(x[r, 0]).corr(pd.Series(y[r]), method="spearman") for r in rows]
    np.testing.assert_allclose(rank_correlation_draws(x[:, 0], y, rows), expected)


def test_kappa_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.choice(list("xyz"), 50), rng.choice(list("xyz"), 50)
    assert cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b))
    assert np.isnan(cohen_kappa(np.array(["x", "x"]), np.array(["x", "x"])))


def test_pursuit_finds_the_columns_that_make_up_the_target() -> None:
    rng = np.random.default_rng(9)
    X = rng.normal(size=(200, 30))
    X[:, 5] = 7.0
    found = pursue(X, 3 * X[:, 4] - 2 * X[:, 17] + X[:, 8], 3)
    assert found.tolist() == [4, 17, 8]
    assert len(pursue(X, X[:, 2], 10)) == 1


def test_planted_dimensions_are_found_and_their_masks_scored_1(planted: DrawnCells) -> None:
    found = score_structures(neuron_units(WIDTH), planted, seed=0, resamples=20)
    table = found.table.set_index("structure")
    assert table["unit"].tolist() == [0, 1]
    assert (table["sign"] == "+").all()
    np.testing.assert_allclose(table[["ap", "iou", "purity", "ap_low", "ap_high"]], 1)
    assert table["redundancy"].tolist() == [1, 1]
    assert found.summary["recall"] == 1
    assert found.matched == {"first": [0], "second": [1]}


def test_a_mask_with_the_other_sign_is_found_by_a_signed_family(planted: DrawnCells) -> None:
    negative = Units("negative", WIDTH, True, lambda tokens: -tokens.reshape(-1, WIDTH).numpy())
    table = score_structures(negative, planted, seed=0, resamples=5).table
    assert (table["sign"] == "-").all()
    np.testing.assert_allclose(table["ap"], 1)


def test_a_planted_sae_recovers_the_structures_and_a_random_one_does_not(planted: DrawnCells) -> None:
    sae = SparseAutoencoder(WIDTH, WIDTH, TopK(k=4, aux_k=0), seed=0)
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(WIDTH))
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    found = score_structures(sae_units(sae.eval(), "planted"), planted, seed=0, resamples=5)
    assert found.summary["mean_ap"] > 0.99
    noise = Units("noise", 3, False, lambda tokens: tokens.reshape(-1, WIDTH)[:, -3:].numpy())
    table = score_structures(noise, planted, seed=0, resamples=5).table
    np.testing.assert_allclose(table["ap"], table["base"], atol=0.1)


def test_copies_of_a_unit_are_counted_as_redundant(planted: DrawnCells) -> None:
    copies = Units("copies", 3, False, lambda tokens: tokens.reshape(-1, WIDTH)[:, [0, 0, 1]].numpy())
    table = score_structures(copies, planted, seed=0, resamples=5).table.set_index("structure")
    assert table["redundancy"].to_dict() == {"first": 2, "second": 1}


def test_an_attribute_that_a_unit_counts_has_rank_correlation_1_and_a_constant_one_is_left_out(
    planted: DrawnCells,
) -> None:
    table = score_attributes(neuron_units(WIDTH), planted, seed=0, resamples=10).set_index("attribute")
    assert table.index.tolist() == ["many", "mean"]
    assert table.loc["many", "unit"] == 0
    assert table.loc["many", "rho"] == pytest.approx(1)


def test_every_family_gives_one_value_a_token_and_unit(planted: DrawnCells) -> None:
    rows = np.array([0, 1, 5])
    sample = sample_tokens(planted.tokens, rows, 40, 0)
    assert sample.shape == (39, WIDTH)
    sae = SparseAutoencoder(WIDTH, 20, TopK(k=3, aux_k=0), seed=0).eval()
    families = [sae_units(sae, "SAE"), neuron_units(WIDTH), component_units(sample), centroid_units(sample, 4)]
    for units in [*families, place_units(np.zeros((P, 2)))]:
        patches, cells = patch_values(units, planted.tokens, rows), cell_values(units, planted.tokens, rows)
        assert patches.shape == (3 * P, units.count)
        assert cells.shape == (3, units.count)
        whole = units.activate(planted.tokens.read(5, 6))
        whole = whole.toarray() if sp.issparse(whole) else whole
        last = patches[-P:].toarray() if sp.issparse(patches) else patches[-P:]
        np.testing.assert_allclose(last, whole[1:], rtol=1e-5, atol=1e-6)
        mean = cells[[2]].toarray() if sp.issparse(cells) else cells[[2]]
        np.testing.assert_allclose(mean[0], whole.mean(0), rtol=1e-4, atol=1e-6)


def test_a_patch_shows_a_structure_that_covers_a_tenth_of_it() -> None:
    drawing = draw_cell("lymphocyte", DOMAINS["reference"], np.random.default_rng(0), difficulty=0.0)
    shown = patches_showing(drawing, (16, 16))
    nucleus = (drawing.mask == 2).reshape(16, 8, 16, 8).mean((1, 3)).ravel()
    np.testing.assert_array_equal(shown[:, list(STRUCTURES).index("nucleus")], nucleus >= 0.1)


def test_drawn_cells_are_the_same_again_and_every_type_is_in_both_halves(few_cells: DrawnCells) -> None:
    search, test = few_cells.halves(0)
    labels = np.array(few_cells.labels)
    assert set(labels[search]) == set(labels[test])
    assert sorted([*search, *test]) == list(range(48))
    assert len(few_cells.tokens) == 48


def test_an_attribute_of_people_is_read_off_a_planted_unit_by_every_measure() -> None:
    rng = np.random.default_rng(10)
    truth = pd.DataFrame({"size": rng.choice(["big", "small"], 200), "rare": ["yes"] * 3 + ["no"] * 197})
    values = rng.normal(size=(200, 8)).astype(np.float32)
    values[:, 3] = -2.0 * (truth["size"] == "big")
    table, mean = score_human_attributes(neuron_units(8), values, truth, seed=0, resamples=20)
    assert set(table["attribute"]) == {"size"}  # too few cells have the rare one
    assert (table["auc"] == 1).all()
    assert set(table.loc[table["measure"] == "best unit", "chosen"]) == {"3"}
    assert mean.set_index("measure")["auc"].to_dict() == dict.fromkeys(mean["measure"], 1.0)


def test_noise_does_not_tell_an_attribute_of_people() -> None:
    rng = np.random.default_rng(11)
    truth = pd.DataFrame({"size": rng.choice(["big", "small"], 400)})
    _, mean = score_human_attributes(neuron_units(30), rng.normal(size=(400, 30)), truth, seed=0, resamples=20)
    assert mean["auc"].between(0.4, 0.6).all()


def test_annotators_who_agree_have_kappa_and_auc_1() -> None:
    first = pd.DataFrame({"size": list("aabb") * 5}, index=[str(i) for i in range(20)])
    same = annotators(HumanTruth(first, first.iloc[:12]), seed=0, resamples=5)
    assert (same["cells"] == 12).all()
    assert (same[["agreement", "kappa", "auc"]] == 1).all().all()
    other = first.assign(size=list("abab") * 5)
    table = annotators(HumanTruth(first, other), seed=0, resamples=5).set_index("value")
    assert table.loc["", "agreement"] == 0.5
    assert table.loc["a", "auc"] == 0.5
    assert annotators(HumanTruth(first, None), seed=0, resamples=5).empty


def test_the_second_annotator_of_the_shared_cells_agrees_far_beyond_chance(shared_data: Path) -> None:
    table = annotators(read_truth(shared_data / "acevedo"), seed=0, resamples=20)
    whole = table[table["value"] == ""].set_index("attribute")
    assert len(whole) == 11
    assert (whole["cells"] == 363).all()
    assert whole["kappa"].min() > 0.3


def test_a_folder_without_attributes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"attributes\.csv is not there"):
        read_truth(tmp_path)


def test_chance_of_a_hit_is_that_of_drawing_without_replacement() -> None:
    assert chance_of_hit(10, 1, 3) == pytest.approx(0.3)
    assert chance_of_hit(10, 10, 1) == 1
    assert chance_of_hit(5, 2, 9) == 1


def cohort_of_colours(*, follow: bool) -> CohortArrays:
    """40 patients of 6 cells; colours say the type, and the diagnosis as well if they ``follow`` it."""
    rng = np.random.default_rng(12)
    y = np.arange(40) % 2
    patient = np.repeat(np.arange(40), 6)
    # one diagnosis has more of the second type, so that mean colours differ without any laboratory
    types = (rng.random(240) < np.where(y[patient] == 1, 0.8, 0.2)).astype(int)
    colours = 100 + 30.0 * types[:, None] + rng.normal(size=(240, 6))
    if follow:
        colours[:, 2] += 5 * y[patient]
    presence = np.array([[types[patient == p].mean(), 1.0] for p in range(40)])
    mean_colour = np.array([colours[patient == p].mean(0) for p in range(40)])
    none = sp.csr_matrix((240, 2))
    cells = CellArrays(patient, types, ("a", "b"), colours, np.zeros((240, 2), np.float32), {}, none)
    names = tuple(f"p{i}" for i in range(40))
    design = Design(y, None, ("x", "y"))
    return CohortArrays(names, design, {"presence": presence}, None, None, {"colour": mean_colour}, cells)


@pytest.mark.parametrize("follow", [False, True])
def test_a_laboratory_effect_is_called_where_there_is_one_and_not_for_a_mixture_of_types(*, follow: bool) -> None:
    found = score_laboratory(
        cohort_of_colours(follow=follow), "presence", L2(), folds=4, resamples=20, shuffles=19, seed=0
    )
    assert found["colour"] > 0.9  # in both
    assert found["called"] is follow
    assert (found["within"] > 0.95) is follow


def test_colours_within_types_have_mean_0_over_all_cells() -> None:
    data = cohort_of_colours(follow=True)
    assert data.cells is not None
    np.testing.assert_allclose(colours_within_types(data.cells, 40).mean(0), 0, atol=1e-9)


def test_a_table_shows_values_with_their_intervals() -> None:
    table = pd.DataFrame({"name": ["a|b"], "ap": [0.5], "ap_low": [0.25], "ap_high": [1.0], "n": [3], "found": [True]})
    assert markdown_table(table).splitlines()[2] == "| a\\|b | 0.500 (0.250 to 1.000) | 3 | yes |"


def test_nothing_to_measure_is_refused(few_cells: DrawnCells) -> None:
    from cytosae import load_backbone

    backbone = load_backbone("tiny")
    sae = SparseAutoencoder(backbone.width, 32, TopK(k=4, aux_k=0))
    with pytest.raises(UsageError, match="nothing to measure"):
        measure_concepts({}, backbone)
    with pytest.raises(InputError, match="takes tokens of width 3"):
        measure_concepts({"other": SparseAutoencoder(3, 8, TopK(k=2, aux_k=0))}, backbone)
    with pytest.raises(InputError, match="has no folder acevedo"):
        measure_concepts({"a": sae}, backbone, data=few_cells.tokens.path.parent)
    with pytest.raises(UsageError, match="give 48 or more"):
        ConceptsConfig(cells=10)
    with pytest.raises(UsageError, match="cohorts need drawn cells"):
        ConceptsConfig(cells=0, cohorts=CohortsConfig())
    with pytest.raises(UsageError, match="need 20 or more"):
        CohortsConfig(patients=10)
    with pytest.raises(UsageError, match="19 are needed"):
        CohortsConfig(shuffles=5)


def test_the_command_scores_a_study_on_drawn_cells(
    study_of_smear: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "concepts", "--study", str(study_of_smear), "--cells", "96", "--resamples", "5", "--json"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["tables"]) == {"drawn cells in short", "structures", "drawn attributes"}
    families = {row["units"] for row in found["tables"]["drawn cells in short"]}
    assert families == {
        "SAE",
        "SAE, random weights",
        "backbone neurons",
        "principal components",
        "k-means",
        "place in the image",
    }
    assert (tmp_path / "out" / "concepts.md").read_text().startswith("## Drawn cells in short")
    assert len(pd.read_csv(tmp_path / "out" / "structures.csv")) == len(found["tables"]["structures"])


def test_the_command_wants_a_study_or_an_sae(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "concepts"]) == 2
    assert "give either a study" in capsys.readouterr().err


def test_a_concept_of_a_diseases_own_structure_is_among_its_top_contrasts() -> None:
    import anndata as ad

    rng = np.random.default_rng(13)
    names = ["NPM1-like", "control", "CBFB::MYH11-like"]
    diagnosis = np.repeat([names[i % 3] for i in range(18)], 10)
    X = rng.random((180, 40)) * (rng.random((180, 40)) < 0.3)
    X[:, 7] = (diagnosis == "NPM1-like") * (rng.random(180) < 0.5)
    obs = pd.DataFrame(
        {"patient": np.repeat([f"p{i:02d}" for i in range(18)], 10), "diagnosis": diagnosis, "label": "cell"},
        index=[f"c{i}" for i in range(180)],
    )
    atlas = ad.AnnData(X=sp.csr_matrix(X.astype(np.float32)), obs=obs)
    atlas.layers["tokens_above"] = sp.csr_matrix((X > 0).astype(np.int32))
    atlas.uns["provenance"] = {"n_tokens": 17, "tau": 0.0}
    config = CohortsConfig(top=3)
    found = find_structures(atlas, {"cup": [7, 3], "nucleus": [1], "abnormal_granules": [7]}, config)
    found = found.set_index("structure")
    assert set(found.index) == {"cup", "abnormal_granules"}
    assert found.loc["cup", "rank"] == 1
    assert found.loc["cup", "found"]
    assert not found.loc["abnormal_granules", "found"]


@pytest.mark.slow
def test_drawn_cohorts_are_scored_and_a_planted_laboratory_is_called(tmp_path: Path) -> None:
    from cytosae import load_backbone
    from cytosae.cohort import AttentionConfig
    from cytosae.evaluation.drawn_cohorts import NEIGHBOURS, score_cohorts

    backbone = load_backbone("tiny")
    sae = SparseAutoencoder(backbone.width, 48, TopK(k=8, aux_k=0), seed=0).eval()
    matched = {"a": {"cup": [1, 2], "giant_granules": [3], "nucleus": [4]}}
    config = CohortsConfig(
        difficulties=(0.0,),
        patients=10,
        cells_per_patient=6,
        folds=2,
        k=3,
        shuffles=19,
        bootstrap=20,
        attention=AttentionConfig(most_epochs=3),
    )
    tables = score_cohorts({"a": sae}, {}, matched, backbone, tmp_path, config)
    assert not list(tmp_path.iterdir())
    assert tables["contrasts"]["structure"].tolist() == ["giant_granules", "cup"]
    rankings = tables["pathognomonic cells"].set_index("ranking")
    assert set(rankings.index) == {"a", NEIGHBOURS, "chance"}
    assert rankings["average_precision"].between(0, 1).all()
    models = set(tables["classification"]["model"])
    assert {"concepts of a", "ABMIL on tokens", "concepts, diagnoses shuffled (19 times)"} <= models
    laboratory = tables["laboratory"].set_index("planted")
    assert not laboratory.loc[0.0, "called"]
    assert laboratory.loc[1.0, "called"]
    assert laboratory.loc[1.0, "within"] > laboratory.loc[0.0, "within"]
