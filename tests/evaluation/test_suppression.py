"""Suppressed latents: planted stains go, planted types stay, and random latents change nothing."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from evaluation.planted_stains import planted
from PIL import Image

from cytosae.atlas import change_concepts, token_directions
from cytosae.cells.synthetic import DOMAINS, draw_cell
from cytosae.cli import main
from cytosae.common.errors import InputError
from cytosae.evaluation.config import SuppressionConfig
from cytosae.evaluation.suppression import matched_in_frequency, measure_suppression
from cytosae.evaluation.unit_scores import linear_probe
from cytosae.sae import PositionMean, SparseAutoencoder, TopK

CONFIG = SuppressionConfig(splits=2, controls=4)


@pytest.fixture(scope="module")
def found():
    cells, directions, stained = planted()
    return measure_suppression(cells, directions, lambda _: stained, CONFIG)


def test_a_planted_stain_is_gone_and_the_type_carries_over(found):
    of = found.table.set_index("measure")
    assert of.loc["stain", "before"] == 1
    assert of.loc["stain", "after"] == pytest.approx(1 / 3, abs=0.12)
    assert of.loc["across", "before"] < 0.9
    assert of.loc["across", "after"] > 0.97
    assert of.loc["within", "after"] > 0.97
    assert (of.loc["across", "beyond"], of.loc["stain", "beyond"]) == ("more", "less")
    assert of.loc["stain", "random"] == 1


def test_cells_gained_and_lost_are_the_difference(found):
    of = found.table.set_index("measure")
    pairs = found.transfers[found.transfers["fitted_in"] != found.transfers["asked_in"]]
    # balanced accuracy is the share that is right, since the types are equally many
    gain = float((pairs["after"] - pairs["before"]).mean())
    assert of.loc["gained", "after"] - of.loc["lost", "after"] == pytest.approx(gain, abs=0.02)
    assert of.loc["gained", "before"] == of.loc["lost", "before"] == 0


def test_what_is_orthogonal_cannot_be_recovered_and_a_twin_can():
    cells, directions, stained = planted(confounded=False)
    alone = measure_suppression(cells, directions, lambda _: stained, CONFIG).table.set_index("measure")
    assert alone.loc["recovered", "after"] < 0.1
    cells.means[:, 20:23] = cells.values[:, stained].toarray()  # the same, beside what the SAE sees
    twin = measure_suppression(cells, directions, lambda _: stained, CONFIG).table.set_index("measure")
    assert twin.loc["recovered", "after"] > 0.95
    assert twin.loc["stain", "after"] == 1


def test_random_latents_are_as_often_active_and_never_the_chosen_ones():
    rng = np.random.default_rng(0)
    frequency = rng.integers(0, 1000, 2000)
    chosen = rng.choice(2000, 300, replace=False)
    drawn = matched_in_frequency(frequency, chosen, rng)
    assert len(set(drawn)) == 300
    assert not set(drawn) & set(chosen)
    assert np.abs(np.sort(frequency[drawn]) - np.sort(frequency[chosen])).max() < 40
    with pytest.raises(InputError, match="too few to compare"):
        matched_in_frequency(frequency, np.arange(1500), rng)


def test_a_patient_is_on_one_side_only():
    cells, directions, stained = planted()
    cells.units[:] = [f"{stain}{i // 6 % 6}" for i, stain in enumerate(cells.stains)]
    seen = []
    measure_suppression(cells, directions, lambda rows: (seen.append(set(cells.units[rows])), stained)[1], CONFIG)
    for units in seen:
        assert len(units) == 3 * 2  # a third of six patients of each stain
    assert seen[0] != seen[1]


def test_the_mean_token_changes_as_the_mean_of_changed_tokens():
    tokens = torch.randn(6, 17, 12, generator=torch.Generator().manual_seed(0)) + 3
    flat, positions = tokens.reshape(-1, 12), torch.arange(17).repeat(6)
    sae = SparseAutoencoder(12, 24, TopK(k=4), normalisation=PositionMean())
    sae.normaliser.fit(flat, positions)
    changed, chosen, taken = [], [1, 4, 7, 9], np.zeros((6, 24))
    for i, cell in enumerate(tokens):
        # `change_concepts` looks at one cell: the outcome is the mean token itself
        effect = change_concepts(cell, sae, lambda x: x.mean(1).numpy(), dict.fromkeys(chosen, 0.0), controls=1)
        changed.append(effect.after)
        taken[i] = sae.encode(cell, torch.arange(17)).detach().mean(0).numpy()
    means = tokens.mean(1).numpy() - taken[:, chosen] @ token_directions(sae)[chosen]
    np.testing.assert_allclose(means, np.stack(changed), atol=1e-4)
    assert np.abs(means - tokens.mean(1).numpy()).max() > 0.1


def test_the_probe_weighs_classes_alike():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 1)), np.arange(400) % 10 == 0
    X[y] += 2
    assert linear_probe().fit(X, y).predict(X)[y].mean() > 0.75


@pytest.fixture(scope="module")
def study_of_laboratories(tmp_path_factory):
    """A study of 96 drawn cells of two types in two laboratories."""
    from cytosae.pipeline import Study

    folder, rows = tmp_path_factory.mktemp("laboratories"), []
    images = folder / "smears"
    images.mkdir()
    for i in range(96):
        label, laboratory = ("lymphocyte", "eosinophil")[i % 2], ("blue", "rapid")[i // 2 % 2]
        drawing = draw_cell(label, DOMAINS[laboratory], np.random.default_rng([9, i]), size=64)
        Image.fromarray(drawing.image).save(images / f"{i}.png")
        rows.append({"image": f"{i}.png", "label": label, "laboratory": laboratory})
    pd.DataFrame(rows).to_csv(images / "manifest.csv", index=False)
    small = {"sae": {"expansion": 2, "sparsity": {"k": 8}, "train": {"steps": 10, "batch_tokens": 512}}}
    study = Study.open(folder / "study", [images], [small | {"extract": {"workers": 0}}])
    study.read_all_cells()
    for step in (study.extract, lambda _: study.train(), study.build_atlas):
        step("smears")
    return study.path


def test_the_command_suppresses_artefacts_of_a_study(study_of_laboratories, tmp_path, capsys):
    options = ["--splits", "2", "--controls", "2", "--resamples", "20", "--out", str(tmp_path), "--json"]
    assert main(["atlas", "suppress", "--study", str(study_of_laboratories), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["facts"]["latents"] >= 1
    assert len(found["facts"]["stains"]) == 2
    assert {row["measure"] for row in found["measures"]} >= {"within", "across", "stain", "recovered"}
    assert "What goes, what stays" in (tmp_path / "smears_suppression.html").read_text()
    assert (tmp_path / "smears_transfers.csv").is_file()


def test_without_two_stains_nothing_is_suppressed(study_of_smear, tmp_path, capsys):
    call = ["atlas", "suppress", "--study", str(study_of_smear), "--out", str(tmp_path)]
    assert main(call) == 2
    assert "no column with two stains" in capsys.readouterr().err
    assert main([*call, "--by", "smell"]) == 2
    assert "no column 'smell'" in capsys.readouterr().err
