from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import BSpline

from cytosae.cells import load_image, load_mask, read_cells
from cytosae.cells.synthetic import DIAGNOSES, DOMAINS, TYPES, draw_cell, synthesize
from cytosae.cells.synthetic.fields import smooth_field
from cytosae.common.errors import InputError, UsageError


@pytest.mark.parametrize("label", TYPES)
@pytest.mark.parametrize("domain", DOMAINS)
def test_mask_covers_the_cell_and_its_nucleus_is_darker(label: str, domain: str) -> None:
    drawing = draw_cell(label, DOMAINS[domain], np.random.default_rng(4))
    assert drawing.image.shape == (128, 128, 3)
    assert drawing.image.dtype == drawing.mask.dtype == np.uint8
    assert set(np.unique(drawing.mask)) == {0, 1, 2}
    grey = drawing.image.mean(axis=2)
    assert grey[drawing.mask == 2].mean() < grey[drawing.mask == 1].mean() - 5 < grey[drawing.mask == 0].mean()
    area = (drawing.mask > 0).mean()
    assert 0.03 < area < 0.6
    share = (drawing.mask == 2).sum() / (drawing.mask > 0).sum()
    assert drawing.attributes["nuclear_cytoplasmic_ratio"] == pytest.approx(share, abs=1e-4)


def test_a_cell_depends_on_its_generator_only() -> None:
    first, again, other = (draw_cell("monocyte", DOMAINS["violet"], np.random.default_rng(n)) for n in (1, 1, 2))
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.image != other.image).any()


def test_size_scales_the_same_cell() -> None:
    small, large = (draw_cell("lymphocyte", DOMAINS["reference"], np.random.default_rng(3), size=s) for s in (64, 256))
    assert (small.mask > 0).mean() == pytest.approx((large.mask > 0).mean(), rel=0.1)


def test_cohort_reads_like_any_manifest(tmp_path: Path) -> None:
    out = synthesize(tmp_path / "cohort", patients=4, cells=30, seed=1, domain="mixed")
    cells = read_cells(out)
    assert len(cells) == 120
    assert cells.skipped.empty
    assert (cells.frame["status"] == "ok").all()
    assert cells.labels == sorted(set(cells.labels) & set(TYPES))
    assert (cells.frame["cell_type"] == cells.frame["label"]).all()
    assert set(cells.frame["diagnosis"]) == set(DIAGNOSES)
    assert cells.frame.groupby("patient")["domain"].nunique().eq(1).all()
    mask = cells.mask_path(5)
    assert mask is not None
    assert load_mask(mask).shape == load_image(cells.image_path(5)).shape[:2]


def test_every_type_occurs_and_the_diagnoses_differ(tmp_path: Path) -> None:
    out = synthesize(tmp_path / "cohort", patients=6, cells=80, seed=0, size=32)
    table = pd.read_csv(out / "manifest.csv")
    assert set(table["label"]) == set(TYPES)
    share = (table["label"] == "promyelocyte").groupby(table["diagnosis"]).mean()
    assert share["APL-like"] > share["control"] + 0.05


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    one, two, three = (
        synthesize(tmp_path / name, patients=2, cells=3, seed=seed, size=48)
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    files = sorted(p.relative_to(one) for p in one.rglob("*.*"))
    assert len(files) == 2 * 6 + 1
    assert all((one / f).read_bytes() == (two / f).read_bytes() for f in files)
    assert any((one / f).read_bytes() != (three / f).read_bytes() for f in files)


def test_more_cells_leave_the_earlier_ones_as_they_were(tmp_path: Path) -> None:
    few = synthesize(tmp_path / "few", patients=1, cells=2, seed=5, size=48)
    many = synthesize(tmp_path / "many", patients=2, cells=4, seed=5, size=48)
    assert (few / "images/P000/0001.png").read_bytes() == (many / "images/P000/0001.png").read_bytes()


def test_wrong_calls_are_sentences_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no domain 'mars'; choose one of: reference"):
        synthesize(tmp_path / "a", domain="mars")
    with pytest.raises(UsageError, match="cells is 0; give 1 or more"):
        synthesize(tmp_path / "a", cells=0)
    with pytest.raises(UsageError, match=r"difficulty is 2\.0; give a number from 0 to 1"):
        synthesize(tmp_path / "a", difficulty=2.0)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="exists and is not empty; give the name of a new folder"):
        synthesize(tmp_path)


@pytest.mark.parametrize(("size", "scale"), [(64, 14), (128, 3.5), (33, 200)])
def test_smooth_field_is_the_cubic_spline_of_its_coarse_numbers(size: int, scale: float) -> None:
    cells = max(round(128 / scale), 1)
    basis = BSpline.design_matrix((np.arange(size) + 0.5) * cells / size, np.arange(-3.0, cells + 4), 3).toarray()
    coarse = np.random.default_rng(3).standard_normal((cells + 3, cells + 3), dtype=np.float32)
    np.testing.assert_allclose(
        smooth_field(np.random.default_rng(3), size, scale), 2.1 * basis @ coarse @ basis.T, atol=1e-5
    )
