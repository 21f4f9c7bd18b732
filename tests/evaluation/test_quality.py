"""Measures of a dictionary's quality against formulae and planted truths, and the controls that go with them."""

from __future__ import annotations

import contextlib
import json
import shutil
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch

from cytosae.atlas.config import Part
from cytosae.cli import main
from cytosae.evaluation.config import QualityConfig
from cytosae.evaluation.dictionary_quality import Family, measure_quality
from cytosae.evaluation.quality_table import DictionaryQuality, stability_rows, with_rows
from cytosae.evaluation.unit_meanings import monosemanticity, morans_i
from cytosae.evaluation.units import Units
from cytosae.evaluation.untrained_controls import matched_latents, random_backbone, train_controls, turned_back
from cytosae.pipeline import Study, quality_parts
from cytosae.pipeline.quality_work import Scores
from cytosae.report import Pictures, write_page
from cytosae.sae import Recipe, SparseAutoencoder, TopK, TrainConfig
from cytosae.views.datasets.quality_view import view_of_qualities


def test_monosemanticity_is_the_weighted_mean_over_pairs():
    rng = np.random.default_rng(0)
    values, e = rng.random((7, 3)), rng.normal(size=(7, 5))
    values[:, 2] = 4  # the same everywhere: no pair has a weight
    w = (values - values.min(0)) / np.maximum(np.ptp(values, axis=0), 1e-30)
    c = e - e.mean(0)
    c /= np.linalg.norm(c, axis=1, keepdims=True)
    for j in range(2):
        pairs = [(w[a, j] * w[b, j], c[a] @ c[b]) for a, b in combinations(range(7), 2)]
        expected = sum(x * y for x, y in pairs) / sum(x for x, _ in pairs)
        assert monosemanticity(values, e)[j] == pytest.approx(expected)
    assert np.isnan(monosemanticity(values, e)[2])


def test_morans_i_of_known_maps():
    halves = np.repeat([[0.0, 0.0, 1.0, 1.0]], 4, axis=0)
    board = np.indices((4, 4)).sum(0) % 2
    # 24 pairs of neighbours: of the halves 20 are alike and 4 unlike, of the board none and 24
    np.testing.assert_allclose(morans_i(np.stack([halves, board.astype(float)])), [16 / 24, -1])
    assert np.isnan(morans_i(np.ones((4, 4))))
    # with 18 more pairs across corners: of the halves 12 are alike and 6 unlike, of the board all 18
    found = morans_i(np.stack([halves, board.astype(float)]), corners=True)
    np.testing.assert_allclose(found, [(16 + 6) / 42, (18 - 24) / 42])


def test_morans_i_of_noise_is_that_of_no_structure():
    maps = np.random.default_rng(0).normal(size=(4000, 8, 8))
    assert morans_i(maps).mean() == pytest.approx(-1 / 63, abs=0.005)


def test_rows_are_turned_back_to_the_cosine_that_is_allowed():
    rng = torch.Generator().manual_seed(0)
    began, rows = (torch.nn.functional.normalize(torch.randn(50, 6, generator=rng)) for _ in range(2))
    rows[0] = began[0] + 0.01  # near enough
    soft = turned_back(rows, began, 0.8)
    assert ((soft * began).sum(1) >= 0.8 - 1e-5).all()
    torch.testing.assert_close(soft[0], rows[0] / rows[0].norm())
    torch.testing.assert_close(turned_back(rows, began, 1.0), began)


def test_random_latents_are_active_as_often_as_those_that_they_stand_for():
    sae = SparseAutoencoder(16, 64, TopK(k=4))
    x = torch.randn(3000, 16, generator=torch.Generator().manual_seed(1))
    positions = torch.zeros(3000, dtype=torch.long)
    matched = matched_latents(sae, x, positions)
    ours = (sae.encode_sparse(x, positions).to_dense() > 0).sum(0)
    theirs = (matched.encode(x, positions) > 0).sum(0)
    torch.testing.assert_close(theirs, ours)
    assert ((matched.directions * sae.W_dec.detach()).sum(1).abs() < 0.95).all()
    error = (x - matched.reconstruct(x, positions)).square().sum()
    assert error <= (x - x.mean(0)).square().sum() * 1.001


