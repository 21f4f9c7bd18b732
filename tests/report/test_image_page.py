from __future__ import annotations

import re

import numpy as np
import pytest

from cytosae.common.artifact import hash_file
from cytosae.pipeline import Study
from cytosae.report import Pictures, write_page
from cytosae.views import OpenedDataset, view_of_image


@pytest.fixture(scope="module")
def explained(study_of_smear, smear):
    image = sorted((smear / "images").rglob("*.png"))[7]
    return image, Study(study_of_smear).explain(image, "smear", concepts=5)


def test_a_known_cell_is_most_like_itself_and_shows_its_atlas_row(study_of_smear, explained):
    image, explanation = explained
    study = Study(study_of_smear)
    atlas = study.atlas("smear")
    row = [study.cells("smear").image_path(i) for i in range(len(atlas))].index(image)
    assert explanation.similar["row"].iloc[0] == row
    assert explanation.similar["similarity"].iloc[0] == pytest.approx(1, abs=1e-3)
    latents = explanation.concepts.index.to_numpy()
    stored = atlas.X[row].toarray().ravel()[latents]
    np.testing.assert_allclose(explanation.concepts["activation"], stored, rtol=2e-2, atol=1e-4)  # float16 tokens
    frequency = np.maximum(atlas.var["activation_frequency"].to_numpy(), 0.5 / len(atlas))
    surprise = atlas.X[row].toarray().ravel() * -np.log(frequency)
    assert surprise[latents[0]] == pytest.approx(surprise.max(), rel=2e-2)


def test_maps_hold_the_activations_that_the_table_sums_up(explained):
    _, explanation = explained
    assert explanation.maps.shape == (5, 16, 16)
    np.testing.assert_allclose(explanation.maps.max((1, 2)), explanation.concepts["peak"], rtol=1e-6)
    np.testing.assert_allclose((explanation.maps > 0).mean((1, 2)), explanation.concepts["patches"], rtol=1e-6)


def test_page_is_whole_offline_and_escapes_names(study_of_smear, explained, tmp_path):
    image, explanation = explained
    study = Study(study_of_smear)
    evil = tmp_path / "<b>cell.png"
    evil.write_bytes(image.read_bytes())
    opened = OpenedDataset(study.atlas("smear"), study.cells("smear"), study.tokens("smear"), study.sae())
    view = view_of_image(evil.name, hash_file(evil), explanation, opened)
    page = write_page(tmp_path / "x.html", view, Pictures([opened.cells], {view.cell.cell: evil}))
    html = page.read_text(encoding="utf-8")
    assert "<b>cell" not in html
    assert len(re.findall(r'<article class="concept"', html)) == 5
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert list(tmp_path.glob(".*")) == []