def test_a_frozen_decoder_stays_where_it_began_and_its_encoder_learns(study_of_smear):
    import cytosae

    store = cytosae.Study(study_of_smear).tokens("smear")
    quick = TrainConfig(steps=6, batch_tokens=256, sample_tokens=512, learning_rate=0.05, warmup_steps=0)
    recipe = Recipe(TopK(k=4), expansion=1, train=quick)
    trained = train_controls(recipe, [store], seed=3)
    allowed = {"frozen decoder": 1.0, "soft-frozen decoder": 0.8, "another seed": -1.0}
    for i, (name, least) in enumerate(allowed.items()):
        began = recipe.build(store.width, seed=3 + i)
        rows = [torch.nn.functional.normalize(one.W_dec.detach()) for one in (began, trained[name])]
        assert ((rows[0] * rows[1]).sum(1) >= least - 1e-4).all()
        assert not torch.allclose(trained[name].W_enc, began.W_enc, atol=1e-4)
    assert (rows[0] * rows[1]).sum(1).min() < 0.79  # left to itself, a decoder turns further


def test_a_random_backbone_has_the_same_weights_at_other_places():
    import cytosae

    backbone = cytosae.load_backbone("tiny")
    control = random_backbone(backbone)
    for ours, theirs in zip(backbone.model.parameters(), control.model.parameters(), strict=True):
        torch.testing.assert_close(ours.reshape(-1).sort().values, theirs.reshape(-1).sort().values)
    x = torch.zeros(1, 3, backbone.preprocessing.size, backbone.preprocessing.size)
    assert not torch.allclose(backbone(x), control(x))


class Rows:
    """Tokens of 80 cells of two types, [1 + 16, 4]; the first two numbers tell the type, the others nothing."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.labels = ["x", "y"] * 40
        self.tokens = torch.from_numpy(rng.normal(size=(80, 17, 4)).astype(np.float32))
        self.tokens[:, :, 0] += torch.tensor([3.0, -3.0]).repeat(40)[:, None]
        self.tokens[:, :, 1] -= torch.tensor([3.0, -3.0]).repeat(40)[:, None]

    def __len__(self) -> int:
        return 80

    def read(self, start: int, stop: int) -> torch.Tensor:
        return self.tokens[start:stop]


def family(name, columns):
    """Units that are the positive parts of some numbers of a token; they reconstruct these and nothing else."""
    kept = torch.zeros(4)
    kept[columns] = 1

    def activate(tokens):
        return tokens[..., columns].clamp_min(0).reshape(-1, len(columns)).numpy()

    return Family(Units(name, len(columns), signed=False, activate=activate), lambda tokens: tokens * kept)


def test_what_tells_the_type_wins_and_what_does_not_loses():
    rows = Rows()
    families = {"SAE": family("SAE", [0, 1]), "noise": family("noise", [2, 3])}
    config = QualityConfig(cells=80, splits=3, maps=8)
    found = measure_quality(families, rows, rows.labels, finish=lambda tokens: tokens, config=config)
    of = found.table.set_index(["measure", "family"])["value"]
    assert of["probe_1", "SAE"] == 1
    assert of["probe_1", "noise"] < 0.8
    assert of["reconstruction_probe", "SAE"] == of["remaining_block", "SAE"] == 1
    assert of["reconstruction_probe", "tokens themselves"] == 1
    assert of["reconstruction_probe", "noise"] < 0.8
    assert abs(of["spatial_structure", "SAE"]) < 0.2  # every token is drawn by itself
    assert of["l0", "SAE"] == pytest.approx(1, abs=0.1)
    x = rows.tokens.reshape(-1, 4)
    left = x[:, 2:].square().sum() / (x - x.mean(0)).square().sum()
    assert of["explained_variance", "SAE"] == pytest.approx(1 - float(left), abs=0.02)
    verdicts = found.verdicts.set_index("measure")["beats"]
    assert verdicts["probe_1"] == verdicts["explained_variance"] == "yes"
    assert found.facts["outlier_ratio"] < 0.2
    swapped = {"SAE": families["noise"], "the other": families["SAE"]}
    turned = measure_quality(swapped, rows, rows.labels, config=config).verdicts.set_index("measure")["beats"]
    assert turned["probe_1"] == turned["explained_variance"] == "no"


def test_stability_is_judged_by_random_directions():
    rows = Rows()
    found = measure_quality({"SAE": family("SAE", [0])}, rows, rows.labels, config=QualityConfig(splits=2, maps=2))
    found = with_rows(found, stability_rows(np.array([0.9, 0.7, 0.8]), 0.3))
    row = found.verdicts.set_index("measure").loc["stability"]
    assert (row["beats"], row["sae"], row["best"]) == ("yes", pytest.approx(0.8), 0.3)


def test_several_data_sets_are_compared_by_the_lead_over_the_best_control(tmp_path):
    def measured(sae, control):
        rows = [
            {"measure": "probe_1", "family": family, "value": a, "value_low": a - 0.01, "value_high": a + 0.01}
            for family, a in (("SAE", sae), ("k-means", control), ("random weights, as often active", 0.5))
        ]
        return with_rows(DictionaryQuality(pd.DataFrame(), pd.DataFrame(), {"cells": 30}), rows)

    view = view_of_qualities({"here": measured(0.9, 0.7), "there": measured(0.6, 0.7), "both": measured(0.7, 0.7)})
    assert view.plots[1].panels[0].rows[0].name == "best single unit for a cell type"
    leads = [(panel.rows[0].number, panel.rows[0].strong) for panel in view.plots[1].panels]
    assert [round(number.value, 6) for number, _ in leads] == [0.2, -0.1, 0.0]
    assert (leads[0][0].low, leads[0][0].high) == pytest.approx((0.18, 0.22))
    assert [strong for _, strong in leads] == [True, False, False]
    assert view.plots[1].x.reach == pytest.approx((-1.08 * 0.22, 1.08 * 0.22))
    shown = ("+0.20 (yes)", "−0.10 (no)", "0 (not told apart)")
    assert view.verdicts.rows[0].values[1:] == shown
    random, best = view.head.verdict.split(". ")
    assert random == (
        "On every data set the dictionary is better than random weights that are as often active by best single unit "
        "for a cell type"
    )
    assert best.startswith("By no measure is the dictionary better than every control on every data set")
    both = view_of_qualities({"here": measured(0.9, 0.7), "there": measured(0.8, 0.7)})
    assert "On every data set the dictionary is better than every control by best single unit" in both.head.verdict
    neither = view_of_qualities({"here": measured(0.7, 0.7), "there": measured(0.6, 0.7)})
    assert "On no data set is the dictionary better than every control" in neither.head.verdict
    assert "there" in write_page(tmp_path / "index.html", view, Pictures([])).read_text()


QUICK = [
    "--cells",
    "60",
    "--splits",
    "2",
    "--clusters",
    "8",
    "--maps",
    "2",
    "--sample",
    "256",
    "--steps",
    "2",
    "--json",
]


@pytest.fixture(scope="module")
def measured(study_of_smear, tmp_path_factory):
    """Folder of pages and tables of the quality of a study."""
    out = tmp_path_factory.mktemp("quality")
    call = ["atlas", "quality", "--study", str(study_of_smear), "--all", "--out", str(out), *QUICK]
    with (out / "told.json").open("w") as told, contextlib.redirect_stdout(told):
        assert main(call) == 0
    return out


def test_the_command_measures_a_study_and_writes_a_page(measured):
    found = json.loads((measured / "told.json").read_text())["datasets"]["smear"]
    kinds = {row["measure"] for row in found["measures"]}
    assert {"probe_1", "remaining_block", "localisation", "stability"} <= kinds
    families = {row["family"] for row in found["measures"]}
    assert {"frozen decoder", "soft-frozen decoder", "SAE on a random backbone"} <= families
    assert "Where does learning win?" in (measured / "smear.html").read_text()
    assert (measured / "smear_stability.csv").is_file()


def test_parts_that_are_joined_are_the_whole(measured, study_of_smear, tmp_path, monkeypatch, capsys):
    path = shutil.copytree(study_of_smear, tmp_path / "study")
    call = ["atlas", "quality", "--study", str(path), *QUICK]
    for part in ("3/4", "1/4"):
        assert main([*call, "--part", part]) == 0
    parts = path / "quality" / "parts"
    assert sorted(one.name for one in parts.iterdir()) == ["1-of-4", "3-of-4"]
    made = []
    score = quality_parts.score_study
    monkeypatch.setattr(quality_parts, "score_study", lambda *what: made.append(what[3]) or score(*what))
    assert main([*call, "--part", "1/4"]) == 0  # is there
    assert main(call) == 0  # the other two are made, then all are joined
    assert made == [quality_parts.BY_WORK[1::4], quality_parts.BY_WORK[3::4]]
    for table in ("smear.csv", "smear_stability.csv"):
        assert (path / "quality" / table).read_bytes() == (measured / table).read_bytes()
    assert not parts.exists()
    assert main([*call, "--part", "1/99"]) == 2
    assert "give at most as many parts" in capsys.readouterr().err


def test_parts_of_other_options_are_not_joined(study_of_smear, tmp_path, monkeypatch):
    study = Study(shutil.copytree(study_of_smear, tmp_path / "study"))
    nothing = Scores(pd.DataFrame({"family": ["SAE"]}), {"smear": {}}, None)
    monkeypatch.setattr(quality_parts, "score_study", lambda *_: nothing)
    config = QualityConfig(cells=60)
    quality_parts.make_part(study, ["smear"], config, Part(2, 3))
    assert len(quality_parts.joined_parts(study, ["smear"], config)) == 3
    assert quality_parts.joined_parts(study, ["smear"], QualityConfig(cells=61)) == []
